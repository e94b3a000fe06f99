//! Kubernetes' quantities (`500m`, `2Gi`, `1e3`), as far as one must be compared with another. Pure; the
//! API server judges whether one is valid.

/// Whether `left` is more than `right`; no, where either cannot be read.
pub(super) fn is_greater(left: &str, right: &str) -> bool {
    match (value(left), value(right)) {
        (Some(left), Some(right)) => left > right,
        _ => false,
    }
}

/// The number: exact for what people write, which is enough to compare.
fn value(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            10f64.powi(exponent)
        }
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_compare_across_their_spellings() {
        for (more, less) in [
            ("1", "999m"),
            ("64Mi", "64M"),
            ("2Gi", "2147483647"),
            ("1e3", "999"),
            ("0.5", "100m"),
            ("1E", "1P"),
        ] {
            assert!(is_greater(more, less), "{more} > {less}");
            assert!(!is_greater(less, more), "{less} > {more}");
        }
        assert!(!is_greater("2Gi", "2147483648"));
        assert!(!is_greater("many", "1") && !is_greater("1", "2Qi"));
    }
}
