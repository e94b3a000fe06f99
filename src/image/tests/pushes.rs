//! Builds in the mode `registry`, over a real one.

use super::*;
use crate::config;
use crate::registry::fixture::{
    Line, Manner, PushedLayer, Tokens, noise, plain, push_layers, zipped,
};

mod bases;
mod logins;

/// A Peitho of its own, which pushes as `config` says.
async fn pushing(config: &config::Images) -> (Scratch, Images) {
    let scratch = Scratch::new().await;
    let registries = Registries::of(config, scratch.store.clone()).await.unwrap();
    let pusher = Pusher::impatient(config, registries.clone()).unwrap();
    let images = Images::new(scratch.store.clone(), registries);
    (scratch, images.pushed_by(Some(pusher)))
}

/// As `registry.built()`, by a line.
fn built_by(line: &Line, registry: &Registry) -> config::Images {
    let mut config = registry.built();
    config.registry.address.clone_from(&line.host);
    config
}

/// The body of a build of `program` on the base `host/fabric/baseos:2.5`.
fn of(program: &[u8], host: &str) -> Vec<u8> {
    let binpackage = tar(&[("chaincode", program)]);
    let base = format!("{host}/fabric/baseos:2.5");
    let dockerfile = DOCKERFILE.replace("127.0.0.1:1/hyperledger/fabric-baseos:2.5", &base);
    tar(&[
        ("Dockerfile", dockerfile.as_bytes()),
        ("binpackage.tar", &binpackage),
    ])
}

async fn build(scratch: &Scratch, images: &Images, body: &[u8]) -> Result<Image, Error> {
    let ingest = scratch.filled(body).await;
    let (tenant, name) = (Tenant::default_tenant(), chaincode_name());
    images.build(&tenant, &name, ingest).await
}

/// A base of two layers in `registry`.
async fn base_in(registry: &Registry) -> [PushedLayer; 2] {
    let layers = [
        zipped(&noise("lower", 1_500_000)),
        plain(noise("upper", 500_000)),
    ];
    let name = registry.name("fabric/baseos:2.5");
    push_layers(&registry.registries().await, &name, &layers).await;
    layers
}

/// What somebody who has only the registry gets under `name`: the layers' content, the lowest first.
async fn pulled(registry: &Registry, name: &ImageName) -> Vec<Digest> {
    let scratch = Scratch::new().await;
    let registries = registry.registries_over(&scratch.store).await;
    let held = registries.hold(name).await.unwrap();
    for layer in &held.layers {
        let (file, blob) = scratch
            .store
            .open_blob(&layer.blob.digest)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(file.metadata().unwrap().len(), blob.size);
    }
    held.layers.iter().map(|layer| layer.diff_id).collect()
}

#[tokio::test]
async fn what_was_built_is_whole_in_the_registry_and_a_base_beside_it_does_not_move() {
    let registry = Registry::start("").await;
    let [lower, upper] = base_in(&registry).await;
    let line = Line::to(&registry, Manner::Good).await;
    let (scratch, images) = pushing(&built_by(&line, &registry)).await;
    let one = build(&scratch, &images, &of(&noise("one", 300_000), &line.host))
        .await
        .unwrap();
    let layer = one.layer.blob.size;
    assert!(
        line.asked() < layer + layer / 20 + 30_000,
        "{} bytes for a layer of {layer}",
        line.asked()
    );

    let pushed = one.pushed.clone().unwrap();
    assert_eq!(images.whole(&one), one.pushed);
    let delivering = Images::new(scratch.store.clone(), registry.registries().await);
    assert_eq!(delivering.whole(&one), None);
    // The registry has another address now, or images another place in it.
    let mut elsewhere = built_by(&line, &registry);
    elsewhere.registry.project = "elsewhere".to_owned();
    for moved in [registry.built(), elsewhere] {
        assert_eq!(pushing(&moved).await.1.whole(&one), None);
    }
    let repository = format!("{}/fabric/chaincode", line.host);
    assert_eq!(
        pushed.full(),
        format!("{repository}@{}", one.manifest.unwrap().digest)
    );
    let there = registry
        .name("fabric/chaincode")
        .at(&pushed.digest().unwrap().to_string())
        .unwrap();
    let tag = format!(
        "dev-peer0-basic_1-{}",
        &pushed.digest().unwrap().hex()[..12]
    );
    for name in [there.clone(), there.at(&tag).unwrap()] {
        let expected = [lower.diff_id, upper.diff_id, one.layer.diff_id];
        assert_eq!(pulled(&registry, &name).await, expected, "{name}");
    }

    // One changed line: the new layer, and nothing of the base.
    let before = line.asked();
    let two = build(&scratch, &images, &of(&noise("two", 2_000_000), &line.host))
        .await
        .unwrap();
    let (moved, layer) = (line.asked() - before, two.layer.blob.size);
    assert!(
        moved as f64 <= 1.05 * layer as f64,
        "{moved} bytes for a layer of {layer}"
    );
    // What is there already: nothing but questions.
    let before = line.asked();
    let again = build(&scratch, &images, &of(&noise("two", 2_000_000), &line.host))
        .await
        .unwrap();
    assert_eq!(again, two);
    let moved = line.asked() - before;
    assert!(moved < 5_000, "{moved} bytes for nothing");
    // A peer that asks again hears what it heard, whatever became of the registry.
    drop(registry);
    let inspected = images.inspect(&Tenant::default_tenant(), &two.name).await;
    assert_eq!(inspected.unwrap().id, two.id);
}

#[tokio::test]
async fn the_base_of_another_registry_is_brought_along() {
    let (far, registry) = (Registry::start("").await, Registry::start("").await);
    let [lower, upper] = base_in(&far).await;
    let mut config = registry.built();
    config.registries = vec![far.config()];
    let (scratch, images) = pushing(&config).await;
    let image = build(&scratch, &images, &of(b"x", &far.host))
        .await
        .unwrap();
    let pushed = image.pushed.unwrap();
    let expected = [lower.diff_id, upper.diff_id, image.layer.diff_id];
    assert_eq!(pulled(&registry, &pushed).await, expected);
    drop(far);
    assert_eq!(pulled(&registry, &pushed).await, expected);
}

#[tokio::test]
async fn a_token_service_lets_in_who_it_knows() {
    let registry = Registry::start_with_tokens(Tokens::Good).await;
    let line = Line::to(&registry, Manner::Good).await;
    let mut config = built_by(&line, &registry);
    config.registry.username = Some("reader".to_owned());
    config.registry.password = Some("s3cret".into());
    let (scratch, images) = pushing(&config).await;
    let layers = [
        zipped(&noise("lower", 100_000)),
        plain(noise("upper", 1000)),
    ];
    let registries = Registries::of(&config, scratch.store.clone())
        .await
        .unwrap();
    let base = format!("{}/fabric/baseos:2.5", line.host);
    push_layers(&registries, &base.parse().unwrap(), &layers).await;
    let before = line.asked();
    let image = build(&scratch, &images, &of(b"x", &line.host))
        .await
        .unwrap();
    // The token is for the base's repository too, so that its layers are mounted.
    let moved = line.asked() - before;
    assert!(moved < 60_000, "{moved} bytes, as if the base were sent");
    let held = registries.hold(&image.pushed.unwrap()).await.unwrap();
    let held: Vec<_> = held.layers.iter().map(|layer| layer.diff_id).collect();
    assert_eq!(
        held,
        [layers[0].diff_id, layers[1].diff_id, image.layer.diff_id]
    );

    let far = Registry::start("").await;
    base_in(&far).await;
    config.registries = vec![far.config()];
    config.registry.password = Some("wr0ng".into());
    refused(
        &config,
        &far.host,
        &["denied: who are you, to the user reader"],
    )
    .await;
}

#[tokio::test]
async fn faults_that_pass_do_not_end_a_push() {
    for manner in [
        // Cut in the middle of a blob, thrice.
        Manner::CutsRequests {
            first: 3,
            after: 150_000,
        },
        // What asks for a login first, and then the questions after it.
        Manner::Answers {
            first: 6,
            with: "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        },
        Manner::Answers {
            first: 6,
            with: "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        },
    ] {
        let (far, registry) = (Registry::start("").await, Registry::start("").await);
        let [lower, upper] = base_in(&far).await;
        let line = Line::to(&registry, manner).await;
        let mut config = built_by(&line, &registry);
        config.registries = vec![far.config()];
        let (scratch, images) = pushing(&config).await;
        let started = Instant::now();
        let image = build(&scratch, &images, &of(b"x", &far.host))
            .await
            .unwrap();
        let waits = matches!(manner, Manner::Answers { with, .. } if with.contains("Retry-After"));
        assert!(!waits || started.elapsed() >= Duration::from_secs(1));
        let digest = image.pushed.unwrap().digest().unwrap().to_string();
        let there = registry.name("fabric/chaincode").at(&digest).unwrap();
        let expected = [lower.diff_id, upper.diff_id, image.layer.diff_id];
        assert_eq!(pulled(&registry, &there).await, expected);
    }
}

#[tokio::test]
async fn faults_of_a_token_service_and_of_what_asks_for_tokens_do_not_end_a_push() {
    const BUSY: &str =
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let far = Registry::start("").await;
    let [lower, upper] = base_in(&far).await;
    let busy = Tokens::Answers {
        first: 3,
        with: "429 Too Many Requests\r\nRetry-After: 1",
    };
    let away = Tokens::Answers {
        first: 3,
        with: "502 Bad Gateway",
    };
    let answers = Manner::Answers {
        first: 6,
        with: BUSY,
    };
    for (tokens, manner) in [
        (busy, Manner::Good),
        (away, Manner::Good),
        (Tokens::Expired { first: 4 }, Manner::Good),
        (Tokens::Good, answers),
    ] {
        let registry = Registry::start_with_tokens(tokens).await;
        let line = Line::to(&registry, manner).await;
        let mut config = built_by(&line, &registry);
        config.registry.username = Some("reader".to_owned());
        config.registry.password = Some("s3cret".into());
        config.registries = vec![far.config()];
        let (scratch, images) = pushing(&config).await;
        let image = build(&scratch, &images, &of(b"x", &far.host))
            .await
            .unwrap();
        let registries = Registries::of(&config, scratch.store.clone())
            .await
            .unwrap();
        let held = registries.hold(&image.pushed.unwrap()).await.unwrap();
        let held: Vec<_> = held.layers.iter().map(|layer| layer.diff_id).collect();
        assert_eq!(held, [lower.diff_id, upper.diff_id, image.layer.diff_id]);
    }

    // Patience has an end.
    for (tokens, told) in [
        (
            Tokens::Answers {
                first: usize::MAX,
                with: "502 Bad Gateway",
            },
            "the token service answered 502",
        ),
        (Tokens::Expired { first: usize::MAX }, "denied"),
    ] {
        let registry = Registry::start_with_tokens(tokens).await;
        let mut config = registry.built();
        config.registry.username = Some("reader".to_owned());
        config.registry.password = Some("s3cret".into());
        config.registries = vec![far.config()];
        refused(&config, &far.host, &[told]).await;
    }
}

#[tokio::test]
async fn a_base_whose_registry_blinks_is_waited_for() {
    let far = Registry::start("").await;
    base_in(&far).await;
    let blinks = Manner::Answers {
        first: 4,
        with: "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    };
    let line = Line::to(&far, blinks).await;
    let registry = Registry::start("").await;
    let mut config = registry.built();
    let mut by_line = far.config();
    by_line.host.clone_from(&line.host);
    config.registries = vec![by_line];
    let (scratch, images) = pushing(&config).await;
    // Somebody who is not so patient asked before.
    let base = format!("{}/fabric/baseos:2.5", line.host).parse().unwrap();
    assert!(images.config(&base).await.unwrap().is_none());
    let image = build(&scratch, &images, &of(b"x", &line.host))
        .await
        .unwrap();
    assert!(image.pushed.is_some());
}

#[tokio::test]
async fn a_base_that_breaks_on_the_way_is_named() {
    let (far, registry) = (Registry::start("").await, Registry::start("").await);
    let [lower, _] = base_in(&far).await;
    let by = |line: &Line| {
        let mut config = registry.built();
        config.registries = vec![config::Registry {
            host: line.host.clone(),
            ..far.config()
        }];
        config
    };
    // Each connection is cut in the middle of the layer.
    let line = Line::to(&far, Manner::CutsAnswers(200_000)).await;
    let told = format!(
        "a layer of its base {}/fabric/baseos:2.5 cannot be read",
        line.host
    );
    refused(&by(&line), &line.host, &[&told]).await;

    // What lies there is not what it is called: it is seen before the end goes out, and asking again changes nothing.
    let hex = Digest::of(&lower.bytes).hex();
    let blob = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    let mut bytes = lower.bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(far.data().join(blob), &bytes).unwrap();
    let line = Line::to(&far, Manner::Good).await;
    let told = format!(
        "a layer of its base {}/fabric/baseos:2.5 cannot be read: the registry sends a damaged layer",
        line.host
    );
    refused(&by(&line), &line.host, &[&told]).await;
    let twice = 2 * bytes.len() as u64;
    assert!(line.answered() < twice, "{} bytes", line.answered());
}

/// Builds, which must fail for `reasons` and leave no image; the base is in a registry that stands.
async fn refused(config: &config::Images, host: &str, reasons: &[&str]) {
    let (scratch, images) = pushing(config).await;
    let told = build(&scratch, &images, &of(b"x", host)).await.unwrap_err();
    let told = told.to_string();
    let repository = config.registry.repository().unwrap();
    let repository = format!("{}/{}:", repository.registry(), repository.repository());
    for reason in reasons.iter().chain([&&*repository]) {
        assert!(told.contains(reason), "{reason}: {told}");
    }
    assert!(!told.contains("wr0ng"), "{told}");
    let (tenant, name) = (Tenant::default_tenant(), chaincode_name());
    assert_eq!(images.built(&tenant, &name).await.unwrap(), None);
    let inspected = images.inspect(&tenant, &name).await;
    assert!(
        matches!(inspected, Err(Error::NotFound(_))),
        "{inspected:?}"
    );
}

#[tokio::test]
async fn a_build_that_cannot_be_pushed_fails_and_says_why() {
    let far = Registry::start("").await;
    base_in(&far).await;
    let on = |mut config: config::Images| {
        config.registries = vec![far.config()];
        config
    };

    // Nobody there, as long as there is patience.
    let mut gone = Registry::start("").await;
    let config = on(gone.built());
    gone.process.kill().await.unwrap();
    refused(&config, &far.host, &["Connection refused"]).await;

    let closed =
        Registry::start("auth: {htpasswd: {realm: test, path: DIRECTORY/htpasswd}}\n").await;
    refused(&on(closed.built()), &far.host, &["denied: ", ", to nobody"]).await;
    let mut config = on(closed.built());
    config.registry.username = Some("reader".to_owned());
    config.registry.password = Some("wr0ng".into());
    refused(&config, &far.host, &["denied: ", ", to the user reader"]).await;

    let read_only = Registry::start_read_only().await;
    refused(
        &on(read_only.built()),
        &far.host,
        &["the registry answered 405 Method Not Allowed"],
    )
    .await;

    // An authority that nobody here knows.
    let secure = Registry::start_tls().await;
    let mut config = on(secure.built());
    config.registry.scheme = config::Scheme::Https;
    refused(&config, &far.host, &["certificate"]).await;
    config.registry.ca_file = Some(closed.file("ca.pem"));
    refused(&config, &far.host, &["certificate"]).await;

    // Patience has an end, and so has that of the registry.
    let open = Registry::start("").await;
    let busy = Manner::Answers {
        first: usize::MAX,
        with: "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    };
    let line = Line::to(&open, busy).await;
    refused(&on(built_by(&line, &open)), &far.host, &["429"]).await;

    // Its base can be named, and not be brought.
    refused(
        &open.built(),
        "127.0.0.1:1",
        &["base 127.0.0.1:1/fabric/baseos:2.5 cannot be read"],
    )
    .await;
    drop(far.process);
}
