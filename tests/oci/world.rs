//! What the cases stand on: a host, a root file system of busybox, and the look at what is left.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use futures::StreamExt as _;
use peitho::runtime::oci::host::{Ending, Host, Id, Plan, RuntimeProgram, StartError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const BUSYBOX: &str = "/bin/busybox";

/// Names a copy of the program for a user who cannot reach the one that cargo built.
pub(crate) const PROGRAM: &str = "PEITHO_TEST_PROGRAM";

/// Names another runtime than the one that is found.
const RUNTIME: &str = "PEITHO_TEST_RUNTIME";

/// A host in a directory that goes with it.
pub(crate) struct World {
    /// `None` while it is closed.
    host: Option<Host>,
    directory: PathBuf,
    base: PathBuf,
    /// In all names, so that what is found is this test's.
    mark: String,
    _directory: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap()).await
    }

    /// With the containers' directory in `directory`.
    pub(crate) async fn on(directory: tempfile::TempDir) -> Self {
        let base = directory.path().join("base");
        busybox(&base);
        let path = directory.path().join("oci");
        let mark = directory.path().file_name().unwrap().to_str().unwrap();
        Self {
            host: Some(open(&path).await),
            directory: path,
            base,
            mark: mark.trim_start_matches(".tmp").to_lowercase(),
            _directory: directory,
        }
    }

    pub(crate) fn host(&self) -> &Host {
        self.host.as_ref().unwrap()
    }

    /// As the end of Peitho's process has it for containers, as far as one process can.
    pub(crate) fn close(&mut self) {
        self.host = None;
    }

    pub(crate) async fn reopen(&mut self) {
        self.close();
        self.host = Some(open(&self.directory).await);
    }

    pub(crate) fn id(&self, name: &str) -> Id {
        format!("{name}-{}", self.mark).parse().unwrap()
    }

    pub(crate) fn launch(&self, id: &Id) -> PathBuf {
        self.directory
            .join("containers")
            .join(id.to_string())
            .join("launch")
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A directory for a test's own files.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.directory.parent().unwrap().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A container that runs `script` in a shell.
    pub(crate) fn shell(&self, script: &str) -> Plan {
        Plan {
            lower: vec![self.base.clone()],
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            ..Plan::default()
        }
    }

    /// Runs `plan` to its end and removes it: how it ended, and what it printed.
    pub(crate) async fn run(&self, name: &str, plan: &Plan) -> (Ending, String) {
        let id = self.id(name);
        self.host().start(&id, plan).await.unwrap();
        let printed = self.printed(&id).await;
        let ending = self.host().ended(&id).await.unwrap();
        self.host().remove(&id).await.unwrap();
        (ending, printed)
    }

    /// As [`World::run`] for one that is expected to go well.
    pub(crate) async fn output(&self, name: &str, plan: &Plan) -> String {
        let (ending, printed) = self.run(name, plan).await;
        assert_eq!(ending, exited(0), "{printed}");
        printed
    }

    /// All that `id` printed or prints until its end.
    pub(crate) async fn printed(&self, id: &Id) -> String {
        let chunks: Vec<_> = self.host().logs(id).collect().await;
        let bytes: Vec<u8> = chunks
            .into_iter()
            .flat_map(|chunk| chunk.unwrap())
            .collect();
        String::from_utf8(bytes).unwrap()
    }

    /// A container that runs until somebody ends it, and has printed `up`.
    pub(crate) async fn running(&self, name: &str) -> Id {
        let id = self.id(name);
        let plan = self.shell("echo up; exec sleep 1000");
        self.host().start(&id, &plan).await.unwrap();
        self.says(&id, "up").await;
        id
    }

    /// Waits until `id` has printed `text`.
    pub(crate) async fn says(&self, id: &Id, text: &str) {
        let mut logs = self.host().logs(id);
        let mut seen = String::new();
        while !seen.contains(text) {
            let chunk = logs
                .next()
                .await
                .unwrap_or_else(|| panic!("only {seen:?}"))
                .unwrap();
            seen.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// Why `plan` does not start. Its remains are those of a container that is over.
    pub(crate) async fn refusal(&self, name: &str, plan: &Plan) -> String {
        let id = self.id(name);
        match self.host().start(&id, plan).await {
            Err(StartError::NeverStarted(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// The process id of the shim of `id`.
    pub(crate) fn shim(&self, id: &Id) -> i32 {
        find_shim(&self.launch(id)).unwrap()
    }

    /// No process, mount, cgroup or state of any container is left; with `files`, none of their files either.
    pub(crate) fn assert_clean(&self) {
        let left: Vec<_> = [processes(self), mounts(self), cgroups(self), states(self)].concat();
        assert!(left.is_empty(), "left: {left:#?}");
    }

    /// As [`World::assert_clean`], and no file.
    pub(crate) fn assert_gone(&self) {
        self.assert_clean();
        assert_eq!(
            names(&self.directory.join("containers")),
            Vec::<String>::new()
        );
    }
}

/// What a case that failed leaves behind.
impl Drop for World {
    fn drop(&mut self) {
        for name in names(&self.directory.join("containers")) {
            let launch = self.launch(&name.parse().unwrap());
            if launch.exists() {
                let shim = find_shim(&launch);
                shim.into_iter().for_each(kill);
                let _ = Command::new(program())
                    .args(["shim", "clean"])
                    .arg(launch)
                    .status();
            }
        }
    }
}

/// The process id of the shim of a launch.
fn find_shim(launch: &Path) -> Option<i32> {
    let arguments = format!("\0shim\0run\0{}\0", launch.display());
    let is_it = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).ends_with(&arguments)
    };
    let pids = names(Path::new("/proc"))
        .into_iter()
        .filter_map(|name| name.parse().ok());
    pids.into_iter().find(is_it)
}

pub(crate) async fn open(directory: &Path) -> Host {
    Host::open(directory, &runtime(), &program(), Path::new("/"))
        .await
        .unwrap()
}

pub(crate) fn runtime() -> RuntimeProgram {
    let runtime = match std::env::var_os(RUNTIME) {
        Some(path) => RuntimeProgram::at(Path::new(&path)),
        None => RuntimeProgram::find(),
    };
    runtime.expect("these tests need a container runtime")
}

pub(crate) fn program() -> PathBuf {
    std::env::var_os(PROGRAM).map_or_else(|| env!("CARGO_BIN_EXE_peitho").into(), PathBuf::from)
}

pub(crate) fn exited(code: i64) -> Ending {
    Ending::Exited {
        code,
        out_of_memory: false,
    }
}

/// Kills a process and waits until it is dead.
pub(crate) fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).unwrap();
    let handle = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&handle, Signal::KILL).unwrap();
    poll(&mut [PollFd::new(&handle, PollFlags::IN)], None).unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn states(world: &World) -> Vec<String> {
    names(&world.directory.join("state"))
}

/// Processes that the command line or the cgroup tells to be of this world.
fn processes(world: &World) -> Vec<String> {
    let own = std::process::id().to_string();
    let of_this = |pid: &String| {
        let text = |file: &str| {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        // One that is dead and not yet collected has neither.
        *pid != own
            && (text("cmdline").contains(&format!("-{}", world.mark))
                || text("cmdline").contains(&*world.directory.to_string_lossy())
                || text("cgroup").contains(&format!("-{}", world.mark)))
            && !text("stat").contains(") Z ")
    };
    let pids = names(Path::new("/proc"))
        .into_iter()
        .filter(|name| name.parse::<i32>().is_ok());
    // One that is gone by now was dying.
    pids.filter(of_this)
        .filter_map(|pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            Some(format!("process {pid}: {line:?}"))
        })
        .collect()
}

/// Mounts of any process.
fn mounts(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for pid in names(Path::new("/proc")) {
        let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        let own = table
            .lines()
            .filter(|line| line.contains(&*world.directory.to_string_lossy()));
        found.extend(own.map(|line| format!("mount of {pid}: {line}")));
    }
    found
}

fn cgroups(world: &World) -> Vec<String> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = names(root).into_iter().map(|name| root.join(name));
    hierarchies
        .chain([root.to_owned()])
        .flat_map(|hierarchy| names(&hierarchy))
        .filter(|name| name.ends_with(&format!("-{}", world.mark)))
        .map(|name| format!("cgroup {name}"))
        .collect()
}

/// An image of one program with many names.
pub(crate) fn busybox(base: &Path) {
    assert!(
        Path::new(BUSYBOX).is_file(),
        "these tests need {BUSYBOX}, a static program: `apt-get install busybox-static`"
    );
    for folder in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(base.join(folder)).unwrap();
    }
    fs::set_permissions(base.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy(BUSYBOX, base.join("bin/busybox")).unwrap();
    let list = Command::new(BUSYBOX).arg("--list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    for name in list.lines().filter(|name| *name != "busybox") {
        symlink("busybox", base.join("bin").join(name)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nchaincode:x:500:501::/home/chaincode:/bin/sh\n";
    fs::write(base.join("etc/passwd"), passwd).unwrap();
    fs::write(
        base.join("etc/group"),
        "root:x:0:\nchaincode:x:501:\nextra:x:7:chaincode\n",
    )
    .unwrap();
}
