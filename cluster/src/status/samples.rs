//! A status for tests.

use std::collections::BTreeMap;

use cluster_ipc::board::Figures;
use cluster_supervisor::{Counted, Ledger, WorkerId};

use super::{ClusterStatus, SlotStatus, WorkerStatus};
use crate::AcceptStatus;

/// Two slots: a worker with its successor, and one that was given up.
pub(super) fn status() -> ClusterStatus {
    let workers = vec![
        WorkerStatus {
            slot: 0,
            generation: 2,
            pid: Some(4720),
            state: "ready".to_owned(),
            restarts: 1,
            uptime_ms: 70_000,
            addresses: vec!["127.0.0.1:3000".parse().unwrap()],
            heard_ms_ago: Some(100),
            measured_ms_ago: Some(900),
            active: 3,
            taken: 9000,
            requests: 8012,
            errors: 1,
            memory_bytes: Some(43 << 19),
            cpu_permille: Some(310),
            open_files: Some(17),
            lag_us: 120,
            gauges: BTreeMap::from([("queue".to_owned(), 2.5)]),
            ..WorkerStatus::of(&Figures::default())
        },
        WorkerStatus {
            slot: 0,
            generation: 3,
            pid: Some(4799),
            state: "starting".to_owned(),
            restarts: 1,
            ..WorkerStatus::of(&Figures::default())
        },
        WorkerStatus {
            slot: 1,
            state: "gave-up".to_owned(),
            restarts: 10,
            ..WorkerStatus::of(&Figures::default())
        },
    ];
    let mut ledger = ledger();
    (0..400).for_each(|nth| ledger.count_check(nth % 2));
    ClusterStatus {
        primary_pid: 4711,
        uptime_ms: 200_000,
        listening: vec!["127.0.0.1:3000".parse().unwrap(), "unix:/run/app.sock".parse().unwrap()],
        workers,
        totals: ledger.totals(),
        slots: ledger.slots().map(|(slot, totals)| SlotStatus { slot, totals }).collect(),
        counters: BTreeMap::from([("cache\nhits".to_owned(), 7), ("uploads".to_owned(), 12)]),
        accept: AcceptStatus::default(),
        executable: None,
        roll: None,
    }
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new();
    let lives = (1..=3).map(|life| WorkerId::new(0, life)).chain((1..=11).map(|life| WorkerId::new(1, life)));
    for id in lives {
        ledger.begin(id);
        if id != WorkerId::new(0, 2) && id != WorkerId::new(0, 3) {
            ledger.end(id, &Counted::default());
        }
    }
    ledger.observe(WorkerId::new(0, 2), &Counted::new(60_000, 51_200, 4));
    ledger.observe_restarts(0, 1);
    ledger.observe_restarts(1, 10);
    ledger
}
