//! Something happens to a process at its call of a number, by `strace`: it is killed there, or the call fails. Cases ask for the
//! first, the second, and so on, until there is none.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use crate::client::Answer;
use crate::server::{Order, Server, strace};

/// `strace` around a process to which `what` happens at its call number `step`. `calls` are in strace's words; the trace goes to
/// the file `to`.
pub(crate) fn inject(to: &Path, calls: &str, what: &str, step: u32) -> Vec<OsString> {
    let trace = format!("trace={calls}");
    let inject = format!("inject={calls}:{what}:when={step}");
    // It counts the calls of each thread: those of all connections are to be of one.
    let one = "TOKIO_WORKER_THREADS=1";
    strace(to, &["-E", one, "-e", &trace, "-e", &inject])
}

/// The same for one that is killed.
pub(crate) fn kill(to: &Path, calls: &str, step: u32) -> Vec<OsString> {
    inject(to, calls, "signal=KILL", step)
}

/// Whether a process was killed. Where it was not, it ended well: anything else is no death at a step, but a test that cannot be
/// done, and `told` says why. `strace` ends as its child did.
pub(crate) fn is_killed(status: ExitStatus, told: &str) -> bool {
    let is_killed = status.signal() == Some(9);
    assert!(is_killed || status.success(), "{status}: {told}");
    is_killed
}

/// The life of a server that is killed at its call number `step`, and whether it was: it starts and is sent a build, whose answer
/// is here where there was one. It lives undisturbed where there are not so many calls.
pub(crate) async fn life_until(
    order: &Order,
    calls: &str,
    step: u32,
    build: &[u8],
) -> (Option<Answer>, bool) {
    let scratch = tempfile::TempDir::new().unwrap();
    let around = kill(&scratch.path().join("trace"), calls, step);
    let (answer, ended) = match Server::start(order, &around).await {
        Ok(server) => (server.build(build).await, server.end().await),
        Err(ended) => (None, ended),
    };
    let is_killed = is_killed(ended.status, &ended.errors);
    assert!(is_killed || answer.is_some(), "{ended:?}");
    assert!(is_killed || step > 1, "{calls}: not one step was seen");
    (answer, is_killed)
}
