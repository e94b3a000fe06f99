//! What a launch costs beside Kubernetes: the six requests with which a peer launches chaincode, and of their time what the server
//! did not wait for the API server. The server itself counts both (`docs/metrics.md`), so both are of the same requests.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use testbed::engine::{Engine, chaincode_body, gzip, tar};

use super::parts::metrics;

/// Launches that are measured.
const LAUNCHES: usize = 20;

const IMAGE: &str = "bench-launch-image";

/// Milliseconds of Peitho's own in each launch of chaincode over the base image `base`.
pub(super) fn own_times(engine: &Engine, admin: SocketAddr, base: &str) -> Result<Vec<f64>> {
    engine.build_script(IMAGE, base, "#!/bin/sh\nexec sleep 1000\n")?;
    let admin = Engine::new(admin);
    let files = tls_files()?;
    let mut times = Vec::new();
    for number in 0..LAUNCHES {
        let name = format!("bench-launch-{number}");
        let before = own_seconds(&admin)?;
        launch(engine, &name, IMAGE, &files)?;
        times.push((own_seconds(&admin)? - before) * 1000.0);
        engine.order("DELETE", &format!("/containers/{name}?force=1"), &[204])?;
    }
    Ok(times)
}

/// In a peer's order (protocol: stop, kill and removal of what may be there come first).
pub(super) fn launch(engine: &Engine, name: &str, image: &str, files: &[u8]) -> Result<()> {
    let path = format!("/containers/{name}");
    engine.order("POST", &format!("{path}/stop?t=0"), &[404])?;
    engine.order("POST", &format!("{path}/kill?"), &[404])?;
    engine.order("DELETE", &format!("{path}?force=1"), &[404])?;
    engine.create(Some(name), &chaincode_body(image, &format!("{name}:1")))?;
    engine.upload(name, "%2F", files)?;
    engine.order("POST", &format!("{path}/start"), &[204])?;
    Ok(())
}

/// As many and as large as those that a peer of 2.x with TLS puts into a container.
pub(super) fn tls_files() -> Result<Vec<u8>> {
    let names = [
        "client.key",
        "client.crt",
        "client_pem.key",
        "client_pem.crt",
        "peer.crt",
    ];
    let paths = names.map(|name| format!("etc/hyperledger/fabric/{name}"));
    let content = [b'x'; 900];
    let members: Vec<_> = paths
        .iter()
        .map(|path| (path.as_str(), 0o100_644, &content[..]))
        .collect();
    gzip(&tar(&members)?)
}

/// Seconds of all requests so far that were not the platform's.
fn own_seconds(admin: &Engine) -> Result<f64> {
    let text = metrics(admin)?;
    let sum = |metric: &str| {
        let series = text.lines().filter(|line| line.starts_with(metric));
        let values: Option<Vec<f64>> = series
            .map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        let values = values.context("a metric without a value")?;
        ensure!(!values.is_empty(), "there is no {metric}");
        Ok(values.iter().sum::<f64>())
    };
    let whole = sum("peitho_engine_api_request_duration_seconds_sum{")?;
    Ok(whole - sum("peitho_engine_api_platform_seconds_total{")?)
}
