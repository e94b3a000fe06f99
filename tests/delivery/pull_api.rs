//! The pull API as a client of registries sees it, and the bounds of the uploads.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use peitho::grant::Grant;
use peitho::names::{CompileKey, Digest, Tenant};
use secrecy::ExposeSecret as _;
use tower::ServiceExt as _;

use crate::world::World;

pub(crate) struct Caller {
    router: Router,
    token: String,
}

impl Caller {
    pub(crate) async fn new(world: &World, grant: &Grant) -> Self {
        Self {
            router: world.router().await,
            token: world.grants.issue(grant).expose_secret().to_owned(),
        }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> Response {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.token))
            .body(body.into())
            .unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// For a part of `path`.
    pub(crate) async fn part(&self, path: &str, range: &str) -> Response {
        let request = Request::builder()
            .uri(path)
            .header("authorization", format!("Bearer {}", self.token))
            .header("range", range)
            .body(Body::empty())
            .unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }
}

pub(crate) async fn json(response: Response) -> serde_json::Value {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn a_blob_is_served_with_length_and_digest() {
    let world = World::new().await;
    let blob = world.blob(b"layer").await;
    let caller = Caller::new(&world, &world.container(blob)).await;
    let path = format!("/v2/a/b/blobs/{}", blob.digest);
    for (method, body) in [("GET", &b"layer"[..]), ("HEAD", b"")] {
        let response = caller.send(method, &path, Body::empty()).await;
        assert_eq!(response.status(), StatusCode::OK, "{method}");
        assert_eq!(response.headers()["content-length"], "5", "{method}");
        assert_eq!(
            response.headers()["docker-content-digest"],
            blob.digest.to_string().as_str(),
            "{method}"
        );
        let received = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(received, body, "{method}");
    }
    assert_eq!(world.counters.layer_bytes(), 5);
    assert_eq!(world.counters.layers(), 1);
}

#[tokio::test]
async fn a_part_of_a_blob_is_served_by_its_range() {
    let world = World::new().await;
    let blob = world.blob(b"a layer").await;
    let caller = Caller::new(&world, &world.container(blob)).await;
    let path = format!("/v2/a/blobs/{}", blob.digest);
    for (range, status, content_range, body) in [
        ("bytes=2-3", 206, "bytes 2-3/7", "la"),
        ("bytes=4-", 206, "bytes 4-6/7", "yer"),
        ("bytes=-2", 206, "bytes 5-6/7", "er"),
        ("bytes=0-100", 206, "bytes 0-6/7", "a layer"),
        ("bytes=7-", 416, "bytes */7", ""),
        ("bytes=0-1,3-4", 200, "", "a layer"),
    ] {
        let response = caller.part(&path, range).await;
        assert_eq!(response.status(), status, "{range}");
        let header = |name: &str| {
            let value = response.headers().get(name);
            value.map_or_else(String::new, |it| it.to_str().unwrap().to_owned())
        };
        assert_eq!(header("content-range"), content_range, "{range}");
        assert_eq!(header("content-length"), body.len().to_string(), "{range}");
        let received = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(received, body, "{range}");
    }
    assert_eq!(world.counters.layer_bytes(), 2 + 3 + 2 + 7 + 7);
}

#[tokio::test]
async fn without_a_token_nothing_is_said() {
    let world = World::new().await;
    let router = world.router().await;
    let key = CompileKey::new(Digest::of(b""));
    for (method, path) in [
        ("GET", "/v2/".to_owned()),
        ("GET", format!("/v2/a/blobs/{}", Digest::of(b""))),
        ("GET", "/v2/a/manifests/latest".to_owned()),
        ("GET", "/v2/a/tags/list".to_owned()),
        ("GET", "/v2/_catalog".to_owned()),
        ("GET", "/v2/anything".to_owned()),
        ("GET", format!("/compile/{key}/input")),
        ("PUT", format!("/compile/{key}/log?offset=0")),
        ("PUT", format!("/compile/{key}/output")),
        ("PUT", format!("/compile/{key}/exit")),
    ] {
        let request = Request::builder().method(method).uri(&path);
        let request = request.body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        // What clients of registries take for the wish to see user and password.
        let challenge = &response.headers()["www-authenticate"];
        assert_eq!(challenge, "Basic realm=\"peitho\"", "{path}");
        assert_eq!(
            json(response).await["errors"][0]["code"],
            "UNAUTHORIZED",
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_manifest_is_refused_with_the_reason() {
    let world = World::new().await;
    let blob = world.blob(b"layer").await;
    let caller = Caller::new(&world, &world.container(blob)).await;
    let version = caller.send("GET", "/v2/", Body::empty()).await;
    assert_eq!(version.status(), StatusCode::OK);
    let response = caller
        .send("GET", "/v2/a/b/manifests/latest", Body::empty())
        .await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let error = json(response).await;
    assert_eq!(error["errors"][0]["code"], "MANIFEST_UNKNOWN");
    let message = error["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("a/b has no manifest latest"), "{message}");
}

#[tokio::test]
async fn a_token_is_good_for_its_own_thing_only() {
    let mut world = World::new().await;
    let (key, _run) = world.compile(None).await;
    let blob = world.blob(b"layer").await;
    let layer = Caller::new(&world, &world.container(blob)).await;
    let compile = Caller::new(&world, &Grant::Compile { key }).await;
    let until = i64::MAX;
    let tenant = Tenant::default_tenant();
    let person = Caller::new(&world, &Grant::Images { tenant, until }).await;
    let other = CompileKey::new(Digest::of(b"other"));
    for (caller, method, path) in [
        (&layer, "GET", format!("/compile/{key}/input")),
        (&layer, "PUT", format!("/compile/{key}/exit")),
        (&compile, "GET", format!("/v2/a/blobs/{}", blob.digest)),
        (&compile, "PUT", format!("/compile/{other}/output")),
        (&compile, "PUT", format!("/compile/{other}/log?offset=0")),
        (&layer, "GET", "/v2/_catalog".to_owned()),
        (&compile, "GET", "/v2/default/a/tags/list".to_owned()),
        (&person, "GET", format!("/compile/{key}/input")),
        (&person, "PUT", format!("/compile/{key}/output")),
    ] {
        let response = caller.send(method, &path, Body::empty()).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn a_log_goes_on_where_it_is() {
    let mut world = World::new().await;
    let (key, run) = world.compile(None).await;
    let caller = Caller::new(&world, &Grant::Compile { key }).await;
    for (offset, text, status, length) in [
        (0, "abc", StatusCode::OK, 3),
        (3, "de", StatusCode::OK, 5),
        (3, "de", StatusCode::CONFLICT, 5),
        (9, "x", StatusCode::CONFLICT, 5),
        (5, "", StatusCode::OK, 5),
    ] {
        let path = format!("/compile/{key}/log?offset={offset}");
        let response = caller.send("PUT", &path, text).await;
        assert_eq!(response.status(), status, "{offset} {text}");
        assert_eq!(json(response).await["length"], length, "{offset} {text}");
    }
    let text = run.log.reader().next().await.unwrap().unwrap();
    assert_eq!(text, &b"abcde"[..]);
}

#[tokio::test]
async fn too_much_log_at_once_and_a_wrong_exit_are_refused() {
    let mut world = World::new().await;
    let (key, run) = world.compile(None).await;
    let caller = Caller::new(&world, &Grant::Compile { key }).await;
    let path = format!("/compile/{key}/log?offset=0");
    let response = caller.send("PUT", &path, vec![b'x'; (1 << 20) + 1]).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let path = format!("/compile/{key}/exit");
    let response = caller.send("PUT", &path, "{}").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let path = format!("/compile/{key}/output");
    let response = caller.send("PUT", &path, "not a tar").await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(run.end.borrow().is_none());
    assert!(run.log.is_empty());
}

#[tokio::test]
async fn a_compile_that_nobody_asked_for_is_unknown() {
    let world = World::new().await;
    let key = CompileKey::new(Digest::of(b"unknown"));
    let caller = Caller::new(&world, &Grant::Compile { key }).await;
    for (method, what, body) in [
        ("GET", "input", ""),
        ("PUT", "log?offset=0", ""),
        ("PUT", "output", "x"),
        ("PUT", "exit", "{\"code\":0}"),
    ] {
        let path = format!("/compile/{key}/{what}");
        let response = caller.send(method, &path, body).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{what}");
        assert_eq!(
            json(response).await["errors"][0]["code"],
            "COMPILE_UNKNOWN",
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_compile_without_input_has_no_content() {
    let mut world = World::new().await;
    let (key, _run) = world.compile(None).await;
    let caller = Caller::new(&world, &Grant::Compile { key }).await;
    let path = format!("/compile/{key}/input");
    let response = caller.send("GET", &path, Body::empty()).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}
