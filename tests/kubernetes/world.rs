//! What the cases share: the counterparts, and a Peitho on them, started when the first case needs them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use ::peitho::config::{self, BuiltRegistry, ImageMode, Scheme};
use ::peitho::names::InstanceName;
use anyhow::{Result, anyhow, ensure};
use serde_json::Value;
use testbed::peitho::{self, Build, CHAINCODE_NAMESPACE};
use testbed::{Assets, Cluster, Image, Leftovers, Process, Registry, Run, say};

use crate::pods::{Pods, Setting};

/// The only one who may use the closed registry.
pub(crate) const USER: &str = "nodes";
pub(crate) const PASSWORD: &str = "open-sesame-7f3a9c51";

/// The counterparts, and the threads on which the runtime works.
pub(crate) struct World {
    tokio: tokio::runtime::Runtime,
    started: OnceLock<Result<Counterparts, String>>,
}

/// Everything real. Fields end in this order.
pub(crate) struct Counterparts {
    pods: Pods,
    pub(crate) cluster: Cluster,
    pub(crate) registry: Registry,
    pub(crate) closed: Registry,
    pub(crate) build: Build,
    /// With the rights of the committed Role and no others.
    pub(crate) kubeconfig: PathBuf,
    /// The image of the cases, as the node pulls it.
    pub(crate) base: String,
    /// The same, to be pushed elsewhere.
    pub(crate) shell: Image,
    pub(crate) run: Run,
}

impl Default for World {
    fn default() -> Self {
        Self {
            tokio: tokio::runtime::Runtime::new().unwrap(),
            started: OnceLock::new(),
        }
    }
}

impl Counterparts {
    /// The real program as a server of its own, with this `config`; `name` is its log's and its file's.
    pub(crate) fn serve(&self, name: &str, config: &Value) -> Result<Process> {
        let file = self.run.dir().join(format!("{name}.yml"));
        std::fs::write(&file, serde_json::to_string_pretty(config)?)?;
        let mut command = Command::new(&self.build.program);
        command.arg("serve").arg("--config").arg(file);
        Process::spawn(&self.run, name, command)
    }
}

impl World {
    /// The runtime under test.
    pub(crate) fn pods(&self) -> Result<&Pods> {
        self.counterparts().map(|it| &it.pods)
    }

    pub(crate) fn counterparts(&self) -> Result<&Counterparts> {
        let started = self
            .started
            .get_or_init(|| self.start().map_err(|error| format!("{error:#}")));
        match started {
            Ok(counterparts) => Ok(counterparts),
            Err(error) => Err(anyhow!("the counterparts did not start: {error}")),
        }
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.tokio.block_on(future)
    }

    fn start(&self) -> Result<Counterparts> {
        let assets = Assets::open()?;
        peitho::program()?;
        let run = Run::start()?;
        say("starting the registry and Kubernetes");
        let registry = Registry::start(&assets, &run)?;
        let closed = Registry::start_with_auth(&run, USER, PASSWORD)?;
        let cluster = Cluster::start(&assets, &run)?;
        let shell = assets.images()?.runtime_1_4;
        cluster.pull(&registry, &shell)?;
        let build = Build::make(&run, &cluster, &registry)?;
        let kubeconfig = peitho::rights(&cluster)?;
        let base = registry.reference(&shell);
        let setting = Setting {
            kubeconfig: kubeconfig.clone(),
            base: base.clone(),
            images: images(&registry, &closed),
            agent_image: build.image.clone(),
            namespace: CHAINCODE_NAMESPACE.to_owned(),
            requests: config::Quantities::default(),
            template: config::PodTemplate::default(),
            directory: run.data().join("peitho"),
            instance: InstanceName::default(),
            warm: (0, Duration::ZERO),
            port: 0,
        };
        say("starting Peitho");
        let pods = self.block_on(Pods::start(setting))?;
        Ok(Counterparts {
            pods,
            cluster,
            registry,
            closed,
            build,
            kubeconfig,
            base,
            shell,
            run,
        })
    }

    /// The cluster as its administrator sees it.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.pods()?;
        match self.started.get() {
            Some(Ok(counterparts)) => counterparts.cluster.kubectl(arguments),
            _ => Err(anyhow!("the counterparts did not start")),
        }
    }

    /// Every case that passed removed what it made: the instance's own Secret is all there is.
    pub(crate) fn expect_nothing_left(&self) -> Result<()> {
        let Some(Ok(counterparts)) = self.started.get() else {
            return Ok(());
        };
        let left = counterparts.cluster.kubectl(&[
            "get",
            "pods,secrets",
            "--namespace",
            CHAINCODE_NAMESPACE,
            "--selector",
            "app.kubernetes.io/component=chaincode",
            "--output=name",
        ])?;
        ensure!(left.is_empty(), "left in the cluster:\n{left}");
        Ok(())
    }

    /// Ends everything.
    pub(crate) fn end(self) -> Result<()> {
        let Some(Ok(counterparts)) = self.started.into_inner() else {
            return Ok(());
        };
        let Counterparts {
            pods,
            cluster,
            registry,
            closed,
            run,
            ..
        } = counterparts;
        self.tokio.block_on(pods.end());
        drop((cluster, registry, closed));
        run.finish()?;
        let left = Leftovers::find();
        ensure!(left.is_empty(), "left on this machine: {left:#?}");
        Ok(())
    }
}

/// What is built is pushed to `closed`; bases are in `open`.
pub(crate) fn images(open: &Registry, closed: &Registry) -> config::Images {
    config::Images {
        mode: ImageMode::Registry,
        registry: BuiltRegistry {
            address: closed.address().to_string(),
            project: "fabric".to_owned(),
            scheme: Scheme::Http,
            username: Some(USER.to_owned()),
            password: Some(PASSWORD.into()),
            ..BuiltRegistry::default()
        },
        registries: vec![config::Registry {
            host: open.address().to_string(),
            scheme: Scheme::Http,
            ..config::Registry::default()
        }],
        ..config::Images::default()
    }
}
