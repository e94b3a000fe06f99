//! Makes a stream of bytes valid UTF-8. A peer puts the output of a builder into a protobuf string: with one
//! invalid byte in it the peer cannot return its error at all (protocol rule 13). Pure.

use bytes::Bytes;

/// Replaces what is not UTF-8 by U+FFFD, piece by piece: a character that is cut by the end of a piece is
/// put together again with the next one. The result is that of `String::from_utf8_lossy` on the whole.
#[derive(Debug, Default)]
pub(super) struct Lossy {
    /// The beginning of a character, at most three bytes.
    cut: Vec<u8>,
}

impl Lossy {
    /// The next piece; may be empty.
    pub(super) fn push(&mut self, piece: Bytes) -> Bytes {
        if self.cut.is_empty() && std::str::from_utf8(&piece).is_ok() {
            return piece;
        }
        let mut input = std::mem::take(&mut self.cut);
        input.extend_from_slice(&piece);
        let mut output = String::with_capacity(input.len());
        let mut rest = input.as_slice();
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    output.push_str(valid);
                    return output.into();
                }
                Err(error) => error,
            };
            let (valid, after) = rest.split_at(error.valid_up_to());
            output.push_str(std::str::from_utf8(valid).expect("it was found valid just now"));
            match error.error_len() {
                Some(length) => {
                    output.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[length..];
                }
                None => {
                    self.cut = after.to_vec();
                    return output.into();
                }
            }
        }
    }

    /// What is left at the end: a character that never came whole.
    pub(super) fn finish(&mut self) -> Bytes {
        if std::mem::take(&mut self.cut).is_empty() {
            Bytes::new()
        } else {
            Bytes::from_static("\u{FFFD}".as_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_pieces(pieces: &[&[u8]]) -> Vec<u8> {
        let mut lossy = Lossy::default();
        let mut output = Vec::new();
        for piece in pieces {
            output.extend(lossy.push(Bytes::copy_from_slice(piece)));
        }
        output.extend(lossy.finish());
        output
    }

    #[test]
    fn a_character_cut_by_a_piece_is_whole_again() {
        let text = "für ✓ 🦀".as_bytes();
        for at in 0..=text.len() {
            let (first, second) = text.split_at(at);
            assert_eq!(in_pieces(&[first, second]), text, "cut at {at}");
        }
    }

    #[test]
    fn what_is_invalid_is_replaced() {
        assert_eq!(in_pieces(&[b"a\xffb"]), "a\u{FFFD}b".as_bytes());
        assert_eq!(in_pieces(&[b"a\xe2\x9c"]), "a\u{FFFD}".as_bytes());
        assert_eq!(in_pieces(&[b"a\xe2", b"b"]), "a\u{FFFD}b".as_bytes());
    }

    fn bytes_of_text_and_noise() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            any::<u8>(),
            prop::sample::select(b"\xe2\x9c\x93\xf0\x9f\xa6\x80a".to_vec())
        ];
        prop::collection::vec(byte, 0..40)
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            pieces in prop::collection::vec(bytes_of_text_and_noise(), 0..6),
        ) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let whole = pieces.concat();
            let expected = String::from_utf8_lossy(&whole);
            prop_assert_eq!(in_pieces(&pieces), expected.as_bytes());
        }
    }
}
