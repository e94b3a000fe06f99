//! Clients that are many, slow, broken, or mean harm, against the real program. Whatever they do, a peer beside them is
//! answered, and the server's memory stays bounded: the peak is read, which nothing that was freed in time can hide.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::server::Server;
use crate::wire::{Connection, shown};

/// Takes the server's program.
pub(crate) type Case = fn(&Path) -> Result<()>;

pub(crate) const ALL: &[(&str, Case)] = &[
    ("many_idle_connections", many_idle_connections),
    ("slow_heads", slow_heads),
    ("half_open_connections", half_open_connections),
    ("heads_beyond_all_measure", heads_beyond_all_measure),
    ("requests_without_reading", requests_without_reading),
    ("large_bodies_without_end", large_bodies_without_end),
];

const PING: &[u8] = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";

/// More than 1,024 descriptors.
const MANY: usize = 1_500;

/// What one connection may cost, with its buffers in both directions.
const PER_CONNECTION_KB: u64 = 64;

/// What is allowed beside that.
const SLACK_KB: u64 = 24 << 10;

/// For what comes at once and not when a timeout has passed.
const SOON: Duration = Duration::from_secs(30);

fn many_idle_connections(program: &Path) -> Result<()> {
    allow_many()?;
    let server = Server::empty(program)?;
    let before = peak(&server, Peak::Anew)?;
    let mut connections = Vec::new();
    for number in 0..MANY {
        connections.push(Connection::open(server.engine)?);
        if number % 100 == 0 {
            ping(&server)?;
        }
    }
    ping(&server)?;
    // Those of pools are idle between two requests.
    for connection in &mut connections {
        connection.send(PING)?;
        ensure!(connection.reply("GET")?.status == 200);
    }
    ping(&server)?;
    is_bounded(&server, before, MANY)
}

/// Byte by byte: what is complete in the end is answered, and meanwhile others are.
fn slow_heads(program: &Path) -> Result<()> {
    const SLOW: usize = 300;
    let server = Server::empty(program)?;
    let before = peak(&server, Peak::Anew)?;
    let open = |_| Connection::open(server.engine);
    let mut slow = (0..SLOW).map(open).collect::<Result<Vec<_>>>()?;
    for byte in PING {
        for connection in &mut slow {
            connection.send(&[*byte])?;
        }
        ping(&server)?;
    }
    for connection in &mut slow {
        ensure!(connection.reply("GET")?.status == 200);
    }
    is_bounded(&server, before, SLOW)
}

/// Requests that stop anywhere, by FIN or by reset: the server closes what it has of them.
fn half_open_connections(program: &Path) -> Result<()> {
    const EACH: usize = 60;
    let server = Server::empty(program)?;
    ping(&server)?;
    let descriptors = || -> Result<usize> { Ok(fs::read_dir(server.proc("fd"))?.count()) };
    let (files, before) = (descriptors()?, peak(&server, Peak::Anew)?);
    let build = "POST /build?t=a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let upload =
        "PUT /containers/x/archive?path=/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n";
    let create =
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n{\"Image\":";
    let beginnings = [
        String::new(),
        "GET".to_owned(),
        "GET /_ping HTTP/1.1\r\nHos".to_owned(),
        build.to_owned(),
        format!("{build}a\r\n\x1f"),
        format!("{upload}tar"),
        create.to_owned(),
    ];
    for beginning in &beginnings {
        let open = |_| {
            let mut connection = Connection::open(server.engine)?;
            connection.send(beginning.as_bytes())?;
            Ok(connection)
        };
        let finished = (0..EACH).map(open).collect::<Result<Vec<_>>>()?;
        let reset = (0..EACH).map(open).collect::<Result<Vec<_>>>()?;
        ping(&server)?;
        for connection in &reset {
            connection.reset()?;
        }
        drop(reset);
        for mut connection in finished {
            connection.half_close()?;
            let said = connection.rest()?;
            let refused = said.is_empty() || said.starts_with(b"HTTP/1.1 4");
            ensure!(refused, "{beginning:?}: {}", shown(&said));
        }
        ping(&server)?;
    }
    // Of those that were reset nothing tells when they are closed.
    testbed::wait::until("all connections are closed", SOON, None, || {
        Ok((descriptors()? <= files + 2).then_some(()))
    })?;
    is_bounded(&server, before, 4 * EACH)
}

/// Each is refused, or its connection closed, long before its end; several of each kind at once.
fn heads_beyond_all_measure(program: &Path) -> Result<()> {
    const AT_ONCE: usize = 16;
    const LONG: usize = 16 << 20;
    let server = Server::empty(program)?;
    ping(&server)?;
    let before = peak(&server, Peak::Anew)?;
    let head = |first: &str| format!("{first} HTTP/1.1\r\nHost: x\r\n").into_bytes();
    let long = |before: &[u8], piece: &[u8], after: &[u8]| {
        [before, &piece.repeat(LONG / piece.len()), after].concat()
    };
    let chunked = [
        &head("POST /build?t=a")[..],
        b"Transfer-Encoding: chunked\r\n\r\n",
    ]
    .concat();
    let plain = head("GET /_ping");
    let bombs: Vec<(&str, Vec<u8>)> = vec![
        (
            "a header",
            long(&[&plain[..], b"A: "].concat(), b"a", b"\r\n\r\n"),
        ),
        ("a name", long(&plain, b"a", b": a\r\n\r\n")),
        ("headers", long(&plain, b"A: a\r\n", b"\r\n")),
        (
            "a path",
            long(b"GET /", b"a", b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        ),
        (
            "a query",
            long(b"POST /build?t=", b"%41", b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        ),
        (
            "a method",
            long(b"", b"A", b" / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ),
        ("no head", long(b"", b"\r\n", b"")),
        (
            "a chunk's extension",
            long(&[&chunked[..], b"1;"].concat(), b"a", b"\r\n"),
        ),
        (
            "trailers",
            long(&[&chunked[..], b"0\r\n"].concat(), b"A: a\r\n", b"\r\n"),
        ),
        ("a chunk", [&chunked[..], b"fffffffffffffffff\r\n"].concat()),
        (
            "two lengths",
            [
                &plain[..],
                b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            ]
            .concat(),
        ),
        (
            "no length",
            [&plain[..], b"Content-Length: -1\r\n\r\n"].concat(),
        ),
        ("a zero", [&plain[..], b"A: \0\r\n\r\n"].concat()),
    ];
    for (name, bomb) in &bombs {
        let send = || -> Result<Vec<u8>> {
            let mut connection = Connection::open(server.engine)?;
            // The server may have closed before all of it is there.
            if connection.send(bomb).is_ok() {
                connection.half_close().ok();
            }
            connection.rest_or_reset()
        };
        let said = thread::scope(|scope| {
            let clients: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(send)).collect();
            ping(&server)?;
            let said = clients.into_iter().map(|it| it.join());
            said.map(|it| it.map_err(|_| anyhow::anyhow!("a client panicked"))?)
                .collect::<Result<Vec<_>>>()
        })
        .with_context(|| (*name).to_owned())?;
        for said in said {
            let refused = said.is_empty() || said.starts_with(b"HTTP/1.1 4");
            ensure!(refused, "{name}: {}", shown(&said));
        }
    }
    ping(&server)?;
    // What HTTP holds of a head, before it refuses it, is half a megabyte.
    is_bounded(&server, before, AT_ONCE * 8)
}

/// Answers that nobody takes stop their connection, and nothing else.
fn requests_without_reading(program: &Path) -> Result<()> {
    const GREEDY: usize = 6;
    /// What the buffers of the system take on the way is less.
    const MOST: usize = 64 << 20;
    let server = Server::empty(program)?;
    let before = peak(&server, Peak::Anew)?;
    let requests = PING.repeat(1_000);
    let mut connections = Vec::new();
    for _ in 0..GREEDY {
        let mut connection = Connection::open(server.engine)?;
        connection.send_for(Duration::from_millis(200))?;
        let mut sent = 0;
        while connection.send(&requests).is_ok() {
            sent += requests.len();
            ensure!(sent < MOST, "{sent} bytes of requests were taken");
        }
        connections.push(connection);
        ping(&server)?;
    }
    is_bounded(&server, before, GREEDY * 16)
}

/// What is kept in memory until it is complete: the few that may be large, and no others.
fn large_bodies_without_end(program: &Path) -> Result<()> {
    const CROWD: usize = 300;
    const LENGTH: usize = 1 << 20;
    let server = Server::empty(program)?;
    ping(&server)?;
    let before = peak(&server, Peak::Anew)?;
    let head = |length| {
        format!("POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
    };
    let unfinished = [head(LENGTH).into_bytes(), vec![b' '; LENGTH - 1]].concat();
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut connection = Connection::open(server.engine)?;
        connection.send(&unfinished)?;
        crowd.push(connection);
    }
    // A peer's order is as ever.
    let order = format!(r#"{{"Image":"net-peer-{}"}}"#, "0".repeat(64));
    let mut peer = Connection::open(server.engine)?;
    peer.send(format!("{}{order}", head(order.len())).as_bytes())?;
    let reply = peer.reply("POST")?;
    ensure!(reply.status == 404, "{}", reply.shown());
    // The last one came when all places were taken, and hears it.
    let last = crowd.last_mut().context("a crowd")?;
    let refused = last.reply("POST")?;
    ensure!(refused.status == 503, "{}", refused.shown());
    // Twice: a buffer that grows is copied.
    is_bounded(&server, before, CROWD + 32 * 2 * LENGTH / (64 << 10))?;
    Ok(())
}

/// A peer beside all that.
fn ping(server: &Server) -> Result<()> {
    let mut connection = Connection::open(server.engine)?;
    connection.send(PING)?;
    let reply = connection
        .reply("GET")
        .context("the ping of another peer")?;
    ensure!(reply.status == 200, "{}", reply.shown());
    Ok(())
}

/// Which peak.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peak {
    /// From here on.
    Anew,
    UntilNow,
}

/// The most memory that the server has had, in KB.
fn peak(server: &Server, peak: Peak) -> Result<u64> {
    if peak == Peak::Anew {
        let mut file = fs::File::options()
            .write(true)
            .open(server.proc("clear_refs"))?;
        file.write_all(b"5").context("resetting the peak")?;
    }
    let status = fs::read_to_string(server.proc("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let value = line.and_then(|line| line.split_whitespace().next());
    Ok(value.context("VmHWM")?.parse()?)
}

fn is_bounded(server: &Server, before: u64, connections: usize) -> Result<()> {
    let grown = peak(server, Peak::UntilNow)?.saturating_sub(before);
    let most = connections as u64 * PER_CONNECTION_KB + SLACK_KB;
    ensure!(grown <= most, "memory grew by {grown} KB, more than {most}");
    Ok(())
}

/// This process has as many connections as the server.
fn allow_many() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).context("the limit of open files")
}
