//! The disk that a compile's pod may take, where a template of the operator's limits it: what the compiler keeps is bounded by that, so that the
//! kubelet, which is a real one, has no reason to end the pod; who takes more all the same is told why it ended.

use std::time::Duration;

use anyhow::{Result, ensure};
use peitho::compile::End;
use serde_json::json;

use crate::spares::Peitho;
use crate::world::Counterparts;

/// What pods may take, of which a compiler's cache has half.
const LIMIT: &str = "64Mi";

/// Names what is kept, and writes 20 MiB beside it.
const SCRIPT: &str = "cd $XDG_CACHE_HOME && ls && last=$(ls | tail -n 1) && \
                      dd if=/dev/zero of=$((${last:-0} + 1)) bs=1M count=20 2>/dev/null; exit 3";

/// A Peitho whose compiles are limited so.
fn limited(c: &Counterparts, instance: &str) -> Result<Peitho> {
    let limits = json!({"limits": {"ephemeral-storage": LIMIT}});
    let container = json!({"name": "compile", "resources": limits});
    let template = json!({"spec": {"containers": [container]}});
    let template = serde_json::from_value(template)?;
    Peitho::with(c, instance, |setting| {
        (setting.warm, setting.template) = ((0, Duration::ZERO), template);
    })
}

pub(crate) fn bounds_what_is_kept(c: &Counterparts) -> Result<()> {
    const INSTANCE: &str = "disk";
    let peitho = limited(c, INSTANCE)?;
    // The third one is given what the second one could keep: of both files there is room for one.
    for kept in ["", "1\n", "2\n"] {
        let (log, end) = peitho.ended(peitho.order(peitho.script(SCRIPT))?)?;
        let exited = End::Exited {
            code: 3,
            output: None,
        };
        ensure!(
            end == Some(exited) && log == kept,
            "{end:?}, with {kept:?} kept, after\n{log}"
        );
    }
    peitho.end(c, INSTANCE)
}

pub(crate) fn ends_who_takes_more(c: &Counterparts) -> Result<()> {
    const INSTANCE: &str = "disk-beyond";
    let peitho = limited(c, INSTANCE)?;
    let script = "dd if=/dev/zero of=$HOME/large bs=1M count=100 2>/dev/null && exec sleep 1000";
    let (log, end) = peitho.ended(peitho.order(peitho.script(script))?)?;
    let words = "Pod ephemeral local storage usage exceeds the total limit of containers 64Mi";
    let told = format!("peitho: the compile was ended: Evicted: {words}");
    let evicted = format!("was evicted: {words}");
    ensure!(
        matches!(&end, Some(End::Failed(why)) if why.contains(&evicted)) && log.starts_with(&told),
        "{end:?}, after\n{log}"
    );
    peitho.end(c, INSTANCE)
}
