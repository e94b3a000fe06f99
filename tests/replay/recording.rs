//! The fixtures: what a peer sent, request by request. `headers.json` has the header lines of each kind of request in their
//! order, without `Host`; `bodies/` the JSON of creates. In all of them stand `{CC}` for the name of the chaincode container,
//! `{IMG}` for its image, `{BIDn}` for the id that the n-th unnamed create gave, `{VER}` for the version that client and
//! server agreed on, and `{LEN}` for the length of the body. Prefixes of the whole peer of 2.5.16 are those that its recorder
//! wrote, `/v1.41`, where the peer itself had sent `/v1.52`; its pings before each request were not kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// All that one client was recorded with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recording {
    /// The releases of Fabric with this client.
    pub(crate) releases: String,
    pub(crate) client: Client,
    /// The one it was recorded with.
    pub(crate) recorded: String,
    /// The newest API version that the client knows, where it asks for one.
    pub(crate) newest: Option<String>,
    pub(crate) scenarios: Vec<Scenario>,
    #[serde(skip)]
    name: String,
}

/// The libraries that peers have had for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Client {
    /// `fsouza/go-dockerclient`: a connection for each request, attach in frames.
    Fsouza,
    /// `moby/moby/client`: a pool of connections, attach taken as it comes.
    Moby,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// Whether the image of the chaincode was there at the beginning.
    pub(crate) image: Image,
    pub(crate) compile: Compile,
    pub(crate) chaincode: Chaincode,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Image {
    Absent,
    Present,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compile {
    Works,
    Fails,
}

/// What the process of the chaincode does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Chaincode {
    /// By itself, with a code of its own.
    Ends,
    /// Until it is stopped.
    Stays,
}

/// One request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) op: Op,
    /// The TCP connection it went over.
    pub(crate) conn: String,
    /// Method and target.
    pub(crate) request: String,
    /// A key of `headers.json`.
    pub(crate) headers: String,
    /// A file of `bodies/`, or one of `code`, `files`, `context`.
    pub(crate) body: Option<String>,
    /// What the daemon of the recording answered, where that was a real dockerd or decided what came next.
    pub(crate) status: Option<u16>,
    /// Why Peitho answers with another one.
    pub(crate) differs: Option<String>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Op {
    #[serde(rename = "ping")]
    Ping,
    #[serde(rename = "version")]
    Version,
    #[serde(rename = "image.inspect.chaincode")]
    InspectChaincode,
    #[serde(rename = "image.inspect.builder")]
    InspectBuilder,
    #[serde(rename = "image.pull")]
    Pull,
    #[serde(rename = "build")]
    Build,
    #[serde(rename = "container.create.build")]
    CreateBuilder,
    #[serde(rename = "archive.put.build")]
    PutInput,
    #[serde(rename = "container.attach.build")]
    AttachBuilder,
    #[serde(rename = "container.start.build")]
    StartBuilder,
    #[serde(rename = "container.wait.build")]
    WaitBuilder,
    #[serde(rename = "archive.get.build")]
    GetOutput,
    #[serde(rename = "container.remove.build")]
    RemoveBuilder,
    #[serde(rename = "container.create.chaincode")]
    CreateChaincode,
    #[serde(rename = "archive.put.chaincode")]
    PutFiles,
    #[serde(rename = "container.attach.chaincode")]
    AttachChaincode,
    #[serde(rename = "container.start.chaincode")]
    StartChaincode,
    #[serde(rename = "container.wait.chaincode")]
    WaitChaincode,
    #[serde(rename = "container.stop.chaincode")]
    StopChaincode,
    #[serde(rename = "container.kill.chaincode")]
    KillChaincode,
    #[serde(rename = "container.remove.chaincode")]
    RemoveChaincode,
}

impl Op {
    /// Whether it is sent while a `/build` is open.
    pub(crate) fn is_of_a_build(self) -> bool {
        use Op::{
            AttachBuilder, CreateBuilder, GetOutput, InspectBuilder, Pull, PutInput, RemoveBuilder,
            StartBuilder, Version, WaitBuilder,
        };
        matches!(
            self,
            Version
                | InspectBuilder
                | Pull
                | CreateBuilder
                | PutInput
                | AttachBuilder
                | StartBuilder
                | WaitBuilder
                | GetOutput
                | RemoveBuilder
        )
    }
}

impl Recording {
    pub(crate) fn steps(&self) -> usize {
        self.scenarios.iter().map(|it| it.steps.len()).sum()
    }

    /// Whether the peer names chaincode as 1.4 does, and gives it three files for TLS instead of five.
    pub(crate) fn is_of_1_4(&self) -> bool {
        self.recorded.starts_with("1.4")
    }
}

impl Scenario {
    /// Unique among all.
    pub(crate) fn full_name(&self, recording: &Recording) -> String {
        format!("{}::{}", recording.name, self.name)
    }
}

/// All recordings, by name.
pub(crate) fn all() -> Vec<Recording> {
    let files = fs::read_dir(folder()).expect("the fixtures are there");
    let mut names: Vec<_> = files
        .map(|file| file.expect("a folder can be read").file_name())
        .filter_map(|name| Some(name.to_str()?.strip_suffix(".json")?.to_owned()))
        .filter(|name| name != "headers")
        .collect();
    names.sort();
    let named = |name: String| {
        let mut recording: Recording = read(&format!("{name}.json"));
        recording.name = name;
        recording
    };
    names.into_iter().map(named).collect()
}

/// Header lines by key.
pub(crate) fn headers() -> BTreeMap<String, Vec<String>> {
    read("headers.json")
}

/// The text of a create.
pub(crate) fn body(name: &str) -> String {
    let path = folder().join("bodies").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = folder().join(name);
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/replay/fixtures")
}
