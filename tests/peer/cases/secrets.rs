//! What must be nowhere: keys outside of their Secret, things of Peitho's after the end, marks on what is not Peitho's.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use testbed::Steps;

use crate::world::{Counterparts, foreign_state};

/// The contents of all files that peers uploaded, as the records hold them.
fn uploaded(c: &Counterparts) -> Result<Vec<Vec<u8>>> {
    let selector = "app.kubernetes.io/managed-by=peitho,app.kubernetes.io/component=chaincode";
    let secrets = c.cluster.kubectl(&[
        "get",
        "secrets",
        "--namespace",
        "chaincode",
        "--selector",
        selector,
        "-o",
        "json",
    ])?;
    let secrets: Value = serde_json::from_str(&secrets)?;
    let mut contents = Vec::new();
    for secret in secrets["items"].as_array().context("no list")? {
        for value in secret["data"]
            .as_object()
            .context("a record without data")?
            .values()
        {
            contents.push(STANDARD.decode(value.as_str().context("not text")?)?);
        }
    }
    Ok(contents)
}

/// A part of each private key in each of its spellings: PEM, base64 of the PEM, base64 of that.
fn spellings(contents: &[Vec<u8>]) -> Result<Vec<String>> {
    let mut spellings = Vec::new();
    for content in contents {
        let text = String::from_utf8_lossy(content).into_owned();
        let once = STANDARD
            .decode(text.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        for pem in [Some(text), once]
            .into_iter()
            .flatten()
            .filter(|pem| pem.contains("PRIVATE KEY"))
        {
            let body = pem
                .lines()
                .find(|line| !line.starts_with('-') && line.len() > 40)
                .context("a PEM without a body")?;
            let encoded = STANDARD.encode(&pem);
            let twice = STANDARD.encode(&encoded);
            // From the middle: the first bytes of all keys are equal.
            for spelled in [body, &encoded, &twice] {
                let middle = spelled.len() / 2;
                spellings.push(spelled[middle..(middle + 24).min(spelled.len())].to_owned());
            }
        }
    }
    ensure!(
        spellings.len() >= 6,
        "only {} spellings of keys: the peer uploaded no keys?",
        spellings.len()
    );
    Ok(spellings)
}

/// What lies in `directory`, one after the other.
fn loose_files(directory: &std::path::Path) -> Result<String> {
    let mut text = String::new();
    for entry in std::fs::read_dir(directory)? {
        text.push_str(&String::from_utf8_lossy(&std::fs::read(entry?.path())?));
    }
    Ok(text)
}

pub(super) fn keys_appear_nowhere_but_in_their_secret(c: &Counterparts) -> Result<Option<Steps>> {
    let keys = spellings(&uploaded(c)?)?;
    appear_nowhere(c, "a private key", &keys)?;
    Ok(None)
}

/// None of `spellings` of `what` stands where others may read it.
pub(super) fn appear_nowhere(c: &Counterparts, what: &str, spellings: &[String]) -> Result<()> {
    let store = c.run.data().join("peitho-store");
    let places = [
        (
            "the store's loose files",
            loose_files(&store.join("ingest"))?,
        ),
        (
            "log",
            std::fs::read_to_string(
                c.with_peitho(|peitho| Ok(peitho.process().log_path().to_owned()))?,
            )?,
        ),
        (
            "events",
            c.cluster
                .kubectl(&["get", "events", "--all-namespaces", "-o", "json"])?,
        ),
        (
            "ConfigMaps",
            c.cluster
                .kubectl(&["get", "configmaps", "--all-namespaces", "-o", "json"])?,
        ),
        (
            "pods",
            c.cluster
                .kubectl(&["get", "pods", "--all-namespaces", "-o", "json"])?,
        ),
        (
            "answers to peers",
            c.proxy
                .exchanges("")
                .iter()
                .map(crate::proxy::Exchange::answer)
                .collect(),
        ),
    ];
    ensure!(
        places[1].1.contains("TRACE"),
        "the log is not at trace level: this case would prove nothing"
    );
    for (place, text) in &places {
        for key in spellings {
            ensure!(!text.contains(key.as_str()), "{what} stands in {place}");
        }
    }
    Ok(())
}

/// Nothing of Peitho's may be in the cluster but the Secret that all replicas of the instance share.
pub(super) fn ensure_nothing_left(c: &Counterparts) -> Result<()> {
    let left = c.cluster.kubectl(&[
        "get",
        "pods,secrets,configmaps,events,jobs,deployments,services",
        "--all-namespaces",
        "--selector",
        "app.kubernetes.io/managed-by=peitho",
        "-o",
        "name",
    ])?;
    ensure!(
        left.trim() == "secret/peitho-instance",
        "left in the cluster: {left}"
    );
    Ok(())
}

pub(super) fn nothing_is_left_and_foreign_objects_are_untouched(
    c: &Counterparts,
) -> Result<Option<Steps>> {
    for name in c.container_names("") {
        c.engine.order(
            "DELETE",
            &format!("/containers/{name}?force=1"),
            &[204, 404],
        )?;
    }
    ensure_nothing_left(c)?;
    let foreign = foreign_state(&c.cluster)?;
    ensure!(
        foreign == c.foreign,
        "foreign objects were\n{}\nand are\n{foreign}",
        c.foreign
    );
    Ok(None)
}
