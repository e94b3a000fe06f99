//! Labels under which the Engine API tells people of a container or image, beside what Docker itself tells. The only place
//! that has these names; `docker ps --filter label=…` takes them.

/// `chaincode` or `compile`.
pub const ROLE: &str = "dev.peitho.role";
/// The tenant.
pub const TENANT: &str = "dev.peitho.tenant";
/// `CORE_CHAINCODE_ID_NAME`: label and hash of the package, in 1.4 name and version.
pub const PACKAGE_ID: &str = "dev.peitho.package-id";
/// `golang`, `node` or `java`.
pub const LANGUAGE: &str = "dev.peitho.language";
/// The address of the peer that the chaincode dials.
pub const PEER: &str = "dev.peitho.peer";
/// The MSP of that peer.
pub const MSP: &str = "dev.peitho.msp";
/// Why it ended, or why it never ran.
pub const REASON: &str = "dev.peitho.reason";
/// The Kubernetes namespace of [`POD`].
pub const NAMESPACE: &str = "dev.peitho.namespace";
/// The pod it runs in.
pub const POD: &str = "dev.peitho.pod";
/// Its process on the host of Peitho.
pub const PROCESS: &str = "dev.peitho.process";
/// The name of its container in a Docker Engine.
pub const ENGINE_CONTAINER: &str = "dev.peitho.engine-container";
/// The image that a built one stands on.
pub const BASE: &str = "dev.peitho.base";
