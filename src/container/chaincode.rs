//! Chaincode containers: from Docker's order to a complete specification, and the files that a peer uploads
//! before the start. Pure but for the look-up of the image; what runs is the runtime's.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use secrecy::SecretBox;

use super::{CreateSpec, Error, Output, Policy};
use crate::archive::{self, Kind, Limits};
use crate::image::Images;
use crate::names::{ContainerId, ContainerKey, ImageName, LANGUAGE_LABEL, Language};
use crate::runtime::{ChaincodeSpec, Runtime, UploadedFile};

/// The peer's TLS files are five, some kilobytes in all (protocol §7.3). The runtime has a limit of its own;
/// this one bounds memory.
const UPLOAD: Limits = Limits {
    entries: 1000,
    bytes: 1 << 20,
};

/// `CORE_CHAINCODE_ID_NAME` is the one true name of a chaincode (protocol §5.2).
const PACKAGE_ID: &str = "CORE_CHAINCODE_ID_NAME";

/// The complete order of the container `key`: runs only what Peitho built for this tenant (design D16), and as far as
/// `policy` lets it. That is asked last: a peer of 1.4 creates first, builds, and creates again.
pub(super) async fn order(
    images: &Images,
    policy: &Policy,
    key: ContainerKey,
    id: ContainerId,
    image: ImageName,
    mut spec: CreateSpec,
) -> Result<ChaincodeSpec, Error> {
    let Some(built) = images.built(&key.tenant, &image).await? else {
        return Err(Error::ImageNotBuilt(image));
    };
    let user = match spec.user.as_deref() {
        Some(user) => Some(numeric_user(user)?),
        None => built
            .base
            .config
            .as_ref()
            .and_then(|config| config.numeric_user()),
    };
    policy.restrict(&key, &mut spec);
    let package_id = spec
        .env
        .iter()
        .rev()
        .find(|(name, _)| name == PACKAGE_ID)
        .map(|(_, value)| value.clone());
    let whole = images.whole(&built);
    let mut env = built.env;
    env.extend(spec.env);
    Ok(ChaincodeSpec {
        key,
        id,
        image,
        package_id,
        language: built
            .labels
            .get(LANGUAGE_LABEL)
            .and_then(|label| Language::of_label(label)),
        whole,
        base: built.base.name,
        base_facts: built.base.facts,
        layer: built.layer,
        entrypoint: spec.entrypoint,
        args: spec.cmd,
        env,
        working_dir: spec.working_dir,
        user,
        host: spec.host,
    })
}

/// `User` of a create request: all runtimes need it by number (design D16).
pub(super) fn numeric_user(user: &str) -> Result<i64, Error> {
    let number = user.split(':').next().unwrap_or(user).parse::<u32>();
    number.map(i64::from).map_err(|_| {
        Error::Invalid(format!(
            "User {user:?} is not a number: give the numeric user, for example 500"
        ))
    })
}

/// The regular files of an uploaded archive, by their absolute paths below `path`.
pub(super) fn files(path: &str, archive: &[u8]) -> Result<Vec<UploadedFile>, Error> {
    let below = path.trim_end_matches('/');
    let mut files = Vec::new();
    archive::read(archive, UPLOAD, |member, content| {
        let refused = |reason| {
            let path = member.path.clone();
            Error::Archive(archive::Error::Member { path, reason })
        };
        match &member.kind {
            Kind::Directory => return Ok(()),
            Kind::File { .. } => {}
            Kind::Symlink { .. } | Kind::Hardlink { .. } => {
                return Err(refused(
                    "only regular files can be put into a chaincode container",
                ));
            }
        }
        let mut bytes = Vec::new();
        content
            .read_to_end(&mut bytes)
            .map_err(|error| Error::Archive(archive::Error::Unreadable(error)))?;
        let path = member.path.to_str().ok_or_else(|| refused("not UTF-8"))?;
        files.push(UploadedFile {
            path: format!("{below}/{path}"),
            mode: member.mode,
            content: SecretBox::new(Box::new(bytes)),
        });
        Ok(())
    })?;
    Ok(files)
}

/// The output of the container's process. The runtime is asked when the client first reads: the client has
/// its 101 by then, and the container need not be started yet.
pub(super) fn attach(runtime: Arc<dyn Runtime>, key: ContainerKey) -> Output {
    let logs = async move { runtime.logs(&key).await.map_err(std::io::Error::other) };
    Output::Chaincode(futures::stream::once(logs).try_flatten().boxed())
}
