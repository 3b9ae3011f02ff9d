//! What must hold after each step, and at the end.

use std::time::Duration;

use cluster_shared_state::{ClientId, Cursor, KeyRange, Notice, PublisherEvent, ReplicaEvent, View, WatchId};

use crate::ask::milliseconds;
use crate::follower::Follower;
use crate::machine::{Event, Machine, Side, tell};
use crate::model::Map;
use crate::wire::To;

/// Whether the state is what it should be.
fn check_state(who: &dyn std::fmt::Display, at: Cursor, map: &Map, state: &impl View) {
    let mut expected = map.iter();
    let mut is_right = true;
    state.visit(&KeyRange::All, &mut |key, entry| {
        is_right = expected.next().is_some_and(|(k, held)| k == key && held.is(entry));
        is_right
    });
    if !is_right || expected.next().is_some() {
        let mut entries = Vec::new();
        state.visit(&KeyRange::All, &mut |key, entry| {
            entries.push((key.clone(), entry.clone()));
            true
        });
        panic!("{who} at {at} has {entries:#?},\nnot {map:#?}");
    }
}

impl Machine {
    /// After something happened on the primary's side.
    pub(crate) fn look_at_primary(&mut self) {
        let Some(publisher) = &mut self.publisher else { return };
        let (settings, here) = (&self.settings.publisher, publisher.cursor());
        assert_eq!(here.epoch, self.model.epoch);
        assert_eq!(here.revision.get(), self.model.revision(), "the primary's revision is not the model's");
        check_state(&"the primary", here, &self.model.map, publisher.store());
        assert_eq!(publisher.poll_timeout(), self.model.next_expiry(), "when something expires next");

        let history = publisher.history();
        let kept = history.bytes_from(history.oldest()).unwrap();
        let limit = settings.history_bytes.max(settings.queue_bytes) as u64;
        assert!(kept <= limit, "{kept} bytes of history, {limit} may be");

        while let Some(event) = publisher.poll_event() {
            let met = match event {
                PublisherEvent::Joined { cursor, join, .. } => match (cursor, join) {
                    (None, _) => "joined anew",
                    (Some(_), cluster_shared_state::protocol::Join::Resume) => "resumed",
                    (Some(it), _) if it.epoch == here.epoch => "history was too short",
                    (Some(_), _) => "joined another epoch",
                },
                PublisherEvent::Live { .. } => "live",
                PublisherEvent::FellBehind { .. } => "fell behind",
                PublisherEvent::Resynchronised { .. } => "resynchronised",
                PublisherEvent::AskedAgain { .. } => "asked again",
                PublisherEvent::Missed { .. } => "missed a broadcast",
                other => panic!("the primary says {other:?} of one who did nothing wrong"),
            };
            self.witness.met.insert(met);
        }
        let mut woken = Vec::new();
        while let Some(id) = publisher.poll_ready() {
            let follower = self.followers.iter_mut().find(|it| it.id == Some(id));
            let follower = follower.expect("who watches no more is not woken");
            // Who has not taken all yet is woken again.
            if !std::mem::replace(&mut follower.is_ready, true) {
                woken.push(id);
            }
        }
        woken.into_iter().for_each(|id| self.wake(Side::Primary, id));
        for follower in self.followers.iter_mut().filter(|it| !it.is_ready) {
            follower.check_idle(here, &self.model.map);
        }
        self.broadcast();
        self.pump_primary();
    }

    /// After something happened at that replica.
    pub(crate) fn look_at_replica(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        let client = slot.client;
        let (before, here) = (slot.cursor, slot.replica.cursor());
        if before != here {
            let here = here.expect("a state does not vanish");
            assert!(here.epoch <= self.model.epoch, "{here} is nowhere");
            let log = &self.model.logs[&here.epoch];
            assert!(here.revision.get() <= log.revision(), "{client} is at {here}, which is not written yet");
            let mut from = 0;
            match before {
                Some(before) if before.epoch == here.epoch => {
                    assert!(before.revision < here.revision, "{client} went back from {before} to {here}");
                    from = before.revision.get();
                }
                Some(before) => {
                    assert!(before.epoch < here.epoch, "{client} went back from {before} to {here}");
                    slot.mirror.clear();
                }
                None => {}
            }
            (from + 1..=here.revision.get()).for_each(|revision| log.fold(&mut slot.mirror, revision));
            slot.cursor = Some(here);
        }
        if let Some(here) = here {
            check_state(&client, here, &slot.mirror, slot.replica.state());
        }
        let limit = self.settings.replica.requests;
        assert!(slot.replica.outstanding() <= limit, "more than {limit} requests");
        let has_lost = slot.conn.is_some_and(|number| self.conns[&number].has_lost);
        while let Some(event) = slot.replica.poll_event() {
            match event {
                ReplicaEvent::Gap { expected, got } => {
                    assert!(has_lost, "{client} misses {expected}, got {got}, but nothing was lost");
                    self.witness.met.insert("a gap");
                }
                ReplicaEvent::CutOff { reason } => panic!("{client} is cut off: {reason}"),
                ReplicaEvent::Live { revision, .. } => {
                    assert!(
                        here.is_some_and(|here| here.revision >= revision),
                        "live, but not at {revision}"
                    );
                }
                _ => {}
            }
        }
        while let Some((id, result)) = slot.replica.poll_completion() {
            if self.is_told {
                let at = (self.now - self.base).as_secs_f64() * 1e3;
                println!("{at:>9.3?} ms  {client}: request {} completes: {result:?}", id.get());
            }
            let granted = self.witness.completed(client, id.get(), &result, here, self.model.epoch);
            slot.ids.remove(&id.get());
            if let Some(lease) = granted {
                slot.leases.push_back(lease);
                if slot.leases.len() > 4 {
                    slot.leases.pop_front();
                }
            }
        }
        let mut woken = Vec::new();
        while let Some(id) = slot.replica.poll_ready() {
            let follower = slot.followers.iter_mut().find(|it| it.id == Some(id));
            let follower = follower.expect("who watches no more is not woken");
            // Who has not taken all yet is woken again.
            if !std::mem::replace(&mut follower.is_ready, true) {
                woken.push(id);
            }
        }
        woken.into_iter().for_each(|id| self.wake(Side::Slot(place), id));
        let slot = &mut self.slots[place];
        if let Some(here) = here {
            for follower in slot.followers.iter_mut().filter(|it| !it.is_ready) {
                follower.check_idle(here, &slot.mirror);
            }
        }
        if let Some(number) = slot.conn {
            self.pump(number, To::Primary);
        }
    }

    fn wake(&mut self, side: Side, id: WatchId) {
        let follower = self.follower(side, id).expect("it was just woken");
        if follower.is_slow {
            let delay = self.some_time() + milliseconds(self.rng.u64(..100));
            self.after(delay, Event::Turn(side, id));
        } else {
            self.take(side, id, usize::MAX);
        }
    }

    pub(crate) fn turn(&mut self, side: Side, id: WatchId) {
        if self.follower(side, id).is_none() {
            return;
        }
        let most = if self.calm { usize::MAX } else { [1, 2, usize::MAX, usize::MAX][self.rng.usize(..4)] };
        if !self.take(side, id, most) {
            let delay = self.some_time();
            self.after(delay, Event::Turn(side, id));
        }
    }

    fn follower(&mut self, side: Side, id: WatchId) -> Option<&mut Follower> {
        let followers = match side {
            Side::Primary => &mut self.followers,
            Side::Slot(place) => &mut self.slots[place].followers,
        };
        followers.iter_mut().find(|it| it.id == Some(id))
    }

    /// Takes so many notices. Whether there was no more.
    fn take(&mut self, side: Side, id: WatchId, most: usize) -> bool {
        self.follower(side, id).expect("it watches").begin_turn();
        for taken in 0.. {
            if taken >= most {
                return false;
            }
            let (notice, host) = match side {
                Side::Primary => {
                    let here = self.cursor();
                    (self.publisher.as_mut().and_then(|it| it.poll_notice(id)), Some(here))
                }
                Side::Slot(place) => {
                    let slot = &mut self.slots[place];
                    (slot.replica.poll_notice(id), slot.cursor)
                }
            };
            let followers = match side {
                Side::Primary => &mut self.followers,
                Side::Slot(place) => &mut self.slots[place].followers,
            };
            let follower = followers.iter_mut().find(|it| it.id == Some(id)).unwrap();
            let Some(notice) = notice else {
                follower.is_ready = false;
                if most == usize::MAX {
                    follower.end_turn();
                }
                break;
            };
            follower.told(&notice, host.expect("who has no state tells nothing"), &self.model);
            tell!(self, "{side:?}: watcher {id:?} is told {notice:?}");
            self.witness.met.insert(kind(&notice));
        }
        true
    }

    /// All faults end; what was begun comes to its end, and everybody is at the same place.
    pub(crate) fn end(&mut self) {
        self.calm = true;
        tell!(self, "from now on nothing goes wrong");
        let lossy: Vec<u64> = self.conns.iter().filter(|(_, it)| it.has_lost).map(|(n, _)| *n).collect();
        lossy.into_iter().for_each(|number| self.cut(number));
        // What it has left for the next time it says now.
        self.look_at_primary();
        let begin = self.now;
        let mut steps = 0;
        let mut come_to_an_end = |machine: &mut Self| {
            while machine.next() {
                steps += 1;
                assert!(steps < 100_000, "it never ends");
            }
        };
        come_to_an_end(self);
        let here = self.cursor();
        for slot in self.slots.iter().filter(|slot| !slot.followers.is_empty()) {
            assert_eq!(slot.cursor, Some(here), "{} was not woken, and somebody watches", slot.client);
        }
        // Elsewhere somebody reads.
        (0..self.slots.len()).for_each(|place| self.listen(place));
        come_to_an_end(self);
        assert!(self.now - begin < Duration::from_secs(3600), "it takes too long to end");
        let publisher = self.publisher.as_ref().expect("it was started again");
        let here = publisher.cursor();
        for slot in &self.slots {
            let client = slot.client;
            assert!(publisher.is_live(client) && slot.replica.is_live(), "{client} is not live at the end");
            assert_eq!(slot.cursor, Some(here), "{client} is not where the primary is");
            self.witness.check_complete(client, here);
            for follower in &slot.followers {
                assert!(!follower.is_ready, "{follower:?} is not told");
            }
        }
        let living = |owner: &ClientId| {
            *owner == ClientId::PRIMARY || self.slots.iter().any(|slot| slot.client == *owner)
        };
        assert!(self.model.owners().iter().all(living), "a lease outlives its owner");
        assert_eq!(publisher.store().leases(), self.model.leases(), "leases");
    }
}

fn kind(notice: &Notice) -> &'static str {
    match notice {
        Notice::Present { .. } => "told what is there",
        Notice::Changes(batch) if batch.is_coalesced() => "told changes as one",
        Notice::Changes(_) => "told changes",
        Notice::Lagged { .. } => "told of loss",
        Notice::Gap { .. } => "told of a gap",
        Notice::Resynchronised { .. } => "told of another state",
        _ => "told something unknown",
    }
}
