//! The text for Prometheus, scraped from whichever worker answers, and read by a parser that takes nothing but the format.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use cluster::{ClusterStatus, Worker, WorkerId};

use crate::Running;
use crate::metrics::{kill, metered_workers};
use crate::support::{client, eventually};

/// What a worker serves under `/metrics`.
pub(crate) async fn scrape(worker: Worker) -> Response {
    let Ok(status) = worker.status().await else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    ([(CONTENT_TYPE, ClusterStatus::PROMETHEUS_CONTENT_TYPE)], status.to_prometheus()).into_response()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Counter,
    Gauge,
}

/// A text that was read: each series as it is written, with its labels in order, with its type and value.
type Text = BTreeMap<String, (Type, f64)>;

/// Reads a text, or says what is not of the format. A family has one HELP, one TYPE, then its samples.
fn parse(text: &str) -> Result<Text, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it doesn't end with EOF")?;
    let (mut families, mut series) = (BTreeSet::new(), Text::new());
    let mut lines = body.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let wrong = || format!("not at its place: {line}");
        let help = line.strip_suffix('\n').and_then(|line| line.strip_prefix("# HELP ")).ok_or_else(wrong)?;
        let (family, help) = help.split_once(' ').ok_or_else(wrong)?;
        ensure(is_name(family) && !help.is_empty() && !help.contains('\\') && families.insert(family), line)?;
        let line = lines.next().ok_or("no TYPE")?;
        let of_type = match line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            Some((named, "counter\n")) if named == family => Type::Counter,
            Some((named, "gauge\n")) if named == family => Type::Gauge,
            _ => return Err(format!("no TYPE of {family}: {line}")),
        };
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (name, value) = sample(line, family, of_type).ok_or_else(|| format!("no sample: {line}"))?;
            ensure(series.insert(name.to_owned(), (of_type, value)).is_none(), line)?;
        }
    }
    Ok(series)
}

fn ensure(is_right: bool, line: &str) -> Result<(), String> {
    is_right.then_some(()).ok_or_else(|| format!("wrong, or there twice: {line}"))
}

/// The series and its value.
fn sample<'a>(line: &'a str, family: &str, of_type: Type) -> Option<(&'a str, f64)> {
    let (series, value) = line.strip_suffix('\n')?.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, Some(labels.strip_suffix('}')?)),
        None => (series, None),
    };
    let is_right = match of_type {
        Type::Counter => name.strip_suffix("_total") == Some(family),
        Type::Gauge => name == family,
    };
    let mut seen = BTreeSet::new();
    for label in labels.into_iter().flat_map(|labels| labels.split(',')) {
        let (key, value) = label.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        // Ours need no escapes.
        let is_right = is_name(key) && !key.contains(':') && seen.insert(key);
        (is_right && !value.is_empty() && !value.contains(['"', '\\'])).then_some(())?;
    }
    let value: f64 = value.parse().ok()?;
    (is_right && value >= 0.0 && value.is_finite()).then_some((series, value))
}

fn is_name(name: &str) -> bool {
    let is_fit = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | ':');
    !name.is_empty() && !name.starts_with(|char: char| char.is_ascii_digit()) && name.chars().all(is_fit)
}

/// Scrapes whichever worker answers. No counter has gone, or gone back.
fn look(address: SocketAddr, before: &mut Text) -> Text {
    let answer = client::get(address, "/metrics").unwrap();
    assert_eq!(answer.status, 200);
    let now = parse(&answer.body).unwrap();
    for (series, (_, value)) in before.iter().filter(|(_, (of_type, _))| *of_type == Type::Counter) {
        let (_, later) = now.get(series).unwrap_or_else(|| panic!("{series} is gone"));
        assert!(later >= value, "{series} went back from {value} to {later}");
    }
    before.clone_from(&now);
    now
}

fn value(text: &Text, series: &str) -> f64 {
    text.get(series).unwrap_or_else(|| panic!("no {series} in {text:#?}")).1
}

pub(crate) fn any_worker_tells_of_all_and_no_counter_goes_back() {
    let mut running = Running::start(metered_workers().sample_every(Duration::from_millis(20)));
    let address = running.wait_serving()[0];
    let mut before = Text::new();
    for life in 1..=3 {
        for _ in 0..10 {
            assert_eq!(client::get(address, "/").unwrap().status, 200);
            look(address, &mut before);
        }
        eventually("what was served to be known by name", || {
            let text = look(address, &mut before);
            let served = text.get("cluster_count_served_twice_total")?.1;
            (served == f64::from(2 * 10 * life)).then_some(())
        });
        (0..2).for_each(|slot| kill(&mut running, WorkerId::new(slot, life)));
    }
    client::get(address, "/gauge?0.5").unwrap();
    let gauged = |text: &Text| {
        (0..2).find_map(|slot| {
            text.get(&format!("cluster_gauge_queue_length{{slot=\"{slot}\",generation=\"4\"}}")).copied()
        })
    };
    let gauge = eventually("the gauge to be told", || gauged(&look(address, &mut before)));
    assert_eq!(gauge, (Type::Gauge, 0.5));
    let text = eventually("both to be measured", || {
        let text = look(address, &mut before);
        let measured = |slot| {
            let own = |name: &str| format!("{name}{{slot=\"{slot}\",generation=\"4\"}}");
            text.contains_key(&own("cluster_worker_open_files"))
                && text.contains_key(&own("cluster_worker_cpu_cores"))
        };
        (0..2).all(measured).then_some(text)
    });
    assert_eq!(value(&text, "cluster_count_served_total"), 30.0);
    for slot in 0..2 {
        assert_eq!(value(&text, &format!("cluster_workers_created_total{{slot=\"{slot}\"}}")), 4.0);
        assert_eq!(value(&text, &format!("cluster_workers_died_total{{slot=\"{slot}\"}}")), 3.0);
        let own = |name: &str| value(&text, &format!("{name}{{slot=\"{slot}\",generation=\"4\"}}"));
        assert!(own("cluster_worker_open_files") >= 3.0);
        assert!(own("cluster_worker_memory_bytes") > 1e6);
    }
    let dead = text.keys().filter(|series| series.contains("generation=\"3\"")).count();
    assert_eq!(dead, 0, "what was measured of a process ends with it");
    let requests: f64 =
        (0..2).map(|slot| value(&text, &format!("cluster_requests_total{{slot=\"{slot}\"}}"))).sum();
    // The last scrape was answered after it was written.
    assert_eq!(running.status().totals.requests as f64, requests + 1.0);
    running.stop();
}

pub(crate) fn the_parser_is_strict() {
    let good = "# HELP a A.\n# TYPE a counter\na_total{x=\"1\",y=\"2\"} 1\na_total 2.5\n# HELP b B.\n# TYPE b gauge\nb 1e3\n# EOF\n";
    assert_eq!(parse(good).unwrap().len(), 3);
    let bad = [
        "",
        "# EOF",
        "a 1\n# EOF\n",
        "# HELP a A.\n# EOF\n",
        "# HELP a A.\n# TYPE b gauge\n# EOF\n",
        "# HELP a A.\n# TYPE a gauge\na 1\na 1\n# EOF\n",
        "# HELP a A.\n# TYPE a gauge\na{x=1} 1\n# EOF\n",
        "# HELP a A.\n# TYPE a gauge\na{x=\"1\",x=\"2\"} 1\n# EOF\n",
        "# HELP a A.\n# TYPE a gauge\na{} 1\n# EOF\n",
        "# HELP a A.\n# TYPE a gauge\na one\n# EOF\n",
        "# HELP a A.\n# TYPE a counter\na 1\n# EOF\n",
        "# HELP a A.\n# TYPE a counter\na_total -1\n# EOF\n",
        "# HELP 1a A.\n# TYPE 1a gauge\n1a 1\n# EOF\n",
        "# HELP a A.\n# TYPE a gauge\na 1\n# HELP a A.\n# TYPE a gauge\n# EOF\n",
    ];
    for text in bad {
        assert!(parse(text).is_err(), "it was taken: {text}");
    }
}
