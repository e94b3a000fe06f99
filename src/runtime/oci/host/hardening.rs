//! What a container may do and see: Docker's defaults (`daemon/pkg/oci` of moby), as facts. [`super::bundle`] asks.

use std::path::Path;

use oci_spec::runtime::{Capabilities, Capability};

/// Docker's fourteen.
const CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// Seen as empty.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Seen, and not written to.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Docker's capabilities and `added`, each spelled without `CAP_`.
///
/// # Errors
/// The one that there is not.
pub(super) fn capabilities(added: &[String]) -> Result<Capabilities, String> {
    let mut all: Capabilities = CAPABILITIES.into_iter().collect();
    for name in added {
        let capability: Capability = name
            .parse()
            .map_err(|_| format!("unknown capability: {name:?}"))?;
        all.insert(capability);
    }
    Ok(all)
}

/// What the container sees as empty. The counts of thermal events of each CPU tell about other tenants of the machine.
pub(super) fn masked() -> Vec<String> {
    let thermal = (0_u32..)
        .map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}"))
        .take_while(|cpu| Path::new(cpu).exists())
        .map(|cpu| format!("{cpu}/thermal_throttle"))
        .filter(|path| Path::new(path).exists());
    MASKED
        .map(str::to_owned)
        .into_iter()
        .chain(thermal)
        .collect()
}

/// What the container cannot write to.
pub(super) fn read_only() -> Vec<String> {
    READ_ONLY.map(str::to_owned).to_vec()
}
