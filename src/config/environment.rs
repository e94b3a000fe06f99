//! Variables and flags: which of them mean a key, and which are somebody else's.

use std::str::FromStr;

use super::keys::{Keys, Leaf, fold};
use super::legacy;

const PREFIX: &str = "PEITHO_";

/// What a variable means.
pub(super) enum Meaning<'a> {
    /// It sets this key.
    Sets(Leaf<'a>),
    /// It is not for the configuration.
    Foreign,
    /// It looks like a key and is none: what to say.
    Unknown(String),
}

/// Says what the variable `name` means.
///
/// A Service called `peitho` makes Kubernetes put variables like `PEITHO_PORT_8080_TCP_ADDR` into every pod of
/// its namespace, so `PEITHO_` alone says nothing: ours have a double underscore. One that would be a key but
/// for the second underscore is a slip, which must not go unseen; nor must one that the original knew.
pub(super) fn meaning<'a>(keys: &'a Keys, name: &str) -> Meaning<'a> {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return Meaning::Foreign;
    };
    if is_service_link(rest) {
        return Meaning::Foreign;
    }
    if rest.find("__").is_none_or(|at| at == 0) {
        let slip = keys
            .leaves()
            .find(|leaf| fold(&leaf.path()) == fold(rest))
            .or_else(|| keys.leaf(legacy::name_of_variable(rest)?));
        return match slip {
            Some(leaf) => Meaning::Unknown(unknown(name, Some(&leaf))),
            None => Meaning::Foreign,
        };
    }
    let path = rest.replace("__", ".");
    match keys.leaf(&path) {
        Some(leaf) => Meaning::Sets(leaf),
        None => Meaning::Unknown(unknown(name, keys.nearest_leaf(&path).as_ref())),
    }
}

fn unknown(name: &str, nearest: Option<&Leaf<'_>>) -> String {
    match nearest {
        Some(leaf) => format!("{name} sets nothing; did you mean {}?", leaf.variable()),
        None => format!("{name} sets nothing"),
    }
}

/// Whether Kubernetes made the variable for a Service: `…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_SERVICE_PORT_<name>`,
/// `…_PORT`, `…_PORT_<number>_<protocol>` and its parts.
fn is_service_link(rest: &str) -> bool {
    let within = format!("_{rest}");
    let numbered = || {
        within.rmatch_indices("_PORT_").any(|(at, _)| {
            let mut words = within[at + "_PORT_".len()..].split('_');
            let number = words.next().is_some_and(|w| w.parse::<u16>().is_ok());
            let protocol = words
                .next()
                .is_some_and(|w| matches!(w, "TCP" | "UDP" | "SCTP"));
            number && protocol
        })
    };
    within.ends_with("_SERVICE_HOST")
        || within.contains("_SERVICE_PORT")
        || within.ends_with("_PORT")
        || numbered()
}

/// A flag `--set section.key=value`, or with further keys behind that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub(super) path: String,
    pub(super) value: String,
}

impl FromStr for Setting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "expected section.key=value, for example log.level=debug";
        let (path, value) = text.split_once('=').ok_or(form)?;
        if !path.contains('.') {
            return Err(form);
        }
        Ok(Self {
            path: path.to_owned(),
            value: value.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> String {
        match meaning(&Keys::of_config(), name) {
            Meaning::Sets(leaf) => leaf.path(),
            Meaning::Foreign => "foreign".to_owned(),
            Meaning::Unknown(message) => message,
        }
    }

    #[test]
    fn both_spellings_of_a_camel_case_key_are_one() {
        for (name, key) in [
            ("PEITHO_IMAGES__MODE", "images.mode"),
            ("PEITHO_LISTEN__ENGINE_API", "listen.engineApi"),
            ("PEITHO_LISTEN__ENGINEAPI", "listen.engineApi"),
            (
                "PEITHO_KUBERNETES__SCHEDULING_GRACE_SECONDS",
                "kubernetes.schedulingGraceSeconds",
            ),
            ("PEITHO_LISTEN__TLS", "listen.tls"),
            (
                "PEITHO_LISTEN__TLS__CERTIFICATE_FILE",
                "listen.tls.certificateFile",
            ),
        ] {
            assert_eq!(of(name), key);
        }
    }

    #[test]
    fn what_kubernetes_makes_for_a_service_called_peitho_is_not_ours() {
        for name in [
            "PEITHO_SERVICE_HOST",
            "PEITHO_SERVICE_PORT",
            "PEITHO_SERVICE_PORT_ENGINE_API",
            "PEITHO_PORT",
            "PEITHO_PORT_8080_TCP",
            "PEITHO_PORT_8080_TCP_PROTO",
            "PEITHO_PORT_8080_TCP_ADDR",
            "PEITHO_ADMIN_SERVICE_HOST",
            // Of Services called `peitho--admin` and `peitho-a--admin`.
            "PEITHO__ADMIN_PORT",
            "PEITHO_A__ADMIN_SERVICE_HOST",
            "PEITHO_CONFIG",
            "PATH",
        ] {
            assert_eq!(of(name), "foreign", "{name}");
        }
    }

    #[test]
    fn a_slip_is_named_with_what_was_meant() {
        for (name, meant) in [
            ("PEITHO_LOG__LEVLE", "PEITHO_LOG__LEVEL"),
            ("PEITHO_LOG_LEVEL", "PEITHO_LOG__LEVEL"),
            (
                "PEITHO_LISTEN__TLS__KEYFIEL",
                "PEITHO_LISTEN__TLS__KEY_FILE",
            ),
            (
                "PEITHO_LISTEN__TLS_KEY_FILE",
                "PEITHO_LISTEN__TLS__KEY_FILE",
            ),
            ("PEITHO_LISTEN_ENGINE_API", "PEITHO_LISTEN__ENGINE_API"),
            ("PEITHO_IMAGE__MODE", "PEITHO_IMAGES__MODE"),
            ("PEITHO_K8S_NAMESPACE", "PEITHO_KUBERNETES__NAMESPACE"),
            ("PEITHO_PEITHO_IMAGEMODE", "PEITHO_IMAGES__MODE"),
            ("PEITHO_LOG_ENABLE_COLOR", "PEITHO_LOG__COLOR"),
        ] {
            assert_eq!(
                of(name),
                format!("{name} sets nothing; did you mean {meant}?")
            );
        }
    }
}
