//! `/_ping` and `/version`, under every prefix a peer puts before them.

use super::world::World;

#[tokio::test]
async fn ping_answers_under_every_prefix() {
    let world = World::new().await;
    for prefix in ["", "/v1.24", "/v1.44", "/v1.54", "/t/org1", "/t/org1/v1.25"] {
        for query in ["", "?"] {
            let target = format!("{prefix}/_ping{query}");
            let answer = world.ask("GET", &target).await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (200, "OK"),
                "{target}"
            );
            for (name, value) in [
                ("Api-Version", "1.44"),
                ("Ostype", "linux"),
                ("Docker-Experimental", "false"),
                ("Content-Type", "text/plain"),
            ] {
                assert_eq!(answer.header(name), Some(value), "{target}");
            }
            let answer = world.ask("HEAD", &target).await;
            assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{target}");
            assert_eq!(answer.header("Api-Version"), Some("1.44"));
        }
    }
}

#[tokio::test]
async fn version_tells_the_range() {
    let world = World::new().await;
    let answer = world.ask("GET", "/version").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let version: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(version["ApiVersion"], "1.44");
    assert_eq!(version["MinAPIVersion"], "1.24");
    assert_eq!(version["Os"], "linux");
}
