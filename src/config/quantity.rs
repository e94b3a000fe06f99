//! Kubernetes' quantities: checked when the server starts, so that not the first install meets the mistake.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Requests and limits in Kubernetes' quantities, for example `cpu: 500m`, `memory: 2Gi`.
pub type Quantities = BTreeMap<String, String>;

pub(super) fn quantities<const N: usize>(pairs: [(&str, &str); N]) -> Quantities {
    pairs
        .into_iter()
        .map(|(name, quantity)| (name.to_owned(), quantity.to_owned()))
        .collect()
}

/// A quantity as a number: exact enough to compare two of them.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Quantity(f64);

impl Quantity {
    /// The number, in bytes for memory and in CPUs for `cpu`.
    pub fn value(self) -> f64 {
        self.0
    }
}

/// Not a quantity, or a negative one.
#[derive(Debug, thiserror::Error)]
#[error("not a quantity")]
pub struct NotAQuantity;

/// Suffix and factor, the longer ones first.
const SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

impl Quantity {
    /// Rounded up, for example bytes.
    pub fn whole(self) -> u64 {
        self.0.ceil() as u64
    }

    /// Rounded up, for example thousandths of a CPU.
    pub fn thousandths(self) -> u64 {
        (self.0 * 1e3).ceil() as u64
    }
}

impl FromStr for Quantity {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let suffixed = SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
        let (number, factor) = suffixed.unwrap_or((text, 1.0));
        // Rust also reads `inf`, `nan` and, before a suffix, an exponent: Kubernetes does not.
        let exponent = suffixed.is_none();
        let plain = number.bytes().all(|b| {
            b.is_ascii_digit() || b == b'.' || (exponent && matches!(b, b'e' | b'E' | b'+' | b'-'))
        });
        match number.parse::<f64>() {
            Ok(number) if plain && number >= 0.0 && number.is_finite() => Ok(Self(number * factor)),
            _ => Err(NotAQuantity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<f64> {
        text.parse::<Quantity>().ok().map(|q| q.0)
    }

    #[test]
    fn reads_what_kubernetes_reads() {
        for (text, number) in [
            ("2", 2.0),
            ("0.5", 0.5),
            (".5", 0.5),
            ("500m", 0.5),
            ("1Gi", 1_073_741_824.0),
            ("1G", 1e9),
            ("1e3", 1e3),
            ("1E", 1e18),
            ("12E-1", 1.2),
        ] {
            assert_eq!(value(text), Some(number), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "", "m", "1gb", "1 Gi", "-1", "inf", "nan", "1e3Mi", "0x10", "1Gib",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
    }

    #[test]
    fn compares_across_suffixes() {
        let parse = |text: &str| text.parse::<Quantity>().unwrap();
        assert!(parse("1500m") > parse("1"));
        assert!(parse("1000Mi") < parse("1Gi"));
    }
}
