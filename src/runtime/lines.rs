//! Output as people read it: by the line, each with its time. The runtimes make these of what they keep; who
//! follows output for a peer takes [`super::LogStream`] instead, where no byte is added or lost. Pure.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;

/// A line longer than this comes in pieces.
pub(super) const LONGEST: usize = 64 * 1024;

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was written; `None` for a later piece of a long line, and where nobody noted it.
    pub time: Option<Timestamp>,
    /// The line with its end, if it has one.
    pub text: Bytes,
}

/// Lines as they come; `None` at their end.
pub type LineStream = BoxStream<'static, std::io::Result<Line>>;

/// Which lines are wanted. A runtime may give more of the past than `since` asks for, and never less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineQuery {
    /// Whether to go on with the process, or to give what is there.
    pub extent: Extent,
    /// The last so many lines; `None` for all.
    pub tail: Option<u64>,
    /// What was written since.
    pub since: Option<Timestamp>,
}

/// How far a reading goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// To what is there now.
    #[default]
    Present,
    /// To the end of the process.
    Follow,
}

impl Line {
    /// A line that has its time in front, in RFC 3339 and followed by a space, as Docker and Kubernetes write it.
    pub(super) fn stamped(text: Bytes) -> Self {
        let end = text.iter().take(64).position(|byte| *byte == b' ');
        let time = end.and_then(|end| std::str::from_utf8(&text[..end]).ok()?.parse().ok());
        match (time, end) {
            (Some(time), Some(end)) => Self {
                time: Some(time),
                text: text.slice(end + 1..),
            },
            _ => Self { time: None, text },
        }
    }
}

/// Cuts bytes into lines; a line without end comes when `finish` says that there is no more.
#[derive(Debug, Default)]
pub(super) struct Cutter(BytesMut);

impl Cutter {
    /// The lines that are complete with `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Bytes> {
        self.0.extend_from_slice(bytes);
        let mut lines = Vec::new();
        loop {
            let end = self.0.iter().position(|byte| *byte == b'\n');
            match end {
                Some(end) => lines.push(self.0.split_to(end + 1).freeze()),
                None if self.0.len() >= LONGEST => {
                    lines.push(self.0.split_to(LONGEST).freeze());
                }
                None => return lines,
            }
        }
    }

    /// How many bytes of a line without end there are.
    pub(super) fn held(&self) -> usize {
        self.0.len()
    }

    /// The line without end, if there is one.
    pub(super) fn finish(&mut self) -> Option<Bytes> {
        (!self.0.is_empty()).then(|| self.0.split().freeze())
    }
}

/// The lines of `chunks`, made by `make` of each.
pub(super) fn of_chunks(
    chunks: BoxStream<'static, std::io::Result<Bytes>>,
    make: fn(Bytes) -> Line,
) -> LineStream {
    let state = (chunks, Cutter::default(), VecDeque::new(), false);
    stream::unfold(
        state,
        move |(mut chunks, mut cutter, mut ready, mut over)| async move {
            loop {
                if let Some(line) = ready.pop_front() {
                    return Some((Ok(make(line)), (chunks, cutter, ready, over)));
                }
                if over {
                    return None;
                }
                match chunks.next().await {
                    Some(Ok(bytes)) => ready.extend(cutter.push(&bytes)),
                    Some(Err(error)) => return Some((Err(error), (chunks, cutter, ready, true))),
                    None => {
                        over = true;
                        ready.extend(cutter.finish());
                    }
                }
            }
        },
    )
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_wherever_the_bytes_are() {
        let mut cutter = Cutter::default();
        assert_eq!(cutter.push(b"a\nb"), ["a\n"]);
        assert_eq!(cutter.push(b"c\n\nd"), ["bc\n", "\n"]);
        assert_eq!(cutter.finish().unwrap(), "d");
        assert_eq!(cutter.finish(), None);
        let long = cutter.push(&[b'x'; LONGEST + 1]);
        assert_eq!((long.len(), long[0].len()), (1, LONGEST));
        assert_eq!(cutter.finish().unwrap(), "x");
    }

    #[test]
    fn a_time_in_front_is_taken_off() {
        let line = Line::stamped(Bytes::from("2026-01-01T10:00:00.5Z  a b\n"));
        assert_eq!(line.time.unwrap().to_string(), "2026-01-01T10:00:00.5Z");
        assert_eq!(line.text, " a b\n");
        let line = Line::stamped(Bytes::from("no time\n"));
        assert_eq!((line.time, &line.text[..]), (None, &b"no time\n"[..]));
    }
}
