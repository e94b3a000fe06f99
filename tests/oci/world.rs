//! What the cases stand on: a host, a root file system of busybox, and the look at what is left.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use peitho::runtime::oci::host::{Ending, Host, Id, Plan, RuntimeProgram};

const BUSYBOX: &str = "/bin/busybox";

/// A host in a directory that goes with it.
pub struct World {
    pub host: Host,
    pub directory: PathBuf,
    pub base: PathBuf,
    _directory: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("base");
        busybox(&base);
        let path = directory.path().join("oci");
        Self {
            host: open(&path).await,
            directory: path,
            base,
            _directory: directory,
        }
    }

    /// A container that runs `script` in a shell.
    pub fn shell(&self, script: &str) -> Plan {
        Plan {
            lower: vec![self.base.clone()],
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            ..Plan::default()
        }
    }
}

pub async fn open(directory: &Path) -> Host {
    let runtime = RuntimeProgram::find().expect("these tests need a container runtime");
    Host::open(directory, &runtime, Path::new(env!("CARGO_BIN_EXE_peitho")))
        .await
        .unwrap()
}

pub fn id(name: &str) -> Id {
    name.parse().unwrap()
}

pub fn exited(code: i64) -> Option<Ending> {
    Some(Ending::Exited {
        code,
        out_of_memory: false,
    })
}

/// An image of one program with many names.
fn busybox(base: &Path) {
    assert!(
        Path::new(BUSYBOX).is_file(),
        "these tests need {BUSYBOX}, a static program: `apt-get install busybox-static`"
    );
    for folder in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(base.join(folder)).unwrap();
    }
    fs::copy(BUSYBOX, base.join("bin/busybox")).unwrap();
    let list = std::process::Command::new(BUSYBOX)
        .arg("--list")
        .output()
        .unwrap();
    for name in String::from_utf8(list.stdout)
        .unwrap()
        .lines()
        .filter(|name| *name != "busybox")
    {
        symlink("busybox", base.join("bin").join(name)).unwrap();
    }
    fs::write(
        base.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nchaincode:x:500:501::/tmp:/bin/sh\n",
    )
    .unwrap();
    fs::write(
        base.join("etc/group"),
        "root:x:0:\nchaincode:x:501:\nextra:x:7:chaincode\n",
    )
    .unwrap();
}
