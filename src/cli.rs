//! The command line: what can be asked of the program, and how its answers and failures are written. `main`
//! calls it. It knows where the work is done, and does none of it.

mod images;
mod login;
mod prune;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::runtime::{Builder, Runtime};

use self::images::Images;
use self::prune::Prune;
use crate::config::{self, Config, Log, Notice, Origin, Origins, Setting};
use crate::runtime::kubernetes::Templates;
use crate::runtime::oci::host::{Job, run_shim};
use crate::{agent, serve, telemetry};

const EXAMPLES: &str = "\
Examples:
  peitho serve                               with ./peitho.yml or /etc/peitho/peitho.yml, or with the defaults
  peitho serve --config my.yml --set log.level=debug
  PEITHO_LOG__LEVEL=debug peitho serve       every key has a variable: PEITHO_SECTION__KEY
  docker save hyperledger/fabric-ccenv:2.5 | peitho images import -
  peitho config check my.yml                 is the file good?
  peitho config show                         what is in force, and where it comes from
  peitho config schema > peitho.schema.json  for editors";

const SERVE_EXAMPLES: &str = "\
Examples:
  peitho serve                                      in a pod: chaincode runs on Kubernetes; elsewhere: on this machine
  peitho serve --config peitho.yml
  peitho serve --set chaincode.runtime=docker --set compile.runtime=docker
  peitho serve --set listen.engineApi=0.0.0.0:8080  for peers of other machines: whoever reaches it runs programs

Then a peer starts with CORE_VM_ENDPOINT=tcp://HOST:8080. Ctrl-C or SIGTERM ends the server; running chaincode goes on.";

/// Gives Hyperledger Fabric peers the Docker daemon they expect and lets Kubernetes, or this machine, run the chaincode
#[derive(Debug, Parser)]
#[command(name = "peitho", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What the program is asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Sources),
    /// The jobs of this program inside pods and other containers; Peitho itself orders them
    #[command(subcommand)]
    Agent(agent::Command),
    /// Check, show and describe the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Supervise one container; Peitho itself starts it
    #[command(hide = true)]
    Shim {
        /// What to do
        job: ShimJob,
        /// The directory of the launch
        directory: PathBuf,
    },
    /// What was built, and the base images that the store holds
    Images(Images),
    /// Remove from the store what nothing needs any more
    ///
    /// A running server does that by itself, every store.collectEverySeconds. Images go only with --images.
    #[command(after_help = prune::EXAMPLES)]
    Prune(Prune),
    /// Print the version
    Version,
}

/// What a shim can be asked to do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ShimJob {
    /// Run the container
    Run,
    /// Remove what a killed shim left
    Clean,
}

/// What can be asked about the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the configuration is good, and what it consists of
    Check {
        /// The file, instead of --config
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// What to check.
        #[command(flatten)]
        sources: Sources,
    },
    /// Print the configuration in force as YAML, without values that may be secrets
    Show(Sources),
    /// Print the JSON schema of the file
    Schema,
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub struct Sources {
    /// The configuration file [default: ./peitho.yml, else /etc/peitho/peitho.yml, else none]
    #[arg(short, long, value_name = "FILE", env = "PEITHO_CONFIG")]
    config: Option<PathBuf>,
    /// Set one key, over file and variables; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<Setting>,
}

/// Why the program ends with another code than 0.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

/// The exit code for wrong arguments and wrong configuration.
const MISUSED: u8 = 2;

impl Failure {
    /// Tells it on stderr, `error: …` and `hint: …`, and gives the exit code.
    pub fn report(self) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        // Nobody is left to hear that this fails.
        for line in self.message.lines() {
            let _ = writeln!(stderr, "error: {line}");
        }
        if let Some(hint) = self.hint {
            let _ = writeln!(stderr, "hint: {hint}");
        }
        ExitCode::from(self.code)
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        let hint = match error {
            config::Error::Read { .. } => "name the file with --config or PEITHO_CONFIG",
            _ => {
                "`peitho config schema` describes all keys, `peitho config show` prints the defaults"
            }
        };
        Self {
            message: error.to_string(),
            hint: Some(hint.to_owned()),
            code: MISUSED,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let mut message = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            // Many errors tell their cause themselves.
            if !message.contains(&cause) {
                message = format!("{message}: {cause}");
            }
        }
        Self {
            message,
            hint: None,
            code: 1,
        }
    }
}

/// Reads the arguments; the first is the program's name.
///
/// # Errors
/// When they are not understood, in one line. A wish for help or the version is granted at once.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Failure> {
    match Arguments::try_parse_from(arguments) {
        Ok(arguments) => Ok(arguments.command),
        // These carry pages to be printed, not an error.
        Err(error)
            if !error.use_stderr()
                || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            error.exit()
        }
        Err(error) => Err(misunderstood(&error)),
    }
}

/// Clap's first line; its advice, where it has any, instead of the usage.
fn misunderstood(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    // Missing arguments stand on lines of their own.
    let missing = text
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with("  "));
    let message = missing.fold(first.to_owned(), |message, line| {
        format!("{message} {}", line.trim())
    });
    let advice = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("tip: "));
    Failure {
        message: message.trim_start_matches("error: ").to_owned(),
        hint: Some(
            advice
                .unwrap_or("`peitho --help` shows what there is")
                .to_owned(),
        ),
        code: MISUSED,
    }
}

impl Command {
    /// Does what was asked; returns when it is done, for `serve` after an order to stop.
    ///
    /// # Errors
    /// What to tell the user.
    pub fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Serve(sources) => {
                let (config, origins) = sources.load()?;
                telemetry::init(&config.log).map_err(anyhow::Error::from)?;
                tracing::info!(
                    version = env!("CARGO_PKG_VERSION"),
                    file = origins.file().map(tracing::field::debug),
                    settings = origins.settings().count(),
                    "configuration read"
                );
                for notice in origins.notices() {
                    tracing::warn!("{notice}");
                }
                let runtime = Builder::new_multi_thread().enable_all().build();
                let runtime = runtime.map_err(anyhow::Error::from)?;
                runtime.block_on(serve::run(config))?;
            }
            Self::Agent(job) => {
                // On stderr, which is the pod's own log; what the compile prints goes elsewhere.
                telemetry::init(&Log::default()).map_err(anyhow::Error::from)?;
                return Ok(ExitCode::from(one_thread()?.block_on(agent::run(job))));
            }
            Self::Config(ConfigCommand::Check { file, sources }) => {
                let config = file.or(sources.config);
                let (_, origins) = Sources { config, ..sources }.load()?;
                print(&found(&origins));
            }
            Self::Config(ConfigCommand::Show(sources)) => {
                let (config, origins) = sources.load()?;
                print(&format!("{}{}", comments(&origins), config.to_yaml()));
            }
            Self::Config(ConfigCommand::Schema) => print(&format!("{:#}\n", Config::schema())),
            // Neither a log nor a runtime: both have threads, and the shim leaves its namespaces.
            Self::Shim { job, directory } => {
                let job = match job {
                    ShimJob::Run => Job::Run,
                    ShimJob::Clean => Job::Clean,
                };
                return Ok(ExitCode::from(run_shim(job, directory)));
            }
            Self::Images(images) => return images.run(),
            Self::Prune(prune) => {
                let (config, _) = prune.sources().load()?;
                warnings(&config)?;
                one_thread()?.block_on(prune.run(&config))?;
            }
            Self::Version => print(&format!("peitho {}\n", env!("CARGO_PKG_VERSION"))),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The log of a command: what it waits for, and what it met. What a check finds is printed.
fn warnings(config: &Config) -> anyhow::Result<()> {
    let log = Log {
        level: "warn,peitho::collection::check=off".to_owned(),
        ..config.log.clone()
    };
    Ok(telemetry::init(&log)?)
}

/// What a job of its own needs.
fn one_thread() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

impl Sources {
    fn load(&self) -> Result<(Config, Origins), config::Error> {
        // An empty PEITHO_CONFIG is none.
        let file = self
            .config
            .as_deref()
            .filter(|path| !path.as_os_str().is_empty());
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let (config, origins) =
            Config::load_with_origins(file, std::env::vars_os().filter_map(text), &self.set)?;
        // What only Kubernetes' own types know to be wrong.
        let Config {
            kubernetes,
            compile,
            chaincode,
            tenants,
            ..
        } = &config;
        match Templates::read(kubernetes, compile, chaincode, tenants) {
            Ok(_) => Ok((config, origins)),
            Err(problems) => match origins.error(&problems) {
                Some(error) => Err(error),
                None => Ok((config, origins)),
            },
        }
    }
}

fn found(origins: &Origins) -> String {
    let file = match origins.file() {
        Some(file) => file.display().to_string(),
        None => "none; all values are defaults unless set below".to_owned(),
    };
    let names = |wanted: fn(&Origin) -> bool| {
        let names: Vec<String> = origins
            .settings()
            .filter(|(_, origin)| wanted(origin))
            .map(|(key, origin)| match origin {
                Origin::File { .. } => key.to_owned(),
                other => other.to_string(),
            })
            .collect();
        match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        }
    };
    format!(
        "ok\nfile: {file}\nkeys of the file: {}\nvariables: {}\nflags: {}\n",
        names(|origin| matches!(origin, Origin::File { .. })),
        names(|origin| matches!(origin, Origin::Environment(_))),
        names(|origin| matches!(origin, Origin::Flag(_))),
    ) + &notices("warning: ", origins)
}

fn notices(mark: &str, origins: &Origins) -> String {
    let line = |notice: &Notice| format!("{mark}{notice}\n");
    origins.notices().iter().map(line).collect()
}

fn comments(origins: &Origins) -> String {
    let line = |(key, origin): (&str, &Origin)| format!("# {key}: {origin}\n");
    notices("# ", origins) + &origins.settings().map(line).collect::<String>()
}

/// Decimal, as Docker writes sizes.
fn shown(bytes: u64) -> String {
    match bytes < 1_000_000 {
        true => format!("{}.{} kB", bytes / 1000, bytes % 1000 / 100),
        false => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// A reader that went away, such as `head`, has seen enough.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse_words(line: &str) -> Result<Command, Failure> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_mistake_is_one_line_and_code_2() {
        for (line, message) in [
            (
                "peitho agent install",
                "the following required arguments were not provided: <DIRECTORY>",
            ),
            ("peitho serv", "unrecognized subcommand 'serv'"),
            (
                "peitho serve --port 1",
                "unexpected argument '--port' found",
            ),
            (
                "peitho serve --set level=debug",
                "invalid value 'level=debug' for '--set <SECTION.KEY=VALUE>': expected section.key=value, for example log.level=debug",
            ),
        ] {
            let failure = parse_words(line).expect_err(line);
            assert_eq!(failure.message, message);
            assert_eq!(failure.code, MISUSED);
            assert!(failure.hint.is_some());
        }
    }

    #[test]
    fn serve_takes_a_file_and_settings() {
        let command =
            parse_words("peitho serve -c a.yml --set log.level=debug --set store.directory=/s");
        let Ok(Command::Serve(sources)) = command else {
            panic!("{command:?}");
        };
        assert_eq!(sources.config, Some(PathBuf::from("a.yml")));
        assert_eq!(sources.set.len(), 2);
    }

    /// Pods are told what agents of earlier releases know: `agent.image` may be of one.
    #[test]
    fn an_agent_knows_by_itself_what_is_kept() {
        let line = "peitho agent compile --address https://a:1 --key KEY --credentials /c --spool /s -- true";
        let command = parse_words(&line.replace("KEY", &"0".repeat(64)));
        let Ok(Command::Agent(agent::Command::Compile(args))) = command else {
            panic!("{command:?}");
        };
        let cache = PathBuf::from("/run/peitho/home/.cache");
        assert_eq!(args.place.cache, cache);
    }

    #[test]
    fn a_wrong_configuration_is_code_2() {
        let failure = parse_words("peitho config check /nowhere/peitho.yml")
            .and_then(Command::run)
            .expect_err("the file does not exist");
        assert_eq!(failure.code, MISUSED);
        assert!(
            failure.message.contains("/nowhere/peitho.yml"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn a_wrong_pod_template_is_told_by_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("peitho.yml");
        let yaml = "chaincode:\n  podTemplate:\n    spec:\n      nodeSelektor: {a: b}\n";
        std::fs::write(&file, yaml).unwrap();
        let failure = parse_words(&format!("peitho config check {}", file.display()))
            .and_then(Command::run)
            .expect_err("there is no such field");
        let message = failure
            .message
            .replace(&file.display().to_string(), "peitho.yml");
        assert_eq!(
            message,
            "peitho.yml:4:7: chaincode.podTemplate.spec.nodeSelektor is no field of a pod that Peitho knows"
        );
        assert_eq!(failure.code, MISUSED);
    }
}
