//! How many files and connections this process may have open. `serve` asks for enough of them at its start; nothing here
//! knows what they are for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Shells and many service managers allow 1,024, for programs that use `select`. Each peer keeps some connections open
/// for days, and one host may have hundreds of peers. More than this is not asked for: containers inherit it, and
/// some programs walk through all descriptors that they might have.
const WANTED: u64 = 65_536;

/// Raises the limit as far as this process may by itself.
pub(super) fn allow_many() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(WANTED, |most| most.min(WANTED));
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let limit = Rlimit {
        current: Some(wanted),
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, ?current, "the limit of open files cannot be raised: many connections may exceed it");
    }
}
