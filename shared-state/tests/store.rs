//! The store by itself: time, leases, retries, limits, the history. What it answers in general is the business
//! of `store_model`.
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test may panic, and begins some time")]

use std::time::{Duration, Instant};

use cluster_shared_state::{
    ChangeKind, ClientId, Command, CommandError, Condition, Delete, Epoch, History, Increment, KeyRange,
    LeaseId, Limits, Misbehaviour, Outcome, Put, Revision, Store, Transaction, number,
};

const ME: ClientId = ClientId::new(1, 1);
const SECOND: Duration = Duration::from_secs(1);

fn store() -> (Store, Instant) {
    (Store::new(Epoch::new(1), Limits::new()), Instant::now())
}

fn lease(store: &mut Store, owner: ClientId, ttl: Option<Duration>, now: Instant) -> LeaseId {
    match store.execute(owner, Command::grant(ttl), now).expect("there is room").outcome {
        Outcome::Granted(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn put(store: &mut Store, put: Put, now: Instant) {
    store.execute(ME, put.into(), now).expect("it is allowed");
}

#[test]
fn an_overwritten_key_does_not_end_with_its_old_time_to_live() {
    let (mut store, now) = store();
    put(&mut store, Put::new("a", "1").ttl(SECOND), now);
    put(&mut store, Put::new("a", "2"), now);
    assert_eq!(store.poll_timeout(), None);
    store.handle_timeout(now + 2 * SECOND);
    assert_eq!(store.get("a").expect("it stays").value, "2");
    put(&mut store, Put::new("a", "3").ttl(5 * SECOND), now);
    assert_eq!(store.poll_timeout(), Some(now + 7 * SECOND), "counted from the latest time that was told");
}

#[test]
fn all_that_is_due_at_once_goes_in_one_revision() {
    let (mut store, now) = store();
    let lease = lease(&mut store, ME, Some(SECOND), now);
    put(&mut store, Put::new("a", "1").ttl(SECOND), now);
    put(&mut store, Put::new("b", "1").ttl(SECOND), now);
    put(&mut store, Put::new("c", "1").lease(lease), now);
    put(&mut store, Put::new("d", "1").lease(lease).ttl(SECOND), now);
    while store.poll_commit().is_some() {}
    let due = store.poll_timeout().expect("something is due");
    store.handle_timeout(due);
    let commit = store.poll_commit().expect("they are gone");
    let kinds: Vec<_> = commit.changes.iter().map(|it| it.kind).collect();
    use ChangeKind::{Expired, LeaseGone};
    assert_eq!(kinds, [Expired, Expired, LeaseGone, Expired]);
    assert_eq!((store.poll_commit(), store.poll_timeout(), store.len()), (None, None, 0));
}

#[test]
fn a_command_never_sees_what_has_expired() {
    let (mut store, now) = store();
    put(&mut store, Put::new("lock", "1").ttl(SECOND), now);
    let again = || Command::put("lock", "2").when(Condition::Absent);
    let early = store.execute(ME, again(), now + SECOND - Duration::from_nanos(1)).expect("answered");
    assert!(early.is_conflict());
    let late = store.execute(ME, again(), now + SECOND).expect("answered");
    assert!(!late.is_conflict());
    assert_eq!(late.revision, Revision::new(3), "the expiry took one");
}

#[test]
fn time_that_goes_back_stands_still() {
    let (mut store, now) = store();
    store.handle_timeout(now + 10 * SECOND);
    put(&mut store, Put::new("a", "1").ttl(SECOND), now);
    assert_eq!(store.poll_timeout(), Some(now + 11 * SECOND));
}

#[test]
fn a_lease_lives_as_long_as_it_is_kept_alive() {
    let (mut store, now) = store();
    let lease = lease(&mut store, ME, Some(2 * SECOND), now);
    put(&mut store, Put::new("a", "1").lease(lease), now);
    for second in 1..10 {
        store.execute(ME, Command::keep_alive(lease), now + second * SECOND).expect("it is there");
    }
    assert!(store.get("a").is_some());
    store.handle_timeout(now + 11 * SECOND);
    assert!(store.get("a").is_none());
    let late = store.execute(ME, Command::keep_alive(lease), now + 11 * SECOND);
    assert_eq!(late, Err(CommandError::NoSuchLease { lease }));
}

#[test]
fn leases_of_another_life_or_another_epoch_are_worth_nothing() {
    let (mut store, now) = store();
    let old = lease(&mut store, ME, None, now);
    let successor = ClientId::new(ME.client(), ME.incarnation() + 1);
    let foreign = store.execute(successor, Command::put("a", "1").lease(old).into(), now);
    assert_eq!(foreign, Err(CommandError::ForeignLease { lease: old }));
    store.handle_owner_gone(ME, now);
    let gone = store.execute(successor, Command::put("a", "1").lease(old).into(), now);
    assert_eq!(gone, Err(CommandError::NoSuchLease { lease: old }));
    let new = lease(&mut store, successor, None, now);
    assert!(new > old, "a fencing token rises");
    let mut other = Store::new(Epoch::new(2), Limits::new());
    lease(&mut other, ME, None, now);
    let stale = other.execute(ME, Command::revoke(old), now);
    assert_eq!(stale, Err(CommandError::NoSuchLease { lease: old }));
}

#[test]
fn a_key_that_moved_to_another_lease_does_not_end_with_the_first() {
    let (mut store, now) = store();
    let first = lease(&mut store, ME, None, now);
    let second = lease(&mut store, ME, None, now);
    put(&mut store, Put::new("a", "1").lease(first), now);
    put(&mut store, Put::new("a", "2").lease(second), now);
    let revoked = store.execute(ME, Command::revoke(first), now).expect("it is there");
    assert_eq!(revoked.outcome, Outcome::Revoked { keys: 0 });
    assert!(store.get("a").is_some());
    store.execute(ME, Command::revoke(second), now).expect("it is there");
    assert!(store.is_empty());
}

#[test]
fn a_counter_for_a_minute_ends_after_a_minute() {
    let (mut store, now) = store();
    for second in 0..60 {
        let hit = Increment::new("hits", 1).ttl(60 * SECOND).at_most(100);
        let answer = store.execute(ME, hit.into(), now + second * SECOND).expect("within bounds");
        assert_eq!(answer.outcome, Outcome::Number(i64::from(second) + 1));
    }
    store.handle_timeout(now + 60 * SECOND);
    assert!(store.is_empty());
}

#[test]
fn a_counter_is_a_number_of_postcard() {
    let (mut store, now) = store();
    put(&mut store, Put::new("n", postcard::to_stdvec(&-5_i64).expect("a number")), now);
    let answer = store.execute(ME, Increment::new("n", 200).into(), now).expect("a number");
    assert_eq!(answer.outcome, Outcome::Number(195));
    assert_eq!(postcard::from_bytes::<i64>(&store.get("n").expect("it is there").value), Ok(195));
    for number in [0, 1, -1, i64::MIN, i64::MAX] {
        assert_eq!(number::decode(&number::encode(number)), Some(number));
    }
}

#[test]
fn a_repeated_request_is_answered_as_the_first_time() {
    let (mut store, now) = store();
    let add = || Command::from(Increment::new("n", 1));
    let first = store.handle_request(ME, 1, 0, add(), now);
    let second = store.handle_request(ME, 2, 0, add(), now);
    assert_eq!(store.handle_request(ME, 1, 0, add(), now), first);
    assert_eq!(store.handle_request(ME, 2, 2, add(), now), second, "acknowledging all below it");
    let forgotten = store.handle_request(ME, 1, 0, add(), now);
    assert_eq!(forgotten, Err(Misbehaviour::OldRequest { number: 1 }));
    assert_eq!(store.get("n").and_then(|it| it.number()), Some(2));
    // Errors are answers, too: the condition under which it failed may have changed since.
    let take = || Command::from(Increment::new("stock", -1).at_least(0));
    let refused = store.handle_request(ME, 3, 2, take(), now).expect("it behaves");
    assert!(matches!(refused, Err(CommandError::OutOfBounds { .. })));
    put(&mut store, Put::new("stock", number::encode(5)), now);
    assert_eq!(store.handle_request(ME, 3, 2, take(), now), Ok(refused));
}

#[test]
fn another_incarnation_begins_its_numbers_anew() {
    let (mut store, now) = store();
    let add = || Command::from(Increment::new("n", 1));
    let _ = store.handle_request(ME, 7, 0, add(), now);
    let successor = ClientId::new(ME.client(), ME.incarnation() + 1);
    assert!(store.handle_request(successor, 1, 0, add(), now).is_ok());
    assert_eq!(store.get("n").and_then(|it| it.number()), Some(2));
}

#[test]
fn a_transaction_of_which_a_part_is_refused_changes_nothing() {
    let (mut store, now) = store();
    put(&mut store, Put::new("anna", number::encode(5)), now);
    let before = store.cursor();
    let transfer = Transaction::new()
        .then(Increment::new("bert", 10))
        .then(Delete::new("anna"))
        .then(KeyRange::All)
        .then(Increment::new("anna", -10).at_least(0));
    assert!(matches!(store.execute(ME, transfer.into(), now), Err(CommandError::OutOfBounds { .. })));
    assert_eq!(store.cursor(), before);
    assert_eq!(store.get("anna").and_then(|it| it.number()), Some(5));
    assert!(store.get("bert").is_none());
}

#[test]
fn what_changes_nothing_takes_no_revision() {
    let (mut store, now) = store();
    put(&mut store, Put::new("a", "1"), now);
    let before = store.cursor();
    let lease = lease(&mut store, ME, None, now);
    for command in [
        Command::delete("b").into(),
        Command::delete_range(KeyRange::prefix("b")),
        Command::put("a", "2").when(Condition::Absent),
        Transaction::new().into(),
        Transaction::new().then(Put::new("c", "1")).then(Delete::new("c")).into(),
        Command::keep_alive(lease),
        Command::revoke(lease),
    ] {
        let answer = store.execute(ME, command, now).expect("it is allowed");
        assert_eq!(answer.revision, before.revision);
    }
    assert_eq!(store.cursor(), before);
}

#[test]
fn a_full_store_can_still_be_emptied() {
    let now = Instant::now();
    let mut store = Store::new(Epoch::new(1), Limits::new().keys(2).total_bytes(10));
    put(&mut store, Put::new("a", "1234"), now);
    put(&mut store, Put::new("b", "1234"), now);
    let third = store.execute(ME, Command::put("c", "").into(), now);
    assert_eq!(third, Err(CommandError::TooManyKeys { keys: 3, limit: 2 }));
    let longer = store.execute(ME, Command::put("a", "12345").into(), now);
    assert_eq!(longer, Err(CommandError::StoreFull { bytes: 11, limit: 10 }));
    let swap = Transaction::new().then(Delete::new("a")).then(Put::new("c", "1"));
    store.execute(ME, swap.into(), now).expect("no more than there was");
    assert_eq!((store.len(), store.bytes()), (2, 7));
}

#[test]
fn deleting_everything_over_and_over_is_refused() {
    let now = Instant::now();
    let mut store = Store::new(Epoch::new(1), Limits::new().keys(100));
    for key in 0..100 {
        put(&mut store, Put::new(format!("{key}"), ""), now);
    }
    let mut all = Transaction::new();
    for _ in 0..128 {
        all = all.then(KeyRange::All);
    }
    let refused = store.execute(ME, all.into(), now);
    assert!(matches!(refused, Err(CommandError::TooManyOperations { limit: 200, .. })));
    store.execute(ME, Command::delete_range(KeyRange::All), now).expect("once is enough");
    assert!(store.is_empty());
}

#[test]
fn the_history_keeps_what_is_needed_and_no_more_than_its_limits() {
    let (mut store, now) = store();
    let mut history = History::new(Revision::ZERO, 3, usize::MAX);
    for key in 0..10 {
        put(&mut store, Put::new(format!("{key}"), ""), now);
        history.push(&store.poll_commit().expect("it changed"));
    }
    history.trim(Some(Revision::new(5)));
    assert_eq!((history.oldest(), history.len()), (Revision::new(5), 6));
    assert_eq!(history.message(Revision::new(4)), None);
    let all = history.bytes_from(Revision::new(5)).expect("it is there");
    let last = history.bytes_from(Revision::new(10)).expect("it is there");
    assert_eq!(all, 6 * last, "they are all of one length");
    assert_eq!(history.bytes_from(Revision::new(11)), Some(0));
    assert_eq!(history.bytes_from(Revision::new(12)), None);
    history.trim(None);
    assert_eq!((history.oldest(), history.len()), (Revision::new(8), 3));
}

#[test]
fn ranges_are_what_they_say() {
    let (mut store, now) = store();
    for key in ["a", "ab", "b", "b\u{ff}", "c"] {
        put(&mut store, Put::new(key, ""), now);
    }
    let keys =
        |range: KeyRange| -> Vec<String> { store.range(&range).map(|(key, _)| key.to_string()).collect() };
    assert_eq!(keys(KeyRange::prefix("a")), ["a", "ab"]);
    assert_eq!(keys(KeyRange::prefix("")), ["a", "ab", "b", "b\\xc3\\xbf", "c"]);
    assert_eq!(keys(KeyRange::between("ab", "c")), ["ab", "b", "b\\xc3\\xbf"]);
    assert!(keys(KeyRange::between("c", "a")).is_empty() && keys(KeyRange::between("c", "c")).is_empty());
    assert_eq!(keys(KeyRange::key("b")), ["b"]);
    assert_eq!(keys(KeyRange::prefix(vec![0xff])), [""; 0]);
}
