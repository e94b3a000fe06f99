//! The registry of all metrics (`docs/metrics.md`). It brings what describes the process; each part of Peitho adds
//! its own before the server starts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::spares::Ahead;
use crate::compile::Parts;
use crate::delivery::Counters;
use crate::engine_api::metrics::Requests;
use crate::listener::tls::Expiry;
use crate::runtime::Spares;

/// What [`Metrics::encode`] writes.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Those of the process. Uptime counts from here.
    pub(super) fn new() -> Self {
        let mut registry = Registry::default();
        registry.register(
            "peitho_build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let began = Gauge::<f64, AtomicU64>::default();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        began.set(since_epoch.unwrap_or(Duration::ZERO).as_secs_f64());
        registry.register_with_unit(
            "process_start_time",
            "When the process began, since the Unix epoch",
            Unit::Seconds,
            began,
        );
        registry.register_collector(Box::new(Process {
            began: Instant::now(),
        }));
        Self { registry }
    }

    /// And those of the two listeners and of compiles: names begin with `peitho_` and end with the unit, label values are a closed
    /// set, and each has a row in `docs/metrics.md`.
    pub(super) fn add(
        &mut self,
        requests: &Requests,
        counters: Arc<Counters>,
        parts: &Parts,
        expiry: Option<Expiry>,
    ) {
        let registry = self.registry.sub_registry_with_prefix("peitho");
        requests.register(registry);
        parts.register(registry);
        if let Some(expiry) = expiry {
            expiry.register(registry);
        }
        registry.register_collector(Box::new(Delivered(counters)));
    }

    /// And those of pods that are made ahead of need.
    pub(super) fn add_spares(&mut self, spares: Spares) {
        let registry = self.registry.sub_registry_with_prefix("peitho");
        registry.register_collector(Box::new(Ahead(spares)));
    }

    /// All of them as they are now, in the OpenMetrics text format.
    ///
    /// # Errors
    /// When a collector fails.
    pub(super) fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// What is read at each scrape.
#[derive(Debug)]
struct Process {
    began: Instant,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let uptime = ConstGauge::new(self.began.elapsed().as_secs_f64());
        uptime.encode(encoder.encode_descriptor(
            "peitho_uptime",
            "How long the server has been running",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?)?;
        // A read of /proc touches no disk: it may stand on the async runtime.
        if let Some(bytes) = resident_bytes() {
            let resident = ConstGauge::new(bytes);
            resident.encode(encoder.encode_descriptor(
                "process_resident_memory",
                "Resident memory of the process",
                Some(&Unit::Bytes),
                MetricType::Gauge,
            )?)?;
        }
        Ok(())
    }
}

/// What the delivery listener has counted.
#[derive(Debug)]
struct Delivered(Arc<Counters>);

impl Collector for Delivered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counters = &self.0;
        for (name, help, unit, value) in [
            (
                "layers",
                "Downloads of layers that were begun",
                None,
                counters.layers(),
            ),
            (
                "layer",
                "Layers sent to pods",
                Some(Unit::Bytes),
                counters.layer_bytes(),
            ),
            (
                "pulls",
                "Downloads of parts of images that were begun by people's clients",
                None,
                counters.pulls(),
            ),
            (
                "pull",
                "Parts of images sent to people's clients",
                Some(Unit::Bytes),
                counters.pull_bytes(),
            ),
            (
                "inputs",
                "Downloads of compile inputs that were begun",
                None,
                counters.inputs(),
            ),
            (
                "input",
                "Compile inputs sent to pods",
                Some(Unit::Bytes),
                counters.input_bytes(),
            ),
            (
                "log",
                "Compile logs received, repetitions included",
                Some(Unit::Bytes),
                counters.log_bytes(),
            ),
            (
                "output",
                "Compile outputs received, repetitions included",
                Some(Unit::Bytes),
                counters.output_bytes(),
            ),
            (
                "cache",
                "Compilers' caches sent to pods",
                Some(Unit::Bytes),
                counters.cache_bytes(),
            ),
            (
                "cache_gained",
                "What compilers' caches gained, as received",
                Some(Unit::Bytes),
                counters.gained_bytes(),
            ),
        ] {
            let name = format!("delivery_{name}");
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                &name,
                help,
                unit.as_ref(),
                MetricType::Counter,
            )?)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, name: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .trim()
            .parse()
            .unwrap()
    }

    #[test]
    fn the_process_describes_itself() {
        let text = Metrics::new().encode().unwrap();
        assert!(value(&text, "process_resident_memory_bytes ") > 100_000.0);
        assert!(value(&text, "process_start_time_seconds ") > 1.7e9);
        assert!(value(&text, "peitho_uptime_seconds ") >= 0.0);
    }
}
