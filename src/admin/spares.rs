//! What there is to count of pods that are made ahead of need: read at each scrape.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::runtime::{SpareCounts, Spares};

/// The pods of this process.
#[derive(Debug)]
pub(super) struct Ahead(pub(super) Spares);

impl Collector for Ahead {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let SpareCounts {
            waiting,
            taken,
            missed,
        } = self.0.counts();
        let waiting = ConstGauge::new(u32::try_from(waiting).unwrap_or(u32::MAX));
        waiting.encode(encoder.encode_descriptor(
            "compile_warm_pods",
            "Pods made ahead of need that wait for a compile",
            None,
            MetricType::Gauge,
        )?)?;
        for (name, help, value) in [
            (
                "compile_warm_pods_taken",
                "Compiles whose agent waited in a pod made ahead of need",
                taken,
            ),
            (
                "compile_warm_pods_missed",
                "Compiles that could have had one and had a pod of their own",
                missed,
            ),
        ] {
            let counter = ConstCounter::new(value);
            let kind = MetricType::Counter;
            counter.encode(encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        Ok(())
    }
}
