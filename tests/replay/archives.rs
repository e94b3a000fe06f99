//! What recordings leave out: the contents of the archives that a peer sends, in the form that it gives them (modes, names,
//! gzip), and the image in which they are compiled and run. Its `go`, `npm` and `build.sh` are scripts that put the input where a
//! compiler would put its output, and fail when the input tells them to.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::Command;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tar::{Builder, EntryType, Header};

use crate::recording::{Chaincode, Compile};

/// A static program with many names.
const BUSYBOX: &str = "/bin/busybox";

/// The user of the chaincode in Fabric's images.
const USER: u64 = 500;

/// What a compile says on both of its streams, when it works and when it does not.
pub(crate) const COMPILED: [&str; 2] = ["compiling example.com/simple\n", "it is compiled\n"];
pub(crate) const NOT_COMPILED: &str = "main.go:7:2: undefined: x\n";
/// The code of a compile that fails.
pub(crate) const FAILED: i64 = 2;
/// What the probe of newer peers looks for.
pub(crate) const GO_VERSION: &str = "go version go1.26.1 linux/amd64\n";
/// What the chaincode says first, and its code when it ends by itself.
pub(crate) const CHAINCODE_SAYS: &str = "chaincode is up\n";
pub(crate) const CHAINCODE_CODE: i64 = 7;

/// The languages of chaincode, as far as peers treat them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Go,
    Node,
    Java,
}

impl Language {
    /// By the order for its compile.
    pub(crate) fn of(create: &str) -> Self {
        match create {
            text if text.contains("npm install") => Self::Node,
            text if text.contains("./build.sh") => Self::Java,
            _ => Self::Go,
        }
    }

    /// Where the output goes.
    fn destination(self) -> &'static str {
        match self {
            Self::Go => "/usr/local/bin",
            Self::Node => "/usr/local/src",
            Self::Java => "/root/chaincode-java/chaincode",
        }
    }

    /// What the image is built on.
    fn base(self) -> &'static str {
        match self {
            Self::Go => "hyperledger/fabric-baseos:2.5",
            Self::Node => "hyperledger/fabric-nodeenv:2.5",
            Self::Java => "hyperledger/fabric-javaenv:2.5",
        }
    }
}

/// The source package: gzip(tar), as package and install leave it.
pub(crate) fn code(mark: &str, compile: Compile, chaincode: Chaincode) -> Result<Vec<u8>> {
    let module = format!("module example.com/simple // {mark}\n");
    let mut files = vec![
        ("src/go.mod", module.as_str()),
        ("src/chaincode", script(chaincode)),
        ("META-INF/statedb/couchdb/indexes/a.json", "{}"),
    ];
    if compile == Compile::Fails {
        files.push(("src/wrong", ""));
    }
    let mut archive = Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = header(EntryType::Regular, 0o100_644, content.len());
        header.set_uid(USER);
        header.set_gid(USER);
        archive.append_data(&mut header, name, content.as_bytes())?;
    }
    gzip(&archive.into_inner()?)
}

/// What the peer gives to chaincode for its TLS: gzip(tar) with absolute names.
pub(crate) fn files(of_1_4: bool) -> Result<Vec<u8>> {
    let mut names = vec!["client.key", "client.crt", "peer.crt"];
    if !of_1_4 {
        names.extend(["client_pem.key", "client_pem.crt"]);
    }
    let mut archive = Builder::new(Vec::new());
    for name in names {
        let path = format!("/etc/hyperledger/fabric/{name}");
        let content = format!("the content of {name}\n");
        let mut header = header(EntryType::Regular, 0o100_644, content.len());
        // The library makes names relative; peers do not.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, content.as_bytes())?;
    }
    gzip(&archive.into_inner()?)
}

/// The context of a `/build`: gzip(tar) of Dockerfile and output.
pub(crate) fn context(language: Language, output: Option<&[u8]>) -> Result<Vec<u8>> {
    let dockerfile = format!(
        "FROM {}\nADD binpackage.tar {}\nLABEL org.hyperledger.fabric.chaincode.type=\"{language:?}\" \\\n      org.hyperledger.fabric.version=\"2.5.16\"\nENV CORE_CHAINCODE_BUILDLEVEL=2.5.16",
        language.base(),
        language.destination(),
    );
    let mut archive = Builder::new(Vec::new());
    let mut add = |name, content: &[u8]| {
        let mut header = header(EntryType::Regular, 0o100_644, content.len());
        archive.append_data(&mut header, name, content)
    };
    add("Dockerfile", dockerfile.as_bytes())?;
    if let Some(output) = output {
        add("binpackage.tar", output)?;
    }
    gzip(&archive.into_inner()?)
}

/// The output of a compile of Go, without one.
pub(crate) fn output(chaincode: Chaincode) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    archive.append_data(&mut header(EntryType::Directory, 0o755, 0), "./", &[][..])?;
    let script = script(chaincode);
    let mut header = header(EntryType::Regular, 0o755, script.len());
    archive.append_data(&mut header, "./chaincode", script.as_bytes())?;
    Ok(archive.into_inner()?)
}

fn script(chaincode: Chaincode) -> &'static str {
    match chaincode {
        Chaincode::Ends => "#!/bin/sh\necho chaincode is up\nexit 7\n",
        // Not for ever: a test that was killed leaves it alone.
        Chaincode::Stays => "#!/bin/sh\necho chaincode is up\nexec sleep 300\n",
    }
}

/// One image with all `names`, as `docker save` writes it.
pub(crate) fn image(names: &BTreeSet<String>) -> Result<Vec<u8>> {
    let bases = [Language::Go, Language::Node, Language::Java].map(|it| it.base().to_owned());
    let names: BTreeSet<_> = names.iter().cloned().chain(bases).collect();
    let layer = root()?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": "chaincode",
            "Env": ["PATH=/usr/local/bin:/bin"],
            "WorkingDir": "/opt/chaincode",
        },
        "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"]}]);
    let mut archive = Builder::new(Vec::new());
    for (name, content) in [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = header(EntryType::Regular, 0o644, content.len());
        archive.append_data(&mut header, name, &*content)?;
    }
    Ok(archive.into_inner()?)
}

/// The file system of the image.
fn root() -> Result<Vec<u8>> {
    let busybox = fs::read(BUSYBOX).with_context(|| {
        format!("{BUSYBOX} is needed, a static program: `apt-get install busybox-static`")
    })?;
    let list = Command::new(BUSYBOX).arg("--list").output()?;
    let list = String::from_utf8(list.stdout)?;
    let mut layer = Builder::new(Vec::new());
    for (name, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("tmp", 0o1777),
        ("root", 0o755),
        ("root/chaincode-java", 0o755),
        ("opt", 0o755),
        ("opt/chaincode", 0o755),
        ("usr", 0o755),
        ("usr/local", 0o755),
        ("usr/local/bin", 0o755),
        ("usr/local/src", 0o755),
        ("chaincode", 0o755),
        ("chaincode/input", 0o777),
        ("chaincode/output", 0o777),
    ] {
        layer.append_data(&mut header(EntryType::Directory, mode, 0), name, &[][..])?;
    }
    let compiled = format!(
        "[ ! -e /chaincode/input/src/wrong ] || {{ printf '{}' >&2; exit {FAILED}; }}\nprintf '{}' >&2\nprintf '{}'\n",
        NOT_COMPILED.escape_default(),
        COMPILED[0].escape_default(),
        COMPILED[1].escape_default()
    );
    let take = "cp /chaincode/input/src/chaincode /chaincode/output/chaincode\nchmod 755 /chaincode/output/chaincode\n";
    let version = format!(
        "[ \"$1\" != version ] || {{ echo '{}'; exit 0; }}\n",
        GO_VERSION.trim()
    );
    // Where output is that does not replace this file.
    let chaincode = "for it in /usr/local/src /root/chaincode-java/chaincode; do [ ! -e $it/chaincode ] || exec sh $it/chaincode; done\n";
    let scripts = [
        ("usr/local/bin/go", format!("{version}{compiled}{take}")),
        (
            "usr/local/bin/npm",
            format!("[ \"$1\" != start ] || exec chaincode\n{compiled}"),
        ),
        ("opt/chaincode/build.sh", format!("{compiled}{take}")),
        ("usr/local/bin/chaincode", chaincode.to_owned()),
    ];
    let mut files = vec![("bin/busybox", 0o755, busybox)];
    for (name, script) in scripts {
        files.push((
            name,
            0o755,
            format!("#!/bin/sh\nset -e\n{script}").into_bytes(),
        ));
    }
    let user = format!("chaincode:x:{USER}:{USER}::/tmp:/bin/sh\n");
    files.push((
        "etc/passwd",
        0o644,
        format!("root:x:0:0:root:/root:/bin/sh\n{user}").into(),
    ));
    files.push((
        "etc/group",
        0o644,
        format!("root:x:0:\nchaincode:x:{USER}:\n").into(),
    ));
    for (name, mode, content) in files {
        let mut header = header(EntryType::Regular, mode, content.len());
        layer.append_data(&mut header, name, &*content)?;
    }
    for name in list.lines().filter(|name| *name != "busybox") {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut header, format!("bin/{name}"), "busybox")?;
    }
    Ok(layer.into_inner()?)
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

/// The digest of `bytes` as images spell it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    peitho::names::Digest::of(bytes).to_string()
}
