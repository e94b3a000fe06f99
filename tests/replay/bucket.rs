//! A store in a bucket of a real server of S3, by the real program: what one server built, on a machine that is gone, another one
//! launches with nothing but the bucket.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::S3;

use crate::archives::{self, CHAINCODE_CODE, Language};
use crate::recording::Chaincode;
use crate::server::Server;
use crate::wire::{Connection, Reply};

const BUCKET: &str = "of-two-servers";
const IMAGE: &str = "net-peer0-simple_1";

pub(crate) fn another_server_launches_what_one_built(program: &Path) -> Result<()> {
    let s3 = S3::start()?;
    s3.make_bucket(BUCKET)?;
    let keys = tempfile::tempdir()?;
    let secret = keys.path().join("secret");
    fs::write(&secret, S3::SECRET_KEY)?;
    let bucket = json!({
        "bucket": BUCKET, "prefix": "peitho", "endpoint": s3.endpoint(),
        "accessKeyId": S3::ACCESS_KEY, "secretAccessKeyFile": secret,
    });

    let image = archives::image(&BTreeSet::new())?;
    let first = Server::with_bucket(program, &bucket, Some(image))?;
    let output = archives::output(Chaincode::Ends)?;
    let context = archives::context(Language::Go, Some(&output))?;
    let built = ask(&first, "POST", &format!("/build?t={IMAGE}"), &context)?;
    ensure!(built.status == 200, "{}", built.shown());
    let inspected = ask(&first, "GET", &format!("/images/{IMAGE}/json"), b"")?;
    let id = inspected.json()?["Id"].clone();
    let said = first.warnings();
    // Its directory goes with it.
    drop(first);

    let second = Server::with_bucket(program, &bucket, None)?;
    let inspected = ask(&second, "GET", &format!("/images/{IMAGE}/json"), b"")?;
    ensure!(inspected.status == 200, "{}", inspected.shown());
    ensure!(id.is_string() && inspected.json()?["Id"] == id);
    let order = json!({"Image": IMAGE, "Cmd": ["chaincode"]}).to_string();
    let name = "/containers/create?name=net-peer0-simple_1";
    let created = ask(&second, "POST", name, order.as_bytes())?;
    ensure!(created.status == 201, "{}", created.shown());
    let created = created.json()?;
    let container = created["Id"].as_str().context("an id")?;
    let started = ask(
        &second,
        "POST",
        &format!("/containers/{container}/start"),
        b"",
    )?;
    ensure!(started.status == 204, "{}", started.shown());
    let waited = ask(
        &second,
        "POST",
        &format!("/containers/{container}/wait"),
        b"",
    )?;
    let ended: Value = waited.json()?;
    let warnings = second.warnings();
    ensure!(ended["StatusCode"] == CHAINCODE_CODE, "{ended}\n{warnings}");
    let removed = ask(&second, "DELETE", &format!("/containers/{container}"), b"")?;
    ensure!(removed.status == 204, "{}", removed.shown());
    for said in [&said, &warnings] {
        ensure!(!said.contains(S3::SECRET_KEY), "{said}");
    }
    Ok(())
}

fn ask(server: &Server, method: &str, target: &str, body: &[u8]) -> Result<Reply> {
    let mut connection = Connection::open(server.engine)?;
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    connection.send(head.as_bytes())?;
    connection.send(body)?;
    connection.reply(method)
}
