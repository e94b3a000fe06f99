//! How the output of a container travels on an attached connection: Docker's *stdcopy* frames, or raw. Pure.

use bytes::{BufMut, Bytes, BytesMut};

use super::prefix::ApiVersion;
use super::types::Caller;

/// One of the two forms. Which one a client reads can be told by its path (protocol rule 13),
/// and by its being the `docker` command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Each piece behind eight bytes: `[1, 0, 0, 0]` and its length. Clients of unversioned paths (fsouza)
    /// take these off, and so does the `docker` command.
    Multiplexed,
    /// The bytes as they are. Clients of versioned paths (moby) as peers use them do not take frames off:
    /// these would end up in error texts, which then are not UTF-8 and cannot be returned.
    Raw,
}

/// The stream that a frame belongs to. A compile's log and a pod's log are one stream each.
const STDOUT: u8 = 1;

const HEADER: usize = 8;

impl Framing {
    /// What `caller` reads on an attached connection.
    pub(super) fn of(version: ApiVersion, caller: Caller) -> Self {
        match (version, caller) {
            (ApiVersion(None), _) | (_, Caller::Person) => Self::Multiplexed,
            (ApiVersion(Some(_)), Caller::Peer) => Self::Raw,
        }
    }

    /// `output` as it goes on the connection.
    pub(super) fn encode(self, output: Bytes) -> Bytes {
        match self {
            Self::Raw => output,
            Self::Multiplexed => {
                let mut frames = BytesMut::with_capacity(HEADER + output.len());
                for part in output.chunks(u32::MAX as usize) {
                    frames.put_slice(&[STDOUT, 0, 0, 0]);
                    frames.put_u32(part.len() as u32);
                    frames.put_slice(part);
                }
                frames.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_decides_the_framing_for_peers() {
        let (bare, versioned) = (ApiVersion(None), ApiVersion(Some((1, 25))));
        assert_eq!(Framing::of(bare, Caller::Peer), Framing::Multiplexed);
        assert_eq!(Framing::of(versioned, Caller::Peer), Framing::Raw);
        for version in [bare, versioned] {
            let framing = Framing::of(version, Caller::Person);
            assert_eq!(framing, Framing::Multiplexed);
        }
    }

    #[test]
    fn a_frame_says_its_length_big_endian() {
        let output = Bytes::from(vec![b'x'; 0x0102]);
        let framed = Framing::Multiplexed.encode(output.clone());
        assert_eq!(framed[..8], [1, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(framed[8..], output);
        assert_eq!(Framing::Raw.encode(output.clone()), output);
    }

    #[test]
    fn nothing_is_no_frame() {
        assert!(Framing::Multiplexed.encode(Bytes::new()).is_empty());
    }
}
