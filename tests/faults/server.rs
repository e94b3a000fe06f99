//! The server process: this program once more, with another order. It lives until its input is closed, so it
//! never outlives the tests.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use peitho::collection::Service;
use peitho::config;
use peitho::container::Policy;
use peitho::names::Tenant;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::bodies::IMAGE;
use crate::client::{Answer, Client, SOON};
use crate::registry::images;
use crate::world::{PATIENT, World};

/// What the first argument says to a process that is to be the server.
const SERVE: &str = "serve-for-the-faults";

/// On how many threads the server works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// As Peitho does.
    Many,
    /// One for the requests and one for the disk, so that steps can be counted.
    Counted,
}

/// What a server process is to do.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) store: config::Store,
    pub(crate) registry: String,
    /// The host of the registry that built images are pushed to, where they are.
    pub(crate) pushed_to: Option<String>,
    pub(crate) threads: Threads,
    pub(crate) collecting: Collecting,
}

/// Whether the server collects, as Peitho does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collecting {
    No,
    Yes,
}

impl Order {
    /// The order of this process, if it is to be a server.
    pub(crate) fn of_this_process() -> Option<Self> {
        let mut arguments = std::env::args().skip(1);
        (arguments.next()? == SERVE).then(|| Self {
            store: serde_json::from_str(&arguments.next().unwrap()).unwrap(),
            registry: arguments.next().unwrap(),
            threads: match arguments.next().as_deref() {
                Some("counted") => Threads::Counted,
                _ => Threads::Many,
            },
            collecting: match arguments.next().as_deref() {
                Some("collecting") => Collecting::Yes,
                _ => Collecting::No,
            },
            pushed_to: arguments.next(),
        })
    }

    fn command(&self) -> Vec<OsString> {
        let threads = match self.threads {
            Threads::Many => "many",
            Threads::Counted => "counted",
        };
        let collecting = match self.collecting {
            Collecting::No => "alone",
            Collecting::Yes => "collecting",
        };
        let program = std::env::current_exe().unwrap();
        let mut words = vec![
            program.into(),
            SERVE.into(),
            serde_json::to_string(&self.store).unwrap().into(),
            self.registry.clone().into(),
            threads.into(),
            collecting.into(),
        ];
        words.extend(self.pushed_to.clone().map(OsString::from));
        words
    }

    /// Serves until the end of this process's input.
    pub(crate) fn serve(self) -> ExitCode {
        let mut runtime = match self.threads {
            Threads::Many => tokio::runtime::Builder::new_multi_thread(),
            Threads::Counted => tokio::runtime::Builder::new_current_thread(),
        };
        if self.threads == Threads::Counted {
            runtime.max_blocking_threads(1);
        }
        runtime.enable_all().build().unwrap().block_on(async {
            let world = World::over(
                &self.store,
                &images(&self.registry, self.pushed_to.as_deref()),
                peitho::listener::Speech::default(),
                Policy::default(),
                PATIENT,
            )
            .await;
            if self.collecting == Collecting::Yes {
                let service = Service {
                    store: world.store.clone(),
                    containers: world.state.containers.clone(),
                    tenants: [Tenant::default_tenant()].into(),
                    every: std::time::Duration::from_secs(3600),
                    results: u64::MAX,
                    caches: u64::MAX,
                    gained: tokio::sync::watch::channel(0).1,
                };
                tokio::spawn(service.run());
            }
            let stop = world.stop.clone();
            std::thread::spawn(move || {
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
                stop.cancel();
            });
            let told = format!("{}\n", world.address);
            std::io::stdout().write_all(told.as_bytes()).unwrap();
            world.serving.await.unwrap();
        });
        ExitCode::SUCCESS
    }
}

/// A server that runs.
pub(crate) struct Server {
    process: Child,
    input: ChildStdin,
    errors: JoinHandle<String>,
    pub(crate) client: Client,
}

/// A server that does not.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) errors: String,
}

impl Server {
    /// Starts a server; `around` is the program that runs it, with its arguments.
    pub(crate) async fn start(order: &Order, around: &[OsString]) -> Result<Self, Ended> {
        let mut words = around.to_vec();
        words.extend(order.command());
        let mut process = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let mut errors = process.stderr.take().unwrap();
        let errors = tokio::spawn(async move {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).await.unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        let input = process.stdin.take().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let read = timeout(SOON, output.read_line(&mut line)).await;
        read.expect("the server starts or ends").unwrap();
        match line.trim().parse() {
            Ok(address) => Ok(Self {
                process,
                input,
                errors,
                client: Client(address),
            }),
            Err(_) => Err(ended(process, errors).await),
        }
    }

    /// The server's process id; that of the program around it, where there is one.
    pub(crate) fn id(&self) -> u32 {
        self.process.id().expect("it was not waited for")
    }

    /// Ends it as its owner would.
    pub(crate) async fn end(self) -> Ended {
        drop(self.input);
        ended(self.process, self.errors).await
    }

    /// Sends a build; `None` when the server dies over it.
    pub(crate) async fn build(&self, body: &[u8]) -> Option<Answer> {
        self.build_within(body, SOON).await
    }

    /// The same, where the answer may take so long.
    pub(crate) async fn build_within(&self, body: &[u8], limit: Duration) -> Option<Answer> {
        let exchange = async {
            let mut stream = tokio::net::TcpStream::connect(self.client.0).await?;
            let head = format!(
                "POST /build?t={IMAGE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body).await?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await?;
            std::io::Result::Ok(received)
        };
        let exchanged = timeout(limit, exchange).await;
        let received = exchanged.expect("the server answers or dies").ok()?;
        Answer::parse(&received)
    }

    /// The id of the built image, `None` where there is none.
    pub(crate) async fn inspect(&self) -> Option<String> {
        let answer = (self.client)
            .ask("GET", &format!("/images/{IMAGE}/json"))
            .await;
        match answer.status {
            404 => None,
            200 => {
                let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
                Some(json["Id"].as_str().unwrap().to_owned())
            }
            _ => panic!("{answer:?}"),
        }
    }
}

async fn ended(mut process: Child, errors: JoinHandle<String>) -> Ended {
    let status = timeout(SOON, process.wait()).await;
    Ended {
        status: status.expect("the server ends").unwrap(),
        errors: errors.await.unwrap(),
    }
}

/// The id that the answer to a build tells.
pub(crate) fn built(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    let lines = serde_json::Deserializer::from_str(&answer.body).into_iter::<serde_json::Value>();
    let id = lines
        .map(Result::unwrap)
        .find_map(|line| Some(line["aux"]["ID"].as_str()?.to_owned()));
    id.expect("the id of the image")
}

/// `strace` with these arguments around a server; its trace goes to `to`.
pub(crate) fn strace(to: &Path, arguments: &[&str]) -> Vec<OsString> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("strace").exists()));
    assert!(
        found,
        "strace is not installed; as root, run: apt-get install -y strace"
    );
    let mut words: Vec<OsString> = vec!["strace".into(), "-f".into(), "-o".into(), to.into()];
    words.extend(arguments.iter().map(OsString::from));
    words.push("--".into());
    words
}
