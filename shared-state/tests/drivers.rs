//! Hub and handles over links, with a runtime and a clock.
#![cfg(all(feature = "tokio", feature = "ipc"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::time::Duration;

use cluster_shared_state::tokio::{Follower, Hub, LinkError, SharedState, StateError, ipc, memory};
use cluster_shared_state::{
    ChangeKind, ClientId, Command, CommandError, Condition, Cursor, Epoch, Increment, KeyRange, Limits,
    Notice, Overflow, PublisherConfig, Put, ReplicaConfig, RequestError, Revision, Start, Transaction, Watch,
};

fn hub() -> Hub {
    Hub::new(Epoch::new(1), PublisherConfig::new())
}

fn client(number: u64) -> ClientId {
    ClientId::new(number, 1)
}

/// Follows over memory, for ever.
fn follow(hub: &Hub, client: ClientId) -> SharedState {
    let (state, mut follower) = SharedState::new(client, ReplicaConfig::new());
    let (here, there) = memory();
    let primary = hub.clone();
    tokio::spawn(async move { primary.serve(client, there).await });
    tokio::spawn(async move { follower.follow(here).await });
    state
}

/// Follows over a socket pair, for ever.
fn follow_by_socket(hub: &Hub, client: ClientId) -> SharedState {
    let (state, follower) = SharedState::new(client, ReplicaConfig::new());
    connect(hub, client, follower);
    state
}

fn connect(hub: &Hub, client: ClientId, mut follower: Follower) {
    let (here, there) = cluster_ipc::Socket::pair().unwrap();
    let (here, there) =
        (ipc::link(here, usize::MAX).unwrap(), ipc::link(there, ipc::max_request(&Limits::new())).unwrap());
    let primary = hub.clone();
    tokio::spawn(async move { primary.serve(client, there).await });
    tokio::spawn(async move { follower.follow(here).await });
}

#[tokio::test]
async fn what_one_writes_all_read() {
    let hub = hub();
    let (anna, bert) = (follow(&hub, client(1)), follow_by_socket(&hub, client(2)));
    anna.live().await.unwrap();
    let at = anna.set("greeting", "hello").await.unwrap();
    assert_eq!(anna.get("greeting").unwrap().value, "hello", "who wrote reads it at once");
    bert.sync().await.unwrap();
    assert_eq!(bert.get("greeting").unwrap().modified, at);
    assert_eq!(bert.increment("visits", 2).await.unwrap(), 2);
    assert_eq!(bert.increment("visits", 1).await.unwrap(), 3);
    anna.at_least(bert.cursor().unwrap()).await.unwrap();
    assert_eq!(anna.get("visits").unwrap().number(), Some(3));
    let before = anna.view();
    assert!(anna.delete("greeting").await.unwrap());
    assert!(!anna.delete("greeting").await.unwrap(), "it was gone already");
    assert!(anna.get("greeting").is_none());
    assert_eq!(before.get("greeting").unwrap().value, "hello", "a view stays as it is");
    assert_eq!(before.len(), 2);
    assert_eq!(hub.inspect(|publisher| publisher.store().len()), 1);
}

#[tokio::test]
async fn conditions_and_transactions() {
    let hub = hub();
    let state = follow(&hub, client(1));
    let at = state.compare_and_set("lock", Condition::Absent, "me").await.unwrap();
    let conflict = match state.compare_and_set("lock", Condition::Absent, "you").await {
        Err(StateError::Conflict(conflict)) => conflict,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (conflict.entry.as_ref().unwrap().modified, conflict.to_string()),
        (at, format!("\"lock\" was written at revision {at}"))
    );
    state.compare_and_set("lock", Condition::Modified(at), "you").await.unwrap();
    let previous = state.get_and_set("lock", "nobody").await.unwrap().unwrap();
    assert_eq!(previous.value, "you");
    state.set("anna", cluster_shared_state::number::encode(10)).await.unwrap();
    let transfer = |by: i64| {
        Transaction::new().then(Increment::new("anna", -by).at_least(0)).then(Increment::new("bert", by))
    };
    state.transact(transfer(7)).await.unwrap().unwrap();
    let error = state.transact(transfer(7)).await.unwrap_err();
    assert!(
        matches!(error, StateError::Request(RequestError::Refused(CommandError::OutOfBounds { .. }))),
        "{error}"
    );
    let view = state.view();
    let number = |key: &str| view.get(key).unwrap().number().unwrap();
    assert_eq!((number("anna"), number("bert")), (3, 7), "all of it or nothing");
}

#[tokio::test]
async fn a_watch_tells_all_in_order() {
    let hub = hub();
    let (state, other) = (follow(&hub, client(1)), follow_by_socket(&hub, client(2)));
    state.set("a/0", "0").await.unwrap();
    let watch = Watch::new(KeyRange::prefix("a/")).start(Start::Present).overflow(Overflow::Tell);
    let mut watching = state.watch(watch).unwrap();
    let Notice::Present { entries, .. } = watching.next().await.unwrap() else {
        panic!("what is there first")
    };
    assert_eq!(entries.len(), 1);
    for number in 1..=100 {
        other.set(format!("a/{number}"), number.to_string()).await.unwrap();
    }
    other.delete_range(KeyRange::prefix("a/")).await.unwrap();
    let mut puts = 0;
    let deleted = loop {
        let Notice::Changes(batch) = watching.next().await.unwrap() else { panic!("changes") };
        match batch.events[0].kind {
            ChangeKind::Put => {
                puts += 1;
                assert_eq!(batch.events[0].key.as_ref(), format!("a/{puts}").as_bytes());
            }
            _ => break batch,
        }
    };
    assert_eq!((puts, deleted.events.len()), (100, 101), "a range goes in one revision");
    let (sender, mut called) = tokio::sync::mpsc::unbounded_channel();
    let callback =
        state.watch(Watch::new(KeyRange::All)).unwrap().for_each(move |notice| drop(sender.send(notice)));
    state.set("b", "1").await.unwrap();
    assert!(matches!(called.recv().await.unwrap(), Notice::Changes(_)));
    drop(callback);
    assert!(called.recv().await.is_none(), "it is dropped with its guard");
}

#[tokio::test]
async fn messages_of_any_length_go_through_a_socket() {
    let hub = hub();
    let (state, other) = (follow_by_socket(&hub, client(1)), follow_by_socket(&hub, client(2)));
    let large = vec![7; 1 << 20];
    state.set("large", large.clone()).await.unwrap();
    other.sync().await.unwrap();
    assert_eq!(other.get("large").unwrap().value, large);
    let error = state.set("huge", vec![7; (1 << 20) + 1]).await.unwrap_err();
    assert!(
        matches!(error, StateError::Request(RequestError::Refused(CommandError::ValueTooLong { .. }))),
        "{error}"
    );
    // A late one gets it in a chunk.
    let late = follow_by_socket(&hub, client(3));
    late.live().await.unwrap();
    assert_eq!(late.get("large").unwrap().value, large);
}

#[tokio::test]
async fn what_expires_is_deleted_and_leases_end_with_their_owner() {
    let hub = hub();
    let (state, other) = (follow(&hub, client(1)), follow(&hub, client(2)));
    other.live().await.unwrap();
    let mut watching = other.watch(Watch::new(KeyRange::All)).unwrap();
    state.execute(Put::new("short", "1").ttl(Duration::from_millis(30))).await.unwrap();
    let lease = state.grant(None).await.unwrap();
    state.execute(Put::new("mine", "1").lease(lease)).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 3 {
        let Notice::Changes(batch) = watching.next().await.unwrap() else { panic!("changes") };
        told.extend(batch.events.into_iter().map(|event| (event.key.to_string(), event.kind)));
    }
    assert!(told.contains(&("short".to_owned(), ChangeKind::Expired)), "{told:?}");
    hub.gone(client(1));
    let Notice::Changes(batch) = watching.next().await.unwrap() else { panic!("changes") };
    assert_eq!((batch.events[0].key.as_ref(), batch.events[0].kind), (&b"mine"[..], ChangeKind::LeaseGone));
}

#[tokio::test]
async fn a_replica_comes_back_over_another_link() {
    let hub = hub();
    let (state, mut follower) = SharedState::new(client(1), ReplicaConfig::new());
    let (here, there) = memory();
    let primary = hub.clone();
    let serving = tokio::spawn(async move { primary.serve(client(1), there).await });
    let following = tokio::spawn(async move {
        let error = follower.follow(here).await;
        (follower, error)
    });
    state.set("a", "1").await.unwrap();
    serving.abort();
    let (mut follower, error) = following.await.unwrap();
    assert!(matches!(error, LinkError::Ended), "{error}");
    assert!(!state.is_live());
    assert_eq!(state.get("a").unwrap().value, "1", "what is there can be read");
    hub.execute(Command::put("b", "2")).unwrap();
    // Asked while nobody listens, it is sent later.
    let late = tokio::spawn({
        let state = state.clone();
        async move { state.increment("n", 1).await }
    });
    let (here, there) = memory();
    let primary = hub.clone();
    tokio::spawn(async move { primary.serve(client(1), there).await });
    let following = tokio::spawn(async move { follower.follow(here).await });
    assert_eq!(late.await.unwrap().unwrap(), 1);
    assert_eq!(state.get("b").unwrap().value, "2");
    // Nobody drives it any more.
    following.abort();
    let _ = following.await;
    assert_eq!(state.set("c", "3").await.unwrap_err(), StateError::Gone);
    assert_eq!(state.live().await.unwrap_err(), StateError::Gone);
    assert_eq!(state.get("b").unwrap().value, "2");
}

#[tokio::test]
async fn more_requests_than_there_is_room_for_wait() {
    let hub = hub();
    let (state, mut follower) = SharedState::new(client(1), ReplicaConfig::new().requests(4));
    let (here, there) = memory();
    let primary = hub.clone();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let state = state.clone();
            tokio::spawn(async move { state.increment("n", 1).await.unwrap() })
        })
        .collect();
    tokio::task::yield_now().await;
    // Some of them stop waiting.
    tasks[1].abort();
    tasks[50].abort();
    tokio::spawn(async move { primary.serve(client(1), there).await });
    tokio::spawn(async move { follower.follow(here).await });
    let mut done = 0;
    for task in tasks {
        done += i64::from(task.await.is_ok());
    }
    assert!(done >= 98);
    assert_eq!(state.get("n").unwrap().number(), Some(done), "what was taken back was not done");
}

#[tokio::test]
async fn who_talks_nonsense_is_cut_off_alone() {
    let hub = hub();
    let state = follow(&hub, client(1));
    let (here, there) = memory();
    let primary = hub.clone();
    let served = tokio::spawn(async move { primary.serve(client(2), there).await });
    let mut here = Box::pin(here);
    futures_sink::Sink::start_send(here.as_mut(), bytes::Bytes::from_static(b"nonsense")).unwrap();
    let error = served.await.unwrap();
    assert!(matches!(error, LinkError::CutOff(_)), "{error}");
    state.set("a", "1").await.unwrap();
}

/// A state is dropped with the last hub, though a task looks after what expires.
#[tokio::test]
async fn a_hub_is_gone_with_its_last_clone() {
    let hub = hub();
    let mut events = hub.events();
    hub.execute(Command::put("a", "1")).unwrap();
    drop(hub);
    while events.recv().await.is_ok() {}
}

#[derive(serde::Serialize, serde::Deserialize, Clone, Debug, PartialEq)]
struct Session {
    user: String,
    visits: u32,
}

#[tokio::test]
async fn values_of_a_type() {
    let hub = hub();
    let (here, there) = (follow(&hub, client(1)), follow_by_socket(&hub, client(2)));
    let sessions = here.typed::<Session>("session/");
    let anna = Session { user: "anna".to_owned(), visits: 1 };
    sessions.set("7", &anna).await.unwrap();
    here.set("other", "text").await.unwrap();
    // Everybody counts at once.
    let visit = |session: Option<Session>| session.map(|it| Session { visits: it.visits + 1, ..it });
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let sessions = if number % 2 == 0 { sessions.clone() } else { there.typed("session/") };
            tokio::spawn(async move { sessions.update("7", visit).await.unwrap() })
        })
        .collect();
    for task in tasks {
        // One that is asked before its replica has the session leaves it as it is: there is none.
        task.await.unwrap();
    }
    there.sync().await.unwrap();
    here.sync().await.unwrap();
    let visits = sessions.get("7").unwrap().unwrap().visits;
    assert!((11..=21).contains(&visits), "{visits}");
    assert_eq!(
        there.typed::<Session>("session/").all().unwrap(),
        [("7".into(), Session { visits, ..anna.clone() })]
    );
    // A number of the store is a number of serde's.
    here.increment("hits", 300).await.unwrap();
    assert_eq!(here.typed::<i64>("").get("hits").unwrap(), Some(300));
    let error = here.typed::<Session>("").get("hits").unwrap_err();
    assert!(error.to_string().contains("\"hits\" is no "), "{error}");

    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let guard = there.typed::<Session>("session/").subscribe(move |key, now, before| {
        drop(sender.send((key.to_string(), now.map(|it| it.visits), before.map(|it| it.visits))));
    });
    let _guard = guard.unwrap();
    assert_eq!(told.recv().await.unwrap(), ("7".to_owned(), Some(visits), None));
    sessions.set("7", &Session { visits: 90, ..anna }).await.unwrap();
    assert_eq!(told.recv().await.unwrap(), ("7".to_owned(), Some(90), Some(visits)));
    assert!(sessions.delete("7").await.unwrap());
    assert_eq!(told.recv().await.unwrap(), ("7".to_owned(), None, Some(90)));
}

#[cfg(feature = "json")]
#[tokio::test]
async fn the_state_is_shown_as_json() {
    let hub = hub();
    let state = follow(&hub, client(1));
    state.set("greeting", "hello").await.unwrap();
    let json = state.to_json();
    assert!(json.contains("\"greeting\": {") && json.contains("\"text\": \"hello\""), "{json}");
}

#[tokio::test]
async fn who_watches_is_woken_also_after_somebody_gave_up_a_request() {
    let hub = hub();
    let state = follow(&hub, client(1));
    state.live().await.unwrap();
    let waiting = tokio::spawn({
        let state = state.clone();
        async move { state.at_least(Cursor::new(Epoch::new(1), Revision::new(1000))).await }
    });
    tokio::task::yield_now().await;
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let watch = Watch::new(KeyRange::All).start(Start::Present);
    let _callback = state.watch(watch).unwrap().for_each(move |notice| drop(sender.send(notice)));
    assert!(matches!(told.recv().await.unwrap(), Notice::Present { .. }));
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    state.set("key", "value").await.unwrap();
    let notice = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
    assert!(matches!(notice, Ok(Some(Notice::Changes(_)))), "{notice:?}");
}
