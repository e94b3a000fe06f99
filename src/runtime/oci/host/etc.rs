//! The three files of `/etc` that a container gets from the host and the order instead of its image: `hosts`, `resolv.conf`
//! and `hostname`. The network is the host's, so the host's own files are where they begin.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::place::Place;
use super::plan::Plan;

/// The names of the files, all of which [`write()`] makes.
pub(super) const NAMES: [&str; 3] = ["hosts", "resolv.conf", "hostname"];

const NO_HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost\n";

/// Writes the three files of the container, for every user of it to read.
pub(super) fn write(place: &Place, plan: &Plan) -> io::Result<()> {
    let own = |path: &str| match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    };
    let texts = [
        hosts(own("/etc/hosts")?.as_deref().unwrap_or(NO_HOSTS), plan),
        resolv_conf(
            own("/etc/resolv.conf")?.as_deref().unwrap_or_default(),
            plan,
        ),
        format!("{}\n", hostname()?),
    ];
    for (name, text) in NAMES.iter().zip(texts) {
        let path: PathBuf = place.etc(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// The host's name, which is the container's too, as with Docker and the host's network.
pub(super) fn hostname() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/hostname")?
        .trim()
        .to_owned())
}

fn hosts(own: &str, plan: &Plan) -> String {
    let mut text = own.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, address) in &plan.hosts {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text
}

/// What the order says replaces what the host says, each kind for itself.
fn resolv_conf(own: &str, plan: &Plan) -> String {
    let kept = |line: &&str| match line.split_whitespace().next() {
        Some("nameserver") => plan.dns.is_empty(),
        Some("search" | "domain") => plan.dns_search.is_empty(),
        _ => true,
    };
    let mut text: String = own
        .lines()
        .filter(kept)
        .map(|line| format!("{line}\n"))
        .collect();
    for server in &plan.dns {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !plan.dns_search.is_empty() {
        text.push_str(&format!("search {}\n", plan.dns_search.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "# mine\nnameserver 1.1.1.1\nsearch a b\noptions ndots:2\n";

    #[test]
    fn without_orders_the_hosts_own_files_are_seen() {
        assert_eq!(resolv_conf(OWN, &Plan::default()), OWN);
        assert_eq!(
            hosts("127.0.0.1 localhost", &Plan::default()),
            "127.0.0.1 localhost\n"
        );
    }

    #[test]
    fn orders_replace_servers_and_domains_and_add_hosts() {
        let plan = Plan {
            dns: vec!["9.9.9.9".into()],
            dns_search: vec!["c".into(), "d".into()],
            hosts: vec![("peer".into(), "10.0.0.1".into())],
            ..Plan::default()
        };
        assert_eq!(
            resolv_conf(OWN, &plan),
            "# mine\noptions ndots:2\nnameserver 9.9.9.9\nsearch c d\n"
        );
        assert_eq!(
            hosts("::1 localhost\n", &plan),
            "::1 localhost\n10.0.0.1\tpeer\n"
        );
    }
}
