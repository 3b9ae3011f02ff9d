//! What returned before something was invoked comes before it.

use std::collections::HashMap;

use super::court::Court;
use super::place::{Place, is_linearizable, seen};
use super::record::{Came, Level, Record, What};
use super::verdict::Fault;
use crate::{ClientId, Outcome};

/// A place that had been reached at a time, and the record that shows it.
#[derive(Clone, Copy, Debug)]
struct Sight {
    at: u64,
    place: Place,
    record: usize,
}

/// How far everyone, or one client, is known to have come at any time.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By time, and each with the farthest place until then.
    sights: Vec<Sight>,
}

impl Known {
    fn new(mut sights: Vec<Sight>) -> Self {
        sights.sort_by_key(|sight| sight.at);
        let mut farthest: Option<Sight> = None;
        for sight in &mut sights {
            match farthest {
                Some(before) if before.place >= sight.place => {
                    *sight = Sight { at: sight.at, ..before };
                }
                _ => farthest = Some(*sight),
            }
        }
        Self { sights }
    }

    /// How far, just before that time, and who shows it.
    pub(super) fn before(&self, time: u64) -> Option<(Place, usize)> {
        let count = self.sights.partition_point(|sight| sight.at < time);
        let sight = self.sights.get(count.checked_sub(1)?)?;
        Some((sight.place, sight.record))
    }

    /// When that place is first known to have been reached.
    pub(super) fn reached(&self, place: Place) -> Option<u64> {
        let first = self.sights.partition_point(|sight| sight.place < place);
        self.sights.get(first).map(|sight| sight.at)
    }
}

/// Everyone's.
#[derive(Debug, Default)]
pub(super) struct Sights {
    pub(super) all: Known,
    pub(super) of: HashMap<ClientId, Known>,
}

impl Sights {
    pub(super) fn of(court: &Court<'_>) -> Self {
        let mut all = Vec::with_capacity(court.records.len());
        let mut of: HashMap<ClientId, Vec<Sight>> = HashMap::new();
        for (record, it) in court.records.iter().enumerate() {
            let place = seen(it).and_then(|cursor| court.epochs.place(cursor));
            if let (Some(at), Some(place)) = (it.returned, place) {
                let sight = Sight { at, place, record };
                all.push(sight);
                // What the primary told of a client is not what that client saw.
                if !matches!(it.what, What::Gone { .. }) {
                    of.entry(it.who.client).or_default().push(sight);
                }
            }
        }
        let of = of.into_iter().map(|(client, sights)| (client, Known::new(sights))).collect();
        Self { all: Known::new(all), of }
    }
}

/// Whether an answer is that of something written. `None` if that cannot be told from it.
pub(super) fn is_write(outcome: &Outcome) -> Option<bool> {
    match outcome {
        Outcome::Put { .. } | Outcome::Number(_) | Outcome::Appended { .. } => Some(true),
        Outcome::Deleted { keys, .. } | Outcome::Revoked { keys } => Some(*keys > 0),
        Outcome::Transaction(transaction) => {
            let all = || transaction.outcomes.iter();
            let deletes = all().any(|it| matches!(it, Outcome::Deleted { .. }));
            match all().any(|it| is_write(it) == Some(true)) {
                // What was made may have been deleted again: then nothing changed.
                true if deletes => None,
                writes => Some(writes),
            }
        }
        Outcome::Conflict(_) | Outcome::Granted(_) | Outcome::KeptAlive | Outcome::Reached => Some(false),
    }
}

/// Judges the order in real time, and that no client goes back.
pub(super) fn judge(court: &mut Court<'_>, sights: &Sights) {
    for (place, record) in court.records.iter().enumerate() {
        real_time(court, sights, place, record);
        if matches!(record.what, What::Read { .. }) {
            own(court, sights, place, record);
        }
        if matches!(record.what, What::Command { came: Came::InDoubt, .. }) {
            doubt(court, sights, place, record);
        }
    }
}

fn real_time(court: &mut Court<'_>, sights: &Sights, place: usize, record: &Record) {
    if !is_linearizable(record) {
        return;
    }
    let at = seen(record).and_then(|cursor| court.epochs.place(cursor));
    let (Some(at), Some((known, by))) = (at, sights.all.before(record.invoked)) else { return };
    let writes = match &record.what {
        What::Command { came: Came::Answered { answer, .. }, .. } => is_write(&answer.outcome),
        _ => Some(false),
    };
    if known > at || (known == at && writes == Some(true)) {
        let revision = known.revision;
        if writes == Some(false) {
            let what = format!("revision {} was answered, when {revision} had been seen", at.revision);
            return court.accuse(Fault::NotLinearizable, what, [place, by]);
        }
        let by_write = matches!(
            court.records.get(by).map(|it| &it.what),
            Some(What::Command { came: Came::Answered { .. }, .. })
        );
        let fault = if by_write { Fault::Reordered } else { Fault::BeforeItsTime };
        let what = format!("written as revision {}, when {revision} had been seen", at.revision);
        court.accuse(fault, what, [place, by]);
    }
}

fn own(court: &mut Court<'_>, sights: &Sights, place: usize, record: &Record) {
    let What::Read { level, at, .. } = &record.what else { return };
    if let Level::AtLeast(wanted) = level {
        let (wanted_place, at) = (court.epochs.place(*wanted), court.epochs.place(*at));
        if wanted_place > at {
            let what = format!("waited for {wanted}");
            court.accuse(Fault::NotReached, what, [place]);
        }
    }
    let known = sights.of.get(&record.who.client).and_then(|known| known.before(record.invoked));
    if let (Some(at), Some((known, by))) = (court.epochs.place(*at), known)
        && known > at
    {
        let by_read = matches!(court.records.get(by).map(|it| &it.what), Some(What::Read { .. }));
        let fault = if by_read { Fault::WentBack } else { Fault::OwnWriteUnseen };
        let what = format!("read at revision {}, after {} had been seen", at.revision, known.revision);
        court.accuse(fault, what, [place, by]);
    }
}

fn doubt(court: &mut Court<'_>, sights: &Sights, place: usize, record: &Record) {
    let client = record.who.client;
    if record.returned.is_none() || court.ended.contains_key(&client) {
        return;
    }
    let known = sights.of.get(&client).and_then(|known| known.before(record.invoked));
    if known.map_or(0, |(known, _)| known.epoch) >= court.epochs.last() {
        let what = "no other epoch began, and the client lived".to_owned();
        court.accuse(Fault::NeedlessDoubt, what, [place]);
    }
}
