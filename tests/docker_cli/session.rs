//! A session of one `docker` command, recorded as a terminal would show it. What differs from run to run has a placeholder: ids,
//! times, ports, numbers of processes.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use crate::world::{RUNNING, World};

pub(crate) struct Session<'a> {
    program: PathBuf,
    world: &'a World,
    recording: String,
    /// The process id of the chaincode that runs, where it was seen.
    process: Option<String>,
}

/// A command that goes on while others are given.
pub(crate) struct Begun {
    line: String,
    process: Child,
    /// What was read of its output already.
    said: String,
    output: BufReader<ChildStdout>,
}

impl Begun {
    /// Waits until it has said a line with `text` in it.
    pub(crate) fn says(&mut self, text: &str) {
        let from = self.said.len();
        while !self.said[from..].contains(text) {
            let length = self.output.read_line(&mut self.said).unwrap();
            assert!(length > 0, "only {:?}", self.said);
        }
    }
}

impl<'a> Session<'a> {
    pub(crate) fn new(program: &Path, world: &'a World) -> Self {
        let inspected = world.json(&format!("/containers/{RUNNING}/json"));
        let process = inspected["State"]["Pid"].as_i64();
        Self {
            program: program.to_owned(),
            world,
            recording: String::new(),
            process: process.map(|pid| pid.to_string()),
        }
    }

    /// Runs a command to its end.
    pub(crate) fn run(&mut self, arguments: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        self.record(&line(arguments), &output);
    }

    /// Begins a command.
    pub(crate) fn begin(&mut self, arguments: &[&str]) -> Begun {
        let mut process = self
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Begun {
            line: line(arguments),
            output: BufReader::new(process.stdout.take().unwrap()),
            process,
            said: String::new(),
        }
    }

    /// Ctrl-C for one that was begun, and its end.
    pub(crate) fn interrupt(&mut self, begun: Begun) {
        let pid = rustix::process::Pid::from_child(&begun.process);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.end(begun);
    }

    /// The end of one that was begun.
    pub(crate) fn end(&mut self, begun: Begun) {
        let Begun {
            line,
            process,
            mut said,
            mut output,
        } = begun;
        output.read_to_string(&mut said).unwrap();
        let mut output = process.wait_with_output().unwrap();
        output.stdout = said.into_bytes();
        self.record(&line, &output);
    }

    /// The chaincode that was running was started again: it is waited for until it can be told to end.
    pub(crate) fn launched_anew(&mut self) {
        self.world.serves();
    }

    /// The id of a container.
    pub(crate) fn id_of(&self, name: &str) -> String {
        let inspected = self.world.json(&format!("/containers/{name}/json"));
        inspected["Id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn recording(self) -> String {
        self.recording
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // Ctrl-C ends the command also where whoever began this suite had it ignored.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=INT", "--"])
            .arg(&self.program)
            .args(arguments)
            .current_dir(self.world.directory.path())
            .env_clear()
            .env("HOME", self.world.directory.path())
            .env("DOCKER_HOST", format!("tcp://{}", self.world.address));
        command
    }

    fn record(&mut self, line: &str, output: &Output) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut shown = self.without_chance(&text(&output.stdout));
        shown.push_str(&self.without_chance(&text(&output.stderr)));
        let line = self.without_chance(line);
        write!(self.recording, "$ docker {}\n{shown}", line.trim_end()).unwrap();
        if let Some(code) = output.status.code().filter(|code| *code != 0) {
            writeln!(self.recording, "(exit code {code})").unwrap();
        }
        self.recording.push('\n');
    }

    fn without_chance(&self, text: &str) -> String {
        let mut text = text.replace(&self.world.address, "<address>");
        if let Some(pid) = &self.process {
            text = text.replace(&format!("/proc/{pid}/"), "/proc/<process>/");
        }
        let mut client = false;
        let mut kept = String::new();
        for line in text.lines() {
            // Which plug-ins there are is the machine's.
            client = match line {
                "Client:" | "Client: Docker Engine - Community" => true,
                "Server:" => false,
                _ => client && line.starts_with(' '),
            };
            if client && !line.trim_start().starts_with("Version:") && !line.starts_with("Client") {
                continue;
            }
            kept.push_str(&self.words(line));
            kept.push('\n');
        }
        kept
    }

    /// A line with placeholders; what stands in columns is three spaces apart, whatever is in them.
    fn words(&self, line: &str) -> String {
        let indent = line.len() - line.trim_start().len();
        let mut shown = " ".repeat(indent);
        let columns = line.trim().split("  ").filter(|it| !it.is_empty());
        for (index, column) in columns.enumerate() {
            if index > 0 {
                shown.push_str("   ");
            }
            shown.push_str(&self.column(column.trim()));
        }
        shown
    }

    fn column(&self, column: &str) -> String {
        const UNITS: [&str; 6] = ["second", "seconds", "minute", "minutes", "hour", "hours"];
        const BEFORE: [&str; 5] = ["Less", "than", "a", "About", "an"];
        let mut shown: Vec<String> = Vec::new();
        for word in column.split(' ') {
            if UNITS.contains(&word) {
                // `5 seconds`, `Less than a second`, `About a minute`.
                while shown.last().is_some_and(|last| {
                    last.parse::<u64>().is_ok() || BEFORE.contains(&last.as_str())
                }) {
                    shown.pop();
                }
                shown.push("<time>".to_owned());
            } else if shown.last().is_some_and(|last| last == "CPUs:") {
                shown.push("<number>".to_owned());
            } else {
                shown.push(self.word(word));
            }
        }
        shown.join(" ")
    }

    fn word(&self, word: &str) -> String {
        let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let digits = core.strip_prefix("sha256:").unwrap_or(core);
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_id = digits.bytes().all(is_hex)
            && matches!(digits.len(), 12 | 64)
            && !digits.starts_with("0123456789ab");
        let is_time = core.len() > 18
            && core.starts_with("20")
            && core.as_bytes()[10] == b'T'
            && core.ends_with('Z');
        let is_architecture =
            ["amd64", "arm64", "linux/amd64", "linux/arm64", "x86_64"].contains(&core);
        // Debian's packages are mended now and then: their versions, and sizes of programs in them, may change.
        let process = "dev.peitho.process=";
        if let Some(number) = core.strip_prefix(process) {
            return word.replace(number, "<process>");
        }
        let is_size = core
            .strip_suffix("MB")
            .is_some_and(|number| number.parse::<f64>().is_ok());
        let placeholder = match () {
            () if is_size => "<size>",
            () if core.starts_with("20.10.") => "20.10",
            () if is_id => "<id>",
            () if is_time && !core.starts_with("2020") => "<time>",
            () if is_architecture => "<architecture>",
            () if Some(core) == self.process.as_deref() => "<process>",
            () => return word.to_owned(),
        };
        word.replace(core, placeholder)
    }
}

fn line(arguments: &[&str]) -> String {
    let quoted = arguments
        .iter()
        .map(|word| match word.contains([' ', '{']) {
            true => format!("'{word}'"),
            false => (*word).to_owned(),
        });
    quoted.collect::<Vec<_>>().join(" ")
}
