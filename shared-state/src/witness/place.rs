//! Places in the order of all writes, over all epochs.

use std::collections::HashMap;

use super::log::Log;
use super::record::{Came, Level, Record, What};
use crate::{Cursor, Epoch, Notice};

/// A place in the order of all writes: which epoch of the run, and which revision in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) epoch: usize,
    pub(super) revision: u64,
}

/// The epochs of a run, in the order in which they were first heard of.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    pub(super) order: Vec<Epoch>,
    index: HashMap<Epoch, usize>,
}

impl Epochs {
    pub(super) fn of(records: &[Record], log: Option<&Log>) -> Self {
        let mut first: HashMap<Epoch, u64> = HashMap::new();
        for record in records {
            let epoch = match &record.what {
                What::Primary { epoch } => Some(*epoch),
                _ => seen(record).map(|cursor| cursor.epoch),
            };
            // A primary is there before anyone hears of it.
            let is_primary = matches!(record.what, What::Primary { .. });
            let at = if is_primary { Some(record.invoked) } else { record.returned };
            if let (Some(epoch), Some(at)) = (epoch, at) {
                first.entry(epoch).and_modify(|it| *it = (*it).min(at)).or_insert(at);
            }
        }
        // Of one that is only in the log no more is known than what it comes after.
        let mut after = 0;
        for era in log.into_iter().flat_map(|log| &log.eras) {
            after = *first.entry(era.epoch).or_insert(after);
        }
        let in_log = |epoch: Epoch| log.and_then(|it| it.eras.iter().position(|era| era.epoch == epoch));
        let mut order: Vec<Epoch> = first.keys().copied().collect();
        order.sort_by_key(|epoch| (first.get(epoch).copied(), in_log(*epoch), *epoch));
        let index = order.iter().enumerate().map(|(index, epoch)| (*epoch, index)).collect();
        Self { order, index }
    }

    pub(super) fn index(&self, epoch: Epoch) -> Option<usize> {
        self.index.get(&epoch).copied()
    }

    pub(super) fn place(&self, cursor: Cursor) -> Option<Place> {
        Some(Place { epoch: self.index(cursor.epoch)?, revision: cursor.revision.get() })
    }

    pub(super) fn last(&self) -> usize {
        self.order.len().saturating_sub(1)
    }
}

/// How far the order of all writes had come when this returned, as far as it shows.
pub(super) fn seen(record: &Record) -> Option<Cursor> {
    match &record.what {
        What::Command { came: Came::Answered { epoch, answer }, .. } => {
            Some(Cursor::new(*epoch, answer.revision))
        }
        What::Command { came: Came::Forgotten { at }, .. }
        | What::Read { at, .. }
        | What::Quiet { at, .. }
        | What::Gone { at } => Some(*at),
        What::Told { notice, .. } => match notice {
            Notice::Present { at, .. } | Notice::Resynchronised { to: at, .. } => Some(*at),
            Notice::Changes(batch) => Some(batch.last),
            Notice::Lagged { .. } | Notice::Gap { .. } => None,
        },
        _ => None,
    }
}

/// Whether it was asked for after everything that returned before must show in it.
pub(super) fn is_linearizable(record: &Record) -> bool {
    match &record.what {
        What::Command { came, .. } => matches!(came, Came::Answered { .. }),
        What::Read { level, .. } => *level == Level::Linearizable,
        _ => false,
    }
}
