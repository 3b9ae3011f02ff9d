//! Every request of every replica: what it was, whether it was carried out, and what it may say.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use cluster_shared_state::{
    Answer, ClientId, CommandError, Conflict, Cursor, Epoch, Key, LeaseId, Outcome, RequestError, Revision,
};

use crate::ask::Ask;
use crate::model::{Answered, Held, Said, is_same};

#[derive(Debug)]
pub(crate) enum What {
    Command(Rc<Ask>),
    /// Must see at least that.
    Sync(Cursor),
    AtLeast(Cursor),
}

/// What the primary is to answer.
#[derive(Debug)]
pub(crate) enum Expected {
    /// That it has too many answers already.
    Busy,
    Answered(Answered),
}

#[derive(Debug)]
struct Record {
    what: What,
    /// In which epoch, and what is to be answered.
    carried_out: Option<(Epoch, Expected)>,
    /// How often it came to a primary.
    arrivals: u32,
    was_sent: bool,
    is_done: bool,
    was_cancelled: Option<Cancel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    NeverSent,
    Sent,
}

/// What is to become of a request that comes to the primary.
#[derive(Debug)]
pub(crate) enum Arrival {
    First(Rc<Ask>),
    Again,
}

#[derive(Debug, Default)]
pub(crate) struct Witness {
    records: BTreeMap<(ClientId, u64), Record>,
    pub(crate) met: BTreeSet<&'static str>,
}

impl Witness {
    pub(crate) fn submitted(&mut self, client: ClientId, number: u64, what: What) {
        let record = Record {
            what,
            carried_out: None,
            arrivals: 0,
            was_sent: false,
            is_done: false,
            was_cancelled: None,
        };
        let before = self.records.insert((client, number), record);
        assert!(before.is_none(), "request {number} of {client} was there before");
    }

    pub(crate) fn cancelled(&mut self, client: ClientId, number: u64, how: Cancel) {
        let record = self.record(client, number);
        assert!(!record.is_done, "cancelled a request that was complete");
        let is_sent = record.was_sent && !matches!(record.what, What::AtLeast(_));
        assert_eq!(how == Cancel::Sent, is_sent, "{client} says of its request {number}: {how:?}");
        record.was_cancelled = Some(how);
    }

    /// Those that may be cancelled.
    pub(crate) fn open(&self, client: ClientId) -> Vec<u64> {
        let all = self.records.range((client, 0)..=(client, u64::MAX));
        all.filter(|(_, it)| !it.is_done && it.was_cancelled.is_none()).map(|((_, n), _)| *n).collect()
    }

    pub(crate) fn sent(&mut self, client: ClientId, number: u64) {
        let record = self.record(client, number);
        assert!(!record.is_done, "{client} sends request {number} again after it was complete");
        assert!(record.was_cancelled != Some(Cancel::NeverSent), "{client} sends what it said was not sent");
        record.was_sent = true;
    }

    /// It comes to the primary of that epoch.
    pub(crate) fn arrives(&mut self, client: ClientId, number: u64, epoch: Epoch) -> Arrival {
        let record = self.record(client, number);
        record.arrivals += 1;
        let What::Command(ask) = &record.what else { panic!("a read level as a command") };
        match &record.carried_out {
            None => Arrival::First(Rc::clone(ask)),
            Some((then, _)) => {
                assert_eq!(*then, epoch, "request {number} of {client} comes to two primaries");
                self.met.insert("a request came twice");
                Arrival::Again
            }
        }
    }

    pub(crate) fn carried_out(&mut self, client: ClientId, number: u64, epoch: Epoch, expected: Expected) {
        self.record(client, number).carried_out = Some((epoch, expected));
    }

    /// The replica, which is as of `here`, completes it with that. Returns a lease, if that was granted.
    pub(crate) fn completed(
        &mut self,
        client: ClientId,
        number: u64,
        result: &Result<Answer, RequestError>,
        here: Option<Cursor>,
        newest: Epoch,
    ) -> Option<LeaseId> {
        let record = self.record(client, number);
        assert!(!record.is_done, "request {number} of {client} is completed twice");
        assert_eq!(record.was_cancelled, None, "request {number} of {client} was cancelled");
        record.is_done = true;
        let met = match (&record.what, result) {
            (What::Command(_), Err(RequestError::InDoubt)) => {
                assert!(record.was_sent, "in doubt, but never sent");
                let is_lost = record.carried_out.as_ref().is_none_or(|(epoch, _)| *epoch < newest);
                assert!(is_lost, "in doubt, but this primary carried it out");
                if record.carried_out.is_some() {
                    "in doubt, and was carried out"
                } else {
                    "in doubt, and was not carried out"
                }
            }
            (What::Command(ask), _) => {
                let Some((epoch, expected)) = &record.carried_out else {
                    panic!("request {number} of {client} was answered but not carried out: {result:?}")
                };
                check(ask, record.arrivals, expected, result);
                if let Ok(answer) = result {
                    let has =
                        here.is_some_and(|here| *epoch == here.epoch && answer.revision <= here.revision);
                    assert!(has, "{here:?} does not have what was written at {epoch}:{}", answer.revision);
                }
                match result {
                    Ok(answer) if answer.is_conflict() => "conflict",
                    Ok(_) => "written",
                    Err(RequestError::Refused(CommandError::Busy { .. })) => "busy",
                    Err(RequestError::Refused(CommandError::AnswerForgotten { .. })) => "forgotten",
                    Err(_) => "refused",
                }
            }
            (What::Sync(seen), Ok(answer)) => {
                assert_eq!(answer.outcome, Outcome::Reached);
                let here = here.unwrap();
                assert!(here.revision >= answer.revision, "{here} is not at {}", answer.revision);
                let is_new = (here.epoch, answer.revision) >= (seen.epoch, seen.revision);
                assert!(is_new, "a sync at {}:{} does not see {seen}", here.epoch, answer.revision);
                "sync"
            }
            (What::AtLeast(wanted), Ok(answer)) => {
                assert_eq!(answer.outcome, Outcome::Reached);
                let reached =
                    here.is_some_and(|it| it.epoch == wanted.epoch && it.revision >= wanted.revision);
                assert!(reached, "{wanted} is not reached at {here:?}");
                assert!(answer.revision >= wanted.revision, "{} is less than {wanted}", answer.revision);
                "at least"
            }
            (What::AtLeast(wanted), Err(RequestError::NewEpoch)) => {
                assert!(here.is_some_and(|it| it.epoch != wanted.epoch), "{wanted} may come yet");
                "at least, of another epoch"
            }
            (What::Sync(_) | What::AtLeast(_), other) => panic!("a read level ends as {other:?}"),
        };
        self.met.insert(met);
        match result {
            Ok(Answer { outcome: Outcome::Granted(lease), .. }) => Some(*lease),
            _ => None,
        }
    }

    /// All that cannot complete any more is gone; these are left, which wait for what may never come.
    pub(crate) fn check_complete(&self, client: ClientId, here: Cursor) {
        for number in self.open(client) {
            let record = &self.records[&(client, number)];
            let waits = matches!(record.what, What::AtLeast(it) if it.epoch != here.epoch);
            assert!(waits, "request {number} of {client} never completes: {record:?}");
        }
    }

    fn record(&mut self, client: ClientId, number: u64) -> &mut Record {
        let record = self.records.get_mut(&(client, number));
        record.unwrap_or_else(|| panic!("there is no request {number} of {client}"))
    }
}

fn check(ask: &Ask, arrivals: u32, expected: &Expected, result: &Result<Answer, RequestError>) {
    let is_right = match (expected, result) {
        (Expected::Busy, Err(RequestError::Refused(CommandError::Busy { .. }))) => true,
        (
            Expected::Answered(Ok((at, _))),
            Err(RequestError::Refused(CommandError::AnswerForgotten { revision })),
        ) => {
            // Only of a repeated one.
            arrivals > 1 && *at == revision.get()
        }
        (Expected::Answered(Err(expected)), Err(RequestError::Refused(error))) => expected == error,
        (Expected::Answered(Ok((at, said))), Ok(answer)) => is_answer(*at, said, answer),
        _ => false,
    };
    assert!(is_right, "{ask:?}\nis answered {result:?},\nnot {expected:?}");
}

/// Whether that is what the primary answers to a command of its own, or of a replica.
pub(crate) fn is_answer(at: u64, said: &Said, answer: &Answer) -> bool {
    answer.revision == Revision::new(at) && is_outcome(said, &answer.outcome)
}

fn is_outcome(said: &Said, outcome: &Outcome) -> bool {
    let is_conflict = |key: &Key, held: &Option<Rc<Held>>, conflict: &Conflict| {
        conflict.key == *key && is_same(held.as_ref(), conflict.entry.as_ref())
    };
    match (said, outcome) {
        (Said::Put(held), Outcome::Put { previous }) => is_same(held.as_ref(), previous.as_ref()),
        (Said::Deleted(count, held), Outcome::Deleted { keys, previous }) => {
            count == keys && is_same(held.as_ref(), previous.as_ref())
        }
        (Said::Number(a), Outcome::Number(b)) => a == b,
        (Said::Appended(a), Outcome::Appended { length }) => a == length,
        (Said::Conflict(key, held), Outcome::Conflict(conflict)) => is_conflict(key, held, conflict),
        (Said::Transaction(conflict, said), Outcome::Transaction(it)) => {
            let same_way = match (conflict, &it.conflict) {
                (None, None) => true,
                (Some((key, held)), Some(conflict)) => is_conflict(key, held, conflict),
                _ => false,
            };
            same_way
                && said.len() == it.outcomes.len()
                && said.iter().zip(&it.outcomes).all(|(said, outcome)| is_outcome(said, outcome))
        }
        (Said::Granted(number), Outcome::Granted(lease)) => *number == lease.number(),
        (Said::KeptAlive, Outcome::KeptAlive) => true,
        (Said::Revoked(a), Outcome::Revoked { keys }) => a == keys,
        _ => false,
    }
}
