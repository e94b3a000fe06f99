//! Containers and images as `docker ps`, `inspect` and `images` take them: Docker's JSON, with what Peitho knows. A field that
//! clients read and that has no meaning here has Docker's own "nothing".

use jiff::Timestamp;
use serde_json::{Value, json};

use super::ARCHITECTURE;
use crate::container::{START_FAILED, Shown};
use crate::image::Listed;
use crate::runtime::{Place, State};

/// What Docker says of a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Docker's word for a state.
pub(in crate::engine_api) fn status_word(state: &State) -> &'static str {
    match state {
        // One that will not run has no process that could have exited.
        State::Created | State::Starting | State::NeverStarted(_) => "created",
        State::Running => "running",
        State::Exited(_) => "exited",
    }
}

/// An entry of `GET /containers/json`, at `now`.
pub(in crate::engine_api) fn summary(shown: &Shown, now: Timestamp) -> Value {
    let names: Vec<_> = shown.name.iter().map(|name| format!("/{name}")).collect();
    json!({
        "Id": shown.id,
        "Names": names,
        "Image": shown.image.to_string(),
        "ImageID": "",
        "Command": shown.command.join(" "),
        "Created": shown.life.created.map_or(0, Timestamp::as_second),
        "Ports": [],
        "Labels": shown.labels,
        "State": status_word(&shown.state),
        "Status": status(shown, now),
        "HostConfig": { "NetworkMode": "default" },
        "NetworkSettings": { "Networks": {} },
        "Mounts": [],
    })
}

/// The answer to `GET /containers/{id}/json`.
pub(in crate::engine_api) fn inspect(shown: &Shown) -> Value {
    let time = |time: Option<Timestamp>| time.map_or(NEVER.to_owned(), |time| time.to_string());
    let (code, running) = match &shown.state {
        State::Exited(exit) => (exit.code, false),
        State::NeverStarted(_) => (START_FAILED, false),
        State::Running => (0, true),
        State::Created | State::Starting => (0, false),
    };
    let pid = match shown.life.place {
        Place::Process { pid } => pid,
        _ => 0,
    };
    let finished = shown.life.finished.filter(|_| !running);
    let host = &shown.host;
    let hosts = host.extra_hosts.iter();
    let hosts: Vec<_> = hosts
        .map(|(name, address)| format!("{name}:{address}"))
        .collect();
    let env: Vec<_> = shown
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let (path, args) = match shown.command.split_first() {
        Some((path, args)) => (path.as_str(), args),
        None => ("", &[][..]),
    };
    json!({
        "Id": shown.id,
        "Created": time(shown.life.created),
        "Path": path,
        "Args": args,
        "State": {
            "Status": status_word(&shown.state),
            "Running": running,
            "Paused": false,
            "Restarting": false,
            "OOMKilled": shown.life.out_of_memory,
            "Dead": false,
            "Pid": pid,
            "ExitCode": code,
            "Error": shown.reason().unwrap_or_default(),
            "StartedAt": time(shown.life.started),
            "FinishedAt": time(finished),
        },
        "Image": shown.image.to_string(),
        "Name": shown.name.as_ref().map_or(String::new(), |name| format!("/{name}")),
        "RestartCount": 0,
        "Driver": "peitho",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": {
            "NetworkMode": "default",
            "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
            "LogConfig": { "Type": "peitho", "Config": {} },
            "Memory": host.memory.unwrap_or(0),
            "NanoCpus": host.cpu_millis.unwrap_or(0).saturating_mul(1_000_000),
            "Dns": host.dns,
            "DnsSearch": host.dns_search,
            "ExtraHosts": hosts,
            "ReadonlyRootfs": host.read_only_root,
            "CapAdd": host.added_capabilities,
        },
        "Mounts": [],
        "Config": {
            "Hostname": "",
            "User": shown.user.map_or(String::new(), |user| user.to_string()),
            "Tty": false,
            "OpenStdin": false,
            "Env": env,
            "Cmd": shown.command,
            "Image": shown.image.to_string(),
            "WorkingDir": shown.working_dir.as_deref().unwrap_or_default(),
            "Entrypoint": null,
            "Labels": shown.labels,
        },
        "NetworkSettings": { "Networks": {} },
    })
}

/// An entry of `GET /images/json`: all names of one id.
pub(in crate::engine_api) fn image(same: &[&Listed]) -> Value {
    let first = same[0];
    let names = same.iter().map(|it| &it.name);
    let (digests, tags): (Vec<_>, Vec<_>) = names.partition(|name| name.digest().is_some());
    let texts = |names: Vec<&crate::names::ImageName>| -> Vec<String> {
        names.into_iter().map(ToString::to_string).collect()
    };
    json!({
        "Id": first.id.to_string(),
        "ParentId": "",
        "RepoTags": texts(tags),
        "RepoDigests": texts(digests),
        "Created": first.created,
        "Size": first.size,
        "SharedSize": -1,
        "Containers": -1,
        "Labels": first.labels,
    })
}

/// What `docker info` shows, of a server with so many containers and images.
pub(in crate::engine_api) fn info(containers: &[Shown], images: usize) -> Value {
    let running = containers.iter().filter(|it| it.is_running()).count();
    json!({
        "ID": "",
        "Name": "peitho",
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": 0,
        "ContainersStopped": containers.len() - running,
        "Images": images,
        "Driver": "peitho",
        "DriverStatus": [],
        "Plugins": { "Volume": [], "Network": [], "Authorization": null, "Log": [] },
        "MemoryLimit": true,
        "SwapLimit": true,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "OomKillDisable": true,
        "IPv4Forwarding": true,
        "BridgeNfIptables": true,
        "BridgeNfIp6tables": true,
        "LoggingDriver": "peitho",
        "CgroupDriver": "none",
        "OperatingSystem": "Peitho: chaincode of Hyperledger Fabric",
        "OSType": "linux",
        "Architecture": ARCHITECTURE,
        "NCPU": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "DefaultRuntime": "peitho",
        "Runtimes": { "peitho": { "path": "" } },
        "Swarm": { "NodeID": "", "LocalNodeState": "inactive" },
        "SecurityOptions": [],
        "Labels": [],
        "Warnings": null,
    })
}

/// The column STATUS of `docker ps`.
fn status(shown: &Shown, now: Timestamp) -> String {
    let since =
        |time: Option<Timestamp>| time.map(|time| ago((now.as_second() - time.as_second()).max(0)));
    match &shown.state {
        State::Created => "Created".to_owned(),
        State::Starting => "Starting".to_owned(),
        State::NeverStarted(_) => "Never started".to_owned(),
        State::Running => match since(shown.life.started) {
            Some(ago) => format!("Up {ago}"),
            None => "Up".to_owned(),
        },
        State::Exited(exit) => match since(shown.life.finished) {
            Some(ago) => format!("Exited ({}) {ago} ago", exit.code),
            None => format!("Exited ({})", exit.code),
        },
    }
}

/// So many seconds in Docker's words.
fn ago(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let hours = (seconds + HOUR / 2) / HOUR;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{seconds} seconds"),
        MINUTE..120 => "About a minute".to_owned(),
        120..HOUR => format!("{} minutes", seconds / MINUTE),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / (24 * 7)),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / (24 * 30)),
        _ => format!("{} years", seconds / (365 * DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_dockers_words() {
        const HOUR: i64 = 3600;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (HOUR - 1, "59 minutes"),
            (HOUR, "About an hour"),
            (2 * HOUR, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (24 * 14 * HOUR, "2 weeks"),
            (24 * 60 * HOUR, "2 months"),
            (24 * 800 * HOUR, "2 years"),
        ] {
            assert_eq!(ago(seconds), text, "{seconds}");
        }
    }
}
