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
/// The digest of that one's manifest, when it was built on.
pub const BASE_DIGEST: &str = "dev.peitho.base.digest";
/// The hash of the package, where the image's name has it: not in 1.4.
pub const PACKAGE_HASH: &str = "dev.peitho.package-hash";
/// The image that compiled it.
pub const BUILDER: &str = "dev.peitho.builder";
/// The digest of that one's manifest.
pub const BUILDER_DIGEST: &str = "dev.peitho.builder.digest";

/// Labels of a peer's Dockerfile begin so: type of the chaincode, Fabric's version, in 1.4 name and version of the chaincode.
pub const FABRIC: &str = "org.hyperledger.fabric.";
/// The version of the peer.
pub const FABRIC_VERSION: &str = "org.hyperledger.fabric.version";

/// OCI's annotation for the name of a base: <https://github.com/opencontainers/image-spec/blob/main/annotations.md>.
pub const OCI_BASE: &str = "org.opencontainers.image.base.name";
/// OCI's annotation for the digest of a base's manifest.
pub const OCI_BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
