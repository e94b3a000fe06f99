//! A compile as every runtime runs it (design D6): the builder's container executes this program, `peitho agent
//! compile`, and that runs the builder's command. Where things lie in such a container, how the agent is called and
//! which variables it sees stand here once; the runtimes put the program and its credentials there in their own way.
//! Pure, but for notices in a compile's log.

use secrecy::SecretString;

use super::process;
use super::surroundings::{Caches, Surroundings};
use crate::grant::{Grant, Grants};
use crate::names::{CompileKey, SpareId};
use crate::store::spool::Spool;

/// Where the agent finds [`TOKEN`] and [`CA`]. All of ours in a container lies below `/run/peitho`: in the
/// agent's own image `/peitho` is the program.
pub(super) const CREDENTIALS: &str = "/run/peitho/credentials";
/// The file of the token for the delivery listener.
pub(super) const TOKEN: &str = "token";
/// The file of the certificate authority of the delivery listener.
pub(super) const CA: &str = "ca.crt";
/// The directory that holds the program [`PROGRAM`], which the command must not be able to write.
pub(super) const PROGRAM_DIRECTORY: &str = "/run/peitho/bin";
/// The agent's program.
pub(super) const PROGRAM: &str = "/run/peitho/bin/peitho";
/// Where the certificates lie that compiles trust.
pub(super) const TRUST: &str = "/run/peitho/trust";
const SPOOL: &str = "/run/peitho/spool";
const HOME: &str = "/run/peitho/home";
/// The short name of the directory in which the caches are.
pub(super) const HOME_VOLUME: &str = "home";
const TMP: &str = "/run/peitho/tmp";

/// The directory in [`HOME`] that is kept from one compile to the next: the agent's default for `--cache`. It is not told: an agent of an older
/// release knows no such argument, and would end by it.
const CACHE: &str = "/run/peitho/home/.cache";

/// Directories by which command and agent exchange what they have, each with a short name.
pub(super) const EXCHANGE: [(&str, &str); 4] = [
    ("input", "/chaincode/input"),
    ("output", "/chaincode/output"),
    ("spool", SPOOL),
    (HOME_VOLUME, HOME),
];

/// All directories that the command may write where the rest of its image is closed to it, each with a short name. The
/// program's is not one of them.
pub(super) const WRITABLE: [(&str, &str); 5] = [
    EXCHANGE[0],
    EXCHANGE[1],
    EXCHANGE[2],
    EXCHANGE[3],
    ("tmp", TMP),
];

/// Where the tools of each language keep what the next compile can use. The request and `compile.env` may say otherwise.
pub(super) const CACHES: [(&str, &str); 4] = [
    ("XDG_CACHE_HOME", CACHE),
    ("GOCACHE", "/run/peitho/home/.cache/go-build"),
    ("GOMODCACHE", "/run/peitho/home/.cache/go-mod"),
    ("npm_config_cache", "/run/peitho/home/.cache/npm"),
];

/// The same where nothing of it is kept: in the tools' own places below [`HOME`], as without a cache there ever was. Operators mount what they keep
/// themselves there.
const UNKEPT: [(&str, &str); CACHES.len()] = [
    CACHES[0],
    CACHES[1],
    ("GOMODCACHE", "/run/peitho/home/go/pkg/mod"),
    ("npm_config_cache", "/run/peitho/home/.npm"),
];

/// Those of [`CACHES`] that are set for a command which has its image's own places: what is in these can always be made again, and an image may have
/// modules in the others without which it cannot compile.
pub(super) const IN_OWN_PLACES: [&str; 2] = ["XDG_CACHE_HOME", "GOCACHE"];

/// Where they have all else that they write: the builder images' own places are root's (k8s-measurements §3). What the tools of Java download is
/// not kept: Maven notes for a day what it did not find, and Gradle's home has more in it than a cache.
pub(super) const HOMES: [(&str, &str); 5] = [
    ("HOME", HOME),
    ("TMPDIR", TMP),
    ("GRADLE_USER_HOME", "/run/peitho/home/.gradle"),
    ("MAVEN_CONFIG", "/run/peitho/home/.m2"),
    // Java asks the user database, not HOME, and the compile's user is in none.
    ("MAVEN_OPTS", "-Duser.home=/run/peitho/home"),
];

/// What the log says of a compile that was killed for want of memory.
pub(super) const OUT_OF_MEMORY: &str = "the compile ran out of memory, see compile.limits";

/// What the log says of a compile that was ended after `seconds`.
pub(super) fn timed_out(seconds: u64) -> String {
    format!("the compile was ended after {seconds} s, see compile.timeoutSeconds")
}

/// The command line of the agent that runs `command` as the compile `key` and reports to `address`.
pub(super) fn command(address: &str, key: &CompileKey, command: &[String]) -> Vec<String> {
    let mut agent = agent("compile", address, ["--key", &key.to_string()]);
    agent.push("--".to_owned());
    agent.extend_from_slice(command);
    agent
}

/// The command line of the agent that waits as the spare `id` for what to compile.
pub(super) fn waiting(address: &str, id: &SpareId) -> Vec<String> {
    agent("spare", address, ["--id", &id.to_string()])
}

/// What both have: `job` is the agent's, and `what` it is about.
fn agent(job: &str, address: &str, what: [&str; 2]) -> Vec<String> {
    let [flag, id] = what;
    [
        PROGRAM,
        "agent",
        job,
        "--address",
        address,
        flag,
        id,
        "--credentials",
        CREDENTIALS,
        "--spool",
        SPOOL,
    ]
    .map(str::to_owned)
    .into()
}

/// Variables without those whose values are secrets ([`Surroundings::proxies`]): the places, what
/// surrounds all compiles, and over both `requested`, what the request and `compile.env` say.
pub(super) fn environment(
    surroundings: &Surroundings,
    requested: &[(String, String)],
) -> Vec<(String, String)> {
    let plain = surroundings.plain_variables();
    let plain = plain.iter().map(|(name, value)| (*name, value.as_str()));
    let requested = requested.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    let caches = match surroundings.caches() {
        Caches::Kept => CACHES,
        Caches::Lost => UNKEPT,
    };
    process::environment(
        HOMES
            .into_iter()
            .chain(caches)
            .chain(plain)
            .chain(requested),
    )
}

/// What the agent of the compile `key` shows to the delivery listener.
pub(super) fn token(grants: &Grants, key: &CompileKey) -> SecretString {
    grants.issue(&Grant::Compile { key: *key })
}

/// What the agent that waits as the spare `id` shows to the delivery listener.
pub(super) fn waiting_token(grants: &Grants, id: &SpareId) -> SecretString {
    grants.issue(&Grant::Spare { id: *id })
}

/// A line of the runtime's own in a compile's log.
pub(super) async fn write_notice(log: &Spool, text: &str) {
    let line = format!("peitho: {text}\n");
    if let Err(error) = log.append(line.as_bytes()).await {
        tracing::warn!(%error, "a notice for a compile's log was lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Compile, CompileCache};
    use crate::names::Digest;

    #[test]
    fn tools_have_their_own_places_where_nothing_is_kept() {
        let places = |enabled| {
            let cache = CompileCache {
                enabled,
                ..CompileCache::default()
            };
            let section = Compile {
                cache,
                ..Compile::default()
            };
            let surroundings = Surroundings::read(&section, "https://a:1").unwrap();
            let all = environment(&surroundings, &[]);
            let kept = |name: &str| CACHES.iter().any(|(known, _)| *known == name);
            let all = all.into_iter().filter(|(name, _)| kept(name));
            all.map(|(_, place)| place).collect::<Vec<_>>()
        };
        let home = |below: &[&str; 4]| below.map(|it| format!("{HOME}/{it}"));
        let on = [".cache", ".cache/go-build", ".cache/go-mod", ".cache/npm"];
        assert_eq!(places(true), home(&on));
        let off = [".cache", ".cache/go-build", "go/pkg/mod", ".npm"];
        assert_eq!(places(false), home(&off));
    }

    /// It ends by an argument that it does not know.
    #[test]
    fn an_agent_of_an_earlier_release_knows_all_that_it_is_told() {
        let key = CompileKey::new(Digest::of(b"compile"));
        let told = command("https://a:1", &key, &["true".to_owned()]);
        let flags = told.iter().filter(|it| it.starts_with("--"));
        let flags: Vec<_> = flags.collect();
        assert_eq!(
            flags,
            ["--address", "--key", "--credentials", "--spool", "--"]
        );
    }
}
