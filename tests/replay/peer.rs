//! One peer: sends the requests of a scenario over the connections that they were recorded on, and keeps in mind what a
//! peer knows by then: ids, the agreed version, what it downloaded, and whether its image and chaincode are there.

use std::collections::HashMap;
use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};

use crate::archives::{self, Language};
use crate::judge::{self, Framing};
use crate::recording::{self, Chaincode, Client, Compile, Image, Op, Recording, Scenario, Step};
use crate::server::Server;
use crate::wire::{Connection, LAST_CHUNK, Progress, Reply, chunked, shown};

static HEADERS: LazyLock<std::collections::BTreeMap<String, Vec<String>>> =
    LazyLock::new(recording::headers);

/// What Go's gzip gives away before anything is compressed: all that a peer sends of a build for a long time.
const GZIP_HEADER: usize = 10;

/// The package of the recordings.
const PACKAGE: &str = "simple_1-243b8ef6017a54748d027876e3d0732962ae2a995da37339abef39c8a9309359";

/// What the container of the chaincode is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Absent,
    Created,
    Running,
    Ended,
}

struct Peer<'a> {
    server: &'a Server,
    recording: &'a Recording,
    scenario: &'a Scenario,
    container: String,
    image: String,
    image_is: Image,
    chaincode: State,
    /// Agreed by ping.
    version: Option<String>,
    connections: HashMap<String, Connection>,
    builders: Vec<Builder>,
    build: Option<OpenBuild<'a>>,
    language: Language,
    /// Connections that are attached to the chaincode.
    attached: Vec<(String, Framing)>,
    /// The connection of a `wait` for a chaincode that stays.
    waiting: Option<String>,
}

struct Builder {
    id: String,
    kind: judge::Compiled,
    attached: Option<(String, Framing)>,
    output: Option<Vec<u8>>,
}

/// A `/build` whose body is not complete.
struct OpenBuild<'a> {
    step: &'a Step,
    first: Vec<u8>,
}

/// Plays a scenario as the peer with this number: names of two peers differ.
pub(crate) fn play(
    server: &Server,
    recording: &Recording,
    index: usize,
    number: usize,
) -> Result<()> {
    let scenario = &recording.scenarios[index];
    let id = format!("net-peer{number}.org1.example.com");
    let container = match recording.is_of_1_4() {
        true => format!("{id}-simple-1.0"),
        false => format!("{id}-{PACKAGE}"),
    };
    let digest = archives::sha256(container.as_bytes());
    let image = format!("{container}-{}", digest.trim_start_matches("sha256:"));
    let mut peer = Peer {
        server,
        recording,
        scenario,
        container,
        image,
        image_is: scenario.image,
        chaincode: State::Absent,
        version: None,
        connections: HashMap::new(),
        builders: Vec::new(),
        build: None,
        language: Language::Go,
        attached: Vec::new(),
        waiting: None,
    };
    let played = peer.play();
    let left = peer.leave();
    played.and(left)
}

impl<'a> Peer<'a> {
    fn play(&mut self) -> Result<()> {
        if self.image_is == Image::Present {
            self.prepare_image()
                .context("the image, before the scenario")?;
        }
        for (index, step) in self.scenario.steps.iter().enumerate() {
            if !step.op.is_of_a_build() {
                self.finish_build()?;
            }
            self.step(step).with_context(|| {
                format!(
                    "step {} ({:?} of {})",
                    index + 1,
                    step.op,
                    self.recording.releases
                )
            })?;
        }
        self.finish_build()
    }

    /// The image that an earlier install of this peer has built.
    fn prepare_image(&mut self) -> Result<()> {
        let output = archives::output(self.scenario.chaincode)?;
        let context = archives::context(Language::Go, Some(&output))?;
        let head = format!(
            "POST /build?t={} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            self.image,
            context.len()
        );
        let mut connection = Connection::open(self.server.engine)?;
        connection.send(head.as_bytes())?;
        connection.send(&context)?;
        judge::built(&connection.reply("POST")?, &self.image)
    }

    fn step(&mut self, step: &'a Step) -> Result<()> {
        if step.op == Op::Build {
            return self.open_build(step);
        }
        self.send(step)?;
        if step.op == Op::WaitChaincode && self.scenario.chaincode == Chaincode::Stays {
            self.waiting = Some(step.conn.clone());
            return Ok(());
        }
        let reply = self.reply(step)?;
        self.judge(step, &reply)
            .with_context(|| format!("the reply: {}", reply.shown()))?;
        compare(step, &reply)
    }

    /// Sends a request whole.
    fn send(&mut self, step: &Step) -> Result<()> {
        let body = match step.body.as_deref() {
            None => Vec::new(),
            Some("code") => {
                let Scenario {
                    compile, chaincode, ..
                } = *self.scenario;
                archives::code(&self.image, compile, chaincode)?
            }
            Some("files") => archives::files(self.recording.is_of_1_4())?,
            Some(file) => self.filled(&recording::body(file))?.into_bytes(),
        };
        let mut wire = self.head(step, body.len())?;
        if wire.contains("Transfer-Encoding: chunked") {
            self.connection(step)?.send(wire.as_bytes())?;
            self.connection(step)?.send(&chunked(&body))?;
            return self.connection(step)?.send(LAST_CHUNK);
        }
        // Go writes a head and the body behind it at once.
        if body.is_empty() {
            return self.connection(step)?.send(wire.as_bytes());
        }
        let mut bytes = std::mem::take(&mut wire).into_bytes();
        bytes.extend(body);
        self.connection(step)?.send(&bytes)
    }

    fn head(&self, step: &Step, length: usize) -> Result<String> {
        let request = self.filled(&step.request)?;
        let headers = HEADERS.get(&step.headers).context("headers")?;
        let mut head = format!("{request} HTTP/1.1\r\nHost: {}\r\n", self.server.engine);
        for line in headers {
            head.push_str(&line.replace("{LEN}", &length.to_string()));
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        Ok(head)
    }

    /// `text` with the names of this peer.
    fn filled(&self, text: &str) -> Result<String> {
        let mut text = text
            .replace("{CC}", &self.container)
            .replace("{IMG}", &self.image);
        if let Some(version) = &self.version {
            text = text.replace("{VER}", version);
        }
        for (index, builder) in self.builders.iter().enumerate() {
            text = text.replace(&format!("{{BID{}}}", index + 1), &builder.id);
        }
        ensure!(
            !text.contains("{BID") && !text.contains("{VER}"),
            "not known yet: {text}"
        );
        Ok(text)
    }

    fn connection(&mut self, step: &Step) -> Result<&mut Connection> {
        if !self.connections.contains_key(&step.conn) {
            let connection = Connection::open(self.server.engine)?;
            self.connections.insert(step.conn.clone(), connection);
        }
        self.connections.get_mut(&step.conn).context("just opened")
    }

    /// The reply, after which a connection is as its client left it.
    fn reply(&mut self, step: &Step) -> Result<Reply> {
        let client = self.recording.client;
        let (method, _) = step.request.split_once(' ').context("method")?;
        let connection = self.connection(step)?;
        let reply = connection.reply(method)?;
        if reply.status == 101 {
            if client == Client::Fsouza {
                connection.half_close()?;
            }
            return Ok(reply);
        }
        match client {
            Client::Fsouza => {
                connection.is_closed().context("Connection: close")?;
                self.connections.remove(&step.conn);
            }
            Client::Moby => {
                let said = reply.header("connection");
                ensure!(said.is_none(), "the pooled connection: {said:?}");
            }
        }
        Ok(reply)
    }

    fn judge(&mut self, step: &Step, reply: &Reply) -> Result<()> {
        let framing = Framing::of(&step.request);
        match step.op {
            Op::Ping => {
                let newest = self.recording.newest.as_deref();
                self.version = judge::ping(reply, newest)?;
                Ok(())
            }
            Op::Version => judge::version(reply),
            Op::InspectChaincode => judge::inspected(reply, self.image_is),
            Op::InspectBuilder => judge::inspected(reply, Image::Present),
            Op::Pull => judge::pulled(reply),
            Op::Build => unreachable!("it is finished elsewhere"),
            Op::CreateBuilder => {
                let body = recording::body(step.body.as_deref().context("a body")?);
                let probe = body.contains(r#"["go","version"]"#);
                let kind = match (probe, self.scenario.compile) {
                    (true, _) => judge::Compiled::Probe,
                    (false, Compile::Works) => judge::Compiled::Works,
                    (false, Compile::Fails) => judge::Compiled::Fails,
                };
                self.language = Language::of(&body);
                let id = judge::created(reply)?;
                self.builders.push(Builder {
                    id,
                    kind,
                    attached: None,
                    output: None,
                });
                Ok(())
            }
            Op::PutInput | Op::PutFiles => judge::empty(reply, 200),
            Op::AttachBuilder => {
                self.builder()?.attached = Some((step.conn.clone(), framing));
                judge::attached(reply)
            }
            Op::StartBuilder => judge::empty(reply, 204),
            Op::WaitBuilder => self.compiled(reply),
            Op::GetOutput => {
                let output = judge::output(reply)?;
                self.builder()?.output = Some(output);
                Ok(())
            }
            Op::RemoveBuilder => judge::empty(reply, 204),
            Op::CreateChaincode => match self.image_is {
                Image::Absent => judge::no_such_image(reply),
                Image::Present => {
                    judge::created(reply)?;
                    self.chaincode = State::Created;
                    Ok(())
                }
            },
            Op::AttachChaincode => {
                self.attached.push((step.conn.clone(), framing));
                judge::attached(reply)
            }
            Op::StartChaincode => {
                self.chaincode = State::Running;
                judge::empty(reply, 204)
            }
            Op::WaitChaincode => {
                self.chaincode = State::Ended;
                judge::waited(reply, archives::CHAINCODE_CODE)?;
                self.judge_attached()
            }
            Op::StopChaincode => {
                judge::stopped(reply, self.chaincode)?;
                if self.chaincode == State::Running {
                    self.chaincode = State::Ended;
                    self.judge_wait()?;
                    self.judge_attached()?;
                }
                Ok(())
            }
            Op::KillChaincode => judge::killed(reply, self.chaincode),
            Op::RemoveChaincode => {
                judge::removed(reply, self.chaincode)?;
                self.chaincode = State::Absent;
                Ok(())
            }
        }
    }

    fn builder(&mut self) -> Result<&mut Builder> {
        self.builders.last_mut().context("a builder")
    }

    /// The end of a compile, and what the attached client has of its output: fsouza's only what came before the answer,
    /// moby's what comes until the end of the stream.
    fn compiled(&mut self, reply: &Reply) -> Result<()> {
        let client = self.recording.client;
        let builder = self.builder()?;
        let kind = builder.kind;
        judge::waited(reply, kind.code())?;
        let (conn, framing) = builder.attached.take().context("nobody attached")?;
        let mut connection = self.connections.remove(&conn).context("attached")?;
        let output = match client {
            Client::Fsouza => connection.arrived()?.0,
            Client::Moby => connection.rest()?,
        };
        kind.judge(&framing.text(&output)?)
    }

    /// What attached clients have of a chaincode that has ended: their streams have too.
    fn judge_attached(&mut self) -> Result<()> {
        for (conn, framing) in std::mem::take(&mut self.attached) {
            let mut connection = self.connections.remove(&conn).context("attached")?;
            let text = framing.text(&connection.rest()?)?;
            judge::chaincode_said(&text, self.scenario.chaincode)?;
        }
        Ok(())
    }

    fn judge_wait(&mut self) -> Result<()> {
        let Some(conn) = self.waiting.take() else {
            return Ok(());
        };
        let connection = self.connections.get_mut(&conn).context("waiting")?;
        let reply = connection.reply("POST")?;
        judge::waited(&reply, judge::KILLED).context("the open wait")
    }

    /// The head and the first bytes; the rest comes when the compile is over.
    fn open_build(&mut self, step: &'a Step) -> Result<()> {
        let first = archives::context(self.language, None)?[..GZIP_HEADER].to_vec();
        let head = self.head(step, 0)?;
        let connection = self.connection(step)?;
        connection.send(head.as_bytes())?;
        connection.send(&chunked(&first))?;
        self.build = Some(OpenBuild { step, first });
        Ok(())
    }

    fn finish_build(&mut self) -> Result<()> {
        let Some(OpenBuild { step, first }) = self.build.take() else {
            return Ok(());
        };
        let (language, image) = (self.language, self.image.clone());
        let output = self.builder()?.output.take();
        let context = archives::context(language, output.as_deref())?;
        ensure!(context.starts_with(&first), "another header than before");
        let connection = self.connection(step)?;
        let (early, progress) = connection.arrived()?;
        ensure!(
            early.is_empty() && progress == Progress::Open,
            "before the end of /build there was {}",
            shown(&early)
        );
        connection.send(&chunked(&context[GZIP_HEADER..]))?;
        if output.is_some() {
            connection.send(LAST_CHUNK)?;
            let reply = self.reply(step)?;
            judge::built(&reply, &image).context("/build")?;
            self.image_is = Image::Present;
            return compare(step, &reply);
        }
        // What the client of a compile that failed leaves of its request.
        connection.half_close()?;
        let reply = connection.reply("POST")?;
        connection.is_closed()?;
        self.connections.remove(&step.conn);
        judge::refused(&reply, 400).context("/build that was cut")?;
        compare(step, &reply)?;
        let reply = self.ask("GET", &format!("/images/{image}/json"))?;
        judge::no_such_image(&reply).context("after /build that was cut")
    }

    /// A request of nobody's, beside the recording.
    fn ask(&self, method: &str, target: &str) -> Result<Reply> {
        let mut connection = Connection::open(self.server.engine)?;
        connection.send(format!("{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
        connection.reply(method)
    }

    /// Removes what the scenario leaves.
    fn leave(&mut self) -> Result<()> {
        if self.chaincode != State::Absent {
            let reply = self.ask("DELETE", &format!("/containers/{}?force=1", self.container))?;
            judge::removed(&reply, self.chaincode)?;
            self.judge_attached()?;
        }
        Ok(())
    }
}

/// Whether Peitho answers as the recorded daemon did, or has a reason not to.
fn compare(step: &Step, reply: &Reply) -> Result<()> {
    match (step.status, &step.differs) {
        (None, None) => {}
        (Some(status), None) => {
            let got = reply.status;
            ensure!(
                got == status,
                "{got} where the recorded daemon answered {status}"
            );
        }
        (Some(status), Some(reason)) => {
            let got = reply.status;
            ensure!(
                got != status,
                "answered as recorded, with {got}; no reason any more: {reason}"
            );
        }
        (None, Some(reason)) => anyhow::bail!("a reason, but not for what: {reason}"),
    }
    Ok(())
}
