//! The registry of all metrics (`docs/metrics.md`). It brings what describes the process; each part of Peitho adds
//! its own before the server starts.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// What [`Metrics::encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Those of the process. Uptime counts from here.
    pub fn new() -> Self {
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

    /// Where a part of Peitho registers its own: names begin with `peitho_` and end with the unit, label values are
    /// a closed set, and each has a row in `docs/metrics.md`.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// All of them as they are now, in the OpenMetrics text format.
    ///
    /// # Errors
    /// When a collector fails.
    pub fn encode(&self) -> Result<String, fmt::Error> {
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
