//! A server of its own with one base image, and chaincode in it as a peer would have it: one runs, one has failed, one never
//! ran.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::Assets;

/// The base of all chaincode here.
pub(crate) const BASE: &str = "hyperledger/fabric-baseos:2.5";

/// The image that the peer builds.
pub(crate) const IMAGE: &str = "dev-peer0.org1.example.com-basic_1-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The chaincode that runs.
pub(crate) const RUNNING: &str = "dev-peer0.org1.example.com-runs_1-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Serves until it is told to end; its second argument says how it fares.
const CHAINCODE: &[u8] = b"#!/bin/sh
echo 'chaincode begins'
case $2 in
    runs) echo 'it serves' >&2; trap 'echo it ends; exit 3' TERM; sleep 1000 & wait ;;
    fails) echo 'it cannot go on'; exit 2 ;;
esac
";

/// The name of the container of a chaincode.
pub(crate) fn name(chaincode: &str) -> String {
    format!("dev-peer0.org1.example.com-{chaincode}_1-{HASH}")
}

/// What the testbed has.
pub(crate) fn assets() -> &'static Assets {
    static ASSETS: OnceLock<Assets> = OnceLock::new();
    ASSETS.get_or_init(|| Assets::open().unwrap())
}

/// The static program: compiles on this machine take no other.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| testbed::peitho::program().unwrap())
}

/// A server that runs.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) address: String,
    /// Where images can be pulled.
    pub(crate) delivery: String,
    process: Child,
    /// Gathers what it says from its start on.
    log: Option<JoinHandle<String>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_log("info")
    }

    /// With a log of that level.
    pub(crate) fn with_log(level: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("base.tar");
        std::fs::write(&archive, base()).unwrap();
        let imported = peitho(directory.path())
            .args(["images", "import"])
            .arg(&archive)
            .output()
            .unwrap();
        assert!(imported.status.success(), "{imported:?}");
        let mut process = peitho(directory.path())
            .args(["serve", "--set", "listen.engineApi=127.0.0.1:0"])
            .args(["--set", "listen.delivery=127.0.0.1:0"])
            .args(["--set", "listen.admin=127.0.0.1:0"])
            .args(["--set", &format!("log.level={level}")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let (address, delivery) = loop {
            let line = log
                .next()
                .unwrap_or_else(|| panic!("it does not serve: {said}"));
            let line = line.unwrap();
            said.push_str(&line);
            let address = |key: &str| {
                let (_, rest) = line.split_once(key)?;
                let end = rest.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
                Some(rest[..end.unwrap_or(rest.len())].to_owned())
            };
            if let Some(engine_api) = address("CORE_VM_ENDPOINT=tcp://") {
                break (engine_api, address("delivery=").unwrap());
            }
        };
        // What it says later goes where it does not stop it.
        let log = std::thread::spawn(move || {
            log.map_while(Result::ok)
                .fold(said, |said, line| said + &line + "\n")
        });
        Self {
            directory,
            address,
            delivery,
            process,
            log: Some(log),
        }
    }

    /// Ends it; gives all that it said.
    pub(crate) fn end(mut self) -> String {
        let log = self.log.take().unwrap();
        drop(self);
        log.join().unwrap()
    }

    /// What the program says to `arguments`, beside the server.
    pub(crate) fn peitho(&self, arguments: &[&str]) -> String {
        let output = peitho(self.directory.path()).args(arguments).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The image of a peer.
    pub(crate) fn build(&self) {
        let dockerfile = format!(
            "FROM {BASE}\nADD binpackage.tar /usr/local/bin\nLABEL org.hyperledger.fabric.chaincode.type=\"GOLANG\""
        );
        let package = tar(&[("chaincode", CHAINCODE)]);
        let context = tar(&[
            ("Dockerfile", dockerfile.as_bytes()),
            ("binpackage.tar", &package),
        ]);
        let (status, _) = self.ask("POST", &format!("/build?t={IMAGE}"), &gzip(&context));
        assert_eq!(status, 200);
    }

    /// The requests of a peer.
    pub(crate) fn launch_chaincode(&self) {
        self.build();
        self.launch("runs", "chaincode");
        self.launch("fails", "chaincode");
        let (_, waited) = self.ask("POST", &format!("/containers/{}/wait", name("fails")), b"");
        assert!(waited.contains("\"StatusCode\":2"), "{waited}");
        self.launch("never", "chaincode-of-nobody");
        // It has said what it says before anybody looks.
        self.serves();
    }

    /// Waits until the chaincode that runs does so.
    pub(crate) fn serves(&self) {
        let said = format!("/containers/{RUNNING}/attach?logs=1&stream=1&stdout=1&stderr=1");
        self.read_until("POST", &said, "it serves");
    }

    fn launch(&self, chaincode: &str, program: &str) {
        let name = name(chaincode);
        let order = json!({
            "Image": IMAGE,
            "Cmd": [program, "-peer.address=127.0.0.1:7052", chaincode],
            "Env": [
                format!("CORE_CHAINCODE_ID_NAME={chaincode}_1:0123"),
                "CORE_PEER_LOCALMSPID=Org1MSP",
            ],
            "HostConfig": { "NetworkMode": "host", "Memory": 2_147_483_648_u64 },
        });
        let create = format!("/containers/create?name={name}");
        let (status, answer) = self.ask("POST", &create, order.to_string().as_bytes());
        assert_eq!(status, 201, "{answer}");
        let (status, answer) = self.ask("POST", &format!("/containers/{name}/start"), b"");
        assert_eq!(
            status,
            if program == "chaincode" { 204 } else { 500 },
            "{answer}"
        );
        if status == 204 {
            // Told beside the answer: before the next one is launched, so that the order is the same each time.
            let filters = format!(
                "%7B%22event%22%3A%5B%22start%22%5D%2C%22container%22%3A%5B%22{name}%22%5D%7D"
            );
            let started = format!("/events?since=1&filters={filters}");
            self.read_until("GET", &started, "\"start\"");
        }
    }

    /// Status and body of an answer.
    fn ask(&self, method: &str, target: &str, body: &[u8]) -> (u16, String) {
        let mut stream = self.send(method, target, body);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    fn read_until(&self, method: &str, target: &str, text: &str) {
        let mut stream = self.send(method, target, b"");
        let (mut seen, mut chunk) = (Vec::new(), [0; 1024]);
        while !String::from_utf8_lossy(&seen).contains(text) {
            let length = stream.read(&mut chunk).unwrap();
            assert!(length > 0, "{:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&chunk[..length]);
        }
    }

    fn send(&self, method: &str, target: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: peitho\r\nUser-Agent: go-dockerclient\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        stream
    }

    /// An answer as the server gives it.
    pub(crate) fn json(&self, target: &str) -> Value {
        let (status, body) = self.ask("GET", target, b"");
        assert_eq!(status, 200, "{body}");
        let json = body.find(['{', '[']).unwrap();
        let mut values = serde_json::Deserializer::from_str(&body[json..]).into_iter();
        values.next().unwrap().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Whatever a session left: containers outlive the server.
        if !std::thread::panicking() || TcpStream::connect(&self.address).is_ok() {
            for chaincode in ["runs", "fails", "never"] {
                self.ask(
                    "DELETE",
                    &format!("/containers/{}?force=1", name(chaincode)),
                    b"",
                );
            }
        }
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

fn peitho(directory: &Path) -> Command {
    let mut command = Command::new(program());
    let path = |name: &str| PathBuf::from(directory).join(name);
    command
        .current_dir(directory)
        .env_clear()
        .env("PEITHO_COMPILE__RUNTIME", "oci")
        .env("PEITHO_CHAINCODE__RUNTIME", "oci")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory)
        .env("PEITHO_STORE__DIRECTORY", path("store"))
        .env("PEITHO_OCI__DIRECTORY", path("oci"));
    command
}

/// The base as `docker save` writes it: busybox under the names that the chaincode uses.
fn base() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox")
        .expect("these tests need /bin/busybox: apt-get install busybox-static");
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "bin/busybox", &busybox);
    for program in ["sh", "sleep", "echo"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        let path = format!("bin/{program}");
        layer.append_link(&mut header, path, "busybox").unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let digest = peitho::names::Digest::of(&layer).to_string();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"User": "0", "Env": ["PATH=/usr/local/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    });
    let manifest = json!([{"Config": "c.json", "RepoTags": [BASE], "Layers": ["l.tar"]}]);
    tar(&[
        ("c.json", config.to_string().as_bytes()),
        ("l.tar", &layer),
        ("manifest.json", manifest.to_string().as_bytes()),
    ])
}

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in members {
        append(&mut archive, path, content);
    }
    archive.into_inner().unwrap()
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, path, content).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}
