//! Where bases come from, and how long they are waited for.

use futures::TryStreamExt as _;

use super::*;
use crate::registry::LayerContent;

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
    let facts = &image.base.facts;
    assert_eq!(facts.digest, Some(digest));
    let place = format!("{}/mirror/fabric/baseos:2.5", line.host);
    assert_eq!(facts.place.as_ref().map(ImageName::full), Some(place));
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
async fn what_is_wrong_with_a_layer_of_a_replaced_registry_is_told_with_the_place() {
    let (far, registry) = (Registry::start("").await, Registry::start("").await);
    let layers = [plain(noise("lower", 100_000)), plain(noise("upper", 1000))];
    let base = far.name("mirror/fabric/baseos:2.5");
    push_layers(&far.registries().await, &base, &layers).await;
    let mut config = registry.built();
    config.registries = vec![
        far.config(),
        config::Registry {
            host: ELSEWHERE.to_owned(),
            replaced_by: Some(format!("{}/mirror", far.host)),
            ..config::Registry::default()
        },
    ];
    let name: ImageName = format!("{ELSEWHERE}/fabric/baseos:2.5").parse().unwrap();
    let layer = Blob {
        digest: layers[0].diff_id,
        size: layers[0].bytes.len() as u64,
    };
    let place = format!("(asked for as {base})");
    // What is there is another layer than its name says, and then it is not there any more.
    let file = far.blob(&layer.digest);
    std::fs::write(&file, noise("other", 100_000)).unwrap();
    for words in ["damaged layer", "blob unknown"] {
        let told = format!("a layer of its base {name} cannot be read: ");
        refused(&config, ELSEWHERE, &[&told, words, &place]).await;
        let scratch = Scratch::new().await;
        let registries = Registries::of(&config, scratch.store.clone())
            .await
            .unwrap();
        let error = registries.hold(&name).await.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(&place), "{error}");
        // For who pulls what was built.
        let error = match registries.layer_of(&name, &layer, 0..layer.size).await {
            Ok(LayerContent::Brought(content)) => {
                let pieces: Result<Vec<_>, _> = content.try_collect().await;
                pieces.unwrap_err().to_string()
            }
            Ok(LayerContent::Held(_)) => panic!("nothing holds it"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(words) && error.contains(&place), "{error}");
        let _ = std::fs::remove_file(&file);
    }
}

#[tokio::test]
async fn mirrors_are_asked_first_and_what_they_lack_comes_from_the_next_place() {
    let (empty, broken) = (Registry::start("").await, Registry::start("").await);
    let (whole, registry) = (Registry::start("").await, Registry::start("").await);
    let [lower, upper] = base_in(&broken).await;
    base_in(&whole).await;
    // It has the image, and not what is in it.
    std::fs::remove_file(broken.blob(&Digest::of(&lower.bytes))).unwrap();
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
    let facts = &image.base.facts;
    assert_eq!((facts.digest, &facts.place), (None, &None));

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

#[tokio::test]
async fn a_base_that_lists_the_layer_of_somebody_elses_image_gets_nothing_of_it() {
    let (far, registry) = (Registry::start("").await, Registry::start("").await);
    let mut config = registry.built();
    config.registries = vec![far.config()];
    let (scratch, images) = pushing(&config).await;
    base_in(&far).await;
    let victim = (build(&scratch, &images, &of(b"secret", &far.host)).await).unwrap();
    let (mut file, blob) = (scratch.store.open_blob(&victim.layer.blob.digest).await)
        .unwrap()
        .unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();

    // In the registry of built images or beside it: what is listed is not there.
    for thief in [&far, &registry] {
        let base = thief.name("fabric/baseos:2.5");
        let listed = PushedLayer {
            kind: "+gzip",
            diff_id: victim.layer.diff_id,
            bytes: bytes.clone(),
        };
        push_layers(&thief.registries().await, &base, &[listed]).await;
        if thief.host == registry.host {
            // The repository of the base does not have it; that of built images does.
            let hex = blob.digest.hex();
            let link =
                format!("docker/registry/v2/repositories/fabric/baseos/_layers/sha256/{hex}");
            std::fs::remove_dir_all(thief.data().join(link)).unwrap();
        } else {
            std::fs::remove_file(thief.blob(&blob.digest)).unwrap();
        }
        let body = of(b"program", &thief.host);
        // Another Peitho, which remembers nothing of the base that was there.
        let registries = Registries::of(&config, scratch.store.clone())
            .await
            .unwrap();
        let pusher = Pusher::impatient(&config, registries.clone()).unwrap();
        let images = Images::new(scratch.store.clone(), registries).pushed_by(Some(pusher));
        let error = build(&scratch, &images, &body)
            .await
            .unwrap_err()
            .to_string();
        let told = format!("a layer of its base {base} cannot be read");
        assert!(error.contains(&told), "{error}");
    }
    assert!(registry.blob(&blob.digest).exists());
}

#[tokio::test]
async fn an_image_of_a_tenant_is_no_base_and_no_builder_under_the_name_that_it_was_pushed_to() {
    let registry = Registry::start("").await;
    base_in(&registry).await;
    let mut config = registry.built();
    config.registries = vec![config::Registry {
        host: ELSEWHERE.to_owned(),
        replaced_by: Some(registry.host.clone()),
        ..config::Registry::default()
    }];
    let (scratch, images) = pushing(&config).await;
    let image = (build(&scratch, &images, &of(b"secret", &registry.host)).await).unwrap();
    let pushed = image.pushed.unwrap();
    let other: Tenant = "org2".parse().unwrap();
    let digest = pushed.digest().unwrap();
    let by_the_way = format!("{ELSEWHERE}/fabric/chaincode@{digest}");
    for name in [pushed.clone(), by_the_way.parse().unwrap()] {
        let inspected = images.inspect(&other, &name).await;
        assert!(
            matches!(inspected, Err(Error::NotFound(_))),
            "{inspected:?}"
        );
        let dockerfile = format!("FROM {name}\nADD binpackage.tar /usr/local/bin");
        let package = tar(&[("chaincode", b"program")]);
        let body = tar(&[
            ("Dockerfile", dockerfile.as_bytes()),
            ("binpackage.tar", &package),
        ]);
        let ingest = scratch.filled(&body).await;
        let refused = images.build(&other, &chaincode_name(), ingest).await;
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("are images of tenants"), "{told}");
    }
}
