//! What is left of a worker that has ended: what is known of its death, and processes that it started.

use std::time::{Duration, Instant};

use cluster_supervisor::WorkerId;
use cluster_supervisor::os::{Child, Tree};
use tokio::sync::mpsc;

use super::link::Report;
use crate::record::about;

/// How soon a tree that is being killed is looked at again.
const ROUND: Duration = Duration::from_millis(5);

/// For how long those that a worker left behind are chased. What may not be signalled can't be waited for.
const CHASE: Duration = Duration::from_secs(2);

/// A dead worker that has yet to be reaped: until then its process group can't be somebody else's.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(super) child: Child,
    /// `None` if its descendants are to live on.
    pub(super) tree: Option<Tree>,
}

/// What came of whom a worker left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Swept {
    /// How many there were.
    pub(super) found: usize,
    /// How many of them live on.
    pub(super) left: usize,
}

impl Remains {
    /// Kills whoever is left, reaps the child, and reports.
    pub(super) async fn sweep(self, id: WorkerId, reports: mpsc::Sender<Report>) {
        let Self { mut child, tree } = self;
        let pid = child.pid();
        let swept = match tree {
            Some(tree) => chase(id, pid, tree).await,
            None => Swept::default(),
        };
        if let Err(error) = child.try_reap() {
            about!(error, id, pid, %error, "worker {id} could not be reaped");
        }
        // The primary may have ended meanwhile.
        let _ = reports.send(Report::Swept(id, swept)).await;
    }
}

async fn chase(id: WorkerId, pid: u32, mut tree: Tree) -> Swept {
    let give_up = Instant::now() + CHASE;
    let mut swept = Swept::default();
    loop {
        let is_last = Instant::now() >= give_up;
        // In the end as they are: at least nobody is left standing still.
        let act = move || (if is_last { tree.kill_all() } else { tree.kill_round() }, tree);
        // It reads all of `/proc`, which takes milliseconds on a busy machine.
        let Ok((left, returned)) = tokio::task::spawn_blocking(act).await else {
            // The runtime is ending.
            return swept;
        };
        tree = returned;
        match left {
            Ok(left) => {
                swept.found = swept.found.max(left.living());
                swept.left = left.living();
                if left.living() <= left.refused() {
                    return swept;
                }
            }
            Err(error) if is_last => {
                about!(warn, id, pid, %error, "whom worker {id} left behind can't all be seen");
            }
            // At the limit of open files, say. The next round does what was left.
            Err(_) => {}
        }
        if is_last {
            return swept;
        }
        tokio::time::sleep(ROUND).await;
    }
}
