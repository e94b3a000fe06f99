//! Against the registry that Debian packages (`docker-registry`), on a port of its own.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::*;

/// The htpasswd line of `reader` with the password `s3cret`.
const HTPASSWD: &str = "reader:$2y$04$abcdefghijklmnopqrstuuLZYjhNQAOdpbzt4WxWlUHjv1wsyH5DG";

struct Registry {
    host: String,
    directory: tempfile::TempDir,
    _process: Child,
}

impl Registry {
    async fn start(auth: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::write(path.join("htpasswd"), HTPASSWD).unwrap();
        let auth = auth.replace("HTPASSWD", path.join("htpasswd").to_str().unwrap());
        let data = path.join("data");
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n{auth}",
            data.display()
        );
        std::fs::write(path.join("config.yml"), config).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(path.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("docker-registry (Debian's package of that name) is installed");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap().expect("it listens");
            if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
                break rest
                    .chars()
                    .take_while(char::is_ascii_digit)
                    .collect::<String>();
            }
        };
        // Or the registry would stop when the pipe is full.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            host: format!("127.0.0.1:{port}"),
            directory,
            _process: process,
        }
    }

    fn name(&self, rest: &str) -> ImageName {
        format!("{}/{rest}", self.host).parse().unwrap()
    }

    fn config(&self) -> config::Registry {
        config::Registry {
            host: self.host.clone(),
            scheme: Scheme::Http,
            username: None,
            password_file: None,
        }
    }

    fn config_with_login(&self, password: &str) -> config::Registry {
        let file = self.directory.path().join("password");
        let mut written = std::fs::File::create(&file).unwrap();
        writeln!(written, "{password}").unwrap();
        config::Registry {
            username: Some("reader".to_owned()),
            password_file: Some(file),
            ..self.config()
        }
    }

    async fn registries(&self) -> Registries {
        Registries::new(&[self.config()]).await.unwrap()
    }
}

/// Pushes an image without layers and, under `index`, an index that leads to it; gives the manifest's digest.
async fn push(registries: &Registries, image: &ImageName, index: &ImageName) -> Digest {
    let client = &registries.0.client;
    let reference_of_image = reference(image);
    let auth = registries.auth(image);
    client
        .auth(&reference_of_image, &auth, RegistryOperation::Push)
        .await
        .unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"User": "500", "Env": ["PATH=/bin"], "Cmd": ["x"]},
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let config = config.to_string().into_bytes();
    let digest = Digest::of(&config).to_string();
    let size = config.len();
    client
        .push_blob(&reference_of_image, config, &digest)
        .await
        .unwrap();
    let config_type = "application/vnd.oci.image.config.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
        "config": {"mediaType": config_type, "size": size, "digest": digest},
    });
    let pushed = put(registries, image, &manifest).await;
    let entry = json!({
        "mediaType": manifest["mediaType"], "digest": pushed, "size": manifest.to_string().len(),
        "platform": {"os": "linux", "architecture": answer::architecture()},
    });
    let list = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry],
    });
    put(registries, index, &list).await;
    pushed
}

async fn put(registries: &Registries, name: &ImageName, manifest: &Value) -> Digest {
    let bytes = manifest.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    let media_type = manifest["mediaType"].as_str().unwrap().parse().unwrap();
    let client = &registries.0.client;
    client
        .push_manifest_raw(&reference(name), bytes, media_type)
        .await
        .unwrap();
    digest
}

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
    let registry = Registry::start("auth: {htpasswd: {realm: test, path: HTPASSWD}}\n").await;
    let (name, index) = (registry.name("a/b:1"), registry.name("a/b:index"));
    let config = registry.config_with_login("s3cret");
    let registries = Registries::new(&[config]).await.unwrap();
    push(&registries, &name, &index).await;
    found(registries.look_up(&index).await);
    let wrong = registry.config_with_login("wr0ng");
    for config in [registry.config(), wrong] {
        let registries = Registries::new(&[config]).await.unwrap();
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
async fn who_does_not_answer_or_not_as_a_registry_is_unknown() {
    let registry = Registry::start("").await;
    // Plain HTTP where https is spoken by default.
    let registries = Registries::new(&[]).await.unwrap();
    let name = registry.name("a:1");
    assert!(matches!(
        registries.look_up(&name).await,
        Lookup::Unknown(_)
    ));
    let registries = registry.registries().await;
    let Registry { mut _process, .. } = registry;
    _process.kill().await.unwrap();
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
    let registries = Registries::with_timeout(&[], timeout).await.unwrap();
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
    let config = |username: Option<&str>| config::Registry {
        host: "r.example.com".to_owned(),
        scheme: Scheme::Https,
        username: username.map(str::to_owned),
        password_file: Some("/nonexistent/password".into()),
    };
    for (username, said) in [
        (Some("x"), "/nonexistent/password"),
        (None, "belong together"),
    ] {
        let error = Registries::new(&[config(username)]).await.err().unwrap();
        let error = format!("{error:#}");
        assert!(
            error.contains(said) && error.contains("r.example.com"),
            "{error}"
        );
    }
}
