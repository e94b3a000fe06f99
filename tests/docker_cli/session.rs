//! A session of one `docker` command, recorded as a terminal would show it. What differs from run to run has a placeholder: ids,
//! times, ports, numbers of processes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::world::World;

pub(crate) struct Session<'a> {
    program: PathBuf,
    world: &'a World,
    recording: String,
}

/// A command that goes on while others are given.
pub(crate) struct Begun {
    line: String,
    process: Child,
}

impl<'a> Session<'a> {
    pub(crate) fn new(program: &Path, world: &'a World) -> Self {
        Self {
            program: program.to_owned(),
            world,
            recording: String::new(),
        }
    }

    /// Runs a command to its end.
    pub(crate) fn run(&mut self, arguments: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        self.record(&line(arguments), &output);
    }

    /// Begins a command.
    pub(crate) fn begin(&mut self, arguments: &[&str]) -> Begun {
        let process = self
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Begun {
            line: line(arguments),
            process,
        }
    }

    /// The end of one that was begun.
    pub(crate) fn end(&mut self, begun: Begun) {
        let output = begun.process.wait_with_output().unwrap();
        self.record(&begun.line, &output);
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
        let mut command = Command::new(&self.program);
        command
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
        let text = text.replace(&self.world.address, "<address>");
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
            kept.push_str(&words(line));
            kept.push('\n');
        }
        kept
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

/// A line with placeholders; what stands in columns is three spaces apart, whatever is in them.
fn words(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let mut shown = " ".repeat(indent);
    for (index, column) in line
        .trim()
        .split("  ")
        .filter(|it| !it.is_empty())
        .enumerate()
    {
        if index > 0 {
            shown.push_str("   ");
        }
        shown.push_str(&column_words(column.trim()));
    }
    shown
}

fn column_words(column: &str) -> String {
    const UNITS: [&str; 6] = ["second", "seconds", "minute", "minutes", "hour", "hours"];
    let all: Vec<&str> = column.split(' ').collect();
    let mut shown: Vec<String> = Vec::new();
    for word in all {
        if UNITS.contains(&word) {
            // `5 seconds`, `Less than a second`, `About a minute`.
            while shown.last().is_some_and(|last| {
                last.parse::<u64>().is_ok()
                    || ["Less", "than", "a", "About", "an"].contains(&last.as_str())
            }) {
                shown.pop();
            }
            shown.push("<time>".to_owned());
        } else {
            shown.push(of_chance(word));
        }
    }
    shown.join(" ")
}

fn of_chance(word: &str) -> String {
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let digits = core.strip_prefix("sha256:").unwrap_or(core);
    let is_hex = digits
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = is_hex && matches!(digits.len(), 12 | 64) && !digits.starts_with("0123456789ab");
    let is_time = core.len() > 18
        && core.starts_with("20")
        && core.as_bytes()[10] == b'T'
        && core.ends_with('Z');
    let is_architecture = ["amd64", "arm64", "linux/amd64", "linux/arm64"].contains(&core);
    let placeholder = match () {
        () if is_id => "<id>",
        () if is_time && !core.starts_with("2020") => "<time>",
        () if is_architecture => "<architecture>",
        () => return word.to_owned(),
    };
    word.replace(core, placeholder)
}
