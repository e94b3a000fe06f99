//! What the processes of both roles have in common on every runtime: as whom they run, and how lists of variables
//! become one environment. Pure.

use std::collections::HashMap;

use crate::config::RunAs;

/// The user of a process: that of the image where it is known by number and not root, else the configured
/// one. Most images that name no user, or root, run as any. `None` where the platform says: OpenShift refuses
/// every number but its own, also those of images.
pub(super) fn user(of_image: Option<i64>, configured: RunAs) -> Option<i64> {
    match configured {
        RunAs::User(user) => of_image.filter(|user| *user > 0).or(Some(user)),
        RunAs::Platform => None,
    }
}

/// `pairs` as environment: a later one replaces an earlier one of the same name, at the earlier one's
/// place, as in Docker.
pub(super) fn environment<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<(String, String)> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut variables: Vec<(String, String)> = Vec::new();
    for (name, value) in pairs {
        let variable = (name.to_owned(), value.to_owned());
        match places.get(name) {
            Some(place) => variables[*place] = variable,
            None => {
                places.insert(name, variables.len());
                variables.push(variable);
            }
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_variable_replaces_an_earlier_one_in_place() {
        let pairs = [("PATH", "/a"), ("A", "$(PATH)=x"), ("PATH", "/b")];
        let expected =
            [("PATH", "/b"), ("A", "$(PATH)=x")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(environment(pairs), expected);
    }

    #[test]
    fn root_and_unknown_users_become_the_configured_one() {
        let configured = RunAs::User(500);
        assert_eq!(user(Some(1000), configured), Some(1000));
        assert_eq!(user(Some(0), configured), Some(500));
        assert_eq!(user(None, configured), Some(500));
        assert_eq!(user(Some(1000), RunAs::Platform), None);
    }
}
