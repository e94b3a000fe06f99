//! The server to which chaincode processes say hello: it sees the true start and end of each one, whatever
//! Kubernetes reports. A process opens a connection, sends one line, and keeps it open for its life.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// A process from its hello to the end of its connection.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// What it said: `hello <chaincode> …`.
    pub(crate) line: String,
    pub(crate) from: Instant,
    pub(crate) to: Option<Instant>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Hello(Arc<(Mutex<Vec<Life>>, Condvar)>);

impl Hello {
    /// Listens where the chaincode of the testbed says hello.
    pub(crate) fn start(address: &str) -> Result<Self> {
        let listener = TcpListener::bind(address)?;
        let hello = Self::default();
        let server = hello.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    let mut line = String::new();
                    if reader.read_line(&mut line).is_err() || line.is_empty() {
                        return;
                    }
                    let at = server.change(|lives| {
                        lives.push(Life {
                            line: line.trim().to_owned(),
                            from: Instant::now(),
                            to: None,
                        });
                        lives.len() - 1
                    });
                    let _ = reader.read_to_end(&mut Vec::new());
                    server.change(|lives| lives[at].to = Some(Instant::now()));
                });
            }
        });
        Ok(hello)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Life>) -> T) -> T {
        let (lives, changed) = &*self.0;
        let result = change(&mut lives.lock().expect("no panic"));
        changed.notify_all();
        result
    }

    /// Waits until the lives of `part` are as `wanted` says.
    pub(crate) fn wait_until(
        &self,
        part: &str,
        what: &str,
        wanted: impl Fn(&[Life]) -> bool,
    ) -> Result<Vec<Life>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let (lives, changed) = &*self.0;
        let mut guard = lives.lock().expect("no panic");
        loop {
            let of_part: Vec<_> = guard
                .iter()
                .filter(|life| life.line.contains(part))
                .cloned()
                .collect();
            if wanted(&of_part) {
                return Ok(of_part);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{what}: the processes of {part} were {of_part:?}");
            }
            guard = changed.wait_timeout(guard, left).expect("no panic").0;
        }
    }
}

/// Whether two of these lives were lived at the same time.
pub(crate) fn overlap(lives: &[Life]) -> bool {
    lives.iter().enumerate().any(|(at, one)| {
        lives[at + 1..].iter().any(|other| {
            let (first, second) = if one.from <= other.from {
                (one, other)
            } else {
                (other, one)
            };
            first.to.is_none_or(|end| end > second.from)
        })
    })
}
