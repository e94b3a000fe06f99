//! The bundle of a container: `config.json` as the OCI runtime specification has it, out of a plan. Namespaces, mounts and
//! hardening are Docker's for a container on the host's network.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxBuilder, LinuxCapabilitiesBuilder, LinuxCpuBuilder, LinuxDeviceCgroupBuilder,
    LinuxMemoryBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResources,
    LinuxResourcesBuilder, Mount, MountBuilder, Process, RootBuilder, Spec, UserBuilder,
};

use super::cgroups::Cgroups;
use super::namespaces::Rights;
use super::order::{Limitation, Order};
use super::place::Place;
use super::plan::{Access, Plan, Root};
use super::user::User;
use super::{etc, hardening, seccomp, user};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The period over which a CPU quota counts, in microseconds: the kernel's default.
const PERIOD: u64 = 100_000;

/// Writes the bundle of `order`; its root file system is another's work.
///
/// # Errors
/// What of the order cannot be done, in one line.
pub(super) fn write(
    place: &Place,
    order: &Order,
    cgroups: &Cgroups,
    rights: Rights,
) -> Result<Option<Limitation>, String> {
    let plan = &order.plan;
    etc::write(place, plan)
        .map_err(|error| format!("cannot write the container's /etc: {error}"))?;
    let asked = user::look_up(&plan.user, &plan.lower)?;
    let (user, limitation) = match rights {
        Rights::User if asked.uid != 0 || asked.gid != 0 => (
            User {
                uid: 0,
                gid: 0,
                groups: vec![0],
                home: asked.home,
            },
            Some(Limitation::User {
                reason: "Peitho does not run as root, so in the container there is root alone, who is this user".to_owned(),
            }),
        ),
        _ => (asked, None),
    };
    let hostname =
        etc::hostname().map_err(|error| format!("cannot tell the host's name: {error}"))?;
    let spec = Make {
        place,
        order,
        cgroups,
        rights,
        user,
        hostname,
    }
    .spec()?;
    let path = place.bundle().join("config.json");
    spec.save(&path)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(limitation)
}

/// One `config.json` in the making.
struct Make<'a> {
    place: &'a Place,
    order: &'a Order,
    cgroups: &'a Cgroups,
    rights: Rights,
    user: User,
    hostname: String,
}

impl Make<'_> {
    fn spec(&self) -> Result<Spec, String> {
        let capabilities = hardening::capabilities(&self.order.plan.added_capabilities)?;
        self.build(&capabilities)
            .map_err(|error| format!("cannot describe the container: {error}"))
    }

    fn build(&self, capabilities: &oci_spec::runtime::Capabilities) -> Result<Spec, OciSpecError> {
        let plan = &self.order.plan;
        let root = RootBuilder::default()
            .path(self.place.root())
            .readonly(plan.root == Root::ReadOnly)
            .build()?;
        let mut linux = LinuxBuilder::default()
            .namespaces(self.namespaces()?)
            .masked_paths(hardening::masked())
            .readonly_paths(hardening::read_only())
            .seccomp(seccomp::profile(capabilities)?)
            .build()?;
        linux.set_resources(None).set_devices(None);
        if !matches!(self.cgroups, Cgroups::None { .. }) {
            linux
                .set_cgroups_path(Some(self.order.cgroup.clone()))
                .set_resources(Some(resources(plan)?));
        }
        let mut spec = Spec::default();
        spec.set_version("1.0.2".to_owned())
            .set_root(Some(root))
            .set_hostname(Some(self.hostname.clone()))
            .set_process(Some(self.process(capabilities)?))
            .set_mounts(Some(self.mounts()?))
            .set_annotations(Some(HashMap::new()))
            .set_linux(Some(linux));
        Ok(spec)
    }

    fn process(
        &self,
        capabilities: &oci_spec::runtime::Capabilities,
    ) -> Result<Process, OciSpecError> {
        let plan = &self.order.plan;
        // As Docker: nothing is inherited, so that a process that leaves root leaves all of them.
        let mut sets = LinuxCapabilitiesBuilder::default()
            .bounding(capabilities.clone())
            .effective(capabilities.clone())
            .permitted(capabilities.clone())
            .build()?;
        sets.set_inheritable(None).set_ambient(None);
        let mut user = UserBuilder::default()
            .uid(self.user.uid)
            .gid(self.user.gid)
            .build()?;
        // A user namespace of one user has no groups to set.
        let groups = (self.rights == Rights::Root).then(|| self.user.groups.clone());
        user.set_additional_gids(groups);
        // Docker takes a relative one for one below `/`.
        let working_dir = Path::new("/").join(&plan.working_dir);
        let mut process = Process::default();
        process
            .set_terminal(Some(false))
            .set_user(user)
            .set_args(Some(plan.args.clone()))
            .set_env(Some(self.environment()))
            .set_cwd(working_dir)
            .set_capabilities(Some(sets))
            .set_no_new_privileges(Some(true))
            .set_rlimits(None);
        Ok(process)
    }

    /// Names are unique in it, so that no program can take the first of two for the last.
    fn environment(&self) -> Vec<String> {
        let defaults = [
            ("PATH".to_owned(), PATH.to_owned()),
            ("HOSTNAME".to_owned(), self.hostname.clone()),
            ("HOME".to_owned(), self.user.home.clone()),
        ];
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in defaults
            .into_iter()
            .chain(self.order.plan.env.iter().cloned())
        {
            match all.iter_mut().find(|(other, _)| *other == name) {
                Some(known) => known.1 = value,
                None => all.push((name, value)),
            }
        }
        all.into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    /// Its own of all kinds but network and user.
    fn namespaces(&self) -> Result<Vec<oci_spec::runtime::LinuxNamespace>, OciSpecError> {
        let mut kinds = vec![
            LinuxNamespaceType::Mount,
            LinuxNamespaceType::Uts,
            LinuxNamespaceType::Ipc,
            LinuxNamespaceType::Pid,
        ];
        // Docker's default where version 2 is in use.
        if *self.cgroups == Cgroups::Version2 {
            kinds.push(LinuxNamespaceType::Cgroup);
        }
        let namespace = |kind| LinuxNamespaceBuilder::default().typ(kind).build();
        kinds.into_iter().map(namespace).collect()
    }

    fn mounts(&self) -> Result<Vec<Mount>, OciSpecError> {
        let quiet = ["nosuid", "noexec", "nodev"];
        // The group `tty` of images; in a user namespace of one user it does not exist.
        let tty: &[&str] = match self.rights {
            Rights::Root => &["gid=5"],
            Rights::User => &[],
        };
        let pts = [
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
            ],
            tty,
        ]
        .concat();
        let mut mounts = vec![
            mount("/proc", "proc", "proc", &quiet)?,
            mount(
                "/dev",
                "tmpfs",
                "tmpfs",
                &["nosuid", "strictatime", "mode=755", "size=65536k"],
            )?,
            mount("/dev/pts", "devpts", "devpts", &pts)?,
            mount("/dev/mqueue", "mqueue", "mqueue", &quiet)?,
            mount(
                "/dev/shm",
                "tmpfs",
                // Processes of the container are known by it: `src/runtime/oci/remains.rs`.
                self.order.mark.as_str(),
                &[&quiet[..], &["mode=1777", "size=65536k"]].concat(),
            )?,
        ];
        let read_only = [&quiet[..], &["ro"]].concat();
        mounts.push(match self.rights {
            Rights::Root => mount("/sys", "sysfs", "sysfs", &read_only)?,
            // Its own would need a network namespace that belongs to the user namespace.
            Rights::User => mount(
                "/sys",
                "none",
                "/sys",
                &[&read_only[..], &["rbind"]].concat(),
            )?,
        });
        match (&self.cgroups, self.rights) {
            // What is mounted below `/sys` of the host stays writable, and a user's own part of the cgroups is his.
            (Cgroups::None { .. }, Rights::User) => {
                let nothing = [&read_only[..], &["mode=555", "size=4k"]].concat();
                mounts.push(mount("/sys/fs/cgroup", "tmpfs", "tmpfs", &nothing)?);
            }
            (Cgroups::None { .. }, Rights::Root) => {}
            // Programs read their limits there.
            _ => mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &read_only)?),
        }
        let plan = &self.order.plan;
        let access = match plan.root {
            Root::ReadOnly => Access::ReadOnly,
            Root::Writable => Access::ReadWrite,
        };
        for name in etc::NAMES {
            let destination = Path::new("/etc").join(name);
            mounts.push(bind(&self.place.etc(name), &destination, access)?);
        }
        for ordered in &plan.binds {
            mounts.push(bind(&ordered.source, &ordered.destination, ordered.access)?);
        }
        Ok(mounts)
    }
}

fn mount(
    destination: &str,
    kind: &str,
    source: &str,
    options: &[&str],
) -> Result<Mount, OciSpecError> {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(source)
        .options(options)
        .build()
}

fn bind(source: &Path, destination: &Path, access: Access) -> Result<Mount, OciSpecError> {
    let access = match access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
    };
    let options = ["rbind", "rprivate", "nosuid", "nodev", access];
    MountBuilder::default()
        .destination(destination)
        .typ("bind")
        .source(source)
        .options(options.map(str::to_owned).to_vec())
        .build()
}

/// No device but those that every runtime allows, and the limits of the order.
fn resources(plan: &Plan) -> Result<LinuxResources, OciSpecError> {
    let nothing = LinuxDeviceCgroupBuilder::default()
        .allow(false)
        .access("rwm")
        .build()?;
    let mut resources = LinuxResourcesBuilder::default()
        .devices(vec![nothing])
        .build()?;
    if let Some(bytes) = plan.memory {
        let limit = i64::try_from(bytes).unwrap_or(i64::MAX);
        resources.set_memory(Some(LinuxMemoryBuilder::default().limit(limit).build()?));
    }
    if let Some(thousandths) = plan.cpu_millis {
        let quota = thousandths.saturating_mul(PERIOD) / 1000;
        let quota = i64::try_from(quota).unwrap_or(i64::MAX);
        let cpu = LinuxCpuBuilder::default()
            .quota(quota)
            .period(PERIOD)
            .build()?;
        resources.set_cpu(Some(cpu));
    }
    Ok(resources)
}

/// Removes the bundle and all in it. The root file system is unmounted.
pub(super) fn remove(place: &Place) -> Result<(), String> {
    let bundle = place.bundle();
    match fs::symlink_metadata(&bundle) {
        Ok(_) => super::tree::remove(&bundle)
            .map_err(|error| format!("cannot remove {}: {error}", bundle.display())),
        Err(_) => Ok(()),
    }
}
