//! What was read, beside what there was.

use super::court::Court;
use super::naive::Naive;
use super::place::Place;
use super::record::Seen;
use super::replay::Past;
use super::verdict::Fault;
use crate::{Entry, Key, KeyRange};

/// A key of which something else was read than there was.
struct Difference<'a> {
    key: &'a Key,
    got: Option<&'a Entry>,
    there: Option<&'a Entry>,
}

pub(super) fn read(
    court: &mut Court<'_>,
    index: usize,
    place: Place,
    seen: &[Seen],
    naive: &Naive,
    past: &Past,
) {
    court.judged.reads += seen.len() as u64;
    let mut wrong = Vec::new();
    for one in seen {
        match one {
            Seen::Key(key, got) => {
                let there = naive.get(key);
                if got.as_ref() != there {
                    wrong.push(Difference { key, got: got.as_ref(), there });
                }
            }
            Seen::Range(range, entries) => wrong.extend(differences(range, entries, naive)),
        }
    }
    let Some(first) = wrong.first() else { return };
    let (fault, why) = if let Some(revision) = torn(seen, &wrong, naive, past) {
        (Fault::TornRead, format!("a part of revision {revision} was seen, but "))
    } else if is_stale(first, place) {
        (Fault::StaleRead, String::new())
    } else {
        (Fault::WrongRead, String::new())
    };
    let Difference { key, got, there } = first;
    let what = format!("{why}at revision {} under {key:?} there is {there:?}, not {got:?}", place.revision);
    court.accuse(fault, what, [index]);
}

/// What a watcher was told that there is.
pub(super) fn present(
    court: &mut Court<'_>,
    index: usize,
    range: &KeyRange,
    entries: &[(Key, Entry)],
    naive: &Naive,
) {
    court.judged.notices += 1;
    let what = differences(range, entries, naive)
        .first()
        .map(|Difference { key, got, there }| format!("under {key:?} there is {there:?}, not {got:?}"));
    if let Some(what) = what {
        court.accuse(Fault::WrongChange, what, [index]);
    }
}

fn differences<'a>(
    range: &'a KeyRange,
    entries: &'a [(Key, Entry)],
    naive: &'a Naive,
) -> Vec<Difference<'a>> {
    let there: Vec<_> = naive.range(range).collect();
    let is_same = there.len() == entries.len()
        && there.iter().zip(entries).all(|(there, got)| (there.0, there.1) == (&got.0, &got.1));
    if is_same {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for (key, got) in entries {
        let there = naive.get(key).filter(|_| range.contains(key));
        if there != Some(got) {
            wrong.push(Difference { key, got: Some(got), there });
        }
    }
    for (key, there) in there {
        if entries.binary_search_by(|(it, _)| it.cmp(key)).is_err() {
            wrong.push(Difference { key, got: None, there: Some(there) });
        }
    }
    if let (true, Some((key, got))) = (wrong.is_empty(), entries.first()) {
        // All is there, but twice or not in order.
        wrong.push(Difference { key, got: Some(got), there: None });
    }
    wrong
}

/// The revision of which this shows one key as it was written, and another as it was before.
fn torn(seen: &[Seen], wrong: &[Difference<'_>], naive: &Naive, past: &Past) -> Option<u64> {
    let is_seen = |key: &Key| {
        seen.iter().any(|one| match one {
            Seen::Key(it, _) => it == key,
            Seen::Range(range, _) => range.contains(key),
        })
    };
    wrong.iter().find_map(|difference| {
        let written = difference.there?.modified;
        let mut others = past.commit(written.get())?.changes.iter();
        let is_right = |key: &Key| is_seen(key) && wrong.iter().all(|it| it.key != key);
        others
            .any(|other| {
                is_right(&other.key) && naive.get(&other.key).is_some_and(|it| it.modified == written)
            })
            .then(|| written.get())
    })
}

fn is_stale(difference: &Difference<'_>, place: Place) -> bool {
    match (difference.got, difference.there) {
        (Some(got), Some(there)) => got.modified < there.modified,
        (Some(got), None) => got.modified.get() <= place.revision,
        (None, Some(there)) => there.version == 1,
        (None, None) => false,
    }
}
