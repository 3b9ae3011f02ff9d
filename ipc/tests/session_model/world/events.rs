//! What the sessions report, against what must be true.

use cluster_ipc::Error;
use cluster_ipc::session::{CallId, Event, Incoming, Outcome, Payload, RequestId};

use super::World;
use crate::model::{Answered, Counted, End, Entry, Sent};
use crate::stream::Descriptor;

type Told = Event<Incoming<Descriptor>, Descriptor>;

impl World {
    /// Takes all events of a side, and tries again what was refused if it may fit now.
    pub(super) fn events(&mut self, side: usize) -> bool {
        let mut any = false;
        let mut writable = false;
        while let Some(event) = self.sides[side].session.as_mut().and_then(|session| session.poll_event()) {
            assert!(!self.sides[side].closed, "nothing comes after the end: {event:?}");
            any = true;
            writable |= matches!(event, Event::Writable);
            self.event(side, event);
        }
        self.check_what_is_open(side);
        if writable {
            self.sides[side].owed = false;
            self.retry(side);
        }
        any
    }

    fn event(&mut self, side: usize, event: Told) {
        assert!(
            self.sides[side].opened || matches!(event, Event::Opened(_) | Event::Closed(_)),
            "a conversation begins with the handshake: {event:?}"
        );
        match event {
            Event::Opened(mut opened) => {
                assert!(!std::mem::replace(&mut self.sides[side].opened, true), "a handshake happens once");
                let (greeting, descriptors) = [("from the child", 0), ("from the parent", 2)][side];
                assert_eq!(&opened.payload()[..], greeting.as_bytes());
                assert_eq!(opened.take_descriptors().len(), descriptors);
            }
            Event::Message(message) => self.message(side, message),
            Event::Request { id, deadline, message } => {
                let Entry::Request(at) = self.ways[1 - side].next() else { panic!("{id:?} is no request") };
                self.sides[side].requests.push(at);
                let call = &mut self.calls[at];
                call.request = Some(id);
                let earliest = call.deadline();
                let latest = call.timeout.map(|timeout| self.now + timeout);
                assert!(
                    earliest <= deadline && deadline <= latest,
                    "the peer knows how long who asked waits"
                );
                let sent = call.sent.clone();
                self.take(side, Counted::Data, &sent, message);
            }
            Event::Cancelled(id) => self.cancelled(side, id),
            Event::Completed(id, outcome) => self.completed(side, id, outcome),
            Event::Gap { missed } => self.ways[1 - side].take_gaps(missed),
            Event::Writable => {}
            Event::Finished => {
                let again = std::mem::replace(&mut self.sides[side].peer_finished, true);
                assert!(!again && matches!(self.ways[1 - side].next(), Entry::Finish));
            }
            Event::Closed(error) => {
                self.sides[side].closed = true;
                self.ways[1 - side].assert_last_words_came_first();
                let mut own = self.calls.iter().filter(|call| call.owner == side);
                assert!(own.all(|call| call.end.is_some()), "each request completes before the end");
                match error {
                    Error::Closed => assert!(self.sides[side].closes),
                    Error::PeerGone => assert!(!self.sides[side].closes && self.is_over()),
                    error => panic!("both sides are honest: {error}"),
                }
            }
            other => panic!("what is {other:?}?"),
        }
    }

    fn message(&mut self, side: usize, message: Incoming<Descriptor>) {
        let (payload, descriptors, charge) = message.into_parts();
        let urgent =
            matches!(&payload, Payload::Inline(bytes) if bytes.first().is_some_and(|byte| *byte >= 200));
        let way = &mut self.ways[1 - side];
        let sent = if urgent {
            way.urgent.pop_front().expect("it was sent").1
        } else {
            match way.next() {
                Entry::Message(sent) => sent,
                other => panic!("{payload:?} was reported where {other:?} was sent"),
            }
        };
        sent.assert_is(&payload, &descriptors);
        let counted = if urgent { Counted::Control } else { Counted::Data };
        self.sides[side].held.push((counted, sent.cost(), charge));
    }

    fn take(&mut self, side: usize, counted: Counted, sent: &Sent, message: Incoming<Descriptor>) {
        let (payload, descriptors, charge) = message.into_parts();
        sent.assert_is(&payload, &descriptors);
        self.sides[side].held.push((counted, sent.cost(), charge));
    }

    fn cancelled(&mut self, side: usize, id: RequestId) {
        let known = |call: &&mut crate::model::Call| call.owner != side && call.request == Some(id);
        let call = self.calls.iter_mut().rev().find(known).expect("it was reported");
        assert!(!call.told, "it is said once");
        call.told = true;
        let clock = self.sides[1 - side].clock;
        let timed_out = call.deadline().is_some_and(|deadline| deadline <= clock);
        assert!(call.cancel_asked || timed_out, "who asked still waits");
    }

    fn completed(&mut self, side: usize, id: CallId, outcome: Outcome<Incoming<Descriptor>>) {
        let known = |call: &crate::model::Call| call.owner == side && call.id == id;
        let at = self.calls.iter().position(known).expect("it was asked");
        let way = &mut self.ways[1 - side];
        let call = &mut self.calls[at];
        match outcome {
            Outcome::Reply(message) => {
                let Some(Answered::Reply(place, sent)) = &call.answered else { panic!("nobody replied") };
                way.report(*place);
                let sent = sent.clone();
                call.complete(End::Answered);
                self.take(side, Counted::Replies, &sent, message);
            }
            Outcome::Failed(failure) => {
                assert!(
                    matches!(&call.answered, Some(Answered::Failure(said)) if *said == failure),
                    "{failure:?} is not what was said"
                );
                call.complete(End::Answered);
            }
            Outcome::TimedOut => {
                assert!(call.deadline().is_some_and(|deadline| deadline <= self.sides[side].clock));
                call.complete(End::TimedOut);
            }
            Outcome::Cancelled => {
                assert!(call.cancel_asked);
                call.complete(End::Cancelled);
            }
            Outcome::PeerGone => {
                call.complete(End::PeerGone);
                way.assert_last_words_came_first();
                match &call.answered {
                    Some(Answered::Reply(place, _)) => {
                        assert!(*place >= way.whole.data, "the reply had arrived");
                    }
                    Some(Answered::Failure(_)) => {
                        assert!(!way.whole.failures.contains(&on_wire(id)), "the answer had arrived");
                    }
                    None => {}
                }
                let before = self.sides[side].failed.replace(at);
                assert!(
                    before.is_none_or(|before| before < at),
                    "requests fail in the order they were asked"
                );
            }
            other => panic!("what is {other:?}?"),
        }
        let call = &self.calls[at];
        if call.is_late()
            && let Some(Answered::Reply(_, sent)) = &call.answered
        {
            // The session takes it off by itself.
            self.ways[1 - side].outstanding(Counted::Replies).subtract(sent.cost());
        }
    }

    /// After all events have been taken the session and the model agree on what is open.
    fn check_what_is_open(&mut self, side: usize) {
        let Some(session) = &self.sides[side].session else { return };
        let waiting = self.calls.iter().filter(|call| call.owner == side && call.end.is_none());
        let deadline = waiting.filter_map(crate::model::Call::deadline).min();
        if session.is_open() {
            assert_eq!(session.poll_timeout(), deadline, "the next thing to happen is the next deadline");
            for at in &self.sides[side].requests {
                let call = &self.calls[*at];
                let wanted = session.is_wanted(call.request.expect("it was reported"));
                assert_eq!(wanted, !call.told, "who handles a request can see whether it is wanted");
            }
        }
    }
}

/// The number in it.
fn on_wire(id: CallId) -> u64 {
    let text = format!("{id:?}");
    let digits = text.trim_matches(|letter: char| !letter.is_ascii_digit());
    digits.parse().expect("it is a number")
}
