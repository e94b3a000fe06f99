//! What the clients of peers need of a reply: status, type to the letter, fields, framing, texts. Each rule is one of how these
//! clients read, not of how Peitho answers, so that a reply that is only different passes and one that a peer stumbles over
//! does not.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::archives::{CHAINCODE_SAYS, COMPILED, FAILED, GO_VERSION, NOT_COMPILED};
use crate::peer::State;
use crate::recording::{Chaincode, Image};
use crate::server::Server;
use crate::wire::{Connection, Reply, shown};

/// The code of what was ended by order.
pub(crate) const KILLED: i64 = 137;

/// Below this moby's client asks for the version before each of its requests.
const OLDEST_FOR_MOBY: (u32, u32) = (1, 44);

/// Both libraries read errors and streams of this type, and of no other that begins like it.
const JSON: &str = "application/json";

/// How attach sends output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A header of eight bytes before each piece, for fsouza.
    Frames,
    /// Nothing around it: peers with moby do not take frames apart.
    Raw,
}

/// How a builder ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compiled {
    Probe,
    Works,
    Fails,
}

impl Framing {
    /// The one that the sender of this request reads.
    pub(crate) fn of(request: &str) -> Self {
        match request.contains(" /v") {
            true => Self::Raw,
            false => Self::Frames,
        }
    }

    /// The output in a stream, as its client has it.
    pub(crate) fn text(self, bytes: &[u8]) -> Result<String> {
        let mut output = Vec::new();
        let mut rest = bytes;
        match self {
            Self::Raw => output.extend_from_slice(rest),
            Self::Frames => {
                while !rest.is_empty() {
                    let (head, content) =
                        rest.split_at_checked(8).context("half a frame's head")?;
                    let stream = matches!(head, [1 | 2, 0, 0, 0, ..]);
                    ensure!(stream, "a frame of no stream: {}", shown(head));
                    let length = u32::from_be_bytes(head[4..].try_into()?) as usize;
                    let (content, next) =
                        content.split_at_checked(length).context("half a frame")?;
                    output.extend_from_slice(content);
                    rest = next;
                }
            }
        }
        // A peer returns it in a message of gRPC, which is UTF-8 or not at all.
        String::from_utf8(output).context("output")
    }
}

impl Compiled {
    pub(crate) fn code(self) -> i64 {
        match self {
            Self::Probe | Self::Works => 0,
            Self::Fails => FAILED,
        }
    }

    pub(crate) fn judge(self, output: &str) -> Result<()> {
        let parts = match self {
            Self::Probe => vec![GO_VERSION],
            Self::Works => COMPILED.to_vec(),
            Self::Fails => vec![NOT_COMPILED],
        };
        for part in parts {
            ensure!(output.contains(part), "output without {part:?}: {output:?}");
        }
        let control = |it: char| it.is_control() && it != '\n';
        ensure!(!output.contains(control), "more than text: {output:?}");
        Ok(())
    }
}

/// The version that both sides know, for a client whose newest is `newest`.
pub(crate) fn ping(reply: &Reply, newest: Option<&str>) -> Result<Option<String>> {
    ensure!(reply.status == 200, "health is 200 and nothing else");
    ensure!([&b""[..], b"OK"].contains(&&*reply.body), "a body");
    let Some(newest) = newest else {
        return Ok(None);
    };
    let offered = reply.header("api-version").context("no Api-Version")?;
    ensure!(number(offered)? >= OLDEST_FOR_MOBY, "{offered} is old");
    let agreed = if number(offered)? < number(newest)? {
        offered
    } else {
        newest
    };
    Ok(Some(agreed.to_owned()))
}

fn number(version: &str) -> Result<(u32, u32)> {
    let (major, minor) = version.split_once('.').context("a version")?;
    Ok((major.parse()?, minor.parse()?))
}

pub(crate) fn version(reply: &Reply) -> Result<()> {
    let version = object(reply, 200)?;
    number(text(&version, "ApiVersion")?).map(drop)
}

/// `inspect` of an image that is there or not.
pub(crate) fn inspected(reply: &Reply, image: Image) -> Result<()> {
    if image == Image::Absent {
        return no_such_image(reply);
    }
    let image = object(reply, 200)?;
    let id = text(&image, "Id")?;
    ensure!(id.starts_with("sha256:"), "Id: {id}");
    if let Some(created) = image.get("Created") {
        let created = created.as_str().context("Created")?;
        created.parse::<jiff::Timestamp>().context("Created")?;
    }
    Ok(())
}

/// What makes a peer build: the status for one library, the text to the letter for the other.
pub(crate) fn no_such_image(reply: &Reply) -> Result<()> {
    let message = refused(reply, 404)?;
    ensure!(message.contains("No such image"), "{message}");
    Ok(())
}

/// A refusal; what it says.
pub(crate) fn refused(reply: &Reply, status: u16) -> Result<String> {
    let refusal = object(reply, status)?;
    let message = text(&refusal, "message")?;
    ensure!(!message.is_empty(), "an empty message");
    Ok(message.to_owned())
}

/// A pull that is over: some clients look at nothing but the head.
pub(crate) fn pulled(reply: &Reply) -> Result<()> {
    stream(reply).map(drop)
}

/// A build that is over, and said so.
pub(crate) fn built(reply: &Reply, image: &str) -> Result<()> {
    let lines = stream(reply)?;
    let told = |part: &str| {
        let said = lines.iter().filter_map(|it| it.get("stream")?.as_str());
        said.clone().any(|line| line.contains(part))
    };
    ensure!(told("Successfully built"), "no id");
    ensure!(told(image), "no name");
    Ok(())
}

/// Objects one after the other, none of which tells of an error.
fn stream(reply: &Reply) -> Result<Vec<Value>> {
    ensure!(reply.status == 200, "no 200");
    is_json(reply)?;
    let values = serde_json::Deserializer::from_slice(&reply.body).into_iter();
    let values = values.collect::<Result<Vec<Value>, _>>()?;
    ensure!(!values.is_empty(), "an empty stream");
    for value in &values {
        ensure!(value.is_object(), "{value}");
        let failed = value.get("error").or(value.get("errorDetail"));
        ensure!(failed.is_none(), "{value}");
    }
    Ok(values)
}

/// The id of a container that was created.
pub(crate) fn created(reply: &Reply) -> Result<String> {
    let created = object(reply, 201)?;
    let id = text(&created, "Id")?;
    let hexadecimal = |it: char| matches!(it, '0'..='9' | 'a'..='f');
    ensure!(id.len() == 64 && id.chars().all(hexadecimal), "Id: {id}");
    let warnings = created.get("Warnings").context("Warnings")?;
    ensure!(warnings.is_array(), "Warnings: {warnings}");
    Ok(id.to_owned())
}

pub(crate) fn empty(reply: &Reply, status: u16) -> Result<()> {
    ensure!(reply.status == status, "no {status}");
    ensure!(reply.body.is_empty(), "a body");
    Ok(())
}

pub(crate) fn attached(reply: &Reply) -> Result<()> {
    ensure!(reply.status == 101, "no 101");
    for (name, value) in [
        ("connection", "upgrade"),
        ("upgrade", "tcp"),
        ("content-type", "application/vnd.docker.raw-stream"),
    ] {
        let header = reply.header(name).unwrap_or_default();
        ensure!(header.eq_ignore_ascii_case(value), "{name}: {header}");
    }
    Ok(())
}

/// The end of a process with this code.
pub(crate) fn waited(reply: &Reply, code: i64) -> Result<()> {
    let waited = object(reply, 200)?;
    let told = waited.get("StatusCode").context("no StatusCode")?;
    ensure!(*told == code, "{told} and not {code}");
    let error = waited.get("Error").unwrap_or(&Value::Null);
    ensure!(error.is_null(), "{error}");
    Ok(())
}

/// The output of a compile, which the peer keeps as it is.
pub(crate) fn output(reply: &Reply) -> Result<Vec<u8>> {
    ensure!(reply.status == 200, "no 200");
    // fsouza would take JSON apart.
    let kind = reply.header("content-type");
    ensure!(kind == Some("application/x-tar"), "{kind:?}");
    let encoding = reply.header("content-encoding");
    ensure!(encoding.is_none(), "{encoding:?}");
    let stat = reply
        .header("x-docker-container-path-stat")
        .context("no stat")?;
    let stat: Value = serde_json::from_slice(&BASE64_STANDARD.decode(stat)?)?;
    let mode = stat["mode"].as_u64().context("mode")?;
    ensure!(mode & 1 << 31 != 0, "Go takes mode {mode} for no directory");
    text(&stat, "name")?;
    text(&stat, "linkTarget")?;
    ensure!(stat["size"].is_u64(), "{stat}");
    text(&stat, "mtime")?.parse::<jiff::Timestamp>()?;
    let mut archive = tar::Archive::new(&*reply.body);
    let names = archive.entries()?.map(|entry| {
        let entry = entry?;
        Ok(String::from_utf8_lossy(&entry.path_bytes()).into_owned())
    });
    let names = names.collect::<Result<Vec<_>>>()?;
    // dockerd's begin with `./`; what unpacks them takes both.
    let mut names = names.iter().map(|it| it.strip_prefix("./").unwrap_or(it));
    let inside = |it: &str| !it.starts_with('/') && it.split('/').all(|part| part != "..");
    ensure!(names.clone().all(inside), "a name that leads out");
    ensure!(names.any(|it| it == "chaincode"), "no chaincode");
    Ok(reply.body.clone())
}

pub(crate) fn chaincode_said(text: &str, chaincode: Chaincode) -> Result<()> {
    let said = match chaincode {
        Chaincode::Ends => text == CHAINCODE_SAYS,
        // It may be stopped before it says anything.
        Chaincode::Stays => CHAINCODE_SAYS.starts_with(text),
    };
    ensure!(said, "the chaincode said {text:?}");
    Ok(())
}

/// `stop` of a chaincode in this state.
pub(crate) fn stopped(reply: &Reply, state: State) -> Result<()> {
    match state {
        State::Absent => refused(reply, 404).map(drop),
        State::Running => empty(reply, 204),
        State::Created | State::Ended => empty(reply, 304),
    }
}

/// `kill` of a chaincode in this state.
pub(crate) fn killed(reply: &Reply, state: State) -> Result<()> {
    match state {
        State::Absent => refused(reply, 404).map(drop),
        State::Running => empty(reply, 204),
        State::Created | State::Ended => refused(reply, 409).map(drop),
    }
}

/// Removal of a chaincode in this state: its name is free after it.
pub(crate) fn removed(reply: &Reply, state: State) -> Result<()> {
    match state {
        State::Absent => refused(reply, 404).map(drop),
        _ => empty(reply, 204),
    }
}

fn object(reply: &Reply, status: u16) -> Result<Value> {
    ensure!(reply.status == status, "no {status}");
    is_json(reply)?;
    let value = reply.json()?;
    ensure!(value.is_object(), "no object");
    Ok(value)
}

fn is_json(reply: &Reply) -> Result<()> {
    let kind = reply.header("content-type");
    ensure!(kind == Some(JSON), "Content-Type {kind:?}");
    Ok(())
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key]
        .as_str()
        .with_context(|| format!("no text {key}"))
}

/// Requests that no recording has: refused in a form that both libraries read, and counted under one label whatever they
/// ask for.
pub(crate) fn unknown_requests(server: &Server) -> Result<()> {
    let count = || -> Result<u64> {
        let mut admin = Connection::open(server.admin)?;
        admin.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let metrics = String::from_utf8(admin.reply("GET")?.body)?;
        let key = r#"engine_api_requests_total{endpoint="unknown",status="4xx"} "#;
        let line = metrics.lines().find_map(|line| line.split_once(key));
        line.map_or(Ok(0), |(_, count)| Ok(count.parse()?))
    };
    let before = count()?;
    let unknown = [
        "/nothing",
        "/v1.44/nothing/of/ours",
        "/v9.99/_pong",
        "/t/nobody/_ping",
        "//",
    ];
    for target in unknown {
        let mut connection = Connection::open(server.engine)?;
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
        refused(&connection.reply("GET")?, 404).with_context(|| target.to_owned())?;
    }
    let counted = count()? - before;
    ensure!(counted == unknown.len() as u64, "{counted} were counted");
    Ok(())
}
