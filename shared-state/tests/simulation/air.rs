//! The broadcast: what the primary says to all at once, until it is overwritten, and bells that come when they come.

use std::collections::VecDeque;

use bytes::Bytes;
use cluster_shared_state::{ClientId, Revision};

use crate::machine::{Event, Machine, tell};
use crate::wire::brief;

/// What one primary says. It can be heard also when that is gone.
#[derive(Debug, Default)]
pub(crate) struct Air {
    /// The last of them is `head`.
    messages: VecDeque<Bytes>,
    head: u64,
}

enum Heard {
    Message(Bytes),
    NotYet,
    Missed,
}

impl Air {
    fn say(&mut self, revision: Revision, message: Bytes, room: usize) {
        assert!(revision.get() > self.head, "{revision} is broadcast after {}", self.head);
        if revision.get() != self.head + 1 {
            self.messages.clear();
        }
        self.head = revision.get();
        self.messages.push_back(message);
        while self.messages.len() > room {
            self.messages.pop_front();
        }
    }

    fn hear(&self, revision: Revision) -> Heard {
        let Some(back) = self.head.checked_sub(revision.get()) else { return Heard::NotYet };
        let place = self.messages.len().checked_sub(1 + back as usize);
        place.map_or(Heard::Missed, |place| Heard::Message(self.messages[place].clone()))
    }
}

impl Machine {
    /// The primary says what is new, or leaves that for the next time.
    pub(crate) fn broadcast(&mut self) {
        if !self.calm && self.rng.u8(..8) == 0 {
            return;
        }
        let Some(publisher) = &mut self.publisher else { return };
        let air = self.airs.entry(self.model.epoch).or_default();
        while let Some((revision, message)) = publisher.poll_broadcast() {
            air.say(revision, message, self.settings.air);
        }
        let is_woken = |(client, number): (&ClientId, &u64)| publisher.poll_bell(*client).then_some(*number);
        let woken: Vec<u64> = self.feeds.iter().filter_map(is_woken).collect();
        for number in woken {
            let delay = self.some_time();
            self.after(delay, Event::Bell(number));
        }
    }

    /// The bell of a connection rings: whoever has that looks what was said.
    pub(crate) fn bell(&mut self, number: u64) {
        if let Some(place) = self.slots.iter().position(|slot| slot.conn == Some(number)) {
            self.listen(place);
        }
    }

    /// The replica hears all there is for it.
    pub(crate) fn listen(&mut self, place: usize) {
        let Some(epoch) = self.slots[place].conn.map(|number| self.conns[&number].epoch) else { return };
        while let Some(next) = self.slots[place].replica.poll_broadcast() {
            let client = self.slots[place].client;
            let heard = self.airs.get(&epoch).map_or(Heard::NotYet, |air| air.hear(next));
            let replica = &mut self.slots[place].replica;
            match heard {
                Heard::NotYet => return,
                Heard::Missed => {
                    replica.handle_missed();
                    tell!(self, "{client}: misses {next}, which was broadcast");
                }
                Heard::Message(message) => {
                    let text = self.is_told.then(|| brief(&message));
                    if let Err(error) = replica.handle_broadcast(message) {
                        panic!("{client} cannot take what the primary broadcasts: {error}");
                    }
                    tell!(self, "broadcast → {client}: {next} {}", text.unwrap_or_default());
                    self.witness.met.insert("heard a broadcast");
                }
            }
            self.look_at_replica(place);
        }
    }
}
