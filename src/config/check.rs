//! The checks that several sections share, and the list they write to.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use super::quantity::Quantity;
use super::{Quantities, RunAs};

/// What [`super::Config::check`] found: pairs of a key, such as `images.registries[0].host`, and a message that
/// begins with it.
#[derive(Debug, Default, thiserror::Error)]
#[error("{}", self.iter().map(|(_, message)| message).collect::<Vec<_>>().join("; "))]
pub struct Problems {
    found: Vec<(String, String)>,
}

impl Problems {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Key and message of each problem.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.found.iter().map(|(k, m)| (k.as_str(), m.as_str()))
    }

    /// `key` has `value`, which is not `accepted`.
    pub(super) fn add(&mut self, key: impl Into<String>, value: impl Debug, accepted: &str) {
        let key = key.into();
        let message = format!("{key} is {value:?}; accepted: {accepted}");
        self.found.push((key, message));
    }

    /// `message`, which begins with `key`: for those who know more than types and ranges.
    pub fn tell(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.found.push((key.into(), message.into()));
    }

    pub(super) fn number<T>(&mut self, key: &str, value: T, range: RangeInclusive<T>)
    where
        T: PartialOrd + std::fmt::Display + Debug,
    {
        if !range.contains(&value) {
            let accepted = format!("{} to {}", range.start(), range.end());
            self.add(key, value, &accepted);
        }
    }

    /// A user that runs something: root is refused (design D16).
    pub(super) fn user(&mut self, key: &str, user: RunAs) {
        const MOST: i64 = i32::MAX as i64;
        if let RunAs::User(user) = user
            && !(1..=MOST).contains(&user)
        {
            self.add(key, user, &format!("1 to {MOST}, or none"));
        }
    }

    pub(super) fn quantities(&mut self, key: &str, quantities: &Quantities) {
        for (resource, quantity) in quantities {
            let key = format!("{key}.{resource}");
            if resource.is_empty() {
                self.add(
                    &key,
                    resource,
                    "the name of a resource, for example cpu or memory",
                );
            }
            if quantity.parse::<Quantity>().is_err() {
                self.add(&key, quantity, "a quantity such as 500m, 2 or 4Gi");
            }
        }
    }

    /// Kubernetes refuses a pod that requests more than its limit.
    pub(super) fn within_limits(&mut self, key: &str, requests: &Quantities, limits: &Quantities) {
        for (resource, request) in requests {
            let Some(limit) = limits.get(resource) else {
                continue;
            };
            let parsed = (request.parse::<Quantity>(), limit.parse::<Quantity>());
            if let (Ok(requested), Ok(limited)) = parsed
                && requested > limited
            {
                let key = format!("{key}.{resource}");
                self.add(&key, request, &format!("at most its limit {limit}"));
            }
        }
    }

    /// A name of a Kubernetes object.
    pub(super) fn object_name(&mut self, key: &str, name: &str) {
        let fits = name.len() <= 253 && name.split('.').all(is_dns_label);
        if !fits {
            self.add(
                key,
                name,
                "a Kubernetes name: a-z, 0-9, - and . , at most 253 characters",
            );
        }
    }
}

/// A label of a DNS name as Kubernetes wants it.
pub(super) fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}
