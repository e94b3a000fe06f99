//! `peitho images`, by the real program.

use peitho::grant::{Grant, Grants};
use peitho::names::{InstanceName, Tenant};
use peitho::runtime::InstanceMaterial;
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::program::{Ended, Place};

/// An archive of one image without layers, as `docker save` writes it.
pub(crate) fn archive(tags: &serde_json::Value) -> Vec<u8> {
    let config = json!({"config": {"User": "7"}, "rootfs": {"diff_ids": []}});
    let manifest = json!([{"Config": "c.json", "RepoTags": tags, "Layers": []}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, document) in [("c.json", config), ("manifest.json", manifest)] {
        let document = document.to_string();
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(document.len() as u64);
        archive
            .append_data(&mut header, name, document.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap()
}

/// Runs it over the store of `place`.
fn images(place: &Place, arguments: &[&str]) -> Ended {
    let store = place.path().join("store");
    let variables = [("PEITHO_STORE__DIRECTORY", store.to_str().unwrap())];
    place.run_with(&[&["images"], arguments].concat(), &variables)
}

#[test]
fn what_is_imported_is_listed() {
    let place = Place::new();
    let listed = images(&place, &["list"]);
    assert_eq!(listed.stderr, "error: there is no store in store\n");
    assert_eq!(listed.code, Some(1));
    place.file("a.tar", archive(&json!(["a/b:1", "r.example.com/c"])));
    let imported = images(&place, &["import", "a.tar"]);
    assert_eq!((imported.code, &*imported.stderr), (Some(0), ""));
    let lines: Vec<_> = imported.stdout.lines().collect();
    assert!(lines[0].starts_with("a/b:1 sha256:"), "{lines:?}");
    assert!(
        lines[1].starts_with("r.example.com/c:latest sha256:"),
        "{lines:?}"
    );
    assert!(lines[1].ends_with(" 0.2 kB"), "{lines:?}");
    assert_eq!(lines.len(), 2);
    let listed = images(&place, &["list"]);
    let names: Vec<_> = listed
        .stdout
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(names, ["NAME", "a/b:1", "r.example.com/c:latest"]);
}

#[test]
fn what_cannot_be_imported_is_one_line() {
    let place = Place::new();
    place.file("nameless.tar", archive(&serde_json::Value::Null));
    place.file("text", "no archive\n".repeat(100));
    for (arguments, line) in [
        (
            &["import", "text"][..],
            "text: not a tar archive, plain or with gzip; what is compressed otherwise has to be expanded first",
        ),
        (
            &["import", "nothing"],
            "nothing: No such file or directory (os error 2)",
        ),
        (
            &["import", "nameless.tar"],
            "nameless.tar: its images have no names; give the one of a single image with --name",
        ),
        // Standard input has nothing in it here.
        (
            &["import", "-"],
            "standard input: not a tar archive, plain or with gzip; what is compressed otherwise has to be expanded first",
        ),
    ] {
        let ended = images(&place, arguments);
        assert_eq!(ended.stderr, format!("error: {line}\n"));
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
    }
    let ended = images(&place, &["import", "nameless.tar", "--name", "A B"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("invalid image name"),
        "{}",
        ended.stderr
    );
    let ended = images(&place, &["import", "nameless.tar", "--name", "a:1"]);
    assert!(ended.stdout.starts_with("a:1 sha256:"), "{}", ended.stderr);
}

#[test]
fn a_token_and_the_authority_are_those_of_the_server_of_that_store() {
    let place = Place::new();
    for command in ["token", "ca"] {
        let ended = images(&place, &[command]);
        assert_eq!(
            ended.stderr,
            "error: store/instance.json is not there: a server makes it at its first start, by the same configuration\n"
        );
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
    }
    assert!(!place.path().join("store").exists(), "nothing is made");

    let file = place.path().join("store/instance.json");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    let made = InstanceMaterial::of_file(&file, &InstanceName::default()).unwrap();
    let said = images(&place, &["ca"]);
    assert_eq!((said.code, &*said.stdout), (Some(0), &*made.ca_cert_pem));
    let grants = Grants::new(*made.token_key.expose_secret());
    let now = || jiff::Timestamp::now().as_second();
    for (arguments, tenant, hours) in [
        (&["token"][..], "default", 24),
        (
            &[
                "token", "--tenant", "org1", "--for", "2h", "--set", KNOWN, "--set", TRUSTED,
            ],
            "org1",
            2,
        ),
    ] {
        let before = now();
        let said = images(&place, arguments);
        assert_eq!((said.code, &*said.stderr), (Some(0), ""), "{arguments:?}");
        let token = said.stdout.strip_suffix('\n').unwrap();
        let Some(Grant::Images { tenant: of, until }) = grants.read(token) else {
            panic!("{arguments:?}: {:?}", grants.read(token));
        };
        assert_eq!(of, tenant.parse::<Tenant>().unwrap());
        let life = hours * 3600;
        assert!(
            (before + life..=now() + life).contains(&until),
            "{until} after {before}"
        );
    }
}

const KNOWN: &str = "tenants.known=[{name: org1}]";
const TRUSTED: &str = "tenants.trustPath=true";

#[test]
fn a_token_that_cannot_be_is_one_line() {
    let place = Place::new();
    for (arguments, line) in [
        (
            &["token", "--tenant", "org2"][..],
            "there is no tenant org2; tenants.known has none, so all images are those of default",
        ),
        (
            &[
                "token", "--tenant", "org2", "--set", KNOWN, "--set", TRUSTED,
            ],
            "there is no tenant org2; tenants.known has org1",
        ),
        (
            &["token", "--for", "9000h"],
            "--for 9000h: more than nothing and a year at the most, such as 8h",
        ),
    ] {
        let ended = images(&place, arguments);
        assert_eq!(ended.stderr, format!("error: {line}\n"));
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""));
    }
    for wrong in [["--for", "soon"], ["--for", "8"], ["--tenant", "A B"]] {
        let ended = images(&place, &[&["token"], &wrong[..]].concat());
        assert_eq!(ended.code, Some(2), "{wrong:?}: {}", ended.stderr);
    }
}

#[test]
fn a_file_of_logins_that_cannot_serve_is_one_line_without_its_secrets() {
    let place = Place::new();
    let arguments = place.serve(&["images.dockerConfigFile=config.json"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    for (content, told) in [
        (
            r#"{"auths": {"r.example.com": {"auth": "hunter2"}}}"#,
            "auths has an entry \"r.example.com\" whose auth is not the base64 of user:password",
        ),
        (
            r#"{"auths": {"r.example.com": {"identitytoken": "hunter2"}}}"#,
            "auths has an entry \"r.example.com\" with a token in place of a password, which is not supported; log in with a user and an access token as its password",
        ),
    ] {
        place.file("config.json", content);
        let ended = place.run(&arguments);
        let expected = format!("error: images.dockerConfigFile config.json: {told}\n");
        assert!(ended.stderr.ends_with(&expected), "{}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
        assert_eq!(ended.code, Some(1));
    }
}
