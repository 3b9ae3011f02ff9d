//! What is counted: over all lives, by name, for people and for machines.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::routing::get;
use cluster::supervisor::{Backoff, Policy};
use cluster::{Builder, ClusterStatus, Event, Totals, Worker, WorkerId};
use rustix::process::Signal;

use crate::support::client;
use crate::support::{DEADLINE, eventually, process};
use crate::{QUICK, Running, builder};

/// Counts what it serves.
pub(crate) async fn metered(worker: Worker) {
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    let (counts, says) = (worker.clone(), worker.clone());
    let serve = move || {
        counts.count("served", 1);
        counts.count("served.twice", 2);
        std::future::ready("served")
    };
    let set = move |RawQuery(value): RawQuery| {
        says.gauge("queue length", value.unwrap().parse().unwrap());
        std::future::ready("")
    };
    let app = axum::Router::new()
        .route("/", get(serve))
        .route("/gauge", get(set))
        .route("/error", get(|| std::future::ready((StatusCode::INTERNAL_SERVER_ERROR, "error"))));
    #[cfg(feature = "prometheus")]
    let app = {
        let scraped = worker.clone();
        app.route("/metrics", get(move || crate::prometheus::scrape(scraped.clone())))
    };
    axum::serve(listener, app.layer(worker.layer())).with_graceful_shutdown(worker.draining()).await.unwrap();
}

/// Workers that are restarted at once, as often as it takes.
pub(crate) fn metered_workers() -> Builder {
    let backoff = Backoff::new().base(QUICK).cap(QUICK);
    builder("metered").workers(2).policy(Policy::new().backoff(backoff)).max_restarts(10_000)
}

/// What clients know.
#[derive(Debug, Default)]
struct Clients {
    over: AtomicBool,
    /// Requests they have tried, and those of them that should be answered with an error.
    tried: AtomicU64,
    tried_errors: AtomicU64,
    answered: AtomicU64,
    answered_errors: AtomicU64,
}

impl Clients {
    fn ask_until_over(&self, address: SocketAddr) {
        for nth in 0_u64.. {
            if self.over.load(Ordering::SeqCst) {
                break;
            }
            let is_error = nth.is_multiple_of(7);
            self.tried.fetch_add(1, Ordering::SeqCst);
            self.tried_errors.fetch_add(u64::from(is_error), Ordering::SeqCst);
            // A worker that is killed takes the answers along that it owes.
            if client::get(address, if is_error { "/error" } else { "/" }).is_ok() {
                self.answered.fetch_add(1, Ordering::SeqCst);
                self.answered_errors.fetch_add(u64::from(is_error), Ordering::SeqCst);
            }
        }
    }

    fn load(&self, figure: impl Fn(&Self) -> &AtomicU64) -> u64 {
        figure(self).load(Ordering::SeqCst)
    }
}

/// Everything in a status that must never go back.
fn counted(status: &ClusterStatus) -> BTreeMap<String, u64> {
    let of = |name: &str, totals: &Totals| {
        [
            (format!("{name} created"), totals.created),
            (format!("{name} died"), totals.died),
            (format!("{name} restarted"), totals.restarted),
            (format!("{name} replaced"), totals.replaced),
            (format!("{name} connections"), totals.connections),
            (format!("{name} requests"), totals.requests),
            (format!("{name} errors"), totals.errors),
            (format!("{name} checks"), totals.health_checks),
        ]
    };
    let slots = status.slots.iter().flat_map(|slot| of(&slot.slot.to_string(), &slot.totals));
    let counters = status.counters.iter().map(|(name, value)| (format!("own {name}"), *value));
    of("all", &status.totals).into_iter().chain(slots).chain(counters).collect()
}

/// Looks at the status, which must not have gone back.
fn look(running: &Running, before: &mut BTreeMap<String, u64>) -> ClusterStatus {
    let status = running.status();
    let now = counted(&status);
    for (figure, before) in before.iter() {
        assert!(now[figure] >= *before, "{figure} went back from {before} to {}", now[figure]);
    }
    let slots = status.slots.iter().map(|slot| slot.totals).sum();
    assert_eq!(status.totals, slots, "the cluster's are the sum of the slots'");
    *before = now;
    status
}

/// The same once what the application counted by name has come to this: a name is told a moment after it was first used.
fn look_for(running: &Running, before: &mut BTreeMap<String, u64>, served: u64) -> ClusterStatus {
    eventually("what was served to be known by name", || {
        let status = look(running, before);
        let counter = |name: &str| status.counters.get(name).copied().unwrap_or(0);
        (counter("served") == served && counter("served.twice") == 2 * served).then_some(status)
    })
}

/// Kills a worker, and waits until its successor is ready.
pub(crate) fn kill(running: &mut Running, id: WorkerId) {
    let pid = running
        .status()
        .workers
        .iter()
        .find(|worker| worker.generation == id.generation() && worker.slot == id.slot())
        .and_then(|worker| worker.pid);
    process::signal(pid.expect("it lives"), Signal::KILL);
    running.wait_ready(WorkerId::new(id.slot(), id.generation() + 1));
}

pub(crate) fn totals_never_go_back_though_workers_are_killed_under_load() {
    let mut running = Running::start(metered_workers().sample_every(Duration::from_millis(20)));
    let address = running.wait_serving()[0];
    let clients = Clients::default();
    let mut before = BTreeMap::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| clients.ask_until_over(address))).collect();
        for nth in 0..8_u32 {
            let enough = clients.load(|clients| &clients.answered) + 100;
            eventually("some to be served", || {
                look(&running, &mut before);
                (clients.load(|clients| &clients.answered) >= enough).then_some(())
            });
            kill(&mut running, WorkerId::new(nth % 2, nth / 2 + 1));
        }
        clients.over.store(true, Ordering::SeqCst);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let (tried, answered) =
        (clients.load(|clients| &clients.tried), clients.load(|clients| &clients.answered));
    let (tried_errors, answered_errors) =
        (clients.load(|clients| &clients.tried_errors), clients.load(|clients| &clients.answered_errors));
    // Who began to serve just before the end may not have told its names yet.
    let status = eventually("what was served to be known by name", || {
        let status = look(&running, &mut before);
        let served = *status.counters.get("served")?;
        // A worker may be killed between the two, and its clients ask one by one.
        let twice = (2 * served).saturating_sub(2 * 8)..=2 * served;
        ((answered - answered_errors..=tried - tried_errors).contains(&served)
            && twice.contains(status.counters.get("served.twice")?))
        .then_some(status)
    });
    let totals = status.totals;
    assert_eq!((totals.created, totals.died, totals.restarted), (10, 8, 8));
    assert!(totals.health_checks > 0);
    assert!((answered..=tried).contains(&totals.requests), "{totals:?}, answered {answered} of {tried}");
    assert!(
        (answered_errors..=tried_errors).contains(&totals.errors),
        "{totals:?}, answered {answered_errors} of {tried_errors}"
    );
    assert!((totals.requests_per_worker() - totals.requests as f64 / 10.0).abs() < 0.001);
    running.stop();
}

pub(crate) fn totals_are_what_clients_got_over_all_lives() {
    let mut running = Running::start(metered_workers());
    let address = running.wait_serving()[0];
    let mut before = BTreeMap::new();
    for round in 1..=4_u32 {
        for _ in 0..20 {
            assert_eq!(client::get(address, "/").unwrap().status, 200);
        }
        for _ in 0..3 {
            assert_eq!(client::get(address, "/error").unwrap().status, 500);
        }
        let rounds = u64::from(round);
        let status = look_for(&running, &mut before, 20 * rounds);
        assert_eq!((status.totals.requests, status.totals.errors), (23 * rounds, 3 * rounds));
        assert_eq!(status.totals.connections, 23 * rounds);
        // All that is known of these is over; one leaves by itself, the other doesn't.
        kill(&mut running, WorkerId::new(0, round));
        running.block_on(running.handle.restart(1)).unwrap();
    }
    let status = eventually("the last one to leave", || {
        let status = look(&running, &mut before);
        (status.totals.died == 8).then_some(status)
    });
    assert_eq!(status.totals.requests, 4 * 23);
    assert_eq!((status.totals.created, status.totals.restarted, status.totals.replaced), (10, 4, 4));
    assert!(status.workers.iter().all(|worker| worker.requests == 0), "nobody who lives has counted any");
    assert_eq!(status.slots[0].totals.requests + status.slots[1].totals.requests, 4 * 23);
    // A slot that is not wanted any more keeps what it has counted.
    running.block_on(running.handle.scale(1)).unwrap();
    eventually("one to leave", || (look(&running, &mut before).totals.died == 9).then_some(()));
    assert_eq!(running.status().slots.len(), 2);
    running.stop();
}

pub(crate) fn totals_are_exact_over_rolls_under_load() {
    // Nothing is lost because a busy machine did not let a client run for a second.
    let mut running = Running::start(metered_workers().linger(DEADLINE));
    let address = running.wait_serving()[0];
    let clients = Clients::default();
    let mut before = BTreeMap::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| clients.ask_until_over(address))).collect();
        for _ in 0..3 {
            assert!(running.block_on(running.handle.restart_all()).unwrap().is_complete());
            look(&running, &mut before);
        }
        clients.over.store(true, Ordering::SeqCst);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let served = clients.load(|clients| &clients.answered) - clients.load(|clients| &clients.answered_errors);
    let status = look_for(&running, &mut before, served);
    assert_eq!(
        clients.load(|clients| &clients.tried),
        clients.load(|clients| &clients.answered),
        "none is lost"
    );
    assert_eq!(status.totals.requests, clients.load(|clients| &clients.answered));
    assert_eq!(status.totals.errors, clients.load(|clients| &clients.answered_errors));
    assert_eq!((status.totals.replaced, status.totals.restarted), (6, 0));
    running.stop();
}

pub(crate) fn a_workers_record_says_where_it_is_and_when_it_was_heard_of() {
    let mut running = Running::start(metered_workers().workers(1).sample_every(Duration::from_millis(20)));
    let address = running.wait_serving()[0];
    assert_eq!(client::get(address, "/gauge?2.5").unwrap().status, 200);
    let worker = eventually("it to be heard of and measured", || {
        let worker = running.status().workers.remove(0);
        (worker.heard_ms_ago.is_some() && worker.measured_ms_ago.is_some() && !worker.gauges.is_empty())
            .then_some(worker)
    });
    assert_eq!(worker.addresses, [cluster::Address::Ip(address)]);
    assert_eq!(worker.gauges, BTreeMap::from([("queue length".to_owned(), 2.5)]));
    assert!(worker.memory_bytes.is_some());
    assert!(worker.heard_ms_ago.unwrap() <= worker.uptime_ms);
    assert!(running.status().uptime_ms >= worker.uptime_ms);
    running.stop();
}

pub(crate) fn metrics_and_reports_come_regularly() {
    let (reports, told) = mpsc::channel();
    let report = move |status: &ClusterStatus| drop(reports.send(status.to_string()));
    let every = Duration::from_millis(20);
    let mut running =
        Running::start(metered_workers().metrics_every(every).report_every(every).report_to(report));
    let address = running.wait_serving()[0];
    client::get(address, "/").unwrap();
    let pid = running.status().workers[0].pid.unwrap();
    running.wait_for("metrics that show it", |event| match event {
        Event::Metrics(status) => (status.totals.requests == 1).then_some(()),
        _ => None,
    });
    let report = eventually("a report that shows it", || {
        told.try_recv().ok().filter(|report| {
            report.starts_with("2 workers, 2 ready; up ")
                && report.contains("\nslot  gen")
                && report.contains("; 1 requests (0.5 a worker), 0 errors; ")
                && report.ends_with("\nserved 1, served.twice 2")
        })
    });
    let mut lines = report.lines().skip(2);
    let worker: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(worker[..4], ["0", "1", &pid.to_string(), "ready"], "{report}");
    running.stop();
}

pub(crate) fn the_balancer_shows_who_has_what() {
    let mut running = Running::start(metered_workers().strategy("round-robin"));
    let address = running.wait_serving()[0];
    (0..10).for_each(|_| assert_eq!(client::get(address, "/").unwrap().status, 200));
    let status = running.block_on(running.handle.balancer_status()).unwrap();
    assert_eq!(status.strategy, "round-robin");
    // In the order in which they were admitted.
    let mut keys: Vec<_> = status.members.iter().map(|member| member.key).collect();
    let last = keys[1];
    keys.sort_unstable();
    assert_eq!(keys, [WorkerId::new(0, 1), WorkerId::new(1, 1)]);
    assert_eq!(status.totals.offered, 10);
    // One that was not taken soon is offered to the other as well.
    assert!(status.members.iter().map(|member| member.picked).sum::<u64>() >= 10);
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["members"][1]["key"], serde_json::json!({ "slot": last.slot(), "generation": 1 }));
    let json = serde_json::to_string(&running.status()).unwrap();
    let again: ClusterStatus = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), json);
    running.stop();
}
