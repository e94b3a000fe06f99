//! Real clients of registries pull whole images: `crane`, `skopeo` and containerd. The base comes from a real registry.
//! `make check` leaves these out: it installs nothing.

mod containerd;
mod registry;

use std::path::Path;
use std::process::Output;

use http::StatusCode;
use http_body_util::BodyExt as _;
use peitho::image::Image;
use peitho::names::{Digest, Tenant};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use testbed::Assets;
use tokio::process::Command;

use crate::builds::{name, noise, tenant};
use crate::pulls::Person;
use crate::world::{Server, World, any_port};
use containerd::Containerd;
use registry::{Form, Registry};

/// A server with one image, whose base is in a registry.
struct Case {
    world: World,
    server: Server,
    registry: Registry,
    base: String,
    image: Image,
    tenant: Tenant,
}

impl Case {
    async fn new(form: Form) -> Self {
        let mut world = World::new().await;
        let registry = Registry::start().await;
        world.bases.push(registry.config());
        let base = registry.push_base(form).await;
        let tenant = tenant("org1");
        let program = noise("program", 400_000);
        let image = (world.build(&tenant, &name("basic"), &base, &program)).await;
        let server = world.serve(any_port()).await;
        Self {
            world,
            server,
            registry,
            base,
            image,
            tenant,
        }
    }

    /// `127.0.0.1:1234`
    fn host(&self) -> String {
        self.server.address.to_string()
    }

    /// As a client names the image.
    fn reference(&self) -> String {
        format!("{}/{}/{}", self.host(), self.tenant, name("basic"))
    }

    /// A client of Go, which trusts the server and keeps its logins in a directory of the test.
    fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("SSL_CERT_FILE", self.world.ca_file())
            .env("DOCKER_CONFIG", self.world.scratch("docker"))
            .env("HOME", self.world.scratch("home"));
        command
    }

    async fn crane(&self, arguments: &[&str]) -> Output {
        let program = crane().await;
        self.client(&program)
            .args(arguments)
            .output()
            .await
            .unwrap()
    }

    async fn log_in(&self, tenant: &Tenant) {
        let token = self.world.token(tenant, 3600);
        let said = self
            .crane(&[
                "auth",
                "login",
                &self.host(),
                "--username",
                tenant.as_str(),
                "--password",
                token.expose_secret(),
            ])
            .await;
        succeeded(&said);
    }
}

/// Built the first time.
async fn crane() -> std::path::PathBuf {
    let found = tokio::task::spawn_blocking(|| Assets::open()?.crane());
    found.await.unwrap().unwrap()
}

fn succeeded(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, failed) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}{failed}");
    said
}

fn failed(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn crane_pulls_and_checks_every_digest_with_a_base_that_is_elsewhere() {
    let case = Case::new(Form::Docker).await;
    case.log_in(&case.tenant).await;
    let reference = case.reference();
    // Reads every blob, and holds it against manifest and configuration.
    succeeded(&case.crane(&["validate", "--remote", &reference]).await);
    let manifest = case.image.manifest.unwrap();
    let digest = succeeded(&case.crane(&["digest", &reference]).await);
    assert_eq!(digest.trim(), manifest.digest.to_string());
    let layout = case.world.scratch("layout");
    let by_digest = format!("{}@{}", reference, manifest.digest);
    let pulled = layout.to_str().unwrap();
    let pull = ["pull", "--format", "oci", &by_digest, pulled];
    succeeded(&case.crane(&pull).await);
    let blob = |digest: &str| {
        layout
            .join("blobs/sha256")
            .join(digest.trim_start_matches("sha256:"))
    };
    let pulled: Value =
        serde_json::from_slice(&std::fs::read(blob(&manifest.digest.to_string())).unwrap())
            .unwrap();
    assert_eq!(pulled["config"]["digest"], case.image.id.to_string());
    let layers = pulled["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 3);
    assert_eq!(
        layers[2]["digest"],
        case.image.layer.blob.digest.to_string()
    );
    for layer in layers {
        let length = blob(layer["digest"].as_str().unwrap())
            .metadata()
            .unwrap()
            .len();
        assert_eq!(layer["size"], length);
    }
    let listed = succeeded(&case.crane(&["catalog", &case.host()]).await);
    assert_eq!(listed.trim(), format!("org1/{}", name("basic")));
    let repository = reference.as_str();
    assert_eq!(
        succeeded(&case.crane(&["ls", repository]).await).trim(),
        "latest"
    );
    assert!(case.world.counters.pull_bytes() > 2 * 3_000_000);
    assert_eq!(case.world.counters.layer_bytes(), 0);
}

#[tokio::test]
async fn a_base_that_is_held_needs_no_registry_and_one_that_is_not_is_named() {
    let mut case = Case::new(Form::Oci).await;
    case.log_in(&case.tenant).await;
    let reference = case.reference();
    let file = case.world.scratch("pulled").join("image.tar");
    let pull = ["pull", &reference, file.to_str().unwrap()];
    case.registry.stop().await;
    let told = failed(&case.crane(&pull).await);
    assert!(told.contains(&case.base), "{told}");
    assert!(told.contains("cannot be read"), "{told}");

    let other = Case::new(Form::Oci).await;
    let base = other.base.parse().unwrap();
    other.world.registries().await.hold(&base).await.unwrap();
    let Case { registry, .. } = &other;
    let gone = registry.host.clone();
    let mut other = other;
    other.registry.stop().await;
    assert!(tokio::net::TcpStream::connect(&gone).await.is_err());
    other.log_in(&other.tenant).await;
    let reference = other.reference();
    let pull = ["pull", &reference, file.to_str().unwrap()];
    succeeded(&other.crane(&pull).await);
    let check = ["validate", "--tarball", file.to_str().unwrap()];
    succeeded(&other.crane(&check).await);
}

#[tokio::test]
async fn a_layer_of_the_base_passes_whole_or_in_part_and_never_damaged_as_a_whole() {
    let mut case = Case::new(Form::Oci).await;
    let person = Person::of(&case.world, &case.tenant);
    let repository = format!("/v2/org1/{}", name("basic"));
    let (_, manifest) = person.get(&format!("{repository}/manifests/latest")).await;
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let path = format!("{repository}/blobs/{digest}");
    let (status, whole) = person.get(&path).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(Digest::of(&whole).to_string(), digest);
    let size = whole.len();
    for (range, part) in [
        ("bytes=0-0".to_owned(), 0..1),
        (
            "bytes=1000000-2999999".to_owned(),
            1_000_000..size.min(3_000_000),
        ),
        ("bytes=1000000-".to_owned(), 1_000_000..size),
        ("bytes=-7".to_owned(), size - 7..size),
        (format!("bytes=0-{size}"), 0..size),
    ] {
        let response = person.part(&path, &range).await;
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        let told = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        assert_eq!(response.headers()["content-range"], told);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert!(bytes == whole[part], "{range}");
    }
    // What is wrong at its end is seen at its end: before the last piece, which does not come then.
    case.registry.damage(&digest);
    let error = broken(&person, &path).await;
    assert!(error.contains("digest"), "{error}");
    case.registry.stop().await;
    let (status, code, told) = person.refused(&path).await;
    assert_eq!((status, &*code), (502, "UNAVAILABLE"));
    assert!(
        told.contains(&case.base) && told.contains("pull again"),
        "{told}"
    );
}

/// Why the body of an answer ended.
async fn broken(person: &Person<'_>, path: &str) -> String {
    let response = person.part(path, "").await;
    assert_eq!(response.status(), StatusCode::OK);
    let error = response.into_body().collect().await.unwrap_err();
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

#[tokio::test]
async fn skopeo_copies_and_is_told_what_it_may_not() {
    let case = Case::new(Form::Docker).await;
    let certificates = case.world.ca_file();
    let certificates = certificates.parent().unwrap();
    let copy = async |reference: &str, user: &str, tenant: &Tenant| {
        let token = case.world.token(tenant, 3600);
        let to = case.world.scratch("copied");
        Command::new("skopeo")
            .args([
                "copy",
                "--insecure-policy",
                "--preserve-digests",
                "--src-cert-dir",
            ])
            .arg(certificates)
            .arg("--src-creds")
            .arg(format!("{user}:{}", token.expose_secret()))
            .arg(format!("docker://{reference}"))
            .arg(format!("dir:{}", to.display()))
            .output()
            .await
            .unwrap()
    };
    let tag = format!("{}:latest", case.reference());
    let digest = case.image.manifest.unwrap().digest;
    let by_digest = format!("{}@{digest}", case.reference());
    for reference in [&tag, &by_digest] {
        succeeded(&copy(reference, "org1", &case.tenant).await);
        let manifest = std::fs::read(case.world.scratch("copied").join("manifest.json")).unwrap();
        assert_eq!(Digest::of(&manifest), digest);
    }
    let other = tenant("org2");
    let told = failed(&copy(&tag, "org2", &other).await);
    assert!(told.contains("images of org2"), "{told}");
    let told = failed(&copy(&tag, "org1", &other).await);
    assert!(
        told.contains("unauthorized") || told.contains("invalid username"),
        "{told}"
    );
}

#[tokio::test]
async fn containerd_pulls_and_unpacks() {
    let case = Case::new(Form::Oci).await;
    let containerd = Containerd::start().await;
    let hosts = containerd.trust(&case.host(), &case.world.ca_file());
    let token = case.world.token(&case.tenant, 3600);
    let login = format!("org1:{}", token.expose_secret());
    let reference = format!("{}:latest", case.reference());
    // `native`: the content of layers is held against the configuration without mounts.
    let pull = [
        "images",
        "pull",
        "--snapshotter",
        "native",
        "--hosts-dir",
        hosts.to_str().unwrap(),
        "--user",
        &login,
        &reference,
    ];
    succeeded(&containerd.ctr(&pull).await);
    let check = ["images", "check", "--snapshotter", "native"];
    let checked = succeeded(&containerd.ctr(&check).await);
    assert!(checked.contains(&reference), "{checked}");
    assert!(checked.contains("complete (4/4)"), "{checked}");
    containerd.stop().await;
}
