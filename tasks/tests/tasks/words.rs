//! Workers that say what they like.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use cluster_ipc::events::Event;
use cluster_ipc::switch::{Letters, To};
use cluster_tasks::{TaskError, TaskPolicy};
use serde::{Deserialize, Serialize};

use crate::team::{Member, Rare, Team, end, within};

/// A task, between the pool and who has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Task {
    pool: u32,
    number: u64,
}

/// To the pool, as it is on the wire.
#[derive(Serialize, Deserialize)]
#[allow(dead_code, reason = "their places count")]
pub(crate) enum ToPool {
    Submit { number: u64, name: String, body: Bytes, within: Option<Duration>, key: Option<u64> },
    Revoke(u64),
    Serve(String, u16),
    Retire(String),
    Taken(Task),
    Refused(Task),
    Progress(Task, Bytes),
    Finished(Task, Result<Bytes, String>),
}
impl Event for ToPool {
    const NAME: &'static str = "cluster.tasks.pool";
}

/// From the pool.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToParty {
    Give(Task, String, Bytes),
    Recall(Task),
    Cancel(Task),
    Progress(u64, Bytes),
    Ended(u64, Verdict),
}
impl Event for ToParty {
    const NAME: &'static str = "cluster.tasks.party";
}

#[derive(Debug, Serialize, Deserialize)]
#[allow(dead_code, reason = "their places count")]
pub(crate) enum Verdict {
    Done(Result<Bytes, String>),
    Full,
    NoWorker,
    Lost,
    Cancelled { may_have_begun: bool },
    TimedOut { may_have_begun: bool },
    NotTaken,
    Overloaded { kept: u64, most: u64 },
}

/// A worker without our means.
pub(crate) struct Words {
    pub(crate) member: Member,
    heard: Letters<ToParty, u32>,
}

impl Words {
    pub(crate) fn new(member: Member) -> Self {
        let heard = member.port.stream();
        Self { member, heard }
    }

    /// Returns when that is in the socket.
    pub(crate) async fn say(&mut self, word: ToPool) {
        within(self.member.port.send(To::Primary, &word)).await.unwrap();
        within(self.member.port.flush()).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> ToParty {
        within(self.heard.recv()).await.unwrap().message
    }

    /// What it is given next.
    pub(crate) async fn given(&mut self) -> Task {
        loop {
            if let ToParty::Give(task, ..) = self.hear().await {
                return task;
            }
        }
    }

    /// The next of its own tasks that has ended.
    pub(crate) async fn told(&mut self) -> (u64, Verdict) {
        loop {
            if let ToParty::Ended(number, verdict) = self.hear().await {
                return (number, verdict);
            }
        }
    }

    /// What it is asked for next.
    pub(crate) async fn recalled(&mut self) -> Task {
        loop {
            if let ToParty::Recall(task) = self.hear().await {
                return task;
            }
        }
    }
}

pub(crate) fn order(number: u64, name: impl Into<String>, body: usize) -> ToPool {
    ToPool::Submit { number, name: name.into(), body: vec![0; body].into(), within: None, key: None }
}

#[tokio::test]
async fn a_worker_may_have_submitted_so_many_tasks_whatever_it_sends() {
    let team = Team::new(TaskPolicy::new());
    let mut words = Words::new(team.join(0, 0));
    for number in 0..2_000 {
        words.say(order(number, format!("name {}", number % 10), 1)).await;
    }
    for number in 1024..2_000 {
        let refused = words.hear().await;
        assert!(matches!(refused, ToParty::Ended(of, Verdict::Full) if of == number), "{refused:?}");
    }
    // A number that it has already is no other task.
    words.say(order(3, "name 3", 1)).await;
    assert!(matches!(words.hear().await, ToParty::Ended(3, Verdict::Full)));
}

#[tokio::test]
async fn there_are_only_so_many_names_and_they_are_not_long() {
    let team = Team::new(TaskPolicy::new());
    let mut words = Words::new(team.join(0, 0));
    words.say(order(0, "x".repeat(5_000), 1)).await;
    assert!(matches!(words.hear().await, ToParty::Ended(0, Verdict::Full)));
    for name in 0..1024 {
        words.say(ToPool::Serve(format!("name {name}"), 1)).await;
    }
    words.say(order(1, "one more", 1)).await;
    assert!(matches!(words.hear().await, ToParty::Ended(1, Verdict::Full)));
    words.say(order(2, "name 1023", 1)).await;
    words.given().await;
}

#[tokio::test]
async fn names_are_given_back_when_nobody_uses_them() {
    let team = Team::new(TaskPolicy::new());
    let mut words = Words::new(team.join(0, 0));
    for number in 1..=1100 {
        let name = format!("name {number}");
        words.say(ToPool::Serve(name.clone(), 1)).await;
        words.say(order(number, name.clone(), 1)).await;
        let task = words.given().await;
        words.say(ToPool::Taken(task)).await;
        // What it has begun it may finish afterwards.
        words.say(ToPool::Retire(name)).await;
        words.say(ToPool::Finished(task, Ok(Bytes::new()))).await;
        let told = words.hear().await;
        assert!(
            matches!(told, ToParty::Ended(of, Verdict::Done(Ok(_))) if of == number),
            "{number}: {told:?}"
        );
    }
}

/// Larger than a task may be, and not too large for a message.
const LARGE: usize = 33 << 20;

#[tokio::test]
async fn a_task_too_large_to_be_given_harms_nobody() {
    let team = Team::new(TaskPolicy::new());
    let other = team.join(1, 1);
    tokio::spawn(async move { other.desk.run(1, async |_: Rare, _| Ok(7), pending()).await });
    assert_eq!(end(team.tasks().submit(&Rare(Vec::new())).start()).await, Ok(7));
    let mut words = Words::new(team.join(0, 0));
    // On a busy machine writing so much may take this thread longer than a handshake may.
    words.say(order(0, "x".repeat(5_000), 1)).await;
    assert!(matches!(words.hear().await, ToParty::Ended(0, Verdict::Full)));
    words.say(order(1, "rare", LARGE)).await;
    assert!(matches!(words.hear().await, ToParty::Ended(1, Verdict::Full)));
    assert_eq!(end(team.tasks().submit(&Rare(Vec::new())).start()).await, Ok(7), "it is still given tasks");
}

#[tokio::test]
async fn an_outcome_too_large_to_be_told_is_a_failure() {
    let team = Team::new(TaskPolicy::new());
    let mut words = Words::new(team.join(0, 0));
    words.say(ToPool::Serve("rare".to_owned(), 1)).await;
    let task = team.tasks().submit(&Rare(Vec::new())).start();
    let given = words.given().await;
    words.say(ToPool::Finished(given, Ok(vec![0; LARGE].into()))).await;
    assert_eq!(end(task).await, Err(TaskError::Failed { reason: "its outcome was too large".to_owned() }));
}
