//! What a bucket's refusal means: its cause in the server's words, what to do, and whether waiting helps. The one place that
//! reads errors of S3.

use std::error::Error as StdError;

use super::http::Unanswered;
use crate::store::error::{Error, Lasting};
use crate::store::trash::MOVE;

const CREDENTIALS: &str = "see store.s3.accessKeyId and store.s3.secretAccessKeyFile, or the variables AWS_* in their place";
const IDENTITY: &str =
    "see whether AWS_ROLE_ARN may be assumed with the token in AWS_WEB_IDENTITY_TOKEN_FILE";
const FULL: &str = "the bucket or its quota is full: free some space in it or enlarge it";
const RIGHTS: &str =
    "see whether these credentials may list the bucket, and read, write and delete objects in it";
const BUCKET: &str = "make the bucket, or see store.s3.bucket and store.s3.addressing";
const REGION: &str = "see store.s3.region and store.s3.endpoint";
const TRUST: &str = "see store.s3.caFile and store.s3.endpoint";
const AWAY: &str = "see whether it runs, and store.s3.endpoint";
const ENDED: &str =
    "the upload was ended in the bucket: try again, and see its rules for incomplete uploads";
const SLOW: &str = "try again, and see why the bucket or this machine was so slow";
const CLOCK: &str = "set the clock of this machine right";

/// The error of an `action` on `key` in the bucket that is `shown` so.
pub(super) fn error(
    action: &'static str,
    key: &str,
    shown: &str,
    error: &object_store::Error,
) -> Error {
    let (cause, advice, lasting) = read(error);
    Error::Bucket {
        action,
        key: key.to_owned(),
        bucket: shown.to_owned(),
        cause,
        advice,
        lasting,
    }
}

/// The error of a move of `key` that took too long, so that its first half is all of it.
pub(super) fn slow(action: &'static str, key: &str, shown: &str) -> Error {
    Error::Bucket {
        action,
        key: key.to_owned(),
        bucket: shown.to_owned(),
        cause: format!(
            "it was copied, and that took longer than the {} s after which nothing is deleted there",
            MOVE.as_secs()
        ),
        advice: SLOW,
        lasting: Lasting::Passing,
    }
}

/// Whether it is the object that is missing, in the server's own words: neither the whole bucket, nor the server behind something
/// that answers in its place.
pub(in crate::store) fn is_missing(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::NotFound { source, .. } => {
            matches!(code(&source.to_string()), Some("NoSuchKey" | "NotFound"))
        }
        _ => false,
    }
}

/// Whether something is missing, and nobody says what. An answer to HEAD has no text.
pub(in crate::store) fn is_untold(error: &object_store::Error) -> bool {
    match error {
        object_store::Error::NotFound { source, .. } => code(&source.to_string()).is_none(),
        _ => false,
    }
}

fn read(error: &object_store::Error) -> (String, &'static str, Lasting) {
    use Lasting::{Full, Passing, Permanent};
    if let Some(unanswered) = find::<Unanswered>(error) {
        let cause = unanswered.to_string();
        return match unanswered.is_untrusted {
            true => (cause, TRUST, Permanent),
            false => (cause, AWAY, Passing),
        };
    }
    let text = innermost(error);
    let (advice, lasting) = match (code(&text), error) {
        // Of MinIO, by its disks and by a quota, and of Ceph.
        (Some("XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "QuotaExceeded"), _) => {
            (FULL, Full)
        }
        // S3 itself refuses by its status; this comes from where credentials do.
        (Some("AccessDenied"), object_store::Error::Generic { .. }) => (IDENTITY, Permanent),
        (Some("InvalidIdentityToken" | "ExpiredTokenException"), _) => (IDENTITY, Permanent),
        (Some("NoSuchBucket"), _) => (BUCKET, Permanent),
        (Some("InvalidAccessKeyId" | "SignatureDoesNotMatch"), _) => (CREDENTIALS, Permanent),
        (Some("InvalidToken" | "ExpiredToken"), _) => (CREDENTIALS, Permanent),
        // VersityGW's word for an access key that it does not know.
        (Some("XAdminUserNotFound"), _) => (CREDENTIALS, Permanent),
        (Some("NoSuchUpload"), _) => (ENDED, Passing),
        (Some("RequestTimeTooSkewed"), _) => (CLOCK, Permanent),
        (Some("PermanentRedirect" | "AuthorizationHeaderMalformed"), _) => (REGION, Permanent),
        (_, object_store::Error::Unauthenticated { .. }) => (CREDENTIALS, Permanent),
        (_, object_store::Error::PermissionDenied { .. }) => (RIGHTS, Permanent),
        (Some(_), object_store::Error::NotFound { .. }) => (BUCKET, Permanent),
        // No server of S3 says so little: it is what stands before one that is not there at the moment.
        (None, object_store::Error::NotFound { .. }) => (AWAY, Passing),
        _ if text.contains("token file") => (IDENTITY, Permanent),
        _ if text.contains("redirect") => (REGION, Permanent),
        // It was too busy, and so for long.
        _ => (AWAY, Passing),
    };
    (words(&text), advice, lasting)
}

/// The text of the last cause: those before it repeat it, with the address of the object in front.
fn innermost(error: &object_store::Error) -> String {
    let mut last: &dyn StdError = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The code in an answer of S3, a short document of XML.
fn code(text: &str) -> Option<&str> {
    element(text, "Code")
}

fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once('<')?;
    Some(content)
}

/// Code and message where they are, else the whole in one line.
fn words(text: &str) -> String {
    // Ceph often has an empty one.
    let message = element(text, "Message").filter(|message| !message.is_empty());
    match (code(text), message) {
        (Some(code), Some(message)) => format!("{code}: {}", message.trim_end_matches('.')),
        (Some(code), None) => code.to_owned(),
        (None, _) => {
            let text = text.replace(['\r', '\n'], " ");
            text.trim_end_matches([' ', ':']).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Words(&'static str);

    #[test]
    fn a_missing_bucket_is_no_missing_object() {
        let missing = |text| object_store::Error::NotFound {
            path: "refs/v1/x".to_owned(),
            source: Box::new(Words(text)),
        };
        let of_object = "404 Not Found: <Error><Code>NoSuchKey</Code></Error>";
        assert!(is_missing(&missing(of_object)));
        assert!(!is_untold(&missing(of_object)));
        let of_bucket =
            "404 Not Found: <Error><Code>NoSuchBucket</Code><Message>No such.</Message></Error>";
        assert!(!is_missing(&missing(of_bucket)));
        let told = error("writing", "k", "the bucket b at e", &missing(of_bucket));
        assert_eq!(
            told.to_string(),
            format!("store: writing k in the bucket b at e: NoSuchBucket: No such; {BUCKET}")
        );
        assert!(!told.may_pass());
        // As Ceph tells it.
        let bare = "404 Not Found: <Error><Code>NoSuchBucket</Code><Message></Message></Error>";
        let told = error("writing", "k", "the bucket b at e", &missing(bare));
        assert_eq!(
            told.to_string(),
            format!("store: writing k in the bucket b at e: NoSuchBucket; {BUCKET}")
        );
    }

    #[test]
    fn a_full_bucket_and_refused_credentials_are_told_as_such() {
        let told = |code: &str, of: fn(Box<Words>) -> object_store::Error| {
            let text = format!("507: <Error><Code>{code}</Code></Error>");
            let error = of(Box::new(Words(text.leak())));
            self::error("writing", "k", "the bucket b at e", &error)
        };
        let generic = |source: Box<Words>| object_store::Error::Generic {
            store: "S3",
            source,
        };
        let denied = |source: Box<Words>| object_store::Error::PermissionDenied {
            path: "k".to_owned(),
            source,
        };
        let full = told("XMinioStorageFull", generic);
        assert!(full.is_full() && full.to_string().ends_with(FULL), "{full}");
        let quota = told("QuotaExceeded", denied);
        assert!(quota.is_full() && !quota.may_pass(), "{quota}");
        let right = told("AccessDenied", denied);
        assert!(right.to_string().ends_with(RIGHTS), "{right}");
        let role = told("AccessDenied", generic);
        assert!(
            role.to_string().ends_with(IDENTITY) && !role.may_pass(),
            "{role}"
        );
        let busy = told("InternalError", generic);
        assert!(!busy.is_full() && busy.may_pass(), "{busy}");
    }

    #[test]
    fn what_answers_in_place_of_the_server_says_nothing_of_objects() {
        for text in [
            "404 Not Found: ",
            "404 Not Found: <html><h1>404 Not Found</h1>nginx</html>",
            "404 Not Found: default backend - 404",
        ] {
            let answer = object_store::Error::NotFound {
                path: "refs/v1/x".to_owned(),
                source: Box::new(Words(text)),
            };
            assert!(is_untold(&answer) && !is_missing(&answer), "{text}");
            let told = error("reading", "k", "the bucket b at e", &answer);
            assert!(
                told.may_pass() && told.to_string().ends_with(AWAY),
                "{told}"
            );
        }
    }
}
