//! Random operations on a hub and on a naive model of one: the whole log for each subscriber, with the fate of every
//! message in it. Where a gap belongs needs no thought there: it is where the log says that something is missing.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::collections::VecDeque;

use bytes::Bytes;
use cluster_ipc::hub::{Delivery, Hub, Policy, Subscription};
use proptest::prelude::*;

type Key = u8;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Queued,
    Delivered,
    Missed,
    /// Missed, and the subscriber was told.
    Told,
    Replaced,
}

#[derive(Debug)]
struct Record {
    topic: Option<Bytes>,
    message: Bytes,
    fate: Fate,
}

#[derive(Debug)]
struct Member {
    key: Key,
    policy: Policy,
    max_messages: usize,
    max_bytes: usize,
    /// Everything that was published since it subscribed.
    log: Vec<Record>,
    /// What was peeked last, with the places in the log that it is about.
    shown: Option<(Delivery, Vec<usize>)>,
    reported: bool,
    /// What an outsider sees: all that was sent.
    heard: Vec<Delivery>,
}

impl Member {
    fn places(&self, fate: Fate) -> Vec<usize> {
        (0..self.log.len()).filter(|&place| self.log[place].fate == fate).collect()
    }

    fn count(&self, fate: Fate) -> u64 {
        self.log.iter().filter(|record| record.fate == fate).count() as u64
    }

    fn cost(&self, topic: Option<&Bytes>, message: &Bytes) -> usize {
        message.len() + topic.filter(|_| self.policy == Policy::LatestByKey).map_or(0, Bytes::len)
    }

    fn queued_bytes(&self) -> usize {
        let records = self.log.iter().filter(|record| record.fate == Fate::Queued);
        records.map(|record| self.cost(record.topic.as_ref(), &record.message)).sum()
    }

    fn fits(&self, len: usize) -> bool {
        let queued = self.count(Fate::Queued) as usize;
        queued == 0 || (queued < self.max_messages && self.queued_bytes() + len <= self.max_bytes)
    }

    /// Returns the fate of the message, or `None` if the member has to go.
    fn publish(&mut self, topic: Option<&Bytes>, message: &Bytes) -> Option<Fate> {
        if self.policy == Policy::LatestByKey && topic.is_some() {
            for record in &mut self.log {
                if record.fate == Fate::Queued && record.topic.as_ref() == topic {
                    record.fate = Fate::Replaced;
                }
            }
        }
        let mut fate = Fate::Queued;
        while fate == Fate::Queued && !self.fits(self.cost(topic, message)) {
            match self.policy {
                Policy::DropNewest => fate = Fate::Missed,
                Policy::Disconnect => return None,
                Policy::DropOldest | Policy::LatestByKey => {
                    let oldest = self.places(Fate::Queued)[0];
                    self.log[oldest].fate = Fate::Missed;
                }
                policy => panic!("{policy:?} misses nothing"),
            }
        }
        self.log.push(Record { topic: topic.cloned(), message: message.clone(), fate });
        Some(fate)
    }

    fn next(&self) -> Option<(Delivery, Vec<usize>)> {
        let queued = self.places(Fate::Queued).first().copied();
        let mut missed = self.places(Fate::Missed);
        missed.retain(|place| queued.is_none_or(|queued| *place < queued));
        if !missed.is_empty() {
            return Some((Delivery::Gap { missed: missed.len() as u64 }, missed));
        }
        queued.map(|place| (Delivery::Message(self.log[place].message.clone()), vec![place]))
    }

    fn handle_sent(&mut self) {
        let Some((delivery, places)) = self.shown.take() else { return };
        let fate = if matches!(delivery, Delivery::Gap { .. }) { Fate::Told } else { Fate::Delivered };
        places.into_iter().for_each(|place| self.log[place].fate = fate);
        self.heard.push(delivery);
        self.reported &= self.next().is_some();
    }

    /// Whether what was sent, with nothing left to send, accounts for all that was published.
    fn check_heard(&self) {
        let (mut next, mut gaps, mut messages) = (0, 0, 0);
        for delivery in &self.heard {
            match delivery {
                Delivery::Gap { missed } => {
                    assert!(*missed > 0, "a gap of nothing is none");
                    gaps += missed;
                    next += if self.policy == Policy::LatestByKey { 0 } else { *missed as usize };
                }
                Delivery::Message(message) => {
                    let place = self.log.iter().position(|record| record.message == message).unwrap();
                    assert!(place >= next, "in the order of publication, and once");
                    assert!(
                        place == next || self.policy == Policy::LatestByKey,
                        "gaps are where they belong"
                    );
                    messages += 1;
                    next = place + 1;
                }
            }
        }
        let published = self.log.len() as u64;
        assert_eq!(messages + gaps + self.count(Fate::Replaced), published, "all is accounted for");
        assert!(gaps == 0 || self.policy != Policy::Wait, "a subscriber that is waited for misses nothing");
        let is_latest = |place: usize| {
            let topic = &self.log[place].topic;
            topic.is_some() && self.log[place + 1..].iter().all(|record| record.topic != *topic)
        };
        for place in (0..self.log.len()).filter(|place| gaps == 0 && is_latest(*place)) {
            let latest = Delivery::Message(self.log[place].message.clone());
            assert!(self.heard.contains(&latest), "whoever misses nothing gets the latest of each topic");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Subscribe(Key, Policy, usize, usize),
    Unsubscribe(Key),
    Publish(Option<u8>, usize),
    Peek(Key),
    HandleSent(Key),
    /// Both, so many times.
    Send(Key, usize),
    PollReady,
    PollDisconnected,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0..5u8;
    let policy = prop::sample::select(vec![
        Policy::Wait,
        Policy::DropNewest,
        Policy::DropOldest,
        Policy::LatestByKey,
        Policy::LatestByKey,
        Policy::Disconnect,
    ]);
    let limits = (prop_oneof![0usize..6, Just(1024)], prop_oneof![0usize..60, Just(4 << 20)]);
    let topic = prop::option::of(0..4u8);
    let op = prop_oneof![
        3 => (key.clone(), policy, limits).prop_map(|(key, policy, (n, bytes))| Op::Subscribe(key, policy, n, bytes)),
        1 => key.clone().prop_map(Op::Unsubscribe),
        12 => (topic, 4usize..24).prop_map(|(topic, len)| Op::Publish(topic, len)),
        4 => key.clone().prop_map(Op::Peek),
        4 => key.clone().prop_map(Op::HandleSent),
        6 => (key, 1usize..5).prop_map(|(key, times)| Op::Send(key, times)),
        3 => Just(Op::PollReady),
        1 => Just(Op::PollDisconnected),
    ];
    prop::collection::vec(op, 1..250)
}

#[derive(Default)]
struct Run {
    hub: Hub<Key>,
    members: Vec<Member>,
    disconnected: VecDeque<Key>,
    published: u32,
}

impl Run {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Subscribe(key, policy, max_messages, max_bytes) => {
                let taken = self.member(key).is_some() || self.disconnected.contains(&key);
                let subscription = Subscription::new(policy).max_messages(max_messages).max_bytes(max_bytes);
                assert_eq!(self.hub.subscribe(key, subscription), !taken);
                if !taken {
                    let (log, heard, shown, reported) = Default::default();
                    let member = Member { key, policy, max_messages, max_bytes, log, shown, reported, heard };
                    self.members.push(member);
                }
            }
            Op::Unsubscribe(key) => {
                let known = self.member(key).is_some() || self.disconnected.contains(&key);
                assert_eq!(self.hub.unsubscribe(key), known);
                self.members.retain(|member| member.key != key);
                self.disconnected.retain(|disconnected| *disconnected != key);
            }
            Op::Publish(topic, len) => self.publish(topic.map(|topic| vec![topic; 3].into()), len),
            Op::Peek(key) => self.peek(key),
            Op::HandleSent(key) => self.handle_sent(key),
            Op::Send(key, times) => (0..times).for_each(|_| self.send(key)),
            Op::PollReady => match self.hub.poll_ready() {
                Some(key) => {
                    let member = self.member(key).expect("only subscribers are ready");
                    assert!(!member.reported, "each is reported once until it is drained");
                    assert!(member.next().is_some(), "there is something to send");
                    member.reported = true;
                }
                None => assert!(
                    self.members.iter().all(|member| member.reported || member.next().is_none()),
                    "nobody with something to send is forgotten"
                ),
            },
            Op::PollDisconnected => assert_eq!(self.hub.poll_disconnected(), self.disconnected.pop_front()),
        }
    }

    fn member(&mut self, key: Key) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.key == key)
    }

    fn publish(&mut self, topic: Option<Bytes>, len: usize) {
        let mut message = self.published.to_le_bytes().to_vec();
        message.resize(len, 0);
        let message = Bytes::from(message);
        let room = self.members.iter().all(|member| member.policy != Policy::Wait || member.fits(len));
        assert_eq!(self.hub.has_room(len), room);
        let result = match topic.clone() {
            Some(topic) => self.hub.publish_keyed(topic, message.clone()),
            None => self.hub.publish(message.clone()),
        };
        assert_eq!(result.is_ok(), room, "nobody who must not miss it misses it");
        let published = match result {
            Ok(published) => published,
            Err(full) => return assert_eq!(full.into_parts(), (topic, message), "it comes back as it was"),
        };
        self.published += 1;
        let (mut queued, mut missed, mut gone) = (0, 0, Vec::new());
        for member in &mut self.members {
            match member.publish(topic.as_ref(), &message) {
                Some(Fate::Queued) => queued += 1,
                Some(_) => missed += 1,
                None => gone.push(member.key),
            }
        }
        self.members.retain(|member| !gone.contains(&member.key));
        assert_eq!(
            (published.queued, published.missed, published.disconnected),
            (queued, missed, gone.len())
        );
        self.disconnected.extend(gone);
    }

    fn peek(&mut self, key: Key) {
        let expected = self.member(key).and_then(|member| {
            member.shown = member.next();
            member.shown.clone()
        });
        assert_eq!(self.hub.peek(key), expected.map(|(delivery, _)| delivery));
    }

    fn handle_sent(&mut self, key: Key) {
        self.hub.handle_sent(key);
        self.member(key).into_iter().for_each(Member::handle_sent);
    }

    fn send(&mut self, key: Key) {
        self.peek(key);
        self.handle_sent(key);
    }

    fn check(&self) {
        assert_eq!(self.hub.len(), self.members.len());
        for member in &self.members {
            let figures = self.hub.figures(member.key).expect("it is subscribed");
            let dropped = member.count(Fate::Missed) + member.count(Fate::Told);
            let ended = (member.count(Fate::Delivered), dropped, member.count(Fate::Replaced));
            assert_eq!((figures.delivered, figures.dropped, figures.replaced), ended);
            let queued = (member.count(Fate::Queued), member.queued_bytes());
            assert_eq!((figures.queued_messages as u64, figures.queued_bytes), queued);
            assert!(figures.queued_messages <= member.max_messages.max(1), "queues are bounded");
            assert!(
                figures.queued_bytes <= member.max_bytes || figures.queued_messages == 1,
                "in bytes, too"
            );
        }
    }

    fn finish(mut self) {
        let keys: Vec<Key> = self.members.iter().map(|member| member.key).collect();
        for key in keys {
            while self.hub.peek(key).is_some() {
                self.send(key);
            }
        }
        self.check();
        self.members.iter().for_each(Member::check_heard);
    }
}

/// Fast by default; `CLUSTER_TEST_LONG=1` tries a hundred times as many. proptest prints what failed, and how to repeat it.
fn config() -> ProptestConfig {
    let long = std::env::var_os("CLUSTER_TEST_LONG").is_some();
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(if long { 25_600 } else { 256 })
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn everyone_gets_what_its_policy_says_and_is_told_of_the_rest(ops in ops()) {
        let mut run = Run::default();
        for op in ops {
            run.apply(op);
            run.check();
        }
        run.finish();
    }
}

#[test]
fn the_bytes_are_not_copied() {
    let mut hub = Hub::new();
    (0..9).for_each(|key| assert!(hub.subscribe(key, Subscription::new(Policy::Wait))));
    let message = Bytes::from(vec![7; 100]);
    hub.publish(message.clone()).unwrap();
    for key in 0..9 {
        let Some(Delivery::Message(sent)) = hub.peek(key) else { panic!("nothing to send to {key}") };
        assert_eq!(sent.as_ptr(), message.as_ptr());
    }
}
