//! Records in the log that are about a worker say which.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use axum::routing::get;
use cluster::supervisor::{Event as Life, Policy};
use cluster::{Cluster, Event, Output, Worker, WorkerId};
use rustix::process::Signal;
use tracing::Instrument;

use crate::support::{client, eventually, process};
use crate::{Running, apps, builder};

/// Writes all records to stdout, in the order in which they are made.
fn write_records() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(std::io::stdout)
        .init();
}

/// Has something to say wherever it can.
pub(crate) async fn traced(worker: Worker) {
    write_records();
    let listener = worker.listen("127.0.0.1:0").await.unwrap();
    let handle = || async {
        tracing::info!("a handler begins");
        tokio::task::yield_now().await;
        tracing::info!("a handler ends");
    };
    let app = axum::Router::new().route("/", get(handle)).layer(worker.layer());
    tokio::spawn(async { tracing::info!("a task") }.instrument(worker.span())).await.unwrap();
    let serve = async {
        tracing::info!("the server");
        axum::serve(listener, app).with_graceful_shutdown(worker.draining()).await.unwrap();
    };
    serve.instrument(worker.span()).await;
}

pub(crate) fn records_of_workers_say_which_they_are() {
    let (lines, printed) = std::sync::mpsc::channel();
    let output = Output::lines(move |line: cluster::Line<'_>| drop(lines.send(line.to_text().into_owned())));
    let mut running = Running::start(builder("traced").workers(1).output(output));
    let address = running.wait_serving()[0];
    let pid = running.status().workers[0].pid.unwrap();
    assert_eq!(client::get(address, "/").unwrap().status, 200);
    let fields = format!("worker{{slot=0 generation=1 pid={pid}}}: ");
    for record in ["a task", "the server", "a handler begins", "a handler ends"] {
        let line = eventually("a record", || printed.try_recv().ok().filter(|line| line.ends_with(record)));
        assert_eq!(line.matches(&fields).count(), 1, "once: {line}");
    }
    running.stop();
    // What the crate itself says in a worker.
    let own: Vec<String> =
        printed.into_iter().filter(|line| line.contains("the control channel has ended")).collect();
    assert!(own.iter().all(|line| line.contains(&fields)), "{own:?}");
}

/// A primary whose workers fare in many ways.
pub(crate) fn traced_primary() {
    write_records();
    let mut running = Running::start(
        Cluster::builder()
            .env(apps::VARIABLE, "third-time-unlucky")
            .args([""; 0])
            .workers(2)
            .handle_signals(false)
            .policy(Policy::new()),
    );
    let address = running.wait_serving()[0];
    client::get(address, "/").unwrap();
    let pid = running.status().workers[0].pid.unwrap();
    process::signal(pid, Signal::KILL);
    running.wait_ready(WorkerId::new(0, 2));
    // The third life of slot 0 is unlucky.
    assert!(running.block_on(running.handle.restart(0)).is_err());
    running.block_on(running.handle.restart(1)).unwrap();
    running.wait_for("its predecessor to leave", |event| match event {
        Event::Lifecycle { event: Life::Exited { id, .. }, .. } => (*id == WorkerId::new(1, 1)).then_some(()),
        _ => None,
    });
    running.stop();
}

pub(crate) fn records_of_a_primary_say_which_worker_they_are_about() {
    let mut primary = Command::new(std::env::current_exe().unwrap())
        .env(apps::VARIABLE, "traced-primary")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> =
        BufReader::new(primary.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(primary.wait().unwrap().success(), "{lines:#?}");
    let mut about_workers = 0;
    for line in lines.iter().filter(|line| line.contains(" cluster::")) {
        let Some((slot, generation)) = named(line) else { continue };
        about_workers += 1;
        assert!(line.contains(&format!(" slot={slot} generation={generation}")), "{line}");
        assert!(line.contains(" pid="), "{line}");
    }
    assert!(about_workers > 10, "{lines:#?}");
}

/// The worker that a line is about: `… worker 0.1 …`.
fn named(line: &str) -> Option<(u32, u32)> {
    let name = line.split("worker ").nth(1)?.split([' ', ':', ',']).next()?;
    let (slot, generation) = name.split_once('.')?;
    Some((slot.parse().ok()?, generation.parse().ok()?))
}
