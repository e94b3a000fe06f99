//! Owns the container registry: one on the bridge's address that host, cluster and dockerd all reach under the same name. Tests
//! push their own images through it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::assets::Assets;
use crate::http;
use crate::images::{Image, Images};
use crate::places::HOST_ADDRESS;
use crate::process::Process;
use crate::program;
use crate::run::Run;

const PORT: u16 = 5000;
const PORT_WITH_LOGIN: u16 = 5001;

/// A running registry, plain HTTP.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    address: SocketAddr,
    login: Option<Login>,
}

/// Who may use a registry.
#[derive(Debug, Clone)]
struct Login {
    user: String,
    password: String,
}

impl Registry {
    /// Starts an open registry with the images of the run in it.
    pub fn start(assets: &Assets, run: &Run) -> Result<Registry> {
        let registry = Self::spawn(run, "registry", PORT, None)?;
        for image in assets.images()?.all() {
            registry.push(image)?;
        }
        Ok(registry)
    }

    /// Starts an empty second registry that asks for a password.
    pub fn start_with_auth(run: &Run, user: &str, password: &str) -> Result<Registry> {
        let login = Login {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        Self::spawn(run, "registry-auth", PORT_WITH_LOGIN, Some(login))
    }

    fn spawn(run: &Run, name: &str, port: u16, login: Option<Login>) -> Result<Registry> {
        let data = run.data().join(name);
        fs::create_dir_all(&data)?;
        let address = SocketAddr::new(HOST_ADDRESS.parse()?, port);
        let auth = match &login {
            None => String::new(),
            Some(login) => {
                let file = run.dir().join(format!("{name}.htpasswd"));
                fs::write(&file, login.htpasswd()?)?;
                let path = file.display();
                format!("auth: {{htpasswd: {{realm: testbed, path: {path}}}}}\n")
            }
        };
        let config = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: false}}, level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '{address}'}}\n{auth}",
            data.display()
        );
        let file = run.dir().join(format!("{name}.yaml"));
        fs::write(&file, config)?;
        let mut command = Assets::command("docker-registry");
        command.arg("serve").arg(&file);
        let process = Process::spawn(run, name, command)?;
        process.wait_until("answers", Duration::from_secs(20), || {
            let asked = http::request("GET", address, "/v2/", Duration::from_secs(2));
            Ok(asked.is_ok_and(|answer| matches!(answer.status, 200 | 401)))
        })?;
        Ok(Registry {
            process,
            address,
            login,
        })
    }

    /// `10.88.0.1:5000`: what stands before the first slash of an image name.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name by which everyone gets the image: with its tag.
    pub fn reference(&self, image: &Image) -> String {
        format!("{}/{}", self.address, image.name())
    }

    /// Uploads an image and returns its name with tag and digest.
    pub fn push(&self, image: &Image) -> Result<String> {
        let reference = self.reference(image);
        let mut command = Assets::command("skopeo");
        command.args(["copy", "--quiet", "--insecure-policy", "--preserve-digests"]);
        command.arg("--dest-tls-verify=false");
        if let Some(login) = &self.login {
            command.arg(format!("--dest-creds={}:{}", login.user, login.password));
        }
        let from = format!("oci:{}", image.layout().display());
        program::output(command.args([from, format!("docker://{reference}")]))
            .with_context(|| format!("cannot push {reference}"))?;
        let index = fs::read_to_string(image.layout().join("index.json"))?;
        let index: Value = serde_json::from_str(&index)?;
        let digest = index["manifests"][0]["digest"].as_str();
        Ok(format!(
            "{reference}@{}",
            digest.context("no digest in the layout")?
        ))
    }

    /// Makes an image of a static program, uploads it, and returns its name with tag and digest.
    pub fn push_program(&self, run: &Run, name: &str, binary: &Path) -> Result<String> {
        let dir = tempfile::tempdir_in(run.data())?;
        self.push(&Images::program(name, binary, dir.path())?)
    }

    /// What a node logs in with: the text of a `.dockerconfigjson`.
    pub fn docker_config(&self) -> Result<String> {
        let Login { user, password } = self.login.as_ref().context("the registry is open")?;
        let login = serde_json::json!({"username": user, "password": password});
        Ok(serde_json::json!({"auths": {(self.address.to_string()): login}}).to_string())
    }

    /// The server itself, to stop it, pause it or read its log.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

impl Login {
    /// The registry takes bcrypt only. The lowest cost there is: the password guards nothing.
    fn htpasswd(&self) -> Result<String> {
        let hash = bcrypt::hash(&self.password, 4).context("cannot hash the password")?;
        Ok(format!("{}:{hash}\n", self.user))
    }
}
