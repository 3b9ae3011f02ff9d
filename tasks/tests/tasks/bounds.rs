//! What the pool keeps for workers that do with the wire what they like.

use cluster_ipc::session::{Config, Window};
use cluster_tasks::TaskPolicy;

use crate::team::Team;
use crate::words::{ToParty, ToPool, Verdict, Words, order};

#[tokio::test]
async fn who_does_not_read_that_its_tasks_have_ended_may_submit_no_more() {
    const SUBMITTED: u64 = 3000;
    let team = Team::new(TaskPolicy::new());
    // Little lies between, so that what it does not read waits in the pool.
    let window = Window { bytes: 1 << 20, messages: 64, descriptors: 1 };
    let mut words = Words::new(team.join_with(0, 0, Config::new().window(window)));
    // It keeps to nothing.
    for number in 1..=SUBMITTED {
        words.say(order(number, "none", 1)).await;
        words.say(ToPool::Revoke(number)).await;
    }
    let (mut cancelled, mut refused) = (0, 0);
    while cancelled + refused < SUBMITTED {
        match words.told().await {
            (_, Verdict::Cancelled { may_have_begun: false }) => cancelled += 1,
            (_, Verdict::Full) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    // Beside those that have room some were on their way.
    assert!((1024..=1500).contains(&cancelled), "{cancelled} were accepted while it read nothing");
    words.say(order(SUBMITTED + 1, "none", 1)).await;
    words.say(ToPool::Revoke(SUBMITTED + 1)).await;
    let told = words.told().await;
    assert!(matches!(told, (_, Verdict::Cancelled { .. })), "now it may: {told:?}");
}

/// How many tasks of a name it is given before the pool answers what it says next.
async fn given(words: &mut Words, name: &str, tasks: u64) -> u64 {
    for number in 1..=tasks {
        words.say(order(number, name, 1)).await;
    }
    // It has that number already.
    words.say(order(1, name, 1)).await;
    let mut given = 0;
    loop {
        match words.hear().await {
            ToParty::Give(..) => given += 1,
            ToParty::Ended(1, Verdict::Full) => return given,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_worker_runs_so_many_at_a_time_of_all_names_and_one_of_each_in_any_case() {
    let team = Team::new(TaskPolicy::new());
    let mut words = Words::new(team.join(0, 0));
    for name in 0..4 {
        words.say(ToPool::Serve(format!("many {name}"), 1024)).await;
    }
    words.say(ToPool::Serve("late".to_owned(), 1024)).await;
    assert_eq!(given(&mut words, "late", 10).await, 1);

    // What it serves no more makes room for others.
    let mut words = Words::new(team.join(1, 1));
    for name in 0..4 {
        words.say(ToPool::Serve(format!("few {name}"), 1024)).await;
    }
    words.say(ToPool::Retire("few 3".to_owned())).await;
    words.say(ToPool::Serve("later".to_owned(), 5)).await;
    assert_eq!(given(&mut words, "later", 10).await, 5);
}
