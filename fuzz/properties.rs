//! What holds for whatever a stranger sends, one function for each parser. The fuzz targets call them with what libFuzzer thinks
//! up, `tests/it/corpora.rs` with the corpora that are kept here and with what proptest makes of them. A function returns where
//! the input is refused, and panics where something is taken that must not be.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Component;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::Uri;
use peitho::archive::{self, Kind, Limits};
use peitho::engine_api::{Tenants, fuzzing};
use peitho::image;
use peitho::listener::{self, Drain, Speech};
use peitho::names::{ContainerRef, ImageName, Tenant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Panics where it does not hold.
pub(crate) type Property = fn(&[u8]);

/// All of them, by the names of their corpora.
pub(crate) const ALL: [(&str, Property); 7] = [
    ("attach", attach),
    ("create", create),
    ("dockerfile", dockerfile),
    ("name", name),
    ("prefix", prefix),
    ("query", query),
    ("tar", tar),
];

/// The prefixes of a path: what is left is the end of what came, and no path makes a tenant.
pub(crate) fn prefix(data: &[u8]) {
    let Ok(target) = std::str::from_utf8(data) else {
        return;
    };
    let known = ["default", "org1-peer0", "v1-44"].map(|name| name.parse::<Tenant>().unwrap());
    let tenants: Tenants = known.iter().cloned().collect();
    let found = fuzzing::prefix(target, &tenants);
    match &found.tenant {
        Some(tenant) => assert!(known.contains(tenant)),
        None => assert!(target.starts_with("/t/") && found.rest.is_none()),
    }
    assert!(found.version.is_none() || found.rest.is_some());
    if let Some(rest) = found.rest {
        assert!(target.ends_with(rest) && rest.len() < target.len());
        // A target that names nothing below its prefix leaves nothing, which is the root.
        assert!(rest.is_empty() || rest.starts_with(['/', '?']), "{rest:?}");
        if found.version.is_some() {
            assert!(rest.starts_with('/'), "{rest:?}");
        }
    } else if found.tenant.is_some() {
        assert_eq!(found.tenant, Some(Tenant::default_tenant()));
    }
    // With no tenants there is one.
    let alone = fuzzing::prefix(target, &Tenants::default());
    assert!(alone.tenant.is_none_or(|it| it == Tenant::default_tenant()));
}

/// Names of containers and images: what was taken can be said, and means the same when it is heard again.
pub(crate) fn name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(name) = text.parse::<ContainerRef>() {
        let said = name.to_string();
        assert!(
            !said.contains(['/', '\0', '\n', ' ']) && said.len() <= 512,
            "{said:?}"
        );
        assert_eq!(said.parse::<ContainerRef>().unwrap(), name);
    }
    if let Ok(name) = text.parse::<ImageName>() {
        let full = name.full();
        for said in [name.to_string(), full.clone()] {
            assert!(said.chars().all(|it| it.is_ascii_graphic()), "{said:?}");
            assert!(
                said.split('/').all(|part| !part.is_empty() && part != ".."),
                "{said:?}"
            );
            assert_eq!(said.parse::<ImageName>().unwrap().full(), full);
        }
        for version in ["latest", "2.5", text] {
            if let Ok(at) = name.at(version) {
                assert_eq!(at.repository(), name.repository());
            }
        }
    }
}

/// Queries of all kinds; the path of an archive request stays inside.
pub(crate) fn query(data: &[u8]) {
    let mut target = b"/build?".to_vec();
    target.extend_from_slice(data);
    let Ok(uri) = Uri::try_from(target) else {
        return;
    };
    fuzzing::queries(&uri);
    if let Some(path) = fuzzing::archive_path(&uri) {
        assert!(path.starts_with('/') && !path.contains('\0'), "{path:?}");
        assert!(path.split('/').all(|part| part != ".."), "{path:?}");
    }
}

/// The body of a create: no process gets a zero character, and every variable has a name.
pub(crate) fn create(data: &[u8]) {
    let Ok(spec) = fuzzing::create(data) else {
        return;
    };
    assert!(!spec.image.is_empty());
    let words = spec.entrypoint.iter().flatten().chain(&spec.cmd);
    let variables = spec.env.iter().flat_map(|(name, value)| [name, value]);
    for text in words.chain(variables).chain(&spec.working_dir) {
        assert!(!text.contains('\0'), "{text:?}");
    }
    for (name, _) in &spec.env {
        assert!(!name.is_empty() && !name.contains('='), "{name:?}");
    }
    assert_ne!(spec.entrypoint.as_deref(), Some(&[][..]));
    assert_ne!(spec.working_dir.as_deref(), Some(""));
}

/// A Dockerfile: the output has a place of its own, and a refusal names a line that there is.
pub(crate) fn dockerfile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let orders = match image::fuzzing::dockerfile(text) {
        Ok(orders) => orders,
        Err(image::Error::Dockerfile { line, reason }) => {
            let lines = text.lines().count().max(1);
            assert!(
                (1..=lines).contains(&line) && !reason.is_empty(),
                "{line}: {reason}"
            );
            return;
        }
        Err(other) => panic!("{other}"),
    };
    let destination = &orders.destination;
    assert!(
        destination.starts_with('/') && !destination.ends_with('/'),
        "{destination:?}"
    );
    assert!(
        destination.split('/').all(|part| part != ".."),
        "{destination:?}"
    );
    let mut names: Vec<_> = orders.env.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), orders.env.len(), "a name twice");
    assert!(names.iter().all(|name| !name.is_empty()));
    assert!(orders.labels.keys().all(|name| !name.is_empty()));
}

/// A tar: every member stays inside and has the length that it claims, limits hold, and gzip around it changes nothing.
pub(crate) fn tar(data: &[u8]) {
    const LIMITS: Limits = Limits {
        entries: 50,
        bytes: 1 << 20,
    };
    let (mut entries, mut bytes) = (0, 0);
    let read = archive::read(data, LIMITS, |member, content| {
        entries += 1;
        let inside = |path: &std::path::Path| {
            !path.as_os_str().is_empty()
                && path
                    .components()
                    .all(|it| matches!(it, Component::Normal(_)))
        };
        assert!(inside(&member.path), "{member:?}");
        assert_eq!(member.mode & !0o777, 0);
        let mut found = Vec::new();
        let cut = content.read_to_end(&mut found).is_err();
        match &member.kind {
            Kind::File { size } => {
                assert!(cut || found.len() as u64 == *size, "{member:?}");
                bytes += size;
            }
            Kind::Hardlink { target } => assert!(inside(target), "{member:?}"),
            Kind::Directory | Kind::Symlink { .. } => assert!(found.is_empty(), "{member:?}"),
        }
        Ok::<_, archive::Error>(())
    });
    assert!(entries <= LIMITS.entries && bytes <= LIMITS.bytes);
    let digest = archive::digest(data, LIMITS);
    assert_eq!(read.is_ok(), digest.is_ok(), "{read:?} {digest:?}");
    if data.starts_with(&[0x1f, 0x8b]) {
        return;
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(data).unwrap();
    let packed = archive::digest(&*gzip.finish().unwrap(), LIMITS);
    assert_eq!(packed.ok(), digest.ok());
}

/// What every container that is attached to has written: no answer says this by itself.
const OUTPUT: &[u8] = b"(the output)";

/// A server of nothing but attach, on a thread of the fuzzer's own: libFuzzer counts what a run of an input does.
struct Attach {
    runtime: Runtime,
    addr: SocketAddr,
}

thread_local! {
    static ATTACH: Attach = Attach::new();
}

impl Attach {
    fn new() -> Self {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let bound = runtime.block_on(listener::bind((Ipv4Addr::LOCALHOST, 0).into()));
        let bound = bound.unwrap();
        let addr = bound.addr;
        let drain = Drain {
            stop: CancellationToken::new(),
            grace: Duration::ZERO,
        };
        let service = fuzzing::attachable(OUTPUT.into());
        runtime.spawn(listener::serve(bound, Speech::default(), service, drain));
        Self { runtime, addr }
    }

    /// All that a client hears who sends `data` and no more; cut where the server closed before it had read all.
    async fn heard(&self, data: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        // Or the ports of this machine are used up by those that linger.
        stream.set_zero_linger().unwrap();
        let mut heard = Vec::new();
        let talk = async {
            if stream.write_all(data).await.is_ok() && stream.shutdown().await.is_ok() {
                stream.read_to_end(&mut heard).await.ok();
            }
        };
        let ended = timeout(Duration::from_secs(5), talk).await;
        ended.expect("the output has an end, and so has the connection");
        heard
    }
}

/// A handshake of attach: a stream is what was asked for, in the form that goes with the path, and anything else an answer of
/// HTTP.
pub(crate) fn attach(data: &[u8]) {
    let heard = ATTACH.with(|server| server.runtime.block_on(server.heard(data)));
    let split = |bytes: &[u8], at: &[u8]| bytes.windows(at.len()).position(|it| it == at);
    let Some(end) = split(&heard, b"\r\n\r\n") else {
        assert!(
            b"HTTP/1.".starts_with(&heard[..heard.len().min(7)]),
            "{heard:?}"
        );
        return;
    };
    let (head, rest) = heard.split_at(end + 4);
    let head = std::str::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1."), "{head}");
    let status = &head[9..12];
    assert!(status.bytes().all(|it| it.is_ascii_digit()), "{head}");
    // The first request's; what comes behind it has answers of its own.
    let asked = String::from_utf8_lossy(data).to_ascii_lowercase();
    let asked = asked.trim_start_matches(['\r', '\n']);
    if status != "101" {
        let is_stream = head.contains("content-type: application/vnd.docker.raw-stream");
        assert_eq!(is_stream, status == "200", "{head}");
        return;
    }
    assert!(asked.starts_with("post ") && asked.contains("http/1.1"));
    assert!(asked.contains("upgrade:") && asked.contains("connection:"));
    for line in ["connection: upgrade\r\n", "upgrade: tcp\r\n"] {
        assert!(head.contains(line), "{head}");
    }
    let framed = [&[1, 0, 0, 0, 0, 0, 0, OUTPUT.len() as u8], OUTPUT].concat();
    let target: Uri = asked.split(' ').nth(1).unwrap().parse().unwrap();
    let path = target.path();
    let path = path.strip_prefix("/t/default").unwrap_or(path);
    let forms: &[&[u8]] = match path.starts_with("/v") {
        // A person has frames everywhere.
        true if asked.contains("docker-client/") => &[OUTPUT, &framed],
        true => &[OUTPUT],
        false => &[&framed],
    };
    assert!(rest.is_empty() || forms.contains(&rest), "{rest:?}");
}
