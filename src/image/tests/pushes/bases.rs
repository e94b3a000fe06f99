//! Where bases come from, and how long they are waited for.

use super::*;

/// The base of [`base_in`] behind a token service of its own.
async fn behind_tokens(tokens: Tokens) -> (Registry, Registry) {
    let open = Registry::start("").await;
    base_in(&open).await;
    let guarded = Registry::start_with_tokens(tokens).await;
    std::os::unix::fs::symlink(open.data(), guarded.data()).unwrap();
    (open, guarded)
}

#[tokio::test]
async fn a_base_whose_token_service_blinks_is_waited_for() {
    for with in ["429 Too Many Requests\r\nRetry-After: 1", "502 Bad Gateway"] {
        let (_open, far) = behind_tokens(Tokens::Answers { first: 3, with }).await;
        let registry = Registry::start("").await;
        let mut config = registry.built();
        config.registries = vec![far.config_with_login("s3cret")];
        let (scratch, images) = pushing(&config).await;
        let image = build(&scratch, &images, &of(b"x", &far.host))
            .await
            .unwrap();
        assert!(image.pushed.is_some());
    }
}

#[tokio::test]
async fn a_base_that_is_denied_is_not_asked_for_again() {
    let (_open, far) = behind_tokens(Tokens::Good).await;
    let line = Line::to(&far, Manner::Good).await;
    let registry = Registry::start("").await;
    let mut config = registry.built();
    let mut wrong = far.config_with_login("wr0ng");
    wrong.host.clone_from(&line.host);
    config.registries = vec![wrong];
    let told = format!(
        "its base {}/fabric/baseos:2.5 cannot be read: denied: who are you",
        line.host
    );
    refused(&config, &line.host, &[&told]).await;
    assert_eq!(line.connections(), 1);

    // Patience has an end.
    let with = "502 Bad Gateway";
    let first = usize::MAX;
    let (_open, far) = behind_tokens(Tokens::Answers { first, with }).await;
    config.registries = vec![far.config_with_login("s3cret")];
    refused(&config, &far.host, &["the token service answered 502"]).await;
}

/// A base of another registry's name.
const ELSEWHERE: &str = "nowhere.example.com";

#[tokio::test]
async fn a_registry_that_is_replaced_is_not_asked_and_peers_keep_its_name() {
    let registry = Registry::start("").await;
    let layers = [plain(noise("lower", 1_000_000))];
    let base = registry.name("mirror/fabric/baseos:2.5");
    let manifest = push_layers(&registry.registries().await, &base, &layers).await;
    let line = Line::to(&registry, Manner::Good).await;
    let mut config = built_by(&line, &registry);
    config.registries = vec![config::Registry {
        host: ELSEWHERE.to_owned(),
        replaced_by: Some(format!("{}/mirror", line.host)),
        ..config::Registry::default()
    }];
    let (scratch, images) = pushing(&config).await;
    let image = build(&scratch, &images, &of(b"x", ELSEWHERE))
        .await
        .unwrap();
    // It is in the registry that is pushed to, and does not move.
    assert!(line.asked() < 60_000, "{} bytes", line.asked());
    assert_eq!(
        image.base.name.full(),
        format!("{ELSEWHERE}/fabric/baseos:2.5")
    );
    let digest = Digest::of(manifest.to_string().as_bytes());
    assert_eq!(image.base.facts.digest, Some(digest));
    let digest = image.pushed.unwrap().digest().unwrap().to_string();
    let there = registry.name("fabric/chaincode").at(&digest).unwrap();
    let expected = [layers[0].diff_id, image.layer.diff_id];
    assert_eq!(pulled(&registry, &there).await, expected);

    // For who has it whole, too, under the peer's name.
    let registries = Registries::of(&config, scratch.store.clone())
        .await
        .unwrap();
    let held = registries.hold(&image.base.name).await.unwrap();
    assert_eq!(held.layers[0].diff_id, layers[0].diff_id);
    let names = crate::registry::list_held(&scratch.store).await.unwrap();
    assert_eq!(names[0].0, image.base.name);
}

#[tokio::test]
async fn mirrors_are_asked_first_and_what_they_lack_comes_from_the_next_place() {
    let (empty, broken) = (Registry::start("").await, Registry::start("").await);
    let (whole, registry) = (Registry::start("").await, Registry::start("").await);
    let [lower, upper] = base_in(&broken).await;
    base_in(&whole).await;
    // It has the image, and not what is in it.
    let hex = Digest::of(&lower.bytes).hex();
    let blob = format!("docker/registry/v2/blobs/sha256/{}/{hex}", &hex[..2]);
    std::fs::remove_dir_all(broken.data().join(blob)).unwrap();
    let mut config = registry.built();
    let away = "127.0.0.1:1".to_owned();
    let mirrors = [&away, &empty.host, &broken.host, &whole.host].map(String::clone);
    config.registries = [&empty, &broken, &whole].map(Registry::config).to_vec();
    config.registries.push(config::Registry {
        host: ELSEWHERE.to_owned(),
        mirrors: mirrors.to_vec(),
        ..config::Registry::default()
    });
    let (scratch, images) = pushing(&config).await;
    let image = build(&scratch, &images, &of(b"x", ELSEWHERE))
        .await
        .unwrap();
    let expected = [lower.diff_id, upper.diff_id, image.layer.diff_id];
    assert_eq!(pulled(&registry, &image.pushed.unwrap()).await, expected);
    // Nodes look for it elsewhere: it may have another digest there.
    assert_eq!(image.base.facts.digest, None);

    config.registries[3].mirrors = vec![broken.host.clone(), whole.host.clone()];
    let registries = Registries::of(&config, scratch.store.clone())
        .await
        .unwrap();
    let held = registries.hold(&image.base.name).await.unwrap();
    assert_eq!(held.layers[0].diff_id, lower.diff_id);
    // Where none has it, the last place is told.
    drop((empty, broken, whole));
    let name = format!("{ELSEWHERE}/a/b:1").parse().unwrap();
    let error = registries.hold(&name).await.unwrap_err().to_string();
    assert!(error.contains(ELSEWHERE), "{error}");
}
