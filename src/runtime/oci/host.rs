//! stub
use super::Limits;
use crate::names::HostName;
use crate::runtime::LogStream;
use std::path::{Path, PathBuf};
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}
pub(super) enum RootAccess {
    ReadOnly,
    ReadWrite,
}
pub(super) struct Bind {
    pub(super) source: PathBuf,
    pub(super) destination: PathBuf,
    pub(super) access: Access,
}
pub(super) struct Plan {
    pub(super) lower: Vec<PathBuf>,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) working_dir: String,
    pub(super) user: String,
    pub(super) binds: Vec<Bind>,
    pub(super) hosts: Vec<(String, String)>,
    pub(super) dns: Vec<String>,
    pub(super) dns_search: Vec<String>,
    pub(super) limits: Limits,
    pub(super) root: RootAccess,
    pub(super) added_capabilities: Vec<String>,
}
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    pub(super) code: i64,
    pub(super) out_of_memory: bool,
}
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Running,
    Exited(End),
}
pub(super) struct Host;
type Error = crate::runtime::Error;
impl Host {
    pub(super) async fn open(_: &Path, _: Option<&Path>, _: &Path) -> Result<Self, Error> {
        unimplemented!()
    }
    pub(super) fn program(&self) -> &Path {
        unimplemented!()
    }
    pub(super) async fn names(&self) -> Result<Vec<HostName>, Error> {
        unimplemented!()
    }
    pub(super) async fn start(&self, _: &HostName, _: &Plan) -> Result<(), Error> {
        unimplemented!()
    }
    pub(super) fn state(&self, _: &HostName) -> Option<Standing> {
        unimplemented!()
    }
    pub(super) async fn exited(&self, _: &HostName) -> Option<End> {
        unimplemented!()
    }
    pub(super) fn logs(&self, _: &HostName) -> LogStream {
        unimplemented!()
    }
    pub(super) async fn kill(&self, _: &HostName) -> Result<(), Error> {
        unimplemented!()
    }
    pub(super) async fn remove(&self, _: &HostName) -> Result<(), Error> {
        unimplemented!()
    }
    pub(super) async fn ready(&self) -> Result<(), Error> {
        unimplemented!()
    }
}
