//! What users want, and what goes wrong.

use std::rc::Rc;

use cluster_shared_state::{
    Cancelled, ClientId, Cursor, Epoch, LeaseId, Outcome, RequestId, Revision, Start,
};

use crate::ask::{Ask, Hand, draw_range};
use crate::follower::Follower;
use crate::machine::{Machine, Side, tell};
use crate::witness::{Cancel, What, is_answer};

const WATCHERS: usize = 4;

impl Machine {
    /// One random wish, or one random fault.
    pub(crate) fn act(&mut self) {
        let (cuts, deaths, restarts) = (self.settings.cuts, self.settings.deaths, self.settings.restarts);
        let place = self.rng.usize(..self.slots.len());
        let fault = self.rng.u32(..1000);
        if fault < cuts {
            if let Some(number) = self.slots[place].conn {
                self.cut(number);
            }
        } else if fault < cuts + deaths {
            self.replace(place);
        } else if fault < cuts + deaths + restarts {
            self.stop();
        } else {
            self.want(place);
        }
    }

    fn want(&mut self, place: usize) {
        match self.rng.u8(..100) {
            0..50 => self.submit(place),
            50..56 => {
                let times = self.rng.usize(..=self.settings.burst);
                (0..times).for_each(|_| self.submit(place));
            }
            56..64 => self.execute(),
            64..70 => self.keep_alive(place),
            70..76 => self.sync(place),
            76..82 => self.at_least(place),
            82..91 => {
                let side = if self.rng.u8(..4) == 0 { Side::Primary } else { Side::Slot(place) };
                self.watch(side);
            }
            91..94 => self.unwatch(place),
            94..96 => self.cancel(place),
            // Somebody reads.
            96 => self.listen(place),
            _ => {
                if let Some(publisher) = &mut self.publisher {
                    // For no reason.
                    publisher.handle_timeout(self.now);
                    self.model.handle_timeout(self.now);
                    self.look_at_primary();
                }
            }
        }
    }

    fn ask(&mut self, own: impl Iterator<Item = LeaseId>) -> Ask {
        let mut leases: Vec<LeaseId> = own.collect();
        // Sometimes somebody else's.
        if self.rng.u8(..8) == 0 {
            leases.extend(self.slots.iter().flat_map(|slot| &slot.leases));
        }
        let revision = self.model.revision();
        let clients = self.slots.len() as u64;
        Hand { rng: &mut self.rng, leases: &leases, revision, clients }.ask()
    }

    fn submit(&mut self, place: usize) {
        let own: Vec<_> = self.slots[place].leases.iter().copied().collect();
        let ask = self.ask(own.into_iter());
        self.submit_this(place, ask);
    }

    fn submit_this(&mut self, place: usize, ask: Ask) {
        let slot = &mut self.slots[place];
        let is_full = slot.replica.outstanding() >= self.settings.replica.requests;
        match slot.replica.submit(ask.command()) {
            Ok(id) => {
                assert!(!is_full, "more requests than may be");
                tell!(self, "{}: request {} {ask:?}", self.slots[place].client, id.get());
                self.begin(place, id, What::Command(Rc::new(ask)));
            }
            Err(full) => {
                assert!(is_full, "there was room");
                assert_eq!(full.into_command(), Some(ask.command()), "the command is given back");
                self.witness.met.insert("full");
            }
        }
    }

    fn begin(&mut self, place: usize, id: RequestId, what: What) {
        let slot = &mut self.slots[place];
        slot.ids.insert(id.get(), id);
        self.witness.submitted(slot.client, id.get(), what);
        self.look_at_replica(place);
    }

    fn execute(&mut self) {
        let own: Vec<_> = self.leases.iter().copied().collect();
        let ask = self.ask(own.into_iter());
        let now = self.clock();
        let Some(publisher) = &mut self.publisher else { return };
        let result = publisher.execute(ask.command(), now);
        let expected = self.model.execute(ClientId::PRIMARY, &ask, now);
        tell!(self, "primary: {ask:?}, now at {}", self.model.revision());
        let is_right = match (&expected, &result) {
            (Ok((at, said)), Ok(answer)) => is_answer(*at, said, answer),
            (Err(expected), Err(error)) => expected == error,
            _ => false,
        };
        assert!(is_right, "{ask:?}\nof the primary itself is answered {result:?},\nnot {expected:?}");
        if let Ok(answer) = result
            && let Outcome::Granted(lease) = answer.outcome
        {
            self.leases.push_back(lease);
        }
        self.look_at_primary();
    }

    fn keep_alive(&mut self, place: usize) {
        let leases: Vec<_> = self.slots[place].leases.iter().copied().collect();
        leases.into_iter().for_each(|lease| self.submit_this(place, Ask::KeepAlive(lease)));
    }

    fn sync(&mut self, place: usize) {
        // All that was written by now, acknowledged or not; if there is no primary, all of the next one.
        let seen = match &self.publisher {
            Some(_) => self.cursor(),
            None => Cursor::new(Epoch::new(self.model.epoch.get() + 1), Revision::ZERO),
        };
        let slot = &mut self.slots[place];
        if let Ok(id) = slot.replica.sync() {
            tell!(self, "{}: sync {}, must see {seen}", self.slots[place].client, id.get());
            self.begin(place, id, What::Sync(seen));
        }
    }

    /// Somebody hands over what he has seen.
    fn at_least(&mut self, place: usize) {
        let other = self.rng.usize(..=self.slots.len());
        let cursor = match self.slots.get(other) {
            Some(slot) => slot.cursor,
            None => Some(self.cursor()),
        };
        let Some(cursor) = cursor else { return };
        let slot = &mut self.slots[place];
        if let Ok(id) = slot.replica.at_least(cursor) {
            tell!(self, "{}: request {} waits for {cursor}", self.slots[place].client, id.get());
            self.begin(place, id, What::AtLeast(cursor));
        }
    }

    fn cancel(&mut self, place: usize) {
        let client = self.slots[place].client;
        let Some(number) = self.rng.choice(self.witness.open(client)) else { return };
        let Some(id) = self.slots[place].ids.get(&number).copied() else { return };
        let how = match self.slots[place].replica.cancel(id) {
            Cancelled::NeverSent => Cancel::NeverSent,
            Cancelled::Sent => Cancel::Sent,
            other => panic!("request {number} of {client} is cancelled as {other:?}"),
        };
        tell!(self, "{client}: cancels {number}: {how:?}");
        self.witness.cancelled(client, number, how);
        self.witness.met.insert("cancelled");
        self.look_at_replica(place);
    }

    fn watch(&mut self, side: Side) {
        let followers = match side {
            Side::Primary => &self.followers,
            Side::Slot(place) => &self.slots[place].followers,
        };
        if followers.len() >= WATCHERS || (side == Side::Primary && self.publisher.is_none()) {
            return;
        }
        let range = draw_range(&mut self.rng);
        let (mut follower, watch, mut start) = Follower::draw(&mut self.rng, range);
        let host = match side {
            Side::Primary => Some(self.cursor()),
            Side::Slot(place) => self.slots[place].cursor,
        };
        if self.rng.u8(..3) == 0 {
            start = Start::After(self.somewhere(host));
        }
        let watch = watch.start(start);
        tell!(self, "{side:?}: watches {watch:?}");
        let id = match side {
            Side::Primary => self.publisher.as_mut().unwrap().watch(watch),
            Side::Slot(place) => self.slots[place].replica.watch(watch),
        };
        follower.begin(id.expect("there is room"), start, host, &self.model);
        match side {
            Side::Primary => {
                self.followers.push(follower);
                self.look_at_primary();
            }
            Side::Slot(place) => {
                self.slots[place].followers.push(follower);
                self.look_at_replica(place);
            }
        }
    }

    /// What somebody has seen, or had seen a while ago.
    fn somewhere(&mut self, host: Option<Cursor>) -> Cursor {
        let other = self.rng.usize(..self.slots.len());
        let cursor = match self.rng.u8(..3) {
            0 => self.slots[other].cursor.unwrap_or_else(|| self.cursor()),
            1 => self.cursor(),
            _ => host.unwrap_or_else(|| self.cursor()),
        };
        let back = [0, 0, self.rng.u64(..10)][self.rng.usize(..3)];
        let revision = cursor.revision.get().saturating_sub(back);
        Cursor::new(cursor.epoch, Revision::new(revision))
    }

    fn unwatch(&mut self, place: usize) {
        if self.rng.u8(..3) == 0 {
            if let (Some(publisher), false) = (&mut self.publisher, self.followers.is_empty()) {
                let follower = self.followers.swap_remove(self.rng.usize(..self.followers.len()));
                publisher.unwatch(follower.id.unwrap());
            }
            return;
        }
        let slot = &mut self.slots[place];
        if !slot.followers.is_empty() {
            let follower = slot.followers.swap_remove(self.rng.usize(..slot.followers.len()));
            slot.replica.unwatch(follower.id.unwrap());
        }
    }
}
