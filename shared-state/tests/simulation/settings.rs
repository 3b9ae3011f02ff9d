//! What a schedule is drawn with. Everything else follows from the seed.

use cluster_shared_state::{Limits, PublisherConfig, ReplicaConfig, WatchLimits};
use fastrand::Rng;

pub(crate) const MOST_REPLICAS: usize = 8;
pub(crate) const MOST_STEPS: u32 = 1000;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) replicas: usize,
    pub(crate) steps: u32,
    pub(crate) publisher: PublisherConfig,
    pub(crate) replica: ReplicaConfig,
    /// Messages take up to so many milliseconds.
    pub(crate) delay: u64,
    /// How many messages a transport has room for, at most.
    pub(crate) room: usize,
    /// How many of 1,000 acts are a cut connection, the end of a replica, the end of the primary.
    pub(crate) cuts: u32,
    pub(crate) deaths: u32,
    pub(crate) restarts: u32,
    /// Whether some connections lose a delta in their middle, which no transport should.
    pub(crate) is_lossy: bool,
    /// How many messages of the broadcast can be heard; 0 if there is none.
    pub(crate) air: usize,
    /// Longest burst of writes.
    pub(crate) burst: usize,
}

impl Settings {
    pub(crate) fn draw(rng: &mut Rng, max_replicas: usize, max_steps: u32) -> Self {
        let replicas = [1, 2, 2, 3, 3, 4, 5, MOST_REPLICAS][rng.usize(..8)];
        let steps = [60, 200, 400, MOST_STEPS][rng.usize(..4)];
        let limits = Limits::new()
            .keys(one_of(rng, &[5, 10, 1000]))
            .total_bytes(one_of(rng, &[200, 1 << 20, 1 << 20]))
            .leases(one_of(rng, &[2, 5, 1000]))
            .requests(one_of(rng, &[1, 2, 5, 256]))
            .remembered_bytes(one_of(rng, &[0, 200, 4 << 20]));
        let publisher = PublisherConfig::new()
            .limits(limits)
            .history(one_of(rng, &[0, 1, 4, 20, 1 << 16]), one_of(rng, &[0, 100, 2000, 16 << 20]))
            .queue_bytes(one_of(rng, &[0, 100, 1000, 16 << 20]))
            // With none, a command is refused whenever an answer is unread; with so many, never. In between it
            // cannot be said from outside when.
            .reply_bytes(one_of(rng, &[0, 8 << 20, 8 << 20, 8 << 20]))
            .chunk_bytes(one_of(rng, &[1, 100, 300, 64 << 10]))
            .watch(watch(rng));
        let replica = ReplicaConfig::new().requests(one_of(rng, &[2, 10, 1000])).watch(watch(rng));
        Self {
            replicas: replicas.min(max_replicas),
            steps: steps.min(max_steps),
            publisher,
            replica,
            delay: [1, 5, 20, 100][rng.usize(..4)],
            room: one_of(rng, &[1, 2, 5, 50]),
            cuts: [0, 10, 30, 80][rng.usize(..4)],
            deaths: [0, 5, 20, 40][rng.usize(..4)],
            restarts: [0, 0, 5, 15][rng.usize(..4)],
            is_lossy: rng.u8(..8) == 0,
            air: one_of(rng, &[0, 1, 3, 20, 1 << 16]),
            burst: one_of(rng, &[2, 10, 40]),
        }
    }
}

fn watch(rng: &mut Rng) -> WatchLimits {
    WatchLimits::new().history(one_of(rng, &[0, 3, 20, 4096]), one_of(rng, &[0, 200, 4 << 20, 4 << 20]))
}

fn one_of(rng: &mut Rng, choices: &[usize]) -> usize {
    choices[rng.usize(..choices.len())]
}
