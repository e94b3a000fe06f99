//! Docker's `filters` of lists and events: JSON in the query, each with one value or several. Pure; `look` and `events` say
//! which ones they know.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::error::ApiError;

/// What is asked for, by the filter's name; all values of one filter are alternatives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, Vec<String>>);

/// Docker has two spellings: `{"label":{"a":true}}`, and of old `{"label":["a"]}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Set(BTreeMap<String, bool>),
    List(Vec<String>),
}

impl Filters {
    /// Reads `text`, which may be empty, as far as all filters are among `known`.
    pub(super) fn read(text: &str, known: &[&str]) -> Result<Self, ApiError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let read: BTreeMap<String, Values> = serde_json::from_str(text)
            .map_err(|error| ApiError::bad_request(format!("filters: {error}")))?;
        let mut all = BTreeMap::new();
        for (name, values) in read {
            if !known.contains(&name.as_str()) {
                let name: String = name.chars().take(200).collect();
                return Err(ApiError::bad_request(format!("invalid filter '{name}'")));
            }
            let values = match values {
                Values::Set(set) => set
                    .into_iter()
                    .filter(|(_, on)| *on)
                    .map(|(v, _)| v)
                    .collect(),
                Values::List(list) => list,
            };
            all.insert(name, values);
        }
        Ok(Self(all))
    }

    /// The values of `name`; none where it was not given.
    pub(super) fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether `fits` holds for one of the values of `name`, or none was given.
    pub(super) fn any(&self, name: &str, fits: impl Fn(&str) -> bool) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().any(|value| fits(value))
    }

    /// Whether all of the labels that were asked for are among `labels`: `name`, or `name=value`.
    pub(super) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label")
            .iter()
            .all(|wanted| match wanted.split_once('=') {
                Some((name, value)) => labels.get(name).is_some_and(|it| it == value),
                None => labels.contains_key(wanted),
            })
    }
}

/// Whether `name` fits what a person gave: a part of it; `^` and `$` stand for its ends. Docker takes regular expressions.
pub(super) fn name_fits(name: &str, wanted: &str) -> bool {
    let (wanted, from_start) = match wanted.strip_prefix('^') {
        Some(rest) => (rest.strip_prefix('/').unwrap_or(rest), true),
        None => (wanted.strip_prefix('/').unwrap_or(wanted), false),
    };
    match (from_start, wanted.strip_suffix('$')) {
        (true, Some(wanted)) => name == wanted,
        (true, None) => name.starts_with(wanted),
        (false, Some(wanted)) => name.ends_with(wanted),
        (false, None) => name.contains(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        for text in [r#"{"a":{"x":true,"y":true}}"#, r#"{"a":["x","y"]}"#] {
            let filters = Filters::read(text, &["a"]).unwrap();
            assert_eq!(filters.values("a"), ["x", "y"], "{text}");
        }
        assert_eq!(Filters::read("", &[]).unwrap(), Filters::default());
        let error = Filters::read(r#"{"b":["x"]}"#, &["a"]).unwrap_err();
        assert!(format!("{error:?}").contains("invalid filter 'b'"));
        assert!(Filters::read("[", &["a"]).is_err());
    }

    #[test]
    fn labels_are_all_wanted() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        for (text, fits) in [
            (r#"["a"]"#, true),
            (r#"["a=1"]"#, true),
            (r#"["a=2"]"#, false),
            (r#"["a","b"]"#, false),
        ] {
            let filters = Filters::read(&format!(r#"{{"label":{text}}}"#), &["label"]).unwrap();
            assert_eq!(filters.labels(&labels), fits, "{text}");
        }
    }

    #[test]
    fn names_fit_by_their_parts() {
        for (wanted, fits) in [
            ("peer0", true),
            ("/dev", true),
            ("^dev", true),
            ("^/dev-peer0$", true),
            ("peer$", false),
            ("^peer", false),
        ] {
            assert_eq!(name_fits("dev-peer0", wanted), fits, "{wanted}");
        }
    }
}
