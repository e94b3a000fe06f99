//! A zstd stream of any number of frames, as layers have it: tools that seek in layers put frames to be skipped behind.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How a frame begins.
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads what is in the frames. Checksums are not compared: who reads a layer knows its digest.
pub(super) struct Frames<R> {
    from: R,
    decoder: FrameDecoder,
    within: Within,
}

enum Within {
    Frame,
    /// Before the first frame, or behind one.
    Nothing,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            decoder: FrameDecoder::new(),
            within: Within::Nothing,
        }
    }

    /// Begins the next frame; at the end of all, gives `None`.
    fn begin(&mut self) -> io::Result<Option<()>> {
        while !self.from.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.from) {
                Ok(()) => return Ok(Some(())),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut self.from.by_ref().take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(None)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if matches!(self.within, Within::Nothing) && self.begin()?.is_none() {
                return Ok(0);
            }
            self.within = Within::Frame;
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.from, one);
                decoded.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            }
            match self.decoder.read(into)? {
                0 if into.is_empty() => return Ok(0),
                0 => self.within = Within::Nothing,
                count => return Ok(count),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn frame(content: &[u8]) -> Vec<u8> {
        compress_to_vec(content, CompressionLevel::Fastest)
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        Frames::new(Cursor::new(bytes)).read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn all_frames_are_read_and_those_to_be_skipped_are_not() {
        let long: Vec<u8> = (0..500_000_u32).map(|n| (n % 251) as u8).collect();
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let stream = [frame(&long), skipped.clone(), frame(b"end"), skipped].concat();
        assert_eq!(&stream[..4], &MAGIC);
        assert!(read(&stream).unwrap() == [&long[..], b"end"].concat());
        assert_eq!(read(&frame(b"")).unwrap(), b"");
    }

    #[test]
    fn a_cut_or_damaged_stream_is_an_error() {
        let whole = frame(&[7; 1000]);
        for cut in 1..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "{cut} bytes");
        }
        assert!(read(&[&whole[..], b"more"].concat()).is_err());
        assert!(read(&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, b'a']).is_err());
    }
}
