//! What the server says while a test runs, which shares its thread.

use std::io::{self, Write};

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use crate::engine_api::client::SOON;

/// The log from here on.
pub(crate) struct Log {
    text: watch::Receiver<String>,
    _guard: DefaultGuard,
}

#[derive(Clone)]
struct Sink(watch::Sender<String>);

impl Log {
    /// Of all that is logged on this thread until this is dropped.
    pub(crate) fn begin() -> Self {
        let (sink, text) = watch::channel(String::new());
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(Sink(sink))
            .finish();
        Self {
            text,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// All lines with `text` so far.
    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        let lines = self.text.borrow();
        let lines = lines.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }

    /// Waits for a line with `text`.
    pub(crate) async fn wait_for(&mut self, text: &str) -> String {
        let seen = timeout(SOON, self.text.wait_for(|log| log.contains(text)));
        let is_there = seen.await.is_ok();
        assert!(
            is_there,
            "no line with {text:?} in:\n{}",
            *self.text.borrow()
        );
        self.lines_with(text).remove(0)
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .send_modify(|text| text.push_str(&String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
