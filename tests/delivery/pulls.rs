//! Whole images as a client of registries asks for them, without a registry: what a token lets it see, and what it is told.

use axum::body::Body;
use axum::response::Response;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use peitho::names::{Digest, Tenant};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::builds::{name, tenant};
use crate::pull_api::json;
use crate::world::{World, tar};

/// What a person of `org1` asks with.
pub(crate) struct Person<'a> {
    world: &'a World,
    login: String,
}

impl Person<'_> {
    pub(crate) fn of<'a>(world: &'a World, tenant: &Tenant) -> Person<'a> {
        Person {
            world,
            login: world.login(tenant.as_str(), tenant, 60),
        }
    }

    async fn ask(&self, method: &str, path: &str) -> Response {
        self.ask_for(method, path, None).await
    }

    async fn ask_for(&self, method: &str, path: &str, range: Option<&str>) -> Response {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", &self.login);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let router = self.world.router().await;
        let request = request.body(Body::empty()).unwrap();
        router.oneshot(request).await.unwrap()
    }

    /// The part `range` of `path`.
    pub(crate) async fn part(&self, path: &str, range: &str) -> Response {
        self.ask_for("GET", path, Some(range)).await
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Vec<u8>) {
        let response = self.ask("GET", path).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, body.to_vec())
    }

    pub(crate) async fn refused(&self, path: &str) -> (u16, String, String) {
        let response = self.ask("GET", path).await;
        let status = response.status().as_u16();
        let error = json(response).await["errors"][0].clone();
        let text = |key: &str| error[key].as_str().unwrap().to_owned();
        (status, text("code"), text("message"))
    }
}

const BASE: &str = "hyperledger/fabric-baseos:2.5";

/// Brings a base of one layer into the store; gives the layer.
async fn hold_base(world: &World) -> Digest {
    let layer = tar(&[("data", 0o644, b"of the base")]);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"User": "500"},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
    });
    let manifest = json!([{"Config": "c.json", "RepoTags": [BASE], "Layers": ["l.tar"]}]);
    let archive = tar(&[
        ("c.json", 0o644, config.to_string().as_bytes()),
        ("l.tar", 0o644, &layer),
        ("manifest.json", 0o644, manifest.to_string().as_bytes()),
    ]);
    let archive = Box::new(std::io::Cursor::new(archive));
    let imported = peitho::registry::import(&world.store, archive, None).await;
    imported.unwrap()[0].1.layers[0].blob.digest
}

#[tokio::test]
async fn all_of_an_image_is_had_through_its_own_name() {
    let world = World::new().await;
    let of_base = hold_base(&world).await;
    let org1 = tenant("org1");
    let image = world.build(&org1, &name("basic"), BASE, b"program").await;
    let other = world.build(&org1, &name("other"), BASE, b"another").await;
    let person = Person::of(&world, &org1);
    let repository = format!("/v2/org1/{}", name("basic"));

    let manifest = image.manifest.unwrap();
    for reference in ["latest".to_owned(), manifest.digest.to_string()] {
        let path = format!("{repository}/manifests/{reference}");
        for method in ["GET", "HEAD"] {
            let response = person.ask(method, &path).await;
            assert_eq!(response.status(), StatusCode::OK, "{method} {path}");
            let headers = response.headers().clone();
            assert_eq!(headers["content-length"], manifest.size.to_string());
            assert_eq!(
                headers["docker-content-digest"],
                manifest.digest.to_string()
            );
            assert_eq!(headers["etag"], format!("\"{}\"", manifest.digest));
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            if method == "GET" {
                assert_eq!(Digest::of(&bytes), manifest.digest);
                let document: Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!(
                    headers["content-type"],
                    document["mediaType"].as_str().unwrap()
                );
            } else {
                assert!(bytes.is_empty());
            }
        }
    }
    for digest in [image.id, image.layer.blob.digest, of_base] {
        let (status, bytes) = person.get(&format!("{repository}/blobs/{digest}")).await;
        assert_eq!((status, Digest::of(&bytes)), (StatusCode::OK, digest));
    }
    // Another image of the same tenant is not in this repository; nor is what the store has besides.
    let strange = world.blob(b"of somebody").await;
    for digest in [
        other.layer.blob.digest,
        other.id,
        strange.digest,
        manifest.digest,
    ] {
        let (status, code, told) = person
            .refused(&format!("{repository}/blobs/{digest}"))
            .await;
        assert_eq!((status, &*code), (404, "BLOB_UNKNOWN"), "{told}");
    }
    let digest = other.manifest.unwrap().digest;
    let (status, code, _) = person
        .refused(&format!("{repository}/manifests/{digest}"))
        .await;
    assert_eq!((status, &*code), (404, "MANIFEST_UNKNOWN"));
}

#[tokio::test]
async fn a_tenant_sees_nothing_of_another_one() {
    let world = World::new().await;
    hold_base(&world).await;
    let (org1, org2) = (tenant("org1"), tenant("org2"));
    let image = world.build(&org1, &name("basic"), BASE, b"program").await;
    let own = world.build(&org2, &name("basic"), BASE, b"own").await;
    let person = Person::of(&world, &org2);
    let (digest, manifest) = (image.layer.blob.digest, image.manifest.unwrap().digest);
    for rest in [
        "manifests/latest".to_owned(),
        format!("manifests/{manifest}"),
        format!("blobs/{digest}"),
        "tags/list".to_owned(),
    ] {
        let theirs = format!("/v2/org1/{}/{rest}", name("basic"));
        let (status, code, told) = person.refused(&theirs).await;
        assert_eq!((status, &*code), (403, "DENIED"), "{rest}");
        assert!(told.contains("images of org2"), "{told}");
    }
    // Under a name of its own.
    let repository = format!("/v2/org2/{}", name("basic"));
    for rest in [format!("manifests/{manifest}"), format!("blobs/{digest}")] {
        let (status, _, told) = person.refused(&format!("{repository}/{rest}")).await;
        assert_eq!(status, 404, "{told}");
    }
    let layer = own.layer.blob.digest;
    let (status, _) = person.get(&format!("{repository}/blobs/{layer}")).await;
    assert_eq!(status, StatusCode::OK);
    let (_, listed) = person.get("/v2/_catalog").await;
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(
        listed["repositories"],
        json!([format!("org2/{}", name("basic"))])
    );
}

#[tokio::test]
async fn what_there_is_is_listed_by_the_page() {
    let world = World::new().await;
    hold_base(&world).await;
    let org1 = tenant("org1");
    for image in ["c", "a:2", "a", "b"] {
        world.build(&org1, image, BASE, b"program").await;
    }
    let person = Person::of(&world, &org1);
    let mut seen = Vec::new();
    let mut path = "/v2/_catalog?n=2".to_owned();
    loop {
        let response = person.ask("GET", &path).await;
        let link = response.headers().get("link").cloned();
        let page = json(response).await;
        seen.push(page["repositories"].clone());
        let Some(link) = link else { break };
        let link = link.to_str().unwrap();
        let (next, rel) = link[1..].split_once('>').unwrap();
        assert_eq!(rel, "; rel=\"next\"");
        path = next.to_owned();
    }
    assert_eq!(seen, [json!(["org1/a", "org1/b"]), json!(["org1/c"])]);
    let (_, tags) = person.get("/v2/org1/a/tags/list").await;
    let tags: Value = serde_json::from_slice(&tags).unwrap();
    assert_eq!(tags, json!({"name": "org1/a", "tags": ["2", "latest"]}));
    let (status, code, _) = person.refused("/v2/org1/nothing/tags/list").await;
    assert_eq!((status, &*code), (404, "NAME_UNKNOWN"));
    let (status, code, _) = person.refused("/v2/_catalog?n=x").await;
    assert_eq!((status, &*code), (400, "PAGINATION_NUMBER_INVALID"));
    let (status, code, _) = person.refused("/v2/_catalog?n=1&n=2").await;
    assert_eq!((status, &*code), (400, "UNSUPPORTED"));
}

#[tokio::test]
async fn a_record_that_is_unreadable_hides_no_other_image() {
    let world = World::new().await;
    hold_base(&world).await;
    let org1 = tenant("org1");
    let old = world.build(&org1, "a:2", BASE, b"old").await;
    for broken in ["b", "a:1"] {
        world.build(&org1, broken, BASE, b"lost").await;
    }
    let records = world.scratch("store/refs/v1/image/org1");
    // No record at all, and one of something else.
    for (name, document) in [
        ("b", "{"),
        ("a:1", r#"{"name": "docker.io/library/a:1", "value": 5}"#),
    ] {
        let name: peitho::names::ImageName = name.parse().unwrap();
        let record = records.join(Digest::of(name.full().as_bytes()).hex());
        let record = record.with_extension("json");
        assert!(record.exists(), "{record:?}");
        std::fs::write(record, document).unwrap();
    }
    let person = Person::of(&world, &org1);
    let (manifest, layer) = (old.manifest.unwrap().digest, old.layer.blob.digest);
    for path in [format!("manifests/{manifest}"), format!("blobs/{layer}")] {
        let (status, bytes) = person.get(&format!("/v2/org1/a/{path}")).await;
        assert_eq!(
            status,
            StatusCode::OK,
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
    let (_, listed) = person.get("/v2/_catalog").await;
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed["repositories"], json!(["org1/a"]));
    // Who asks for it is told.
    let (status, code, _) = person.refused("/v2/org1/b/manifests/latest").await;
    assert_eq!((status, &*code), (500, "STORE"));
}

#[tokio::test]
async fn an_image_without_its_base_says_what_to_do() {
    let world = World::new().await;
    let org1 = tenant("org1");
    // Nobody listens there.
    let base = "127.0.0.1:1/fabric/baseos:2.5";
    let image = world.build(&org1, &name("basic"), base, b"program").await;
    let person = Person::of(&world, &org1);
    let repository = format!("/v2/org1/{}", name("basic"));
    let (status, code, told) = person
        .refused(&format!("{repository}/manifests/latest"))
        .await;
    assert_eq!((status, &*code), (404, "MANIFEST_UNKNOWN"));
    assert!(
        told.contains(base) && told.contains("install again"),
        "{told}"
    );
    let layer = image.layer.blob.digest;
    let (status, _) = person.get(&format!("{repository}/blobs/{layer}")).await;
    assert_eq!(status, StatusCode::OK);
    let (status, code, told) = person.refused("/v2/org1/nothing/manifests/latest").await;
    assert_eq!((status, &*code), (404, "MANIFEST_UNKNOWN"), "{told}");
    for (path, code) in [
        ("/v2/org1/A/manifests/latest", "NAME_INVALID"),
        ("/v2/org1/a/manifests/.x", "MANIFEST_INVALID"),
        ("/v2/org1/a/blobs/sha512:00", "DIGEST_INVALID"),
    ] {
        let (status, told, _) = person.refused(path).await;
        assert_eq!((status, &*told), (400, code), "{path}");
    }
}

#[tokio::test]
async fn a_login_is_the_tenant_and_its_token_while_that_is_good() {
    let mut world = World::new().await;
    let (org1, org2) = (tenant("org1"), tenant("org2"));
    let blob = world.blob(b"layer").await;
    let pod = world.container(blob);
    let (key, _run) = world.compile(None).await;
    let logins = [
        (world.login("org1", &org1, 60), Ok(())),
        (world.login("org1", &org1, -1), Err("ran out at 20")),
        (world.login("org1", &org2, 60), Err("for the tenant org2")),
        (world.login("", &org1, 60), Err("for the tenant org1")),
        (world.login_with("default", &pod), Err("a pod's")),
        (
            world.login_with("default", &peitho::grant::Grant::Compile { key }),
            Err("a pod's"),
        ),
        ("Basic b3JnMTp4".to_owned(), Err("not one of this instance")),
        ("Basic !".to_owned(), Err("not user:password")),
        ("Digest x".to_owned(), Err("a token is needed")),
    ];
    for (login, expected) in logins {
        let person = Person {
            world: &world,
            login: login.clone(),
        };
        match expected {
            Ok(()) => assert_eq!(person.get("/v2/").await.0, StatusCode::OK),
            Err(words) => {
                let (status, code, told) = person.refused("/v2/").await;
                assert_eq!((status, &*code), (401, "UNAUTHORIZED"), "{told}");
                assert!(told.contains(words), "{told}");
                // What was sent is not said again.
                assert!(
                    !told.contains(login.split(' ').nth(1).unwrap_or("?")),
                    "{told}"
                );
            }
        }
    }
    // The same in the other form.
    let bearer = |seconds| {
        use secrecy::ExposeSecret as _;
        let token = world.token(&org1, seconds);
        format!("Bearer {}", token.expose_secret())
    };
    for (login, status) in [(bearer(60), 200), (bearer(-1), 401)] {
        let person = Person {
            world: &world,
            login,
        };
        assert_eq!(person.get("/v2/").await.0, status);
    }
}
