//! Bytes and time: how they move, and what has to be true when nothing moves any more.

use cluster_ipc::Error;

use super::World;
use crate::model::End;
use crate::ops::{Answer, Size};
use crate::wire::{CHUNK_LEN, MESSAGE};

impl World {
    pub(super) fn timeout(&mut self, side: usize) {
        let now = self.now;
        self.sides[side].clock = now;
        let session = self.session(side);
        session.handle_timeout(now);
        assert!(session.poll_timeout().is_none_or(|next| next > now), "what was due was done");
        self.events(side);
    }

    /// One write of at most `most` bytes.
    pub(super) fn write(&mut self, side: usize, most: usize) -> bool {
        let way = &mut self.ways[side];
        let Some(session) = &mut self.sides[side].session else { return false };
        if way.pipe.ended || way.pipe.deaf {
            return false;
        }
        let Some(transmit) = session.poll_transmit() else { return false };
        let taken = way.pipe.room(transmit.bytes().len()).min(most);
        if taken == 0 {
            return false;
        }
        let urgent_before = way.urgent_unwritten;
        for frame in way.written.follow(transmit.bytes(), taken) {
            if frame.lane == 0 {
                way.urgent_unwritten -= usize::from(frame.kind == MESSAGE);
            } else {
                assert_eq!(urgent_before, 0, "what is urgent waits for the frame being written at most");
                assert!(frame.len <= CHUNK_LEN + 16, "and that is short");
            }
        }
        way.pipe.write(&transmit.bytes()[..taken], self.ledger.write(transmit.descriptors()));
        session.handle_sent(taken);
        true
    }

    /// One read of at most `most` bytes.
    pub(super) fn read(&mut self, side: usize, most: usize, early: bool) -> bool {
        let way = &mut self.ways[1 - side];
        let Some(session) = &mut self.sides[side].session else { return false };
        if session.is_closed() {
            return false;
        }
        match way.pipe.read(most, early) {
            Some((bytes, numbers)) => {
                way.whole.follow(&bytes);
                let descriptors = numbers.into_iter().map(|number| self.ledger.arrive(number));
                session.handle_input(&bytes, descriptors.collect::<Vec<_>>(), self.now);
                true
            }
            None => {
                if way.pipe.ended {
                    session.handle_peer_gone();
                }
                false
            }
        }
    }

    /// All that `side` can write arrives and is looked at.
    pub(super) fn flow(&mut self, side: usize) -> bool {
        let mut moved = false;
        loop {
            let wrote = self.write(side, usize::MAX);
            while self.read(1 - side, usize::MAX, false) {
                moved = true;
            }
            if !wrote {
                break;
            }
        }
        // What was refused before may have been sent again.
        moved |= self.events(1 - side);
        self.check_bounds(side);
        moved
    }

    /// Nobody handles or answers anything. What was accepted arrives all the same, and then there is nothing to say.
    pub(super) fn silence(&mut self) {
        let mut rounds = 0;
        loop {
            let moved = [self.flow(0), self.flow(1)];
            if moved == [false; 2] {
                break;
            }
            rounds += 1;
            assert!(rounds < 200, "they never fall silent");
        }
        if self.is_over() {
            return;
        }
        for (side, way) in self.sides.iter().zip(&self.ways) {
            assert!(way.data.is_empty() && way.urgent.is_empty(), "what was accepted has arrived");
            assert_eq!(side.session.as_ref().map(|session| session.unsent()), Some(0));
        }
        for call in &self.calls {
            let in_vain = call.is_abandoned() && call.answered.is_none() && !call.told;
            assert!(!in_vain, "somebody works on what nobody waits for: {call:?}");
        }
    }

    /// Dies. What was written arrives.
    pub(super) fn kill(&mut self, side: usize) {
        self.sides[side].session = None;
        self.sides[side].waiting.clear();
        self.ways[side].pipe.ended = true;
        self.ways[1 - side].pipe.deaf = true;
    }

    pub(super) fn close(&mut self, side: usize, flush: bool) {
        if self.session(side).is_closed() {
            return;
        }
        while flush && self.write(side, usize::MAX) {}
        self.session(side).close(Error::Closed);
        self.sides[side].closes = true;
        self.ways[side].pipe.ended = true;
        self.ways[1 - side].pipe.deaf = true;
    }

    pub(super) fn cut(&mut self, kept: usize) {
        self.broken = true;
        for (way, kept) in self.ways.iter_mut().zip([kept, kept * 7 % 1000]) {
            way.pipe.ended = true;
            way.pipe.cut(kept);
        }
    }

    pub(crate) fn check_bounds(&self, side: usize) {
        let Some(session) = &self.sides[side].session else { return };
        let data = self.sides[side].limits.outbox.max(self.course.largest) + 1024;
        let urgent = (self.ways[side].urgent_unwritten + 1) * (CHUNK_LEN + 16);
        let small = 100 * self.calls.len() + 2000;
        let (unsent, most) = (session.unsent(), data + urgent + small);
        assert!(unsent <= most, "{unsent} bytes wait for the peer, more than {most}");
    }

    /// Everybody does what is left to do. Then nothing is left.
    pub(crate) fn settle(mut self) {
        for side in [0, 1] {
            if let Some(session) = &mut self.sides[side].session {
                // What is asked at the very end is answered too.
                assert!(session.is_closed() || !self.sides[side].closed);
            }
        }
        let ledger = self.ledger.clone();
        let mut rounds = 0;
        loop {
            let mut moved = false;
            for side in [0, 1] {
                moved |= self.flow(side) | self.events(side) | self.work(side);
            }
            if !moved {
                break;
            }
            rounds += 1;
            assert!(rounds < 10_000, "it never ends");
        }
        if self.is_over() {
            self.check_the_end();
        } else {
            self.check_the_rest();
        }
        drop(self);
        assert_eq!(ledger.still_open(), 0, "every descriptor was delivered or dropped");
    }

    /// Handles and answers all there is.
    fn work(&mut self, side: usize) -> bool {
        if self.sides[side].session.is_none() {
            return false;
        }
        let before = self.sides[side].held.len() + self.sides[side].requests.len();
        while !self.sides[side].held.is_empty() {
            self.handle(side, 0, false);
        }
        for which in (0..self.sides[side].requests.len()).rev() {
            let small = Size { len: 10, descriptors: 0, memory: false };
            self.answer(side, which, Answer::Reply(small));
        }
        before > 0
    }

    fn check_the_rest(&mut self) {
        for side in [0, 1] {
            assert!(self.sides[side].waiting.is_empty(), "what was refused fits at last");
            assert!(self.sides[side].opened && !self.sides[side].closed);
            assert_eq!(self.sides[1 - side].peer_finished, self.sides[side].finished);
            self.ways[side].assert_done();
            let own = || self.calls.iter().filter(|call| call.owner == side);
            assert!(own().all(|call| call.end.is_some_and(|end| end != End::PeerGone)));
            let late = own().filter(|call| call.is_late()).count();
            let session = self.session(side);
            assert_eq!(session.poll_timeout(), None);
            assert_eq!((session.unsent(), session.wants_transmit()), (0, false));
            assert_eq!(session.late_replies(), late as u64);
        }
    }

    fn check_the_end(&mut self) {
        for side in [0, 1] {
            if self.sides[side].session.is_none() {
                continue;
            }
            assert!(self.sides[side].closed, "the end is noticed");
            let session = self.session(side);
            // A driver may still write what was queued.
            while let Some(transmit) = session.poll_transmit() {
                let len = transmit.bytes().len();
                session.handle_sent(len);
            }
            assert!(session.poll_event().is_none() && session.poll_timeout().is_none());
            let unanswered = |call: &&crate::model::Call| {
                call.owner == side && call.end == Some(End::Answered) && call.answered.is_none()
            };
            assert!(self.calls.iter().find(unanswered).is_none(), "nobody answered");
        }
    }
}
