//! What watchers were told, beside what was written: in order, all of it, and nothing twice.
//!
//! | told           | what must be so                                                                      |
//! |----------------|--------------------------------------------------------------------------------------|
//! | Changes        | the next commit that concerns it, whole; or (merged) the difference up to its last    |
//! | Present        | a word before it, or the watcher began so; what there is (compared by the replay)     |
//! | Lagged, Gap    | Present comes next                                                                    |
//! | Resynchronised | nothing was left out before it; then Changes: the difference, if there is one          |

use std::collections::{BTreeMap, HashMap};

use super::court::Court;
use super::place::Place;
use super::record::{Merging, Since, What};
use super::replay::{Past, Pictures};
use super::verdict::Fault;
use crate::{
    Batch, Change, ChangeKind, ClientId, Cursor, Entry, Key, KeyRange, Notice, Revision, WatchEvent,
};

/// One watcher, up to the present notice.
#[derive(Debug)]
struct Watcher {
    range: KeyRange,
    merging: Merging,
    /// How far it was told everything; `None` if that is not known.
    told: Option<Place>,
    owed: Owed,
}

/// What must come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// Present, as of this revision or later.
    Present(Revision),
    /// The difference to this, if there is one. `true`: from nothing at all.
    Difference(Place, Was),
}

/// What a state was replaced by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Was {
    Nothing,
    Something,
}

/// What became of one key, between two places.
#[derive(Debug, PartialEq, Eq)]
struct Net<'a> {
    before: Option<&'a Entry>,
    after: Option<&'a Entry>,
    /// The last thing that happened, if that is known.
    last: Option<(ChangeKind, u64)>,
}

/// States that must be kept while everything is replayed: around each change of epochs that a watcher saw.
pub(super) fn wanted(court: &Court<'_>) -> Vec<(Place, KeyRange)> {
    let mut wanted = Vec::new();
    let mut told: HashMap<(ClientId, u64), Place> = HashMap::new();
    let mut is_open: HashMap<(ClientId, u64), bool> = HashMap::new();
    for record in court.records {
        let (watch, at) = match &record.what {
            What::Watch { watch, since: Since::Now(Some(at)) | Since::After(at), .. } => (*watch, *at),
            What::Told { watch, notice: Notice::Present { at, .. } } => (*watch, *at),
            What::Told { watch, notice: Notice::Changes(batch) } => (*watch, batch.last),
            What::Told { watch, notice: Notice::Resynchronised { to, .. } } => (*watch, *to),
            What::Quiet { watch, at } => (*watch, *at),
            _ => continue,
        };
        let name = (record.who.client, watch);
        let (Some(place), Some(range)) = (court.epochs.place(at), court.ranges.get(&name)) else { continue };
        let is_resync = matches!(&record.what, What::Told { notice: Notice::Resynchronised { .. }, .. });
        let before = told.get(&name).copied();
        if is_resync && before.is_none_or(|before| before.epoch != place.epoch) {
            wanted.extend(before.map(|before| (before, KeyRange::clone(range))));
            wanted.push((place, KeyRange::clone(range)));
            is_open.insert(name, true);
            continue;
        }
        let is_quiet = matches!(record.what, What::Quiet { .. });
        if is_quiet && before.is_some_and(|before| before >= place) {
            continue;
        }
        if is_open.insert(name, false) == Some(true) {
            wanted.push((place, KeyRange::clone(range)));
        }
        told.insert(name, place);
    }
    wanted.sort_unstable_by_key(|(place, _)| *place);
    wanted
}

/// Judges all watchers.
pub(super) fn judge(court: &mut Court<'_>, pasts: &[Past], pictures: &Pictures) {
    let mut watchers: HashMap<(ClientId, u64), Watcher> = HashMap::new();
    for (index, record) in court.records.iter().enumerate() {
        let client = record.who.client;
        match &record.what {
            What::Watch { watch, range, since, merging } => {
                let (told, owed) = match since {
                    Since::Now(at) => (at.and_then(|at| court.epochs.place(at)), Owed::Nothing),
                    Since::Present => (None, Owed::Present(Revision::ZERO)),
                    Since::After(at) => (court.epochs.place(*at), Owed::Nothing),
                };
                let watcher = Watcher { range: range.clone(), merging: *merging, told, owed };
                watchers.insert((client, *watch), watcher);
            }
            What::Told { watch, notice } => {
                let Some(watcher) = watchers.get_mut(&(client, *watch)) else {
                    let what = format!("watcher {watch} never began");
                    court.accuse(Fault::WrongWord, what, [index]);
                    continue;
                };
                let mut bench = Bench { court, pasts, pictures, index };
                bench.told(watcher, notice);
            }
            What::Quiet { watch, at } => {
                let Some(watcher) = watchers.get_mut(&(client, *watch)) else { continue };
                let mut bench = Bench { court, pasts, pictures, index };
                bench.quiet(watcher, *at);
            }
            _ => {}
        }
    }
}

/// One notice before the judge.
struct Bench<'a, 'b, 'c> {
    court: &'b mut Court<'a>,
    pasts: &'c [Past],
    pictures: &'c Pictures,
    index: usize,
}

impl<'c> Bench<'_, '_, 'c> {
    fn told(&mut self, watcher: &mut Watcher, notice: &Notice) {
        match notice {
            Notice::Present { at, .. } => {
                match watcher.owed {
                    Owed::Present(since) if at.revision >= since => {}
                    Owed::Present(since) => {
                        let what = format!("what there is as of {at}, after the loss of revision {since}");
                        self.accuse(Fault::WrongWord, what);
                    }
                    _ => self.accuse(Fault::WrongWord, "what there is, without a word before it".to_owned()),
                }
                let at = self.court.epochs.place(*at);
                if let (Some(told), Some(at)) = (watcher.told, at)
                    && at < told
                {
                    let what = format!("back to revision {} from {}", at.revision, told.revision);
                    self.accuse(Fault::WentBack, what);
                }
                watcher.told = at;
                watcher.owed = Owed::Nothing;
            }
            Notice::Gap { .. } => watcher.owed = Owed::Present(Revision::ZERO),
            Notice::Lagged { from, to } => {
                if from.epoch == to.epoch && from.revision > to.revision {
                    self.accuse(
                        Fault::WrongWord,
                        format!("lost revisions {} to {}", from.revision, to.revision),
                    );
                }
                watcher.owed = Owed::Present(Revision::ZERO);
            }
            Notice::Resynchronised { from, to } => self.resynchronised(watcher, *from, *to),
            Notice::Changes(batch) => self.changes(watcher, batch),
        }
    }

    fn resynchronised(&mut self, watcher: &mut Watcher, from: Cursor, to: Cursor) {
        let Some(to) = self.court.epochs.place(to) else { return };
        let from = self.court.epochs.place(from);
        let was = match (watcher.owed, watcher.told) {
            (Owed::Present(_), _) => {
                return self.accuse(Fault::WrongWord, "another word instead of what there is".to_owned());
            }
            (Owed::Difference(_, was), _) => was,
            // There was no state before the first.
            (Owed::Nothing, None) if from.is_none() => Was::Nothing,
            (Owed::Nothing, _) => Was::Something,
        };
        if let (Merging::Never, Owed::Nothing, Some(from)) = (watcher.merging, watcher.owed, from) {
            self.nothing_until(watcher, from);
        }
        watcher.owed = Owed::Difference(to, was);
    }

    fn changes(&mut self, watcher: &mut Watcher, batch: &Batch) {
        let Some(last) = self.court.epochs.place(batch.last) else { return };
        self.court.judged.notices += 1;
        match watcher.owed {
            Owed::Present(_) => {
                self.accuse(Fault::WrongWord, "changes, before what there is".to_owned());
                watcher.owed = Owed::Nothing;
            }
            Owed::Difference(to, was) => {
                watcher.owed = Owed::Nothing;
                if watcher.merging == Merging::Allowed || last == to {
                    if last < to {
                        let what = format!("revision {} after {}", last.revision, to.revision);
                        self.accuse(Fault::DoubleChange, what);
                    }
                    self.net(watcher, batch, last, was, Kinds::Lost);
                    watcher.told = Some(last);
                    return;
                }
                self.no_difference(watcher, to, was);
                watcher.told = Some(to);
            }
            Owed::Nothing => {}
        }
        self.next(watcher, batch, last);
        watcher.told = Some(last);
    }

    /// Changes without a word before them.
    fn next(&mut self, watcher: &Watcher, batch: &Batch, last: Place) {
        let first = Place { revision: batch.first.get(), ..last };
        if first > last {
            return self.accuse(Fault::WrongChange, format!("from {} to {}", batch.first, batch.last));
        }
        let just_before = || Place { revision: first.revision.saturating_sub(1), ..last };
        let told = watcher.told.unwrap_or_else(just_before);
        if told.epoch != last.epoch {
            let what = format!("revision {} of another epoch, without a word", last.revision);
            return self.accuse(Fault::WrongWord, what);
        }
        if first <= told {
            let what = format!("revision {} again, after {}", first.revision, told.revision);
            return self.accuse(Fault::DoubleChange, what);
        }
        let Some(past) = self.past(last) else { return };
        let missed = concerned(past, told.revision, first.revision - 1, &watcher.range).next();
        if first == last && missed.is_none() {
            let commit = past.commit(last.revision);
            let changes = commit.map_or(&[][..], |commit| &commit.changes);
            return self.whole(watcher, batch, changes);
        }
        match (watcher.merging, missed) {
            (Merging::Allowed, _) => self.net(watcher, batch, last, Was::Something, Kinds::Known),
            (Merging::Never, Some(missed)) => {
                let what = format!("not told of revision {missed}, but of {}", last.revision);
                self.accuse(Fault::MissedChange, what);
            }
            (Merging::Never, None) => {
                let what = format!("revisions {} to {} were merged", first.revision, last.revision);
                self.accuse(Fault::WrongChange, what);
            }
        }
    }

    /// A batch of one revision.
    fn whole(&mut self, watcher: &Watcher, batch: &Batch, changes: &[Change]) {
        let revision = batch.last.revision;
        let mine: Vec<&Change> = changes.iter().filter(|it| watcher.range.contains(&it.key)).collect();
        let is_same = mine.len() == batch.events.len()
            && mine.iter().zip(&batch.events).all(|(change, event)| {
                (&change.key, change.kind, &change.entry, &change.previous, revision)
                    == (&event.key, event.kind, &event.entry, &event.previous, event.revision)
            });
        if is_same {
            return;
        }
        let is_part = batch.events.len() < mine.len()
            && batch.events.iter().all(|event| mine.iter().any(|change| change.key == event.key));
        let fault = if is_part { Fault::TornChange } else { Fault::WrongChange };
        let what = if mine.is_empty() {
            format!("revision {revision} changed nothing that is watched")
        } else {
            format!("revision {revision} is {mine:?}")
        };
        self.accuse(fault, what);
    }

    /// A batch that leads from what was told to its end.
    fn net(&mut self, watcher: &Watcher, batch: &Batch, last: Place, was: Was, kinds: Kinds) {
        let Some(nets) = self.nets(watcher, last, was) else { return };
        let mut missing = nets.iter().filter(|(key, net)| {
            net.before != net.after && batch.events.iter().all(|event| event.key != ***key)
        });
        if let Some((key, net)) = missing.next() {
            let what = format!("up to revision {}, {key:?} became {:?}", last.revision, net.after);
            return self.accuse(Fault::MissedChange, what);
        }
        for event in &batch.events {
            let WatchEvent { key, kind, revision, entry, previous } = event;
            let is_right = nets.get(key).is_some_and(|net| {
                let is_same = (net.before, net.after) == (previous.as_ref(), entry.as_ref());
                let modified = entry.as_ref().map(|entry| entry.modified);
                let is_last = match (kinds, net.last) {
                    (Kinds::Known, Some(last)) => last == (*kind, revision.get()),
                    // Of what was not seen only the end is known. (A deletion may be one of the epoch before.)
                    _ => modified.is_none_or(|it| it == *revision),
                };
                is_same && is_last
            });
            if !is_right {
                let what = format!("up to revision {}, {key:?}: {:?}", last.revision, nets.get(key));
                return self.accuse(Fault::WrongChange, what);
            }
        }
    }

    /// What became of each key since what was told; `None` if it is not known.
    fn nets(&mut self, watcher: &Watcher, last: Place, was: Was) -> Option<BTreeMap<&'c Key, Net<'c>>> {
        let mut nets: BTreeMap<&'c Key, Net<'c>> = BTreeMap::new();
        let told = match was {
            Was::Nothing => None,
            Was::Something => Some(watcher.told?),
        };
        if let Some(told) = told.filter(|told| told.epoch == last.epoch) {
            let past = self.past(last)?;
            for commit in past.between(told.revision, last.revision) {
                for change in commit.changes.iter().filter(|it| watcher.range.contains(&it.key)) {
                    let net = nets.entry(&change.key);
                    let before = change.previous.as_ref();
                    let net = net.or_insert(Net { before, after: None, last: None });
                    net.after = change.entry.as_ref();
                    net.last = Some((change.kind, commit.revision.get()));
                }
            }
            nets.retain(|_, net| net.before.is_some() || net.after.is_some());
            return Some(nets);
        }
        let picture = |place: Place| self.pictures.get(&(place, watcher.range.clone()));
        let before = match told {
            Some(told) => &picture(told)?[..],
            None => &[],
        };
        for (key, entry) in before {
            nets.insert(key, Net { before: Some(entry), after: None, last: None });
        }
        for (key, entry) in picture(last)? {
            let net = nets.entry(key).or_insert(Net { before: None, after: None, last: None });
            net.after = Some(entry);
        }
        Some(nets)
    }

    fn no_difference(&mut self, watcher: &Watcher, to: Place, was: Was) {
        let Some(nets) = self.nets(watcher, to, was) else { return };
        if let Some((key, net)) = nets.iter().find(|(_, net)| net.before != net.after) {
            let what = format!("not told that {key:?} became {:?} by revision {}", net.after, to.revision);
            self.accuse(Fault::MissedChange, what);
        }
    }

    /// Nothing that concerns it may have happened since it was told last.
    fn nothing_until(&mut self, watcher: &Watcher, until: Place) {
        let Some(told) = watcher.told.filter(|told| told.epoch == until.epoch) else { return };
        let Some(past) = self.past(Place { revision: 0, ..until }) else { return };
        if let Some(missed) = concerned(past, told.revision, until.revision, &watcher.range).next() {
            let what = format!("not told of revision {missed}");
            self.accuse(Fault::MissedChange, what);
        }
    }

    fn quiet(&mut self, watcher: &mut Watcher, at: Cursor) {
        let Some(at) = self.court.epochs.place(at) else { return };
        match watcher.owed {
            Owed::Present(_) => self.accuse(Fault::WrongWord, "not told what there is".to_owned()),
            Owed::Difference(_, was) => self.no_difference(watcher, at, was),
            Owed::Nothing if watcher.told.is_some_and(|told| told.epoch != at.epoch) => {
                self.accuse(Fault::WrongWord, "not told of a new epoch".to_owned());
            }
            Owed::Nothing if watcher.merging == Merging::Allowed => {
                self.no_difference(watcher, at, Was::Something);
            }
            Owed::Nothing => self.nothing_until(watcher, at),
        }
        if watcher.told.is_none_or(|told| told < at) {
            watcher.told = Some(at);
            watcher.owed = Owed::Nothing;
        }
    }

    /// The past of that place, if it is known so far; if there can be no such place, that is a fault.
    fn past(&mut self, place: Place) -> Option<&'c Past>
    where
        Self: Sized,
    {
        let past = self.pasts.get(place.epoch)?;
        if place.revision <= past.end() {
            return Some(past);
        }
        if past.is_whole {
            let what = format!("there is no revision {}, the last is {}", place.revision, past.end());
            self.accuse(Fault::WrongChange, what);
        } else {
            self.court.judged.unjudged += 1;
        }
        None
    }

    fn accuse(&mut self, fault: Fault, what: String) {
        self.court.accuse(fault, what, [self.index]);
    }
}

/// Whether it is known what happened last to each key, or only what is there.
#[derive(Clone, Copy)]
enum Kinds {
    Known,
    Lost,
}

/// The revisions after the first, up to and with the second, that changed something that is watched.
fn concerned<'a>(
    past: &'a Past,
    after: u64,
    last: u64,
    range: &'a KeyRange,
) -> impl Iterator<Item = u64> + 'a {
    let commits = past.between(after, last).iter();
    let mine = commits.filter(|commit| commit.changes.iter().any(|change| range.contains(&change.key)));
    mine.map(|commit| commit.revision.get())
}
