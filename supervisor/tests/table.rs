//! Walks every (state, input) pair of the table at the head of `src/state.rs`, through the public API.
//!
//! The table is read from the documentation itself, so the two cannot drift apart.

mod common;

use cluster_supervisor::{Action, Exit, Restart, StopSignal, WorkerId};
use common::{SECOND, Stage, policy};

const SOURCE: &str = include_str!("../src/state.rs");

/// What can be told about a worker from outside. It differs between any two states.
#[derive(Debug, PartialEq)]
struct Fingerprint {
    word: Option<&'static str>,
    /// Seconds until its deadline.
    deadline: Option<u64>,
    /// What the answer to its spawn would bring about.
    on_spawned: String,
}

#[test]
fn every_pair_does_what_the_table_says() {
    let rows = rows();
    let (head, states) = rows.split_first().expect("a table");
    let inputs = &head[1..];
    assert_eq!((states.len(), inputs.len()), (9, 11), "the table is complete");

    for row in states {
        let state = row[0].as_str();
        assert_eq!(row.len(), head.len(), "row {state} is complete");
        for (input, cell) in inputs.iter().zip(&row[1..]) {
            let (next, letters) = match cell.split_whitespace().collect::<Vec<_>>()[..] {
                ["-"] => (state, ""),
                [next] => (next, ""),
                [next, letters] => (next, letters),
                _ => panic!("{state} × {input}: cannot read the cell {cell:?}"),
            };
            let (mut stage, id) = in_state(state);
            give(&mut stage, id, input);
            assert_eq!(letters_of(&stage.actions()), letters, "actions of {state} × {input}");
            let (expected, twin) = in_state(next);
            assert_eq!(
                fingerprint(&stage, id),
                fingerprint(&expected, twin),
                "{state} × {input} leads to {next}"
            );
        }
    }
}

#[test]
fn the_fingerprint_tells_all_states_apart() {
    let states: Vec<_> = rows().iter().skip(1).map(|row| row[0].clone()).collect();
    for (at, one) in states.iter().enumerate() {
        for other in &states[at + 1..] {
            let ((stage, id), (twin, same)) = (in_state(one), in_state(other));
            assert_ne!(fingerprint(&stage, id), fingerprint(&twin, same), "{one} and {other}");
        }
    }
}

/// The cells of the table, head first, without the line that separates it.
fn rows() -> Vec<Vec<String>> {
    let lines = SOURCE.lines().filter_map(|line| line.strip_prefix("//! |"));
    let cells =
        |line: &str| line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.filter(|line| !line.starts_with("--")).map(cells).collect()
}

/// A worker in this state, with nothing left to poll.
fn in_state(state: &str) -> (Stage, WorkerId) {
    // Never restarted, so that the slot adds nothing to what the worker does.
    let mut stage = Stage::new(policy().restart(Restart::Never));
    let id = match state {
        "Spawning" | "Recalled" | "Condemned" => stage.spawning(),
        "Starting" => stage.starting(),
        _ => stage.ready(),
    };
    match state {
        "Spawning" | "Starting" | "Ready" => {}
        "Recalled" | "Draining" => stage.supervisor.shutdown(stage.now),
        "Condemned" | "Killed" => stage.supervisor.shutdown_now(stage.now),
        "Terminating" => stage.supervisor.handle_channel_lost(id, stage.now),
        "Gone" => stage.exit(id, Exit::Code(0)),
        _ => panic!("unknown state {state}"),
    }
    stage.look_away();
    (stage, id)
}

fn give(stage: &mut Stage, id: WorkerId, input: &str) {
    let (supervisor, now) = (&mut stage.supervisor, stage.now);
    match input {
        "spawned" => supervisor.handle_spawned(id, now),
        "spawn failed" => supervisor.handle_spawn_failed(id, now),
        "online" => supervisor.handle_online(id, now),
        "ready" => supervisor.handle_ready(id, now),
        "exit" => supervisor.handle_exit(id, Exit::Code(1), now),
        "stop" => supervisor.stop(id, now),
        "kill" => supervisor.shutdown_now(now),
        "leave" => supervisor.handle_leaving(id, now),
        "unhealthy" => supervisor.handle_unhealthy(id, now),
        "channel lost" => supervisor.handle_channel_lost(id, now),
        // To the deadline, or for long where there is none.
        "timeout" => {
            let deadline = supervisor.poll_timeout().unwrap_or(now + 1000 * SECOND);
            stage.jump(deadline - now);
        }
        _ => panic!("unknown input {input}"),
    }
}

fn letters_of(actions: &[Action]) -> String {
    let letter = |action: &Action| match action {
        Action::Spawn(_) => 'S',
        Action::Admit(_) => 'A',
        Action::Withdraw(_) => 'W',
        Action::AskStop(_) => 'Q',
        Action::Signal(_, StopSignal::Term) => 'T',
        Action::Signal(_, StopSignal::Kill) => 'K',
    };
    actions.iter().map(letter).collect()
}

fn fingerprint(stage: &Stage, id: WorkerId) -> Fingerprint {
    let view = stage.supervisor.worker(id);
    let deadline = view.as_ref().and_then(|_| stage.supervisor.poll_timeout());
    let mut future = stage.clone();
    future.supervisor.handle_spawned(id, future.now);
    Fingerprint {
        word: view.map(|view| view.state().as_str()),
        deadline: deadline.map(|deadline| (deadline - stage.now).as_secs()),
        on_spawned: letters_of(&future.actions()),
    }
}
