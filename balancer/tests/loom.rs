//! Every order in which two threads can pick and release, by loom: `RUSTFLAGS="--cfg loom" cargo test --release -p
//! cluster-balancer --test loom`.

#![cfg(loom)]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use cluster_balancer::{LeastLoaded, Limits, SharedPool};
use loom::thread;

#[test]
fn two_threads_lose_no_counts() {
    loom::model(|| {
        let pool = SharedPool::new(LeastLoaded::new());
        pool.add(0, Limits::new());
        pool.add(1, Limits::new());
        let other = pool.clone();
        let thread = thread::spawn(move || {
            let first = other.pick().unwrap();
            let second = other.pick().unwrap();
            drop(first);
            second
        });
        drop(pool.pick().unwrap());
        let left = thread.join().unwrap();
        let sum: u32 = pool.status().members.iter().map(|member| member.outstanding).sum();
        assert_eq!(sum, 1, "one is left");
        drop(left);
        assert!(pool.status().members.iter().all(|member| member.outstanding == 0));
    });
}

#[test]
fn a_guard_outlives_its_member_and_leaves_the_successor_alone() {
    loom::model(|| {
        let pool = SharedPool::new(LeastLoaded::new());
        let id = pool.add("anna", Limits::new());
        let guard = pool.pick().unwrap();
        let other = pool.clone();
        let thread = thread::spawn(move || drop(guard));
        pool.remove(id);
        pool.add("anna", Limits::new());
        let own = pool.pick().unwrap();
        thread.join().unwrap();
        assert_eq!(other.status().members[0].outstanding, 1);
        drop(own);
        assert_eq!(other.status().members[0].outstanding, 0);
    });
}
