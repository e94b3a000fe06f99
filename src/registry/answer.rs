//! What registries answer when they do not give what was asked for: whose fault it is, and whether it may pass. Pure.

use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};

use super::manifest::Unusable;
use crate::names::ImageName;

/// What is asked for.
pub(super) const MEDIA_TYPES: &[&str] = &[
    OCI_IMAGE_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// Why there is no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The registry says so.
    #[error("{0}")]
    Missing(String),
    /// Nobody can tell, and asking again changes nothing.
    #[error("{0}")]
    Unknown(String),
    /// The same, since the registry or its token service does not let in who asks: its words. Who is told of a push is told
    /// whom they are for; everybody else learns no more than of an unknown.
    #[error("denied: {0}")]
    Denied(String),
    /// Nobody can tell now: the way there, or the registry, has a fault that may pass.
    #[error("{0}")]
    Passing(String),
}

impl Refusal {
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Passing(_))
    }

    /// The same of `name`, which was asked for at `place`: told where that is another one.
    pub(super) fn at(self, place: &ImageName, name: &ImageName) -> Self {
        if place == name {
            return self;
        }
        let told = |words: String| asked_for_as(&words, place);
        match self {
            Self::Missing(words) => Self::Missing(told(words)),
            Self::Unknown(cause) => Self::Unknown(told(cause)),
            Self::Denied(words) => Self::Denied(told(words)),
            Self::Passing(cause) => Self::Passing(told(cause)),
        }
    }

    /// The same of a part of an image: that one is there, its manifest says so, and what is missing of it is damage.
    pub(super) fn of_part(self, told: impl FnOnce(&str) -> String) -> Self {
        let words = told(&self.to_string());
        match self {
            Self::Passing(_) => Self::Passing(words),
            Self::Missing(_) | Self::Unknown(_) | Self::Denied(_) => Self::Unknown(words),
        }
    }
}

/// `words` about an image that was asked for at `place`.
pub(super) fn asked_for_as(words: &str, place: &ImageName) -> String {
    format!("{words} (asked for as {place})")
}

impl From<Unusable> for Refusal {
    fn from(Unusable(what): Unusable) -> Self {
        Self::Unknown(format!("the registry's answer is no image: {what}"))
    }
}

impl From<OciDistributionError> for Refusal {
    fn from(error: OciDistributionError) -> Self {
        use OciErrorCode as Code;
        match &error {
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[Code]| envelope.errors.iter().any(|e| codes.contains(&e.code));
                let words = (envelope.errors.iter())
                    .map(|e| match e.message.as_str() {
                        "" => format!("{:?}", e.code),
                        message => message.to_owned(),
                    })
                    .collect::<Vec<_>>();
                let words = cut(&words.join("; "));
                if has(&[Code::Denied, Code::Unauthorized]) {
                    Self::Denied(words)
                } else if has(&[Code::ManifestUnknown, Code::NameUnknown, Code::NotFound]) {
                    Self::Missing(words)
                } else if has(&[Code::Toomanyrequests]) {
                    Self::Passing(words)
                } else {
                    Self::Unknown(words)
                }
            }
            OciDistributionError::ServerError { code: 404, .. } => {
                Self::Missing("the registry answered 404 Not Found".to_owned())
            }
            OciDistributionError::ServerError {
                code: code @ (401 | 403),
                ..
            } => Self::Denied(format!("the registry answered {code}")),
            OciDistributionError::ServerError {
                code: 429 | 500.., ..
            }
            | OciDistributionError::RequestError(_)
            | OciDistributionError::IoError(_) => Self::Passing(chain(&error)),
            OciDistributionError::UnauthorizedError { .. } => {
                Self::Denied("the registry answered 401 Unauthorized".to_owned())
            }
            OciDistributionError::AuthenticationFailure(words) => Self::Denied(cut(words)),
            error => Self::Unknown(chain(error)),
        }
    }
}

/// The error and its causes in one line: a client's own text often leaves out the one that matters.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    cut(&text)
}

/// Strangers' words in one line of at most 300 characters.
pub(super) fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(code: OciErrorCode, message: &str) -> Refusal {
        let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
        let envelope = serde_json::from_str(&body).unwrap();
        let url = "https://r/v2/".to_owned();
        OciDistributionError::RegistryError { envelope, url }.into()
    }

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        let server = |code| {
            Refusal::from(OciDistributionError::ServerError {
                code,
                url: String::new(),
                message: String::new(),
            })
        };
        let cut = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        for (refusal, may_pass) in [
            (server(500), true),
            (server(503), true),
            (server(429), true),
            (refusal(OciErrorCode::Toomanyrequests, "x"), true),
            (OciDistributionError::IoError(cut).into(), true),
            (server(403), false),
            (server(404), false),
            (refusal(OciErrorCode::Denied, "x"), false),
            (Unusable::from("x").into(), false),
        ] {
            assert_eq!(refusal.may_pass(), may_pass, "{refusal:?}");
        }
    }

    #[test]
    fn the_place_is_told_where_the_name_does_not() {
        let (name, place) = ("a/b:1".parse().unwrap(), "r.io/m/a/b:1".parse().unwrap());
        let refusal = Refusal::Missing("manifest unknown".to_owned());
        assert_eq!(refusal.clone().at(&name, &name), refusal);
        let told = "manifest unknown (asked for as r.io/m/a/b:1)".to_owned();
        assert_eq!(refusal.at(&place, &name), Refusal::Missing(told));
    }

    #[test]
    fn only_a_clear_no_is_missing() {
        let server = |code| {
            Refusal::from(OciDistributionError::ServerError {
                code,
                url: String::new(),
                message: "<html>".to_owned(),
            })
        };
        let missing = |refusal: &Refusal| matches!(refusal, Refusal::Missing(_));
        for (refusal, is_missing) in [
            (refusal(OciErrorCode::ManifestUnknown, "x"), true),
            (refusal(OciErrorCode::NameUnknown, "x"), true),
            (refusal(OciErrorCode::NotFound, "x"), true),
            (server(404), true),
            (refusal(OciErrorCode::Denied, "x"), false),
            (refusal(OciErrorCode::Unauthorized, "x"), false),
            (refusal(OciErrorCode::Toomanyrequests, "x"), false),
            (server(401), false),
            (server(403), false),
            (server(500), false),
            (
                OciDistributionError::AuthenticationFailure("no".to_owned()).into(),
                false,
            ),
        ] {
            assert_eq!(missing(&refusal), is_missing, "{refusal:?}");
        }
        assert_eq!(
            refusal(OciErrorCode::ManifestUnknown, "manifest\n unknown\u{7}"),
            Refusal::Missing("manifest unknown".to_owned())
        );
    }
}
