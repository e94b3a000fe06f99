//! What the testbed promises of its cluster and registries, so that a failure of Peitho's tests there is Peitho's.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use testbed::{Assets, Cluster, Leftovers, Registry, Run, wait};

const WEB: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: services, labels: {app: web}}
spec:
  containers:
  - name: web
    image: IMAGE
    command: [sh, -c, 'mkdir /tmp/w && echo served > /tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w']
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: services}
spec: {selector: {app: web}, clusterIP: 10.96.0.80, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: services}
spec:
  restartPolicy: Never
  containers:
  - name: client
    image: IMAGE
    command: [sh, -c, 'until wget -qO- http://10.96.0.80/; do sleep 0.1; done; wget -qO /dev/null http://10.88.0.1:5000/v2/ && echo host']
";

const RESTRICTED: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: restricted, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Pod
metadata: {name: program, namespace: restricted}
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: program
    image: IMAGE
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
";

struct Bed {
    cluster: Cluster,
    registry: Registry,
    run: Run,
    assets: Assets,
}

impl Bed {
    fn start() -> Result<Bed> {
        let assets = Assets::open()?;
        let run = Run::start()?;
        let registry = Registry::start(&assets, &run)?;
        let cluster = Cluster::start(&assets, &run)?;
        testbed::say("cluster is up");
        Ok(Bed {
            cluster,
            registry,
            run,
            assets,
        })
    }
}

fn main() -> ExitCode {
    testbed::reaper::become_reaper_if_asked();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let shared: Arc<OnceLock<Bed>> = Arc::default();
    let trial = |name: &str, case: fn(&Bed) -> Result<()>| {
        let shared = Arc::clone(&shared);
        Trial::test(name, move || {
            let bed = match shared.get() {
                Some(bed) => bed,
                None => {
                    let started = Bed::start().map_err(failed)?;
                    shared.get_or_init(|| started)
                }
            };
            case(bed).map_err(failed)
        })
    };
    let trials = vec![
        trial("a Service answers on the host and in a pod", service),
        trial(
            "a static program runs under the restricted standard",
            restricted,
        ),
        trial(
            "a service account has the rights of its role and no more",
            rights,
        ),
        trial("a registry with a password refuses without it", login),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(Bed {
        cluster,
        registry,
        run,
        ..
    }) = Arc::into_inner(shared).and_then(OnceLock::into_inner)
    {
        drop((cluster, registry));
        if let Err(error) = run.finish() {
            testbed::say(format!("{error:#}"));
            return ExitCode::FAILURE;
        }
        assert_eq!(Leftovers::find(), Vec::<String>::new());
    }
    conclusion.exit_code()
}

fn failed(error: anyhow::Error) -> Failed {
    format!("{error:#}").into()
}

fn service(bed: &Bed) -> Result<()> {
    let image = bed.registry.reference(&bed.assets.images()?.runtime);
    bed.cluster.kubectl(&["create", "namespace", "services"])?;
    bed.cluster
        .kubectl_stdin(&["apply", "-f", "-"], &WEB.replace("IMAGE", &image))?;
    let wait = |pod: &str, condition: &str| {
        let condition = format!("--for={condition}");
        bed.cluster
            .kubectl(&["wait", "-n", "services", pod, &condition, "--timeout=60s"])
    };
    wait("pod/client", "jsonpath={.status.phase}=Succeeded")?;
    let said = bed.cluster.kubectl(&["logs", "-n", "services", "client"])?;
    ensure!(
        said.contains("served") && said.contains("host"),
        "the client said {said:?}"
    );
    let address = "10.96.0.80:80".parse()?;
    wait::until(
        "the Service on the host",
        Duration::from_secs(20),
        None,
        || Ok(std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()),
    )?;
    Ok(())
}

/// The pause program stands for Peitho's: static, in an image of its own.
fn restricted(bed: &Bed) -> Result<()> {
    let layout = bed.assets.images()?;
    let program = bed.assets.kube()?;
    let reference = bed
        .registry
        .push_program(&bed.run, "test/kube:dev", &program)?;
    ensure!(reference.contains("@sha256:"), "no digest in {reference}");
    drop(layout);
    bed.cluster.kubectl_stdin(
        &["apply", "-f", "-"],
        &RESTRICTED.replace("IMAGE", &reference),
    )?;
    // Without an argument the program prints its usage and exits with 2.
    let code = "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}";
    wait::until("the program's end", Duration::from_secs(60), None, || {
        let code =
            bed.cluster
                .kubectl(&["get", "pod", "-n", "restricted", "program", "-o", code])?;
        Ok((code == "2").then_some(()))
    })
}

fn rights(bed: &Bed) -> Result<()> {
    let kubectl = |arguments: &[&str]| bed.cluster.kubectl(arguments);
    kubectl(&["create", "namespace", "limited"])?;
    kubectl(&["create", "serviceaccount", "-n", "limited", "reader"])?;
    kubectl(&[
        "create",
        "role",
        "-n",
        "limited",
        "reader",
        "--verb=list",
        "--resource=pods",
    ])?;
    kubectl(&[
        "create",
        "rolebinding",
        "-n",
        "limited",
        "reader",
        "--role=reader",
        "--serviceaccount=limited:reader",
    ])?;
    let config = bed.cluster.kubeconfig_for("limited", "reader")?;
    let config = config.to_str().context("the path is text")?;
    let as_reader = |namespace: &str, what: &str| {
        kubectl(&["--kubeconfig", config, "get", what, "-n", namespace])
    };
    wait::until("the role to count", Duration::from_secs(20), None, || {
        Ok(as_reader("limited", "pods").ok())
    })?;
    ensure!(
        as_reader("limited", "secrets").is_err(),
        "the account may read secrets"
    );
    ensure!(
        as_reader("default", "pods").is_err(),
        "the account reads another namespace"
    );
    Ok(())
}

fn login(bed: &Bed) -> Result<()> {
    let registry = Registry::start_with_auth(&bed.run, "user", "secret")?;
    let image = bed.assets.images()?.copybuilder;
    registry.push(&image)?;
    ensure!(
        bed.cluster.pull(&registry, &image).is_err(),
        "pulled without a password"
    );
    Ok(())
}
