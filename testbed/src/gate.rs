//! Owns the way between a program and the API server as a test may spoil it: shut, slow, or answered by the gate itself; and it can
//! kill the program at a chosen request. A real `kubectl proxy` stands behind it and speaks TLS with the account's own rights, so
//! that the gate sees plain HTTP.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::Cluster;
use crate::http;
use crate::process::Process;
use crate::run::Run;

const PROXY_PORT: u16 = 18_001;
const START: Duration = Duration::from_secs(20);
/// The largest head of a request that is read.
const HEAD: u64 = 64 << 10;

/// What becomes of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// They go through.
    Open,
    /// Each goes through after this long.
    Slow(Duration),
    /// The gate answers with this status, as an overloaded or broken API server does.
    Answer(u16),
    /// Connections are closed at once.
    Shut,
}

/// Before or after the API server carried a request out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It never hears of the request.
    Before,
    /// It has done what was asked, and its reply is lost.
    After,
}

/// A place at which the program is killed, or the gate shuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultPoint {
    /// The number of the request that changes something, counted from 1 since [`Gate::count_anew`].
    pub request: usize,
    /// On which side of it.
    pub moment: Moment,
}

/// The gate; when it is dropped, nothing goes through it any more.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    kubeconfig: PathBuf,
    state: Arc<Mutex<State>>,
    _proxy: Process,
}

#[derive(Debug)]
struct State {
    passage: Passage,
    /// What was asked since the count began: method and path of each request that changes something in the namespace.
    changes: Vec<String>,
    fault: Option<(FaultPoint, Fault)>,
    /// Both ends of what goes through now, by number of the connection.
    open: BTreeMap<u64, Vec<TcpStream>>,
    connections: u64,
}

/// What happens at a [`FaultPoint`].
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// This process is killed.
    Kill(u32),
    /// The gate shuts.
    Shut,
}

impl Gate {
    /// Puts a gate before the API server for whoever uses [`Gate::kubeconfig`], with the rights of `kubeconfig`.
    pub fn start(run: &Run, cluster: &Cluster, kubeconfig: &Path) -> Result<Gate> {
        let mut command = cluster.kubectl_as(kubeconfig);
        command.args(["proxy", "--address=127.0.0.1"]);
        command.arg(format!("--port={PROXY_PORT}"));
        let proxy = Process::spawn(run, "kubectl-proxy", command)?;
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, PROXY_PORT));
        proxy.wait_until("passes requests on", START, || {
            Ok(http::is_healthy(upstream, "/version"))
        })?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            passage: Passage::Open,
            changes: Vec::new(),
            fault: None,
            open: BTreeMap::new(),
            connections: 0,
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    let number = {
                        let mut state = lock(&state);
                        state.connections += 1;
                        state.connections
                    };
                    // That a connection breaks is what the gate is for.
                    pass(&state, number, &client, upstream).ok();
                    lock(&state).open.remove(&number);
                });
            }
        });
        let file = run.dir().join("gate.kubeconfig");
        std::fs::write(&file, through(address))?;
        Ok(Gate {
            address,
            kubeconfig: file,
            state,
            _proxy: proxy,
        })
    }

    /// Names the gate instead of the API server.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where it stands.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What becomes of requests from now on; what is under way is cut off.
    pub fn set(&self, passage: Passage) {
        lock(&self.state).set(passage);
    }

    /// Counts requests that change something from 1 again, and kills the process `pid` at `point`.
    pub fn kill_at(&self, point: FaultPoint, pid: u32) {
        lock(&self.state).await_fault(Some((point, Fault::Kill(pid))));
    }

    /// Counts requests that change something from 1 again, and shuts at `point`.
    pub fn shut_at(&self, point: FaultPoint) {
        lock(&self.state).await_fault(Some((point, Fault::Shut)));
    }

    /// Counts requests that change something from 1 again.
    pub fn count_anew(&self) {
        lock(&self.state).await_fault(None);
    }

    /// The requests that changed something since the count began, for example `POST /api/v1/namespaces/chaincode/pods`.
    pub fn changes(&self) -> Vec<String> {
        lock(&self.state).changes.clone()
    }

    /// Whether what was to happen at the chosen point has happened.
    pub fn has_struck(&self) -> bool {
        lock(&self.state).fault.is_none()
    }
}

impl State {
    fn set(&mut self, passage: Passage) {
        self.passage = passage;
        for stream in std::mem::take(&mut self.open).into_values().flatten() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    fn await_fault(&mut self, fault: Option<(FaultPoint, Fault)>) {
        self.changes.clear();
        self.fault = fault;
    }

    /// What was to happen happens, once.
    fn strike(&mut self, fault: Fault) -> Result<()> {
        self.fault = None;
        match fault {
            Fault::Shut => self.set(Passage::Shut),
            Fault::Kill(pid) => {
                let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                kill_process(pid.context("no such process id")?, Signal::KILL)?;
            }
        }
        Ok(())
    }
}

fn through(address: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\n\
         clusters: [{{name: gate, cluster: {{server: 'http://{address}'}}}}]\n\
         contexts: [{{name: gate, context: {{cluster: gate}}}}]\n\
         current-context: gate\n"
    )
}

/// One request on one connection.
fn pass(state: &Mutex<State>, number: u64, client: &TcpStream, upstream: SocketAddr) -> Result<()> {
    let passage = {
        let mut state = lock(state);
        state.open.insert(number, vec![client.try_clone()?]);
        state.passage
    };
    let mut reader = BufReader::new(client.try_clone()?);
    if passage == Passage::Shut {
        client.shutdown(Shutdown::Both)?;
        return Ok(());
    }
    let request = Request::read(&mut reader)?;
    match passage {
        Passage::Slow(pause) => thread::sleep(pause),
        Passage::Answer(code) => return answer(client, code),
        Passage::Open | Passage::Shut => {}
    }
    let due = note(state, &request);
    if let Some((Moment::Before, fault)) = due {
        return lock(state).strike(fault);
    }
    let server = TcpStream::connect(upstream)?;
    let copy = server.try_clone()?;
    lock(state).open.entry(number).or_default().push(copy);
    (&server).write_all(&request.bytes)?;
    if let Some((Moment::After, fault)) = due {
        (&server).read_to_end(&mut Vec::new())?;
        return lock(state).strike(fault);
    }
    std::io::copy(&mut &server, &mut &*client)?;
    client.shutdown(Shutdown::Both)?;
    Ok(())
}

/// Counts a request that changes something; says whether its turn has come.
fn note(state: &Mutex<State>, request: &Request) -> Option<(Moment, Fault)> {
    let is_change = !request.line.starts_with("GET ")
        && request.line.contains("/namespaces/chaincode/")
        // What is only tried changes nothing.
        && !request.query.contains("dryRun=");
    let mut state = lock(state);
    if is_change {
        state.changes.push(request.line.clone());
    }
    let number = state.changes.len();
    let (point, fault) = state.fault.filter(|_| is_change)?;
    (point.request == number).then_some((point.moment, fault))
}

fn answer(mut client: &TcpStream, code: u16) -> Result<()> {
    let body = format!(
        r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"the gate answers {code}","code":{code}}}"#
    );
    write!(
        client,
        "HTTP/1.1 {code} Gate\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    client.shutdown(Shutdown::Both)?;
    Ok(())
}

/// A whole request, which asks to close the connection after it.
struct Request {
    /// Method and path without its query.
    line: String,
    query: String,
    bytes: Vec<u8>,
}

impl Request {
    fn read(reader: &mut impl BufRead) -> Result<Request> {
        let mut head = String::new();
        let mut length = 0;
        let mut limited = reader.by_ref().take(HEAD);
        loop {
            let mut line = String::new();
            ensure!(
                limited.read_line(&mut line)? > 0,
                "the head of a request is cut"
            );
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            match name.to_ascii_lowercase().as_str() {
                "connection" => continue,
                "content-length" => length = value.trim().parse()?,
                "transfer-encoding" => anyhow::bail!("a chunked request"),
                _ => {}
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let mut bytes = format!("{head}Connection: close\r\n\r\n").into_bytes();
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        bytes.extend(body);
        let first = head.lines().next().unwrap_or_default();
        let mut words = first.split(' ');
        let (method, target) = (words.next(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Request {
            line: format!("{} {path}", method.unwrap_or_default()),
            query: query.to_owned(),
            bytes,
        })
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no holder of this lock panics")
}
