//! Names of containers on one machine: of their directories, cgroups and entries of the OCI runtime. The only place that
//! makes one; the form is that of Kubernetes' names, so that operators find their chaincode by the same words.

use std::fmt;

use super::kubernetes;
use super::{CompileKey, ContainerKey, InstanceName};

/// The name of a container on this machine: 1 to 63 characters out of `[a-z0-9-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

impl HostName {
    /// The container of a chaincode: equal for equal keys.
    pub fn chaincode(instance: &InstanceName, key: &ContainerKey) -> Self {
        Self(kubernetes::record(instance, key))
    }

    /// The container of a compile: equal for equal keys.
    pub fn compile(instance: &InstanceName, key: &CompileKey) -> Self {
        Self(kubernetes::compile(instance, key))
    }

    /// The name as it stands in paths.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
