//! Owns a server of S3 on loopback: VersityGW over a directory of its own, in which a bucket is a directory and an object a file.
//! It needs neither root nor a [`crate::Run`], so that tests of the library use it too, several at once.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::go::Go;
use crate::pki::{Authority, Subject, Term};
use crate::wait;

/// Another program may take a port between its choice and its use.
const ATTEMPTS: usize = 5;
const SOON: Duration = Duration::from_secs(20);

/// Ends the server with its input, so that it outlives no test, not even one that is killed.
const WITH_ITS_INPUT: &str = r#""$@" & read -r _; kill "$!"; wait "$!""#;

/// A server of S3. Dropping it ends it.
#[derive(Debug)]
pub struct S3 {
    program: PathBuf,
    directory: tempfile::TempDir,
    address: SocketAddr,
    speech: Speech,
    process: Option<Child>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Plain,
    Tls,
}

impl S3 {
    /// The access key of its only user.
    pub const ACCESS_KEY: &str = "peitho";
    /// Its secret.
    pub const SECRET_KEY: &str = "an-s3-secret-of-tests";
    /// The region it says it is in.
    pub const REGION: &str = "us-east-1";

    /// Starts a server of plain http without buckets; it is built where no earlier run did.
    pub fn start() -> Result<S3> {
        Self::start_speaking(Speech::Plain)
    }

    /// The same with TLS, and a certificate of an authority that lies in [`S3::authority`].
    pub fn start_tls() -> Result<S3> {
        Self::start_speaking(Speech::Tls)
    }

    fn start_speaking(speech: Speech) -> Result<S3> {
        let program = Go::find()?.versitygw(&Cache::open()?)?;
        let directory = tempfile::tempdir()?;
        fs::create_dir(directory.path().join("data"))?;
        if speech == Speech::Tls {
            let authority = Authority::new(directory.path(), "s3")?;
            let subject = Subject {
                user: "s3",
                group: None,
                addresses: &["127.0.0.1"],
                term: Term::Current,
            };
            authority.issue("server", &subject)?;
        }
        let mut server = S3 {
            program,
            directory,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            speech,
            process: None,
        };
        let mut tried = Ok(());
        for _ in 0..ATTEMPTS {
            server.address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            tried = server.run();
            if tried.is_ok() {
                break;
            }
        }
        tried.map(|()| server)
    }

    /// `http://127.0.0.1:port`, or with TLS `https`.
    pub fn endpoint(&self) -> String {
        match self.speech {
            Speech::Plain => format!("http://{}", self.address),
            Speech::Tls => format!("https://{}", self.address),
        }
    }

    /// The certificate of the authority of a server with TLS.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// Where the objects of a bucket are.
    pub fn bucket(&self, name: &str) -> PathBuf {
        self.directory.path().join("data").join(name)
    }

    /// Makes a bucket, and returns where its objects are.
    pub fn make_bucket(&self, name: &str) -> Result<PathBuf> {
        let bucket = self.bucket(name);
        fs::create_dir(&bucket)?;
        Ok(bucket)
    }

    /// Ends the server; what it has stays.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait()?;
        }
        Ok(())
    }

    /// Starts it again after [`S3::stop`], at the same address.
    pub fn run(&mut self) -> Result<()> {
        let log = self.directory.path().join("log");
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new("sh");
        command
            .args(["-c", WITH_ITS_INPUT, "sh"])
            .arg(&self.program);
        command.args(["--port", &self.address.to_string(), "--keep-alive"]);
        command.args(["--region", Self::REGION]);
        if self.speech == Speech::Tls {
            let file = |name: &str| self.directory.path().join(name);
            command.arg("--cert").arg(file("server.crt"));
            command.arg("--key").arg(file("server.key"));
        }
        let process = command
            .arg("posix")
            .arg(self.directory.path().join("data"))
            .env("ROOT_ACCESS_KEY", Self::ACCESS_KEY)
            .env("ROOT_SECRET_KEY", Self::SECRET_KEY)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start the server of S3")?;
        self.process = Some(process);
        let address = self.address;
        let ready = wait::until("the server of S3 listens", SOON, Some(&log), || {
            Ok(TcpStream::connect(address).ok())
        });
        if ready.is_err() {
            self.stop()?;
        }
        ready.map(drop)
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        Path::new(self.directory.path()).join("log")
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
