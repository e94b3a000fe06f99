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
        let (_open, far) = behind_tokens(Tokens::Answers { first: 4, with }).await;
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
    // By the library, and by who tells a no from a fault.
    assert_eq!(line.connections(), 2);

    // Patience has an end.
    let with = "502 Bad Gateway";
    let first = usize::MAX;
    let (_open, far) = behind_tokens(Tokens::Answers { first, with }).await;
    config.registries = vec![far.config_with_login("s3cret")];
    refused(&config, &far.host, &["the token service answered 502"]).await;
}
