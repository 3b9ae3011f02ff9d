//! A pause of this process, in which its threads didn't run, is not held against its peers.

#![cfg(feature = "tokio")]
#![allow(clippy::disallowed_methods, reason = "tests have a clock and threads")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::thread;
use std::time::{Duration, Instant};

use cluster_ipc::Connection;
use cluster_ipc::session::Config;
use cluster_ipc::tokio::Endpoint;

/// The peer has answered in time, and we were away when we should have read it: what lies in the socket is read before a deadline is judged.
#[tokio::test]
async fn an_answer_that_came_during_a_pause_counts() {
    let patience = Duration::from_millis(500);
    let (here, mut there) = Connection::pair(Config::new().handshake_timeout(patience)).unwrap();
    let begin = Instant::now();
    let endpoint = Endpoint::new(here).unwrap();
    // Its task has begun to wait.
    tokio::task::yield_now().await;
    there.read(begin);
    there.flush(begin);
    // The pause itself.
    while begin.elapsed() <= 2 * patience {
        thread::sleep(patience);
    }
    endpoint.opened().await.expect("it was opened in time");
}
