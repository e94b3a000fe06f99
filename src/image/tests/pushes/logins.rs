//! With which login built images are pushed, and bases are read.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_login_and_an_authority_of_its_own_open_a_registry() {
    let far = Registry::start("").await;
    base_in(&far).await;
    let closed =
        Registry::start("auth: {htpasswd: {realm: test, path: DIRECTORY/htpasswd}}\n").await;
    let mut by_word = closed.built();
    by_word.registry.username = Some("reader".to_owned());
    by_word.registry.password = Some("s3cret".into());
    let mut by_file = by_word.clone();
    by_file.registry.password = None;
    by_file.registry.password_file = Some(closed.file("password"));
    std::fs::write(closed.file("password"), "s3cret\n").unwrap();
    let mut as_docker_has_it = closed.built();
    as_docker_has_it.docker_config_file = Some(closed.file("config.json"));
    let logins =
        json!({"auths": {format!("http://{}/v1/", closed.host): {"auth": "cmVhZGVyOnMzY3JldA=="}}});
    std::fs::write(closed.file("config.json"), logins.to_string()).unwrap();
    let secure = Registry::start_tls().await;
    let mut trusting = secure.built();
    trusting.registry.scheme = config::Scheme::Https;
    trusting.registry.ca_file = Some(secure.file("ca.pem"));
    for mut config in [by_word, by_file, as_docker_has_it, trusting] {
        config.registries = vec![far.config()];
        let (scratch, images) = pushing(&config).await;
        let image = build(&scratch, &images, &of(b"x", &far.host))
            .await
            .unwrap();
        let pushed = image.pushed.unwrap();
        // Read again with the same login.
        let registries = Registries::of(&config, scratch.store.clone())
            .await
            .unwrap();
        let held = registries.hold(&pushed).await.unwrap();
        assert_eq!(held.layers.last().unwrap().diff_id, image.layer.diff_id);
    }
}

#[tokio::test]
async fn a_login_that_is_renewed_in_its_file_is_used_at_once() {
    let registry = Registry::start_with_tokens(Tokens::Good).await;
    let far = Registry::start("").await;
    base_in(&far).await;
    let mut config = registry.built();
    let file = registry.file("config.json");
    config.docker_config_file = Some(file.clone());
    config.registries = vec![far.config()];
    let write = |password: &str| {
        let login = json!({"username": "reader", "password": password});
        let logins = json!({"auths": {&registry.host: login}});
        std::fs::write(&file, logins.to_string()).unwrap();
    };
    write("wr0ng");
    let (scratch, images) = pushing(&config).await;
    let error = build(&scratch, &images, &of(b"x", &far.host)).await;
    let told = error.unwrap_err().to_string();
    assert!(told.contains("to the user reader"), "{told}");
    assert!(!told.contains("wr0ng"), "{told}");
    let elsewhere = Scratch::new().await;
    let registries = Registries::of(&config, elsewhere.store.clone())
        .await
        .unwrap();
    let error = registries.hold(&registry.name("fabric/chaincode:1")).await;
    let told = error.unwrap_err().to_string();
    assert!(told.contains("denied"), "{told}");
    write("s3cret");
    let image = build(&scratch, &images, &of(b"x", &far.host))
        .await
        .unwrap();
    assert!(image.pushed.is_some());
    // So it is for who reads, and was denied before.
    let held = registries.hold(&image.pushed.unwrap()).await.unwrap();
    assert_eq!(held.layers.last().unwrap().diff_id, image.layer.diff_id);
}
