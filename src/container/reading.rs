//! What people read of a container's output, as they ask for it: by the line, from a time to a time, with the times in front
//! where they are wanted. The runtime has the lines; this keeps those that were asked for.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;

use crate::runtime::{Extent, Line, LineQuery, LineStream, LogStream};

/// Docker's options of `logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Which lines.
    pub lines: LineQuery,
    /// None that was written later.
    pub until: Option<Timestamp>,
    /// Whether each line has its time in front.
    pub stamps: Stamps,
}

/// Whether lines have their time in front.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stamps {
    /// As they were written.
    #[default]
    None,
    /// The time in RFC 3339 with nanoseconds, and a space; nothing where it is not known.
    Shown,
}

impl Reading {
    /// Whether it asks for anything but the bytes as they are.
    pub(super) fn needs_lines(&self) -> bool {
        let plain = Self {
            lines: LineQuery {
                extent: self.lines.extent,
                ..LineQuery::default()
            },
            ..Self::default()
        };
        *self != plain
    }

    pub(super) fn extent(&self) -> Extent {
        self.lines.extent
    }

    /// What of `lines` was asked for.
    pub(super) fn of(self, lines: LineStream) -> LogStream {
        let Self {
            lines: LineQuery { since, .. },
            until,
            stamps,
        } = self;
        let mut early = false;
        lines
            .try_take_while(move |line| {
                // What has no time belongs to the line before it.
                let over = line
                    .time
                    .zip(until)
                    .is_some_and(|(time, until)| time > until);
                std::future::ready(Ok(!over))
            })
            .try_filter(move |line| {
                // The same here: what follows a line that is too early is, too.
                if let Some(time) = line.time {
                    early = since.is_some_and(|since| time < since);
                }
                std::future::ready(!early)
            })
            .map_ok(move |line| shown(line, stamps))
            .boxed()
    }
}

fn shown(line: Line, stamps: Stamps) -> Bytes {
    match (stamps, line.time) {
        (Stamps::Shown, Some(time)) => {
            let mut text = format!("{time:.9} ").into_bytes();
            text.extend_from_slice(&line.text);
            text.into()
        }
        _ => line.text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        format!("2026-01-01T10:00:{text}Z").parse().unwrap()
    }

    async fn read(reading: Reading) -> String {
        let line = |second: Option<&str>, text: &'static str| {
            Ok(Line {
                time: second.map(time),
                text: text.into(),
            })
        };
        let lines = [
            line(Some("01"), "a\n"),
            line(Some("02.5"), "b\n"),
            line(None, "?\n"),
            line(Some("03"), "c\n"),
        ];
        let read: Vec<Bytes> = reading
            .of(futures::stream::iter(lines).boxed())
            .try_collect()
            .await
            .unwrap();
        String::from_utf8(read.concat()).unwrap()
    }

    #[tokio::test]
    async fn times_bound_what_is_read() {
        let mut reading = Reading::default();
        assert_eq!(read(reading.clone()).await, "a\nb\n?\nc\n");
        reading.lines.since = Some(time("02.5"));
        assert_eq!(read(reading.clone()).await, "b\n?\nc\n");
        // What has no time is no later than what is in front of it.
        reading.lines.since = Some(time("02.6"));
        assert_eq!(read(reading.clone()).await, "c\n");
        reading.lines.since = Some(time("02.5"));
        reading.until = Some(time("02.9"));
        reading.stamps = Stamps::Shown;
        assert!(reading.needs_lines());
        assert_eq!(read(reading).await, "2026-01-01T10:00:02.500000000Z b\n?\n");
    }
}
