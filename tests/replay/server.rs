//! The server: the real program on this machine with the runtime `oci`, and one imported image under every name that a
//! recording asks for.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::archives;
use crate::recording::{Op, Recording};

/// A server that ends when it is dropped.
pub(crate) struct Server {
    process: Child,
    /// Where peers reach it.
    pub(crate) engine: SocketAddr,
    pub(crate) admin: SocketAddr,
    said: Arc<Mutex<String>>,
    _directory: TempDir,
}

impl Server {
    /// With all that recordings need.
    pub(crate) fn with_images(program: &Path, recordings: &[Recording]) -> Result<Self> {
        let images = archives::image(&image_names(recordings))?;
        Self::start(program, &Value::Null, Some(images))
    }

    /// With an empty store.
    pub(crate) fn empty(program: &Path) -> Result<Self> {
        Self::start(program, &Value::Null, None)
    }

    /// With the store in the bucket that `store.s3` names, and these images in it beside those that it has.
    pub(crate) fn with_bucket(
        program: &Path,
        bucket: &Value,
        images: Option<Vec<u8>>,
    ) -> Result<Self> {
        Self::start(program, bucket, images)
    }

    fn start(program: &Path, bucket: &Value, images: Option<Vec<u8>>) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("peitho.yml");
        let anywhere = "127.0.0.1:0";
        let mut store = json!({"directory": directory.path().join("store")});
        if bucket.is_object() {
            store["s3"] = bucket.clone();
        }
        let settings = json!({
            "listen": {"engineApi": anywhere, "delivery": anywhere, "admin": anywhere},
            "store": store,
            "compile": {"runtime": "oci"},
            "chaincode": {"runtime": "oci"},
            "log": {"color": "never"},
        });
        fs::write(&config, settings.to_string())?;
        if let Some(images) = images {
            let archive = directory.path().join("images.tar");
            fs::write(&archive, images)?;
            let mut import = Command::new(program);
            import.args(["images", "import"]).arg(archive);
            let output = import.arg("--config").arg(&config).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{import:?}: {said}");
        }
        // With the limit that most shells give.
        let mut process = Command::new("/bin/sh")
            .args(["-c", "ulimit -S -n 1024; exec \"$0\" \"$@\""])
            .arg(program)
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()?;
        let log = process.stderr.take().context("standard error is a pipe")?;
        let mut log = BufReader::new(log).lines();
        let said = Arc::new(Mutex::new(String::new()));
        let mut server = Self {
            process,
            engine: ([0, 0, 0, 0], 0).into(),
            admin: ([0, 0, 0, 0], 0).into(),
            said: Arc::clone(&said),
            _directory: directory,
        };
        let line = loop {
            let line = log.next();
            let line = line.with_context(|| format!("the server ended: {}", server.said()))??;
            if line.contains("serving;") {
                break line;
            }
            keep(&said, &line);
        };
        server.engine = address(&line, "engine_api=")?;
        server.admin = address(&line, "admin=")?;
        thread::spawn(move || {
            log.map_while(Result::ok)
                .for_each(|line| keep(&said, &line))
        });
        Ok(server)
    }

    /// A file of its process.
    pub(crate) fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.process.id()).into()
    }

    /// Its log until now.
    fn said(&self) -> String {
        let said = self.said.lock();
        said.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What of it is not as usual.
    pub(crate) fn warnings(&self) -> String {
        let said = self.said();
        let unusual = |line: &&str| !line.contains(" INFO ");
        said.lines()
            .filter(unusual)
            .flat_map(|line| [line, "\n"])
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn keep(said: &Mutex<String>, line: &str) {
    if let Ok(mut said) = said.lock() {
        said.push_str(line);
        said.push('\n');
    }
}

fn address(line: &str, key: &str) -> Result<SocketAddr> {
    let rest = line.split_once(key).context("no address")?.1;
    let text = rest.split(' ').next().unwrap_or_default();
    text.parse().with_context(|| format!("{line}: {key}"))
}

/// What recordings inspect.
fn image_names(recordings: &[Recording]) -> BTreeSet<String> {
    let steps = recordings
        .iter()
        .flat_map(|it| &it.scenarios)
        .flat_map(|it| &it.steps);
    let asked = steps.filter(|it| it.op == Op::InspectBuilder).map(|it| {
        let (_, name) = it.request.split_once("/images/").unwrap_or_default();
        name.trim_end_matches("/json").to_owned()
    });
    asked.collect()
}
