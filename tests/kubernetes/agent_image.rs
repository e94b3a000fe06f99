//! A compile whose pod cannot have Peitho's own image: its other container waits for the program that never comes.

use anyhow::{Context as _, Result, ensure};
use peitho::compile::End;

use crate::spares::Peitho;
use crate::world::Counterparts;

/// Nobody has this one.
const NO_DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

pub(crate) fn is_missed(c: &Counterparts) -> Result<()> {
    const INSTANCE: &str = "agent-image";
    let (place, _) = (c.build.image.split_once('@')).context("an image by its digest")?;
    let missing = format!("{place}@{NO_DIGEST}");
    let peitho = Peitho::with(c, INSTANCE, |setting| {
        setting.agent_image.clone_from(&missing)
    })?;
    let (log, end) = peitho.ended(peitho.order(peitho.request("never"))?)?;
    let Some(End::Failed(reason)) = &end else {
        anyhow::bail!("{end:?}, after\n{log}");
    };
    let says = |part: &str| reason.contains(part);
    ensure!(
        says("container agent of pod compile-") && says("not found"),
        "{reason}"
    );
    ensure!(says(&missing), "{reason}");
    peitho.end(c, INSTANCE)
}
