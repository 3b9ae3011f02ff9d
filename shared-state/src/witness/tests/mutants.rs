//! Good histories with one thing changed: how many of them are caught?

use std::collections::BTreeMap;

use fastrand::Rng;

use super::seeds;
use super::world::{self, History};
use crate::witness::{Came, Record, Seen, What, judge};
use crate::{Entry, Notice, Outcome, Revision};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    SwapRevisions,
    AlterAnswer,
    AlterRead,
    LoseKeyInRead,
    DropNotice,
    RepeatNotice,
    SwapNotices,
    TearBatch,
    AlterPrevious,
    DropCommit,
    AlterCommit,
    DropWrite,
    RepeatWrite,
    ShiftRead,
    LateWrite,
}

use Change::{
    AlterAnswer, AlterCommit, AlterPrevious, AlterRead, DropCommit, DropNotice, DropWrite, LateWrite,
    LoseKeyInRead, RepeatNotice, RepeatWrite, ShiftRead, SwapNotices, SwapRevisions, TearBatch,
};

const ALL: [Change; 15] = [
    SwapRevisions,
    AlterAnswer,
    AlterRead,
    LoseKeyInRead,
    DropNotice,
    RepeatNotice,
    SwapNotices,
    TearBatch,
    AlterPrevious,
    DropCommit,
    AlterCommit,
    DropWrite,
    RepeatWrite,
    ShiftRead,
    LateWrite,
];

#[test]
fn what_is_changed_in_a_good_history_is_caught() {
    let mut caught: BTreeMap<Change, (u32, u32)> = BTreeMap::new();
    for seed in seeds(40, 2_000) {
        let good = world::run(seed, 700);
        for change in ALL {
            for turn in 0..3 {
                let mut history = History { records: good.records.clone(), log: good.log.clone() };
                let mut rng = Rng::with_seed(seed * 100 + turn);
                if mutate(&mut history, change, &mut rng).is_none() {
                    continue;
                }
                let (found, all) = caught.entry(change).or_default();
                *all += 1;
                *found += u32::from(!judge(&history.records, Some(&history.log)).is_good());
            }
        }
    }
    let (mut found, mut total) = (0, 0);
    for (change, (some, all)) in &caught {
        eprintln!("{change:?}: {some} of {all}");
        found += some;
        total += all;
        // Two clients may have written the very same at the same time, and which was first is not to be told.
        let least = if is_harmless(*change) { 50 } else { 99 };
        assert!(some * 100 >= all * least, "{change:?}: only {some} of {all}");
    }
    assert_eq!(caught.len(), ALL.len(), "each was tried");
    eprintln!("in all {found} of {total}");
}

/// Changes after which the history may still be good: a read may be true of its neighbour revision, a write of
/// which nobody was told may be one in doubt, and a write that came later may have been concurrent.
fn is_harmless(change: Change) -> bool {
    matches!(change, ShiftRead | DropWrite | LateWrite | DropNotice | SwapNotices)
}

fn mutate(history: &mut History, change: Change, rng: &mut Rng) -> Option<()> {
    match change {
        SwapRevisions => swap_revisions(history, rng),
        AlterAnswer => alter_answer(history, rng),
        AlterRead => {
            let place =
                pick(history, rng, |it| matches!(&it.what, What::Read { seen, .. } if has_entry(seen)))?;
            let What::Read { seen, .. } = &mut history.records[place].what else { return None };
            let entry = first_entry(seen)?;
            entry.value = [&entry.value[..], b"?"].concat().into();
            Some(())
        }
        LoseKeyInRead => {
            let place =
                pick(history, rng, |it| matches!(&it.what, What::Read { seen, .. } if has_entry(seen)))?;
            let What::Read { seen, .. } = &mut history.records[place].what else { return None };
            match &mut seen[0] {
                Seen::Key(_, entry) => *entry = None,
                Seen::Range(_, entries) => {
                    entries.remove(rng.usize(..entries.len()));
                }
            }
            Some(())
        }
        DropNotice => {
            // The last of a watcher is not missed by anyone.
            let place = pick(history, rng, is_changes)?;
            history.records.remove(place);
            Some(())
        }
        RepeatNotice => {
            let place = pick(history, rng, is_changes)?;
            let again = history.records[place].clone();
            history.records.insert(place + 1, again);
            Some(())
        }
        SwapNotices => {
            let place = pick(history, rng, is_changes)?;
            let name = |record: &Record| match &record.what {
                What::Told { watch, .. } => Some((record.who.client, *watch)),
                _ => None,
            };
            let mine = name(&history.records[place]);
            let rest = history.records.iter().skip(place + 1);
            let other = rest.take(60).position(|it| name(it) == mine && is_changes(it))? + place + 1;
            let (first, second) = (history.records[place].what.clone(), history.records[other].what.clone());
            (history.records[place].what, history.records[other].what) = (second, first);
            Some(())
        }
        TearBatch => {
            let place = pick(history, rng, |it| events(it) > 1)?;
            let What::Told { notice: Notice::Changes(batch), .. } = &mut history.records[place].what else {
                return None;
            };
            batch.events.remove(rng.usize(..batch.events.len()));
            Some(())
        }
        AlterPrevious => {
            let place = pick(history, rng, is_changes)?;
            let What::Told { notice: Notice::Changes(batch), .. } = &mut history.records[place].what else {
                return None;
            };
            let event = rng.choice(&mut batch.events)?;
            match &mut event.previous {
                Some(previous) => previous.version += 1,
                None => event.previous = event.entry.clone(),
            }
            // Made and deleted: nothing is there to be altered.
            event.previous.as_ref().map(|_| ())
        }
        DropCommit => {
            let era = history.log.eras.iter_mut().filter(|era| era.commits.len() > 1).last()?;
            era.commits.remove(rng.usize(..era.commits.len() - 1));
            Some(())
        }
        AlterCommit => {
            let era = history.log.eras.iter_mut().filter(|era| !era.commits.is_empty()).last()?;
            let commit = rng.choice(&mut era.commits)?;
            let change = rng.choice(&mut commit.changes)?;
            match &mut change.entry {
                Some(entry) => entry.version += 1,
                None => change.kind = crate::ChangeKind::Put,
            }
            Some(())
        }
        DropWrite => {
            let place = pick(history, rng, is_write)?;
            history.records.remove(place);
            Some(())
        }
        RepeatWrite => {
            let place = pick(history, rng, is_write)?;
            let again = history.records[place].clone();
            history.records.push(again);
            Some(())
        }
        ShiftRead => {
            let place = pick(history, rng, |it| matches!(it.what, What::Read { .. }))?;
            let What::Read { at, .. } = &mut history.records[place].what else { return None };
            at.revision = Revision::new(at.revision.get().checked_sub(1)?);
            Some(())
        }
        LateWrite => {
            let place = pick(history, rng, is_write)?;
            let record = &mut history.records[place];
            record.invoked = record.returned? + 200;
            record.returned = Some(record.invoked + 1);
            Some(())
        }
    }
}

fn pick(history: &History, rng: &mut Rng, is_meant: impl Fn(&Record) -> bool) -> Option<usize> {
    let all: Vec<usize> = (0..history.records.len()).filter(|it| is_meant(&history.records[*it])).collect();
    rng.choice(all)
}

fn swap_revisions(history: &mut History, rng: &mut Rng) -> Option<()> {
    let (one, other) = (pick(history, rng, is_write)?, pick(history, rng, is_write)?);
    let revision = |record: &Record| match &record.what {
        What::Command { came: Came::Answered { answer, epoch }, .. } => Some((*epoch, answer.revision)),
        _ => None,
    };
    let (a, b) = (revision(&history.records[one])?, revision(&history.records[other])?);
    if a == b {
        return None;
    }
    for (place, (to, number)) in [(one, b), (other, a)] {
        if let What::Command { came: Came::Answered { answer, epoch }, .. } = &mut history.records[place].what
        {
            answer.revision = number;
            *epoch = to;
        }
    }
    Some(())
}

fn alter_answer(history: &mut History, rng: &mut Rng) -> Option<()> {
    let is_meant = |it: &Record| match &it.what {
        What::Command { came: Came::Answered { answer, .. }, .. } => {
            !matches!(answer.outcome, Outcome::Granted(_) | Outcome::KeptAlive)
        }
        _ => false,
    };
    let place = pick(history, rng, is_meant)?;
    let What::Command { came: Came::Answered { answer, .. }, .. } = &mut history.records[place].what else {
        return None;
    };
    match &mut answer.outcome {
        Outcome::Number(number) => *number += 1,
        Outcome::Appended { length } => *length += 1,
        Outcome::Deleted { keys, .. } | Outcome::Revoked { keys } => *keys += 1,
        Outcome::Put { previous } => match previous {
            Some(previous) => previous.version += 1,
            None => answer.outcome = Outcome::Appended { length: 3 },
        },
        Outcome::Conflict(conflict) => match &mut conflict.entry {
            Some(entry) => entry.version += 1,
            None => conflict.key = "elsewhere".into(),
        },
        Outcome::Transaction(transaction) => transaction.outcomes.push(Outcome::Number(1)),
        _ => return None,
    }
    Some(())
}

fn is_changes(record: &Record) -> bool {
    events(record) > 0
}

fn events(record: &Record) -> usize {
    match &record.what {
        What::Told { notice: Notice::Changes(batch), .. } => batch.events.len(),
        _ => 0,
    }
}

fn is_write(record: &Record) -> bool {
    match &record.what {
        What::Command { came: Came::Answered { answer, .. }, .. } => {
            matches!(answer.outcome, Outcome::Put { .. } | Outcome::Number(_) | Outcome::Appended { .. })
        }
        _ => false,
    }
}

fn has_entry(seen: &[Seen]) -> bool {
    match &seen[0] {
        Seen::Key(_, entry) => entry.is_some(),
        Seen::Range(_, entries) => !entries.is_empty(),
    }
}

fn first_entry(seen: &mut [Seen]) -> Option<&mut Entry> {
    match &mut seen[0] {
        Seen::Key(_, entry) => entry.as_mut(),
        Seen::Range(_, entries) => entries.first_mut().map(|(_, entry)| entry),
    }
}
