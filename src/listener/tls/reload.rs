//! Follows the files of a listener's TLS. The directories of the files are watched, not the files: Kubernetes replaces
//! those of a Secret by renaming a symbolic link beside them, other tools by renaming a new file over the old one. What
//! does not fit together is told, and what was in force stays.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use futures::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchMask};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::certificate::{Description, time};
use super::files::{Contents, Error, Loaded};
use super::{Terms, TlsFiles};

/// After a change, until nothing else changes for so long: certificate and key are two files.
const SETTLED: Duration = Duration::from_millis(500);

/// But not for more than so many changes: a directory may never come to rest. What follows them is another change.
const CHANGES: usize = 20;

/// Files that cannot be read may be readable later without a change that is seen, such as a want of descriptors that passes: tried
/// again so often.
const AGAIN: Duration = Duration::from_secs(60);

/// A certificate with less than this left is worth a warning.
const SHORT: i64 = 14 * 24 * 3600;

/// What the kernel's events are read into: some hundreds of them.
const BUFFER: usize = 16 * 1024;

/// When the certificate in force expires; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Expiry(Gauge<i64, AtomicI64>);

impl Expiry {
    /// Puts `engine_api_certificate_expiry_seconds` into `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "engine_api_certificate_expiry",
            "When the certificate of the Engine API's listener expires, since the Unix epoch",
            Unit::Seconds,
            self.0.clone(),
        );
    }
}

/// Follows the files while it runs.
pub struct Reloading {
    files: TlsFiles,
    current: Contents,
    terms: watch::Sender<Arc<Terms>>,
    events: EventStream<Vec<u8>>,
    expiry: Expiry,
    /// The words of the last change that could not serve: a directory may hold other files too.
    told: Option<String>,
}

impl Reloading {
    /// The terms by `files`, as they are now and as they will be.
    pub(super) fn start(files: TlsFiles) -> Result<(watch::Receiver<Arc<Terms>>, Self), Error> {
        let inotify = Inotify::init().map_err(Error::Watch)?;
        let events = inotify
            .into_event_stream(vec![0; BUFFER])
            .map_err(Error::Watch)?;
        // What is missing is told by its key. Then the watch, and then what counts: nothing is missed between them.
        Contents::read(&files)?;
        watch_directories(&files, &events)?;
        let current = Contents::read(&files)?;
        let Loaded { terms, certificate } = current.load(&files)?;
        let (terms, receiver) = watch::channel(Arc::new(terms));
        let this = Self {
            files,
            current,
            terms,
            events,
            expiry: Expiry::default(),
            told: None,
        };
        this.note(&certificate);
        Ok((receiver, this))
    }

    /// For the metrics.
    pub fn expiry(&self) -> Expiry {
        self.expiry.clone()
    }

    /// Follows the files. Ends only when nothing can be seen any more, which it tells.
    pub async fn run(mut self) {
        loop {
            let changed = match &self.told {
                None => self.change().await,
                Some(_) => timeout(AGAIN, self.change()).await.unwrap_or(Ok(())),
            };
            if let Err(error) = changed {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "tls: changes of the files are not seen any more; restart after the next one"
                );
                return;
            }
            self.reload().await;
        }
    }

    /// Waits for a change, and for its end.
    async fn change(&mut self) -> Result<(), Error> {
        next(&mut self.events).await?;
        for _ in 0..CHANGES {
            match timeout(SETTLED, next(&mut self.events)).await {
                Ok(seen) => seen?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    async fn reload(&mut self) {
        // A link may lead elsewhere now.
        if let Err(error) = watch_directories(&self.files, &self.events) {
            tracing::warn!(%error, "tls: a directory cannot be watched");
        }
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || Contents::read(&files)).await;
        let read = match read.expect("reading a file does not panic") {
            Ok(contents) if contents == self.current => {
                self.told = None;
                return;
            }
            read => read,
        };
        let loaded = read.and_then(|contents| Ok((contents.load(&self.files)?, contents)));
        match loaded {
            Ok((Loaded { terms, certificate }, contents)) => {
                self.current = contents;
                self.told = None;
                self.terms.send_replace(Arc::new(terms));
                tracing::info!(
                    subject = certificate.subject,
                    expires = time(certificate.not_after),
                    "tls: the files were read again; new connections use them"
                );
                self.note(&certificate);
            }
            Err(error) => {
                let error = error.to_string();
                if self.told.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "tls: the changed files cannot serve; what was in force stays"
                    );
                    self.told = Some(error);
                }
            }
        }
    }

    fn note(&self, certificate: &Description) {
        self.expiry.0.set(certificate.not_after);
        let left = certificate.not_after - jiff::Timestamp::now().as_second();
        if left < SHORT {
            let (subject, expires) = (&certificate.subject, time(certificate.not_after));
            let days = left.max(0) / (24 * 3600);
            tracing::warn!(
                subject,
                expires,
                days,
                "tls: the server's certificate expires soon or has expired: replace {}",
                self.files.certificate.path.display()
            );
        }
    }
}

/// Watches where the files are named, and where they are.
fn watch_directories(files: &TlsFiles, events: &EventStream<Vec<u8>>) -> Result<(), Error> {
    let named = [&files.certificate, &files.key];
    let named = named
        .into_iter()
        .chain(files.clients.iter().map(|it| &it.file));
    let mut directories: BTreeSet<PathBuf> = BTreeSet::new();
    for file in named {
        directories.insert(directory(&file.path).to_owned());
        if let Ok(real) = file.path.canonicalize() {
            directories.insert(directory(&real).to_owned());
        }
    }
    // A new key may be given to this user a moment after it is there.
    let mask = WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::CREATE | WatchMask::ATTRIB;
    let mut watches = events.watches();
    for directory in directories {
        // What is watched already stays so.
        watches.add(&directory, mask).map_err(Error::Watch)?;
    }
    Ok(())
}

/// The next event that is one of files.
async fn next(events: &mut EventStream<Vec<u8>>) -> Result<(), Error> {
    loop {
        match events.next().await {
            Some(Ok(event)) if event.mask.contains(EventMask::IGNORED) => {}
            Some(Ok(_)) => return Ok(()),
            Some(Err(error)) => return Err(Error::Watch(error)),
            None => return Err(Error::Watch(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent.as_os_str() != OsStr::new("") => parent,
        _ => Path::new("."),
    }
}
