//! Against the registry that Debian packages (`docker-registry`), on a port of its own.

use std::collections::HashSet;

use tokio::time::Instant;

use super::fixture::{Registry, push};
use super::*;
use crate::config::Scheme;

mod proxies;
mod pulls;

fn found(lookup: Lookup) -> Found {
    match lookup {
        Lookup::Found(found) => *found,
        other => panic!("not found: {other:?}"),
    }
}

#[tokio::test]
async fn an_image_is_found_by_tag_digest_and_index_and_a_missing_one_is_missing() {
    let registry = Registry::start("").await;
    let registries = registry.registries().await;
    let (tag, index) = (
        registry.name("fabric/baseos:2.5"),
        registry.name("fabric/baseos:multi"),
    );
    let digest = push(&registries, &tag, &index).await;
    let pinned = tag.at(&digest.to_string()).unwrap();
    for name in [&tag, &index, &pinned] {
        let found = found(registries.look_up(name).await);
        assert_eq!(found.digest, digest, "{name}");
        assert_eq!(found.id, Digest::of(&found.raw_config));
        assert_eq!(Digest::of(&found.manifest), digest);
        assert_eq!(found.config.numeric_user(), Some(500));
        assert_eq!(found.config.env, [("PATH".to_owned(), "/bin".to_owned())]);
        // Nodes find it under that of the index.
        assert_eq!(found.facts.digest == Some(digest), name != &index, "{name}");
        let here = Architecture::of_this_machine();
        assert_eq!(found.facts.architecture, Some(here));
    }
    let elsewhere = config::Images {
        registries: vec![registry.config()],
        architecture: Some("s390x".parse().unwrap()),
        ..config::Images::default()
    };
    let nodes = Registries::of(&elsewhere, registry.store().await)
        .await
        .unwrap();
    match nodes.look_up(&index).await {
        Lookup::Unknown(cause) => assert!(cause.ends_with("none for linux/s390x"), "{cause}"),
        other => panic!("{other:?}"),
    }
    for name in ["fabric/baseos:9", "nothing/here:1"] {
        match registries.look_up(&registry.name(name)).await {
            Lookup::Missing(words) => assert!(words.contains("manifest unknown"), "{words}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    // Remembered: what is found stays found when the registry is gone.
    drop(registry);
    found(registries.look_up(&tag).await);
}

#[tokio::test]
async fn a_registry_with_passwords_tells_only_those_who_know_one() {
    let registry =
        Registry::start("auth: {htpasswd: {realm: test, path: DIRECTORY/htpasswd}}\n").await;
    let (name, index) = (registry.name("a/b:1"), registry.name("a/b:index"));
    let config = registry.config_with_login("s3cret");
    let registries = Registries::new(&[config], registry.store().await)
        .await
        .unwrap();
    push(&registries, &name, &index).await;
    found(registries.look_up(&index).await);
    let wrong = registry.config_with_login("wr0ng");
    for config in [registry.config(), wrong] {
        let registries = Registries::new(&[config], registry.store().await)
            .await
            .unwrap();
        match registries.look_up(&name).await {
            Lookup::Unknown(cause) => {
                assert!(cause.starts_with("denied"), "{cause}");
                assert!(!cause.contains("wr0ng"), "{cause}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_password_is_not_sent_to_a_token_service_without_tls() {
    let registry = Registry::start_tls_with_tokens_in_the_open().await;
    let config = [config::Registry {
        scheme: Scheme::Https,
        ca_file: Some(registry.file("ca.pem")),
        ..registry.config_with_login("s3cret")
    }];
    let registries = Registries::new(&config, registry.store().await);
    let registries = registries.await.unwrap();
    let name = registry.name("a/b:1");
    // That service knows the login, and would let it in.
    let told = "a token service without TLS; no password goes there";
    match registries.look_up(&name).await {
        Lookup::Unknown(cause) => assert!(cause.ends_with(told), "{cause}"),
        other => panic!("{other:?}"),
    }
    let error = registries.hold(&name).await.unwrap_err().to_string();
    assert!(error.contains(told), "{error}");
}

#[tokio::test]
async fn who_does_not_answer_or_not_as_a_registry_is_unknown() {
    let registry = Registry::start("").await;
    // Plain HTTP where https is spoken by default.
    let registries = Registries::new(&[], registry.store().await).await.unwrap();
    let name = registry.name("a:1");
    assert!(matches!(
        registries.look_up(&name).await,
        Lookup::Unknown(_)
    ));
    let registries = registry.registries().await;
    let Registry { mut process, .. } = registry;
    process.kill().await.unwrap();
    match registries.look_up(&name).await {
        Lookup::Unknown(cause) => assert!(cause.contains("refused"), "{cause}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_accepts_and_says_nothing_is_given_up_and_remembered() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name: ImageName = format!("{}/a:1", silent.local_addr().unwrap())
        .parse()
        .unwrap();
    let timeout = Duration::from_millis(300);
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let registries = Registries::with_timeout(&[], store, timeout);
    let registries = registries.await.unwrap();
    let started = Instant::now();
    for _ in 0..20 {
        let lookup = registries.look_up(&name).await;
        assert!(matches!(lookup, Lookup::Unknown(_)), "{lookup:?}");
    }
    assert!(started.elapsed() < 10 * timeout, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_password_file_that_cannot_be_read_is_named() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let config = |username: Option<&str>| config::Registry {
        host: "r.example.com".to_owned(),
        scheme: Scheme::Https,
        username: username.map(str::to_owned),
        password_file: Some("/nonexistent/password".into()),
        ..config::Registry::default()
    };
    for (username, said) in [
        (Some("x"), "/nonexistent/password"),
        (None, "belong together"),
    ] {
        let config = [config(username)];
        let registries = Registries::new(&config, store.clone());
        let error = registries.await.err().unwrap();
        let error = format!("{error:#}");
        assert!(
            error.contains(said) && error.contains("r.example.com"),
            "{error}"
        );
    }
}

/// Parts of it may be on their way out when it is named, or gone, as after a pull of hours.
#[tokio::test]
async fn a_base_is_held_when_all_of_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).await.unwrap();
    let config = held::put_document(&store, b"configuration").await.unwrap();
    let image = HeldImage {
        id: config.digest,
        manifest: held::put_document(&store, b"manifest").await.unwrap(),
        config,
        start: ImageConfig::default(),
        layers: Vec::new(),
    };
    let name: ImageName = "base:1".parse().unwrap();
    let none = HashSet::new();
    let pass = async || {
        let survey = store.survey().await.unwrap();
        let plan = survey.plan(&none, &none, Duration::ZERO);
        store.carry_out(plan).await.unwrap();
    };
    pass().await;
    assert!(held::put(&store, &name, &image).await.unwrap());
    pass().await;
    assert!(held::is_whole(&store, &image).await.unwrap());
    pass().await;
    pass().await;
    assert!(held::remove(&store, &name).await.unwrap());
    assert!(!held::put(&store, &name, &image).await.unwrap());
    assert_eq!(held::list(&store).await.unwrap(), []);

    // What was held before, sound, is held as before.
    let sound = HeldImage {
        manifest: held::put_document(&store, b"manifest of before")
            .await
            .unwrap(),
        config: held::put_document(&store, b"configuration of before")
            .await
            .unwrap(),
        ..image.clone()
    };
    assert!(held::put(&store, &name, &sound).await.unwrap());
    assert!(!held::put(&store, &name, &image).await.unwrap());
    assert_eq!(held::list(&store).await.unwrap(), [(name, sound)]);
}
