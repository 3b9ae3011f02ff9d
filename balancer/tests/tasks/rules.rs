//! The rules, one by one.

use std::time::Duration;

use cluster_balancer::tasks::{Action, Begun, End, TaskId, Tasks};
use cluster_balancer::{LeastLoaded, Limits, Request};

type Pool = Tasks<u8, &'static str, u32>;

const SECOND: Duration = Duration::from_secs(1);

fn pool(queue_limit: usize) -> Pool {
    Tasks::new(Box::new(LeastLoaded::new()), queue_limit)
}

fn submit(pool: &mut Pool, item: &'static str) -> TaskId {
    pool.submit(Request::new(), None, item).expect("there is room")
}

fn at_most(number: u32) -> Limits {
    Limits::new().capacity(number)
}

fn actions(pool: &mut Pool) -> Vec<Action<u8, &'static str, u32>> {
    std::iter::from_fn(|| pool.poll()).collect()
}

fn ended(task: TaskId, item: &'static str, end: End<u32>) -> Action<u8, &'static str, u32> {
    Action::End { task, item, end }
}

#[test]
fn a_member_that_dies_loses_what_it_took_and_nothing_else() {
    let mut pool = pool(10);
    pool.admit(1, at_most(2));
    let (first, second, third) = (submit(&mut pool, "a"), submit(&mut pool, "b"), submit(&mut pool, "c"));
    assert_eq!(actions(&mut pool).len(), 2, "two at a time");
    pool.handle_taken(1, first);
    pool.handle_gone(1);
    assert_eq!(actions(&mut pool), [ended(first, "a", End::Lost)]);
    pool.admit(2, at_most(2));
    assert_eq!(
        actions(&mut pool),
        [Action::Give { to: 2, task: second }, Action::Give { to: 2, task: third }],
        "what came back goes first"
    );
    // Words that come too late, and of the dead.
    pool.handle_finished(1, second, 7);
    pool.handle_taken(1, third);
    pool.handle_finished(2, second, 8);
    assert_eq!(actions(&mut pool), [ended(second, "b", End::Done(8))]);
}

#[test]
fn a_cancelled_task_keeps_its_place_until_the_member_lets_go() {
    let mut pool = pool(10);
    pool.admit(1, at_most(1));
    let (first, second, third) = (submit(&mut pool, "a"), submit(&mut pool, "b"), submit(&mut pool, "c"));
    assert_eq!(actions(&mut pool), [Action::Give { to: 1, task: first }]);
    pool.handle_taken(1, first);
    pool.cancel(first);
    pool.cancel(first);
    pool.cancel(third);
    assert_eq!(
        actions(&mut pool),
        [
            Action::Cancel { on: 1, task: first },
            ended(first, "a", End::Cancelled(Begun::Maybe)),
            ended(third, "c", End::Cancelled(Begun::No)),
        ]
    );
    assert_eq!(pool.running(1, first), None, "nobody waits for it");
    pool.handle_finished(1, first, 1);
    assert_eq!(actions(&mut pool), [Action::Give { to: 1, task: second }], "nobody is told of the outcome");
}

#[test]
fn what_ended_before_it_was_polled_is_given_to_nobody() {
    let mut pool = pool(10);
    pool.admit(1, at_most(2));
    let (first, second) = (submit(&mut pool, "a"), submit(&mut pool, "b"));
    assert_eq!(pool.poll(), Some(Action::Give { to: 1, task: first }));
    pool.cancel(second);
    assert_eq!(actions(&mut pool), [ended(second, "b", End::Cancelled(Begun::No))]);
}

#[test]
fn a_deadline_ends_a_task_wherever_it_is() {
    let mut pool = pool(10);
    pool.admit(1, at_most(1));
    let by = |seconds: u32, pool: &mut Pool, item| {
        pool.submit(Request::new(), Some(seconds * SECOND), item).expect("there is room")
    };
    let (first, second) = (by(2, &mut pool, "a"), by(1, &mut pool, "b"));
    assert_eq!(actions(&mut pool), [Action::Give { to: 1, task: first }]);
    assert_eq!(pool.poll_timeout(), Some(SECOND));
    pool.handle_timeout(SECOND);
    assert_eq!(actions(&mut pool), [ended(second, "b", End::TimedOut(Begun::No))]);
    assert_eq!(pool.poll_timeout(), Some(2 * SECOND));
    pool.handle_timeout(2 * SECOND);
    assert_eq!(pool.poll_timeout(), None);
    assert_eq!(
        actions(&mut pool),
        [Action::Cancel { on: 1, task: first }, ended(first, "a", End::TimedOut(Begun::Maybe))]
    );
    let late = by(1, &mut pool, "c");
    assert_eq!(actions(&mut pool), [ended(late, "c", End::TimedOut(Begun::No))], "never given to anybody");
}

#[test]
fn with_nobody_there_for_too_long_what_waits_ends() {
    let mut pool = pool(10).patience(5 * SECOND);
    let first = submit(&mut pool, "a");
    pool.admit(1, at_most(0));
    assert_eq!(pool.poll_timeout(), None, "somebody is there, though busy");
    pool.handle_timeout(8 * SECOND);
    assert_eq!(actions(&mut pool), []);
    pool.withdraw(1);
    assert_eq!(pool.poll_timeout(), Some(13 * SECOND));
    let second = pool.submit(Request::new().at(10 * SECOND), None, "b").expect("there is room");
    pool.handle_timeout(13 * SECOND);
    assert_eq!(actions(&mut pool), [ended(first, "a", End::NoMember)]);
    assert_eq!(pool.poll_timeout(), Some(15 * SECOND), "each waits so long");
    pool.handle_timeout(15 * SECOND);
    assert_eq!(actions(&mut pool), [ended(second, "b", End::NoMember)]);
}

#[test]
fn beyond_the_queue_a_task_is_given_back() {
    let mut pool = pool(1);
    pool.admit(1, at_most(1));
    submit(&mut pool, "a");
    submit(&mut pool, "b");
    assert_eq!(pool.submit(Request::new(), None, "c").expect_err("full").into_inner(), "c");
    assert_eq!(pool.status().totals.submitted, 2);
}

#[test]
fn beyond_its_weight_a_task_is_given_back_until_a_member_lets_one_go() {
    let mut pool = pool(10).max_weight(5, |item| item.len() as u64);
    pool.admit(1, at_most(1));
    let first = submit(&mut pool, "much too heavy");
    assert_eq!(pool.weight(), 14, "alone it may be");
    let refused = pool.submit(Request::new(), None, "b").expect_err("it is too heavy");
    assert_eq!(refused.to_string(), "it is too heavy beside what is kept already: 14 of 5");
    assert_eq!((refused.weight(), refused.into_inner()), (Some((14, 5)), "b"));
    assert_eq!(actions(&mut pool).len(), 1);
    pool.handle_taken(1, first);
    pool.cancel(first);
    assert_eq!(actions(&mut pool).len(), 2, "it has ended");
    pool.submit(Request::new(), None, "b").expect_err("the member has it yet");
    pool.handle_finished(1, first, 1);
    assert_eq!(pool.weight(), 0);
    submit(&mut pool, "four");
    submit(&mut pool, "b");
    pool.submit(Request::new(), None, "b").expect_err("it is full to the brim");
    submit(&mut pool, "");
    assert_eq!((pool.weight(), pool.status().weight), (5, 5));
}

#[test]
fn a_pool_is_idle_when_nobody_serves_and_nobody_has_anything() {
    let mut pool = pool(10);
    assert!(pool.is_idle());
    pool.admit(1, at_most(1));
    assert!(!pool.is_idle(), "somebody serves");
    let task = submit(&mut pool, "a");
    assert_eq!(actions(&mut pool).len(), 1);
    pool.handle_taken(1, task);
    pool.withdraw(1);
    pool.cancel(task);
    assert_eq!(actions(&mut pool).len(), 2);
    assert!(!pool.is_idle(), "the member has it yet");
    pool.handle_finished(1, task, 1);
    assert!(pool.is_idle());
    submit(&mut pool, "b");
    assert!(!pool.is_idle(), "it waits");
}

#[test]
fn who_is_withdrawn_or_unwell_is_asked_for_what_it_has_not_taken() {
    for withdrawn in [true, false] {
        let mut pool = pool(10);
        pool.admit(1, at_most(3));
        let (first, second) = (submit(&mut pool, "a"), submit(&mut pool, "b"));
        assert_eq!(actions(&mut pool).len(), 2);
        pool.handle_taken(1, first);
        if withdrawn {
            pool.withdraw(1)
        } else {
            pool.set_healthy(1, false)
        }
        assert_eq!(actions(&mut pool), [Action::Recall { from: 1, task: second }]);
        pool.admit(2, at_most(3));
        assert_eq!(actions(&mut pool), [], "the first may have taken it");
        pool.handle_refused(1, second);
        assert_eq!(actions(&mut pool), [Action::Give { to: 2, task: second }]);
        pool.handle_finished(1, first, 3);
        assert_eq!(actions(&mut pool), [ended(first, "a", End::Done(3))], "it may finish");
    }
}

#[test]
fn what_a_member_refuses_it_is_not_given_again() {
    let mut pool = pool(10);
    pool.admit(1, at_most(3));
    let task = submit(&mut pool, "a");
    assert_eq!(actions(&mut pool), [Action::Give { to: 1, task }]);
    pool.handle_refused(1, task);
    assert_eq!(actions(&mut pool), []);
    pool.admit(1, at_most(3));
    assert_eq!(actions(&mut pool), [Action::Give { to: 1, task }], "admitted anew it may want it");
}

#[test]
fn of_a_member_that_was_not_heard_to_the_end_all_is_in_doubt() {
    let mut pool = pool(10);
    pool.admit(1, at_most(2));
    let (first, second, third) = (submit(&mut pool, "a"), submit(&mut pool, "b"), submit(&mut pool, "c"));
    assert_eq!(actions(&mut pool).len(), 2);
    pool.handle_taken(1, first);
    pool.handle_cut_off(1);
    assert_eq!(actions(&mut pool), [ended(first, "a", End::Lost), ended(second, "b", End::Lost)]);
    pool.admit(2, at_most(2));
    assert_eq!(actions(&mut pool), [Action::Give { to: 2, task: third }]);
}
