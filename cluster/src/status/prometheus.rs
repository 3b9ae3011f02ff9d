//! The status as text for Prometheus (feature `prometheus`).
//!
//! Counters are those of the slots, over all lives: they don't go back when a worker is replaced. What is a matter of one process carries
//! its generation too, so that a series ends with its process.

use std::collections::BTreeMap;
use std::fmt;

use cluster_supervisor::Totals;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{AcceptStatus, ClusterStatus, WorkerStatus};

/// A metric: its name, what is said of it, and where it is found.
type Figure<T, V> = (&'static str, &'static str, fn(&T) -> V);

/// What is counted in each slot.
const OF_SLOTS: [Figure<Totals, u64>; 8] = [
    ("cluster_workers_created", "Workers that were started", |totals| totals.created),
    ("cluster_workers_died", "Workers that have ended", |totals| totals.died),
    ("cluster_workers_restarted", "Restarts after an end that nobody had asked for", |totals| {
        totals.restarted
    }),
    ("cluster_workers_replaced", "Workers that were replaced while they lived", |totals| totals.replaced),
    ("cluster_connections", "Connections that applications have taken", |totals| totals.connections),
    ("cluster_requests", "Requests answered", |totals| totals.requests),
    ("cluster_request_errors", "Requests answered with a server error", |totals| totals.errors),
    ("cluster_health_checks", "How often workers were measured", |totals| totals.health_checks),
];

/// What the primary counts when it accepts for workers.
const OF_ACCEPTING: [Figure<AcceptStatus, u64>; 7] = [
    ("cluster_accept_attempts", "How often the kernel was asked for a connection", |accept| accept.attempts),
    ("cluster_accept_accepted", "Connections accepted by the primary", |accept| accept.accepted),
    ("cluster_accept_handed", "Connections handed to a worker", |accept| accept.handed),
    ("cluster_accept_recalled", "Connections claimed back from a worker", |accept| accept.recalled),
    ("cluster_accept_refused", "Connections that a worker gave back", |accept| accept.refused),
    ("cluster_accept_backoffs", "How often accepting paused for want of resources", |accept| accept.backoffs),
    ("cluster_accept_rejected", "Connections closed at a limit", |accept| accept.rejected),
];

/// What is measured of each process.
const OF_WORKERS: [Figure<WorkerStatus, Option<f64>>; 6] = [
    ("cluster_worker_memory_bytes", "Resident memory", |worker| Some(worker.memory_bytes? as f64)),
    ("cluster_worker_cpu_cores", "Cores used lately", |worker| {
        Some(f64::from(worker.cpu_permille?) / 1000.0)
    }),
    ("cluster_worker_open_files", "Open descriptors", |worker| Some(worker.open_files? as f64)),
    ("cluster_worker_active_connections", "Connections in the application's hands", |worker| {
        Some(worker.active as f64)
    }),
    ("cluster_worker_lag_seconds", "How late the loop ran at its last beat", |worker| {
        Some(worker.lag_us as f64 / 1e6)
    }),
    ("cluster_worker_uptime_seconds", "Age of the process", |worker| Some(worker.uptime_ms as f64 / 1e3)),
];

impl ClusterStatus {
    /// The type of [`to_prometheus`](Self::to_prometheus)'s text, for the header `Content-Type`.
    pub const PROMETHEUS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// The status as text for Prometheus (OpenMetrics 1.0).
    ///
    /// It is that of the whole cluster, and any worker can [ask for it](crate::Worker::status): so whichever serves the scrape answers for
    /// all. Counters are labelled by slot and don't go back when a worker is replaced; what is measured of a process is labelled by slot and generation.
    /// What the application [counts](crate::Worker::count) is `cluster_count_NAME_total`, summed up over all workers, and what it
    /// [reports](crate::Worker::gauge) is `cluster_gauge_NAME`, for each worker. In names each character but ASCII letters and digits
    /// becomes `_`, and a counter's `_total` at the end is not repeated; counters whose names are the same then are added up, and of such gauges one
    /// is shown.
    ///
    /// ```no_run
    /// use axum::http::{StatusCode, header::CONTENT_TYPE};
    /// use axum::response::IntoResponse;
    /// use axum::routing::get;
    /// use cluster::{ClusterStatus, Worker};
    ///
    /// fn app(worker: Worker) -> axum::Router {
    ///     let layer = worker.layer();
    ///     let metrics = || async move {
    ///         let Ok(status) = worker.status().await else {
    ///             return StatusCode::SERVICE_UNAVAILABLE.into_response();
    ///         };
    ///         let header = [(CONTENT_TYPE, ClusterStatus::PROMETHEUS_CONTENT_TYPE)];
    ///         (header, status.to_prometheus()).into_response()
    ///     };
    ///     axum::Router::new().route("/metrics", get(metrics)).layer(layer)
    /// }
    /// # let _ = app;
    /// ```
    pub fn to_prometheus(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Snapshot(self.clone())));
        let mut text = String::new();
        // A string takes whatever is written, and nothing else can fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }
}

#[derive(Debug)]
struct Snapshot(ClusterStatus);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (Self(status), encoder) = (self, &mut encoder);
        let uptime = encoder.encode_descriptor(
            "cluster_uptime_seconds",
            "Age of the cluster",
            None,
            MetricType::Gauge,
        );
        uptime?.encode_gauge(&(status.uptime_ms as f64 / 1e3))?;
        let states = states(status);
        let states = states.iter().map(|(state, count)| ([("state", (*state).to_owned())], *count));
        gauges(encoder, "cluster_workers", "Workers, and slots without one, by state", states)?;
        for (name, help, figure) in OF_SLOTS {
            let slots = status.slots.iter();
            counters(encoder, name, help, slots.map(|slot| (label(slot.slot), figure(&slot.totals))))?;
        }
        for (name, help, figure) in OF_ACCEPTING {
            counter(encoder, name, help, figure(&status.accept))?;
        }
        let processes = || status.workers.iter().filter(|worker| worker.pid.is_some());
        for (name, help, figure) in OF_WORKERS {
            let known = processes().filter_map(|worker| Some((labels(worker), figure(worker)?)));
            gauges(encoder, name, help, known)?;
        }
        for (name, sum) in own_counters(status) {
            counter(encoder, &name, "A counter of the application", sum)?;
        }
        for (name, values) in own_gauges(status) {
            gauges(encoder, &name, "A gauge of the application", values)?;
        }
        Ok(())
    }
}

fn label(slot: u32) -> [(&'static str, String); 1] {
    [("slot", slot.to_string())]
}

fn labels(worker: &WorkerStatus) -> [(&'static str, String); 2] {
    [("slot", worker.slot.to_string()), ("generation", worker.generation.to_string())]
}

fn states(status: &ClusterStatus) -> BTreeMap<&str, f64> {
    let mut states = BTreeMap::new();
    for worker in &status.workers {
        *states.entry(worker.state.as_str()).or_default() += 1.0;
    }
    states
}

fn own_counters(status: &ClusterStatus) -> BTreeMap<String, u64> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for (name, value) in &status.counters {
        let name = sanitized(name);
        let sum = sums.entry(format!("cluster_count_{}", name.trim_end_matches("_total"))).or_default();
        *sum = sum.saturating_add(*value);
    }
    sums
}

type Values = Vec<([(&'static str, String); 2], f64)>;

fn own_gauges(status: &ClusterStatus) -> BTreeMap<String, Values> {
    let mut gauges: BTreeMap<String, Values> = BTreeMap::new();
    for worker in status.workers.iter().filter(|worker| worker.pid.is_some()) {
        let labels = labels(worker);
        for (name, value) in &worker.gauges {
            let values = gauges.entry(format!("cluster_gauge_{}", sanitized(name))).or_default();
            if values.last().is_none_or(|(last, _)| *last != labels) {
                values.push((labels.clone(), *value));
            }
        }
    }
    gauges
}

/// A name in the characters that a metric's may have. It begins with others.
fn sanitized(name: &str) -> String {
    name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect()
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn counters<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (L, u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    Ok(())
}

fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (L, f64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        metric.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn names_are_made_fit_and_those_that_meet_are_added_up() {
        let mut status = samples::status();
        status.counters = [("a.b", 1), ("a_b", 2), ("a-b_total", 4), ("", 8), ("é", 16)]
            .map(|(name, n)| (name.to_owned(), n))
            .into();
        status.workers[0].gauges = [("a.b", 1.5), ("a_b", 2.5)].map(|(name, n)| (name.to_owned(), n)).into();
        let text = status.to_prometheus();
        let own: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("cluster_count_") || line.starts_with("cluster_gauge_"))
            .collect();
        let expected = [
            "cluster_count__total 8",
            "cluster_count___total 16",
            "cluster_count_a_b_total 7",
            "cluster_gauge_a_b{slot=\"0\",generation=\"2\"} 1.5",
        ];
        assert_eq!(own, expected);
    }

    #[test]
    fn figures_that_are_not_known_are_not_shown() {
        let text = samples::status().to_prometheus();
        let memory: Vec<_> =
            text.lines().filter(|line| line.starts_with("cluster_worker_memory_bytes")).collect();
        assert_eq!(memory, ["cluster_worker_memory_bytes{slot=\"0\",generation=\"2\"} 22544384.0"]);
        assert!(
            text.contains(
                "\ncluster_requests_total{slot=\"0\"} 51200\ncluster_requests_total{slot=\"1\"} 0\n"
            ),
            "{text}"
        );
        assert!(text.contains("\ncluster_workers{state=\"gave-up\"} 1.0\n"), "{text}");
        assert!(text.ends_with("\n# EOF\n"));
    }
}
