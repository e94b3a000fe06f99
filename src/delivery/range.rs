//! What part of a blob a request asks for: one range of bytes, as clients ask that go on with a download (RFC 9110, section
//! 14). Anything else means the whole, which the standard lets a server answer always. Pure.

use std::ops::Range;

use http::{HeaderMap, Method, header};

/// What a request is to get of something that has `size` bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it.
    Whole,
    /// These bytes, never none.
    Part(Range<u64>),
    /// Nothing of it is in the range.
    Nothing,
}

/// What the request asks of something with `size` bytes and the entity tag `tag`, its quotes included.
pub(super) fn asked(method: &Method, headers: &HeaderMap, size: u64, tag: &str) -> Asked {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_of_another = text(header::IF_RANGE).is_some_and(|condition| condition.trim() != tag);
    match text(header::RANGE) {
        // It has a meaning for this method alone.
        Some(range) if method == Method::GET && !is_of_another => parse(range, size),
        _ => Asked::Whole,
    }
}

fn parse(range: &str, size: u64) -> Asked {
    let unit_and_set = range.split_once('=');
    let set = unit_and_set.filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"));
    let Some((first, last)) = set.and_then(|(_, set)| set.trim().split_once('-')) else {
        return Asked::Whole;
    };
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(length)) if first.is_empty() => size.saturating_sub(length)..size,
        _ => return Asked::Whole,
    };
    match part.is_empty() {
        true => Asked::Nothing,
        false => Asked::Part(part),
    }
}

/// Digits alone: `parse` would take a sign. One that is too large is beyond every end.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: &str, size: u64) -> Asked {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        asked(&Method::GET, &headers, size, "\"tag\"")
    }

    #[test]
    fn one_range_of_bytes_is_taken_by_its_ends() {
        for (range, expected) in [
            ("bytes=0-3", Asked::Part(0..4)),
            ("Bytes = 2-2", Asked::Part(2..3)),
            ("bytes=4-", Asked::Part(4..10)),
            ("bytes=8-99", Asked::Part(8..10)),
            ("bytes=0-99999999999999999999999", Asked::Part(0..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=10-", Asked::Nothing),
            ("bytes=99999999999999999999999-", Asked::Nothing),
            ("bytes=10-12", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=5-4", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=1-2,4-5", Asked::Whole),
            ("bytes", Asked::Whole),
            ("lines=1-2", Asked::Whole),
        ] {
            assert_eq!(of(range, 10), expected, "{range}");
        }
        assert_eq!(of("bytes=0-", 0), Asked::Nothing);
        assert_eq!(of("bytes=-1", 0), Asked::Nothing);
    }

    #[test]
    fn a_condition_on_something_else_gets_the_whole() {
        let with = |method: &Method, condition: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, "bytes=1-".parse().unwrap());
            headers.insert(header::IF_RANGE, condition.parse().unwrap());
            asked(method, &headers, 3, "\"tag\"")
        };
        assert_eq!(with(&Method::GET, "\"tag\""), Asked::Part(1..3));
        assert_eq!(with(&Method::GET, "\"other\""), Asked::Whole);
        assert_eq!(with(&Method::GET, "W/\"tag\""), Asked::Whole);
        let date = "Sat, 01 Jan 2028 00:00:00 GMT";
        assert_eq!(with(&Method::GET, date), Asked::Whole);
        assert_eq!(with(&Method::HEAD, "\"tag\""), Asked::Whole);
    }
}
