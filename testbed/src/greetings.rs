//! Owns the listener for what test chaincode says at its start. Engines tell what they believe; this tells which processes there really were,
//! and when each began and ended. Tests that count processes use it.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::places::HOST_ADDRESS;
use crate::run::Run;
use crate::wait;

/// Where test chaincode greets.
const PORT: u16 = 7999;

/// How long what an order began may take to show.
const SETTLED: Duration = Duration::from_secs(20);

/// A process of test chaincode.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// `label:hash` of its package.
    pub package: String,
    /// The host name it sees: the pod's name, in Kubernetes.
    pub host: String,
    /// Its process id as it sees it.
    pub pid: u32,
    /// When it greeted.
    pub began: Instant,
    /// When its connection ended, and so it itself.
    pub ended: Option<Instant>,
}

/// Listens from [`Greetings::listen`] on until the program ends.
#[derive(Debug, Clone)]
pub struct Greetings(Arc<Mutex<Vec<Greeting>>>);

impl Greetings {
    /// Listens on the bridge of this run; only one listener can be there.
    pub fn listen(_bridge: &Run) -> Result<Greetings> {
        let listener = TcpListener::bind((HOST_ADDRESS, PORT))
            .with_context(|| format!("cannot listen on {HOST_ADDRESS}:{PORT}"))?;
        let greetings = Greetings(Arc::default());
        let heard = greetings.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = heard.clone();
                thread::spawn(move || heard.follow(stream));
            }
        });
        Ok(greetings)
    }

    /// All processes that have greeted, in the order in which they did.
    pub fn all(&self) -> Vec<Greeting> {
        self.list().clone()
    }

    /// Those of one label.
    pub fn of_label(&self, label: &str) -> Vec<Greeting> {
        let mut all = self.all();
        all.retain(|greeting| greeting.package.split(':').next() == Some(label));
        all
    }

    /// Waits until the processes of a label are as the condition wants them.
    pub fn wait_until(
        &self,
        what: &str,
        label: &str,
        timeout: Duration,
        condition: impl Fn(&[Greeting]) -> bool,
    ) -> Result<Vec<Greeting>> {
        wait::until(what, timeout, None, || {
            let found = self.of_label(label);
            Ok(condition(&found).then_some(found))
        })
        .with_context(|| format!("processes seen: {:?}", self.of_label(label)))
    }

    /// Waits until the living processes of a label are of these packages, in this order, which is that of their text.
    pub fn expect_living(&self, label: &str, expected: &[&str]) -> Result<()> {
        let what = format!("the processes of {label} are {expected:?}");
        self.wait_until(&what, label, SETTLED, |all| {
            let mut living: Vec<_> = living(all).map(|it| it.package.as_str()).collect();
            living.sort_unstable();
            living == expected
        })?;
        Ok(())
    }

    /// Waits until so many processes of a label live.
    pub fn expect_count(&self, label: &str, count: usize) -> Result<()> {
        let what = format!("{count} processes of {label} live");
        self.wait_until(&what, label, SETTLED, |all| living(all).count() == count)?;
        Ok(())
    }

    /// Reads the greeting, then waits for the end; a process never says more.
    fn follow(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() {
            return;
        }
        let mut words = line.split_whitespace();
        let (Some("hello"), Some(package), Some(host), Some(pid)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return;
        };
        let index = {
            let mut list = self.list();
            list.push(Greeting {
                package: package.to_owned(),
                host: host.to_owned(),
                pid: pid.parse().unwrap_or_default(),
                began: Instant::now(),
                ended: None,
            });
            list.len() - 1
        };
        reader.read_to_end(&mut Vec::new()).ok();
        self.list()[index].ended = Some(Instant::now());
    }

    fn list(&self) -> MutexGuard<'_, Vec<Greeting>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

fn living(all: &[Greeting]) -> impl Iterator<Item = &Greeting> {
    all.iter().filter(|process| process.ended.is_none())
}
