//! Users and passwords for registries: those that the configuration gives to one registry, and for all others those of
//! `images.dockerConfigFile`. That file is read whenever a login is wanted: a Secret that is mounted changes in place, and some
//! registries give out passwords for hours only. Every client of registries asks here, those of runtimes too.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use secrecy::SecretString;
use tokio::io::AsyncReadExt as _;

use super::docker_config::DockerConfig;
use crate::names::ImageName;

/// A Secret has no more (k8s: `MaxSecretSize`).
const LARGEST: u64 = 1 << 20;

/// User and password for a registry.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

/// All logins; clones share them. `Debug` shows none.
#[derive(Clone, Default)]
pub struct Logins(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// By the host that image names carry.
    own: HashMap<String, Login>,
    file: Option<File>,
}

struct File {
    path: PathBuf,
    /// Locked for a look only, never across a read.
    last: Mutex<Last>,
}

/// What is known of the file.
struct Last {
    /// As it was when it could be read.
    config: Arc<DockerConfig>,
    /// The words of the fault that it has now.
    fault: Option<String>,
}

impl Logins {
    /// Those of `own`, by the host that image names carry, and for other hosts those of `file`.
    ///
    /// # Errors
    /// When the file cannot be read, or is none of logins: says which, and what to do.
    pub(super) async fn read(
        own: HashMap<String, Login>,
        file: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let file = match file {
            Some(path) => Some(File::open(path).await?),
            None => None,
        };
        Ok(Self(Arc::new(Inner { own, file })))
    }

    /// These, for tests of what uses them.
    #[cfg(test)]
    pub(crate) fn with(host: &str, username: &str, password: &str) -> Self {
        let login = Login {
            username: username.to_owned(),
            password: password.into(),
        };
        let own = HashMap::from([(host.to_owned(), login)]);
        Self(Arc::new(Inner { own, file: None }))
    }

    /// The login for `image`, as it is now.
    pub async fn of(&self, image: &ImageName) -> Option<Login> {
        if let Some(login) = self.0.own.get(image.registry()) {
            return Some(login.clone());
        }
        let config = self.0.file.as_ref()?.now().await;
        config.of(image).cloned()
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.file.as_ref().map(|file| &file.path);
        f.debug_struct("Logins")
            .field("hosts", &self.0.own.keys())
            .field("file", &file)
            .finish()
    }
}

impl File {
    async fn open(path: &Path) -> anyhow::Result<Self> {
        let config = read(path).await;
        let config =
            config.with_context(|| format!("images.dockerConfigFile {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            last: Mutex::new(Last {
                config: Arc::new(config),
                fault: None,
            }),
        })
    }

    /// What stands there now; while that cannot be used, what stood there before.
    async fn now(&self) -> Arc<DockerConfig> {
        let read = read(&self.path).await;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(config) => {
                last.fault = None;
                last.config = Arc::new(config);
            }
            Err(error) => {
                let fault = format!("{error:#}");
                if last.fault.as_ref() != Some(&fault) {
                    tracing::warn!(
                        file = %self.path.display(), error = fault,
                        "image: the logins of images.dockerConfigFile cannot be read anew; those of before stay"
                    );
                    last.fault = Some(fault);
                }
            }
        }
        Arc::clone(&last.config)
    }
}

async fn read(path: &Path) -> anyhow::Result<DockerConfig> {
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path)
        .await
        .context("cannot be read")?;
    let mut limited = file.take(LARGEST + 1);
    limited
        .read_to_end(&mut bytes)
        .await
        .context("cannot be read")?;
    anyhow::ensure!(bytes.len() as u64 <= LARGEST, "it has more than 1 MiB");
    Ok(DockerConfig::parse(&bytes)?)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[tokio::test]
    async fn the_file_is_read_anew_and_its_faults_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let login = |password: &str| {
            format!(
                r#"{{"auths": {{"r.io": {{"username": "me", "password": "{password}"}}, "own.io": {{"username": "x", "password": "y"}}}}}}"#
            )
        };
        write(&login("hunter1"));
        let own = Logins::with("own.io", "me", "own").0.own.clone();
        let logins = Logins::read(own, Some(&path)).await.unwrap();
        let of = async |name: &str| {
            let login = logins.of(&name.parse().unwrap()).await?;
            Some(login.password.expose_secret().to_owned())
        };
        assert_eq!(of("r.io/a").await.as_deref(), Some("hunter1"));
        assert_eq!(of("own.io/a").await.as_deref(), Some("own"));
        assert_eq!(of("other.io/a").await, None);
        write(&login("hunter2"));
        assert_eq!(of("r.io/a").await.as_deref(), Some("hunter2"));
        for broken in ["{", "{}"] {
            write(broken);
            assert_eq!(of("r.io/a").await.as_deref(), Some("hunter2"));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(of("r.io/a").await.as_deref(), Some("hunter2"));
        // As the kubelet does it: by a link that leads elsewhere.
        let next = directory.path().join("next");
        std::fs::write(&next, login("hunter3")).unwrap();
        std::os::unix::fs::symlink(&next, &path).unwrap();
        assert_eq!(of("r.io/a").await.as_deref(), Some("hunter3"));
        assert!(!format!("{logins:?}").contains("hunter"));
    }

    #[tokio::test]
    async fn a_file_that_is_none_of_logins_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let told = async || {
            let error = Logins::read(HashMap::new(), Some(&path))
                .await
                .err()
                .unwrap();
            let told = format!("{error:#}");
            assert!(told.contains(path.to_str().unwrap()), "{told}");
            told
        };
        assert!(told().await.contains("No such file"));
        std::fs::write(&path, r#"{"auths": {"r.io": {"auth": "aHVudGVyMg"}}}"#).unwrap();
        assert!(
            told()
                .await
                .ends_with(r#"an entry "r.io" whose auth is not the base64 of user:password"#)
        );
        std::fs::write(&path, " ".repeat(2 << 20)).unwrap();
        assert!(told().await.ends_with("it has more than 1 MiB"));
    }
}
