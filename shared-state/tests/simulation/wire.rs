//! Connections: in order and whole, with room for some messages, until they break.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster_shared_state::protocol::{self, ToPrimary, ToReplica};
use cluster_shared_state::{ClientId, Epoch};

use crate::machine::{Event, Machine, tell};
use crate::witness::{Arrival, Expected};

/// Who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Primary,
    Replica,
}

pub(crate) struct Conn {
    pub(crate) client: ClientId,
    /// Whether each end still thinks that there is a connection.
    is_open_at_primary: bool,
    is_open_at_replica: bool,
    /// Nothing that is sent from now on arrives.
    is_broken: bool,
    to_primary: Pipe,
    to_replica: Pipe,
    /// Answers that were given and not sent.
    unread: usize,
    /// Loses deltas now and then, which no transport should.
    is_lossy: bool,
    pub(crate) has_lost: bool,
    /// The primary's: what it broadcasts may be heard by whoever has this connection.
    pub(crate) epoch: Epoch,
}

/// One direction.
struct Pipe {
    under_way: VecDeque<Bytes>,
    room: usize,
    /// When the last one arrives: the next comes no earlier.
    last: Instant,
    /// How much slower than the others.
    slowness: u32,
}

impl Pipe {
    fn has_room(&self) -> bool {
        self.under_way.len() < self.room
    }
}

impl Conn {
    const fn pipe(&mut self, to: To) -> &mut Pipe {
        match to {
            To::Primary => &mut self.to_primary,
            To::Replica => &mut self.to_replica,
        }
    }
}

impl Machine {
    pub(crate) fn connect(&mut self, place: usize) {
        let client = self.slots[place].client;
        let Some(publisher) = &mut self.publisher else { return self.connect_later(place) };
        if self.slots[place].conn.is_some() {
            return;
        }
        publisher.handle_connected(client);
        let listens = self.settings.air > 0 && self.rng.u8(..4) > 0;
        if listens {
            publisher.handle_listening(client);
        }
        self.issued += 1;
        let number = self.issued;
        if let Some(old) = self.feeds.insert(client, number) {
            self.close_primary_end(old);
        }
        let pipe = |rng: &mut fastrand::Rng, room, now| Pipe {
            under_way: VecDeque::new(),
            room: 1 + rng.usize(..room),
            last: now,
            slowness: [1, 1, 1, 20][rng.usize(..4)],
        };
        let conn = Conn {
            client,
            is_open_at_primary: true,
            is_open_at_replica: true,
            is_broken: false,
            to_primary: pipe(&mut self.rng, self.settings.room, self.now),
            to_replica: pipe(&mut self.rng, self.settings.room, self.now),
            unread: 0,
            is_lossy: self.settings.is_lossy && !self.calm,
            has_lost: false,
            epoch: self.model.epoch,
        };
        self.conns.insert(number, conn);
        let slot = &mut self.slots[place];
        slot.conn = Some(number);
        slot.replica.handle_connected();
        if listens {
            slot.replica.handle_listening();
        }
        tell!(self, "{client}: connects (c{number}), at {:?}", self.slots[place].cursor);
        self.look_at_replica(place);
        self.look_at_primary();
    }

    /// All that can be sent and has room is on its way.
    pub(crate) fn pump(&mut self, number: u64, to: To) {
        let (now, calm) = (self.now, self.calm);
        loop {
            let Some(conn) = self.conns.get_mut(&number) else { return };
            if !conn.pipe(to).has_room() {
                return;
            }
            let client = conn.client;
            let message = match to {
                To::Replica if conn.is_open_at_primary => {
                    self.publisher.as_mut().and_then(|it| it.poll_transmit(client))
                }
                To::Primary if conn.is_open_at_replica => {
                    self.slots.iter_mut().find(|it| it.client == client).unwrap().replica.poll_transmit()
                }
                _ => None,
            };
            let Some(message) = message else { return };
            let mut is_lost = conn.is_broken;
            match to {
                To::Replica => match protocol::decode(&message) {
                    Some(ToReplica::Reply { .. } | ToReplica::Synced { .. }) => conn.unread -= 1,
                    Some(ToReplica::Delta(_)) if conn.is_lossy && !calm && self.rng.u8(..12) == 0 => {
                        conn.has_lost = true;
                        is_lost = true;
                    }
                    _ => {}
                },
                To::Primary => {
                    if let Some(ToPrimary::Request { number, .. } | ToPrimary::Sync { number }) =
                        protocol::decode(&message)
                    {
                        self.witness.sent(client, number);
                    }
                }
            }
            if is_lost {
                // A broken connection takes what it has room for, and no more.
                if conn.is_broken {
                    conn.pipe(to).room -= 1;
                }
                continue;
            }
            let delay = Duration::from_micros(self.rng.u64(..self.settings.delay * 1000));
            let pipe = conn.pipe(to);
            let slowness = if calm { 1 } else { pipe.slowness };
            let at = pipe.last.max(now + delay * slowness);
            pipe.last = at;
            pipe.under_way.push_back(message);
            self.at(at, Event::Deliver(number, to));
        }
    }

    pub(crate) fn pump_primary(&mut self) {
        let numbers: Vec<u64> = self.feeds.values().copied().collect();
        numbers.into_iter().for_each(|number| self.pump(number, To::Replica));
    }

    pub(crate) fn deliver(&mut self, number: u64, to: To) {
        let Some(conn) = self.conns.get_mut(&number) else { return };
        let client = conn.client;
        let Some(message) = conn.pipe(to).under_way.pop_front() else { return };
        match to {
            To::Primary if conn.is_open_at_primary => self.tell_primary(number, client, &message),
            To::Replica if conn.is_open_at_replica => self.tell_replica(number, client, message),
            _ => {}
        }
        self.pump(number, to);
    }

    fn tell_primary(&mut self, number: u64, client: ClientId, message: &[u8]) {
        let decoded = protocol::decode(message);
        tell!(self, "{client} → primary: {}", brief(&decoded));
        let now = self.clock();
        let Some(conn) = self.conns.get_mut(&number) else { return };
        match decoded {
            Some(ToPrimary::Request { number, .. }) => {
                let epoch = self.model.epoch;
                if let Arrival::First(ask) = self.witness.arrives(client, number, epoch) {
                    let is_busy = self.settings.publisher.reply_bytes == 0 && conn.unread > 0;
                    let expected = if is_busy {
                        Expected::Busy
                    } else {
                        Expected::Answered(self.model.execute(client, &ask, now))
                    };
                    self.witness.carried_out(client, number, epoch, expected);
                }
                conn.unread += 1;
            }
            Some(ToPrimary::Sync { .. }) => conn.unread += 1,
            _ => {}
        }
        let limit = self.settings.publisher.limits.requests;
        assert!(conn.unread <= limit, "{} answers wait for {client}, {limit} may", conn.unread);
        let Some(publisher) = &mut self.publisher else { return };
        publisher.handle_message(client, message, now);
        self.look_at_primary();
    }

    fn tell_replica(&mut self, number: u64, client: ClientId, message: Bytes) {
        tell!(self, "primary → {client}: {}", brief(&protocol::decode::<ToReplica>(&message)));
        let place = self.place(client);
        assert_eq!(self.slots[place].conn, Some(number), "the simulator delivers to whom it should");
        if let Err(error) = self.slots[place].replica.handle_message(message) {
            panic!("{client} cannot take what the primary says: {error}");
        }
        self.look_at_replica(place);
        self.listen(place);
    }

    /// The connection breaks: of what is under way some arrives, then nothing. Both ends notice, each in its time.
    pub(crate) fn cut(&mut self, number: u64) {
        let Some(conn) = self.conns.get_mut(&number).filter(|conn| !conn.is_broken) else { return };
        conn.is_broken = true;
        for to in [To::Primary, To::Replica] {
            let pipe = conn.pipe(to);
            let rest = self.rng.usize(..=pipe.under_way.len());
            pipe.under_way.truncate(rest);
        }
        let client = conn.client;
        tell!(self, "c{number} of {client} breaks");
        for to in [To::Primary, To::Replica] {
            let delay = self.some_time() * 2;
            self.after(delay, Event::Notice(number, to));
        }
    }

    pub(crate) fn notice(&mut self, number: u64, to: To) {
        // What is still under way is read before the end, or lost.
        if self.rng.bool() {
            while self.conns.get_mut(&number).is_some_and(|conn| !conn.pipe(to).under_way.is_empty()) {
                self.deliver(number, to);
            }
        }
        let Some(conn) = self.conns.get(&number) else { return };
        let client = conn.client;
        match to {
            To::Primary if conn.is_open_at_primary => {
                tell!(self, "primary: sees the end of c{number} of {client}");
                self.feeds.remove(&client);
                self.close_primary_end(number);
                if let Some(publisher) = &mut self.publisher {
                    publisher.handle_disconnected(client);
                }
                self.look_at_primary();
            }
            To::Replica if conn.is_open_at_replica => {
                tell!(self, "{client}: sees the end of c{number}");
                self.close_replica_end(number);
                let place = self.place(client);
                self.slots[place].conn = None;
                // To connect again says that the old connection is no more, too.
                if self.rng.u8(..8) > 0 {
                    self.slots[place].replica.handle_disconnected();
                }
                self.look_at_replica(place);
                self.connect_later(place);
            }
            _ => {}
        }
    }

    pub(crate) fn close_primary_end(&mut self, number: u64) {
        if let Some(conn) = self.conns.get_mut(&number) {
            conn.is_open_at_primary = false;
            conn.to_primary.under_way.clear();
        }
        self.cut(number);
        self.forget(number);
    }

    pub(crate) fn close_replica_end(&mut self, number: u64) {
        if let Some(conn) = self.conns.get_mut(&number) {
            conn.is_open_at_replica = false;
            conn.to_replica.under_way.clear();
        }
        self.cut(number);
        self.forget(number);
    }

    fn forget(&mut self, number: u64) {
        if self.conns.get(&number).is_some_and(|it| !it.is_open_at_primary && !it.is_open_at_replica) {
            self.conns.remove(&number);
        }
    }

    fn place(&self, client: ClientId) -> usize {
        self.slots.iter().position(|slot| slot.client == client).expect("its end is open, so it lives")
    }
}

pub(crate) fn brief(message: &impl std::fmt::Debug) -> String {
    let mut text = format!("{message:?}");
    if let Some((at, _)) = text.char_indices().nth(300) {
        text.truncate(at);
        text.push('…');
    }
    text
}
