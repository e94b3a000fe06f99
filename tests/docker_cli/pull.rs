//! An image pulled from the server that built it, as `docs/images.md` tells people to.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::world::{IMAGE, World, assets};

#[test]
fn what_was_built_is_pulled_with_a_login_of_the_command_line() {
    let world = World::with_log("trace");
    world.build();
    let file = |name: &str| world.directory.path().join(name);
    std::fs::write(file("ca.crt"), world.peitho(&["images", "ca"])).unwrap();
    let token = world.peitho(&["images", "token", "--for", "5m"]);
    let crane = assets().crane().unwrap();
    let port = world.delivery.rsplit(':').next().unwrap();
    // The near end of a forwarded port has this name.
    let host = format!("localhost:{port}");
    let run = |arguments: &[&str]| {
        let output = Command::new(&crane)
            .args(arguments)
            .env("SSL_CERT_FILE", file("ca.crt"))
            .env("DOCKER_CONFIG", file("docker"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let login = [
        "auth",
        "login",
        &host,
        "--username",
        "default",
        "--password",
    ];
    run(&[&login[..], &[token.trim()]].concat());
    let repository = format!("default/{IMAGE}");
    assert_eq!(run(&["catalog", &host]).trim(), repository);
    let reference = format!("{host}/{repository}");
    // Holds each blob against its digest. `validate` takes no layers without compression, which this base has.
    let layout = file("layout");
    run(&[
        "pull",
        "--format",
        "oci",
        &reference,
        layout.to_str().unwrap(),
    ]);
    let blobs = std::fs::read_dir(layout.join("blobs/sha256")).unwrap();
    assert_eq!(blobs.count(), 4, "manifest, configuration, two layers");
    let config: serde_json::Value = serde_json::from_str(&run(&["config", &reference])).unwrap();
    let labels = &config["config"]["Labels"];
    assert_eq!(labels["org.hyperledger.fabric.chaincode.type"], "GOLANG");

    let login = STANDARD.encode(format!("default:{}", token.trim()));
    let log = world.end();
    assert!(log.contains("TRACE") && log.contains(IMAGE), "{log}");
    for secret in [token.trim(), &login] {
        // From the middle: a line may break, or leave a beginning out.
        let middle = &secret[secret.len() / 2..][..24];
        assert!(!log.contains(middle), "{middle} is in the log");
    }
}
