//! Who decides where connections go: by code and by the environment.
#![allow(clippy::print_stdout, reason = "what a primary of these tests finds is printed")]

use std::process::{Command, Stdio};

use cluster::{Cluster, Event, Mode, Output, Scheduling};

use crate::Running;
use crate::apps;
use crate::parity_app::Facts;
use crate::support::{client, eventually};

/// Names what the code of the primary says.
const CODE: &str = "CLUSTER_TEST_CODE";

/// A primary that prints how its worker's connections come, or why it does not start.
pub(crate) fn primary() {
    let builder =
        Cluster::builder().workers(1).env(apps::VARIABLE, "reporter").args([""; 0]).output(Output::discard());
    let builder = match std::env::var(CODE).unwrap().as_str() {
        "rr" => builder.scheduling(Scheduling::RoundRobin),
        "none" => builder.scheduling(Scheduling::None),
        "shared" => builder.mode(Mode::Shared),
        _ => builder,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let primary = match builder.primary() {
        Ok(primary) => primary,
        Err(error) => return println!("{error}"),
    };
    let (mut events, handle) = (primary.events(), primary.handle());
    runtime.block_on(async {
        let asks = async {
            while let Some(event) = events.recv().await {
                let Event::Serving { addresses, .. } = event else { continue };
                let address = addresses[0].ip().unwrap();
                let answer = tokio::task::spawn_blocking(move || client::get(address, "/").unwrap());
                println!("{}", answer.await.unwrap().body);
                handle.shutdown().await.unwrap();
            }
        };
        let (ended, ()) = tokio::join!(primary.run(), asks);
        ended.unwrap();
    });
}

fn printed(facts: &Facts, variable: Option<&str>, code: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(apps::VARIABLE, "scheduled-primary").env(apps::LEDGER, facts.path()).env(CODE, code);
    command.env_remove("CLUSTER_SCHED_POLICY").stdin(Stdio::null());
    command.envs(variable.map(|value| ("CLUSTER_SCHED_POLICY", value)));
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

pub(crate) fn the_environment_decides_where_the_code_says_nothing() {
    let facts = Facts::new("scheduling");
    for (variable, code, expected) in [
        (None, "", "0.1 Handoff"),
        (Some(""), "", "0.1 Handoff"),
        (Some("rr"), "", "0.1 Handoff"),
        (Some("none"), "", "0.1 Shared"),
        (Some("random"), "", "0.1 Handoff"),
        (None, "none", "0.1 Shared"),
        // Code wins, as in Node, also over what can't be understood.
        (Some("none"), "rr", "0.1 Handoff"),
        (Some("rr"), "shared", "0.1 Shared"),
        (Some("nonsense"), "rr", "0.1 Handoff"),
    ] {
        assert_eq!(printed(&facts, variable, code), expected, "{variable:?} {code}");
    }
    let error = printed(&facts, Some("RR"), "");
    assert!(error.starts_with("CLUSTER_SCHED_POLICY is \"RR\", which is none of rr, none, "), "{error}");
}

pub(crate) fn each_worker_has_its_turn_in_round_robin() {
    let facts = Facts::new("round-robin");
    let mut running = Running::start(facts.builder().workers(2).scheduling(Scheduling::RoundRobin));
    let address = running.wait_serving()[0];
    assert_eq!(running.block_on(running.handle.balancer_status()).unwrap().strategy, "round-robin");
    // A worker that is not let run for a millisecond misses its turn.
    eventually("each to have its turn", || {
        let slots: Vec<_> =
            (0..6).map(|_| client::get(address, "/").unwrap().body.chars().next().unwrap()).collect();
        slots.windows(2).all(|pair| pair[0] != pair[1]).then_some(())
    });
    running.stop();
}
