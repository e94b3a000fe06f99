//! The question that peers from 2.5.16 and 3.1.5 on ask a builder before each compile, `go version` (protocol §3.3): what it answered
//! once is known, and no container is started for it.

use std::io::Read as _;

use anyhow::{Result, ensure};
use serde_json::json;
use testbed::engine::Engine;

use crate::server::Server;

/// The command gives another answer whenever it runs.
pub(crate) fn a_builder_is_asked_once(server: &Server) -> Result<()> {
    let [first, second] = [answer(server)?, answer(server)?];
    ensure!(first.len() >= 36, "the builder answered {first:?}");
    ensure!(first == second, "{first:?}, then {second:?}");
    Ok(())
}

fn answer(server: &Server) -> Result<String> {
    let engine = Engine::new(server.engine);
    let body = json!({
        "Image": "hyperledger/fabric-ccenv:2.5",
        "Cmd": ["cat", "/proc/sys/kernel/random/uuid"],
        "AttachStdout": true,
        "AttachStderr": true,
    });
    let builder = engine.create(None, &body)?;
    let mut attached = engine.attach(&builder, "/v1.44")?;
    engine.order("POST", &format!("/containers/{builder}/start"), &[204])?;
    let code = engine.wait(&builder)?;
    let mut said = Vec::new();
    attached.read_to_end(&mut said)?;
    engine.order("DELETE", &format!("/containers/{builder}"), &[204])?;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    ensure!(code == 0, "the builder ended with {code}: {said}");
    Ok(said)
}
