//! Carries everything out again, in the order of revisions, and compares.

use std::collections::{HashMap, HashSet};

use super::compare;
use super::court::Court;
use super::doubt::Doubts;
use super::log::Era;
use super::naive::Naive;
use super::order::{Sights, is_write};
use super::place::{Place, seen};
use super::record::{Came, What};
use super::refusals::Refusals;
use super::verdict::Fault;
use crate::command::Command;
use crate::{Change, ChangeKind, Commit, Entry, Key, KeyRange, LeaseId, Notice, Outcome, Revision};

/// What happened in one epoch, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Before the first commit.
    pub(super) base: u64,
    /// Dense, with all previous entries.
    pub(super) commits: Vec<Commit>,
    /// Nothing came after it.
    pub(super) is_whole: bool,
}

impl Past {
    pub(super) fn end(&self) -> u64 {
        self.base + self.commits.len() as u64
    }

    /// The commits after the first revision, up to and with the second.
    pub(super) fn between(&self, after: u64, last: u64) -> &[Commit] {
        let place = |revision: u64| {
            usize::try_from(revision.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.commits.len())
        };
        self.commits.get(place(after)..place(last)).unwrap_or(&[])
    }

    pub(super) fn commit(&self, revision: u64) -> Option<&Commit> {
        self.between(revision.checked_sub(1)?, revision).first()
    }
}

/// What there was at some places.
pub(super) type Pictures = HashMap<(Place, KeyRange), Vec<(Key, Entry)>>;

/// What is to be done at a place: first the commit itself, then what is judged by the state after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    /// It is this command.
    Write(usize),
    /// It may be.
    Perhaps(usize),
    /// This record is judged by the state.
    Judge(usize),
    /// This lease ends here.
    End(usize),
    /// So do all of this client, after all that it was still answered.
    Gone(usize),
    /// What there is must be kept: the how many-th picture.
    Draw(usize),
}

pub(super) struct Replay<'a, 'b> {
    court: &'b mut Court<'a>,
    sights: &'b Sights,
    naive: Naive,
    doubts: Doubts,
    refusals: Refusals,
    wanted: &'b [(Place, KeyRange)],
    pictures: Pictures,
    pasts: Vec<Past>,
    past: Past,
}

/// Carries everything out again. Returns what happened, and the pictures that are wanted.
pub(super) fn replay(
    court: &mut Court<'_>,
    sights: &Sights,
    wanted: &[(Place, KeyRange)],
) -> (Vec<Past>, Pictures) {
    let tasks = tasks(court, wanted);
    let replay = Replay {
        naive: Naive::new(),
        doubts: Doubts::of(court),
        refusals: Refusals::of(court, sights),
        court,
        sights,
        wanted,
        pictures: Pictures::new(),
        pasts: Vec::new(),
        past: Past::default(),
    };
    replay.run(&tasks)
}

fn tasks(court: &Court<'_>, wanted: &[(Place, KeyRange)]) -> Vec<(Place, Task)> {
    let mut tasks = Vec::with_capacity(court.records.len());
    for (index, record) in court.records.iter().enumerate() {
        let task = match &record.what {
            What::Command { came: Came::Answered { answer, .. }, command } => {
                match (is_write(&answer.outcome), command) {
                    (Some(true), _) => Task::Write(index),
                    (None, _) => Task::Perhaps(index),
                    (Some(false), Command::Revoke { .. }) => Task::End(index),
                    (Some(false), _) => Task::Judge(index),
                }
            }
            What::Command { came: Came::Forgotten { .. }, .. } => Task::Perhaps(index),
            What::Gone { .. } => Task::Gone(index),
            What::Read { .. } => Task::Judge(index),
            What::Told { notice: Notice::Present { .. }, .. } => Task::Judge(index),
            _ => continue,
        };
        if let Some(place) = seen(record).and_then(|cursor| court.epochs.place(cursor)) {
            tasks.push((place, task));
        }
    }
    tasks.extend(wanted.iter().enumerate().map(|(index, (place, _))| (*place, Task::Draw(index))));
    tasks.sort_unstable();
    tasks
}

impl Replay<'_, '_> {
    fn run(mut self, tasks: &[(Place, Task)]) -> (Vec<Past>, Pictures) {
        let mut of_epoch = tasks.chunk_by(|a, b| a.0.epoch == b.0.epoch).peekable();
        for (index, epoch) in self.court.epochs.order.clone().into_iter().enumerate() {
            let tasks = of_epoch.next_if(|tasks| tasks.first().is_some_and(|it| it.0.epoch == index));
            let log = self.court.log;
            let era = log.and_then(|log| log.eras.iter().find(|era| era.epoch == epoch));
            self.epoch(index, tasks.unwrap_or(&[]), era);
        }
        self.refusals.finish(self.court);
        self.doubts.settle(self.court);
        (self.pasts, self.pictures)
    }

    fn epoch(&mut self, epoch: usize, tasks: &[(Place, Task)], era: Option<&Era>) {
        let base = era.map_or(0, |era| era.base.get());
        let entries = era.map_or(&[][..], |era| &era.entries);
        self.naive = Naive::starting_with(Revision::new(base), entries.iter().cloned());
        for (lease, owner) in &self.court.leases.owners {
            self.naive.grant(*lease, *owner);
        }
        let (logged, is_dense) = self.dense(era);
        self.past =
            Past { base, commits: Vec::new(), is_whole: is_dense && era.is_some_and(|era| !era.is_cut) };
        let early = tasks.partition_point(|(place, _)| place.revision < base);
        self.court.judged.unjudged += early as u64;
        let mut rest = tasks.get(early..).unwrap_or(&[]);
        let mut revision = base;
        loop {
            let place = Place { epoch, revision };
            let count = rest.partition_point(|(at, _)| *at <= place);
            let (now, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            let mut claimed = HashSet::new();
            if revision > base {
                let logged = self.past.commits.len();
                let logged =
                    era.and_then(|era| era.commits.get(logged)).filter(|it| it.revision.get() == revision);
                let Some(commit) = self.commit(place, now, logged, &mut claimed) else { break };
                self.naive.apply(&commit.changes, commit.revision);
                self.past.commits.push(commit);
                self.court.judged.commits += 1;
            }
            for (_, task) in now {
                self.judge(place, *task, &claimed);
            }
            self.refusals.handle_state(self.court, place, &self.naive);
            rest = later;
            revision += 1;
            if revision - base > logged && rest.is_empty() {
                break;
            }
        }
        self.beyond(rest, era.is_some());
        self.pasts.push(std::mem::take(&mut self.past));
    }

    /// How many commits of the log are without a hole, and whether those are all.
    fn dense(&mut self, era: Option<&Era>) -> (u64, bool) {
        let Some(era) = era else { return (0, false) };
        let mut expected = era.base;
        for (count, commit) in era.commits.iter().enumerate() {
            expected = expected.next();
            if commit.revision != expected {
                let what = format!("revision {} where {expected} belongs", commit.revision);
                if !era.is_cut {
                    self.court.accuse(Fault::LogNotDense, what, []);
                }
                return (count as u64, false);
            }
        }
        (era.commits.len() as u64, true)
    }

    /// The commit of this revision, if it is known.
    fn commit(
        &mut self,
        place: Place,
        tasks: &[(Place, Task)],
        logged: Option<&Commit>,
        claimed: &mut HashSet<usize>,
    ) -> Option<Commit> {
        let revision = Revision::new(place.revision);
        if logged.is_none() && self.past.is_whole {
            return None;
        }
        let writes: Vec<usize> = tasks
            .iter()
            .filter_map(|(_, task)| if let Task::Write(index) = task { Some(*index) } else { None })
            .collect();
        let mut changes = None;
        if let Some(first) = writes.first() {
            if writes.len() > 1 {
                let what = format!("both were given revision {revision}");
                self.court.accuse(Fault::SameRevision, what, writes.iter().copied());
            }
            // If there are two, the one that the log knows is judged.
            let is_logged = |index: &usize| {
                let done = self.done(*index);
                done.is_some_and(|done| logged.is_some_and(|it| is_same(&done, &it.changes)))
            };
            let mine = if writes.len() > 1 { writes.iter().copied().find(is_logged) } else { None };
            changes = self.write(place, mine.unwrap_or(*first), logged);
        } else {
            if let Some((index, done)) = self.one_of(tasks, logged) {
                claimed.insert(index);
                self.court.judged.answers += 1;
                changes = Some(done);
            }
            if let (None, Some(commit)) = (&changes, logged) {
                self.unclaimed(place, commit);
            }
        }
        let mut changes = match logged {
            Some(commit) => commit.changes.clone(),
            None => changes?,
        };
        for change in &mut changes {
            let previous = self.naive.get(&change.key).cloned();
            if logged.is_some() && change.previous.is_some() && change.previous != previous {
                let what = format!(
                    "the log says that before revision {revision} there was {:?}, not {previous:?}",
                    change.previous
                );
                self.court.accuse(Fault::WrongChange, what, writes.iter().copied());
            }
            change.previous = previous;
        }
        Some(Commit { revision, changes })
    }

    /// What that command would change now.
    fn done(&self, index: usize) -> Option<Vec<Change>> {
        let record = self.court.records.get(index)?;
        let What::Command { command, .. } = &record.what else { return None };
        let done = self.naive.try_command(record.who.client, command, self.naive.revision().next());
        done.ok().map(|done| done.changes)
    }

    fn write(&mut self, place: Place, index: usize, logged: Option<&Commit>) -> Option<Vec<Change>> {
        let revision = place.revision;
        let record = self.court.records.get(index)?;
        let What::Command { command, came: Came::Answered { answer, .. } } = &record.what else {
            return None;
        };
        let client = record.who.client;
        if self.court.ended.get(&client).copied().flatten().is_some_and(|gone| gone < place) {
            let what = format!("{client} was gone when it wrote revision {revision}");
            self.court.accuse(Fault::DeadOwner, what, [index]);
        }
        self.court.judged.answers += 1;
        match self.naive.try_command(client, command, Revision::new(revision)) {
            Ok(done) => {
                if let Some(commit) = logged.filter(|commit| !is_same(&done.changes, &commit.changes)) {
                    let what =
                        format!("acknowledged as revision {revision}, which is {:?} instead", commit.changes);
                    self.court.accuse(Fault::LostWrite, what, [index]);
                } else if done.outcome != answer.outcome {
                    let what = format!("at revision {revision} it answers {:?}", done.outcome);
                    self.court.accuse(Fault::WrongAnswer, what, [index]);
                }
                Some(done.changes)
            }
            Err(error) => {
                let what = format!("at revision {revision} it is refused: {error}");
                self.court.accuse(Fault::WrongAnswer, what, [index]);
                None
            }
        }
    }

    /// Which of the commands that may have made the next commit did, and what it changed.
    fn one_of(&self, tasks: &[(Place, Task)], logged: Option<&Commit>) -> Option<(usize, Vec<Change>)> {
        let perhaps = |task: &Task| if let Task::Perhaps(index) = task { Some(*index) } else { None };
        let can = tasks.iter().filter_map(|(_, task)| perhaps(task));
        let can = can.filter_map(|index| Some((index, self.perhaps(index, logged)?)));
        let mut can: Vec<(usize, Vec<Change>)> = can.collect();
        if can.len() > 1 {
            // Rather one that cannot have been answered so after the commit, when it would change nothing.
            let mut after = self.naive.clone();
            after.apply(&can.first()?.1, after.revision().next());
            let is_it = |index: usize| {
                let record = self.court.records.get(index);
                record.is_some_and(|it| match &it.what {
                    What::Command { command, came: Came::Answered { answer, .. } } => {
                        let done = after.try_command(it.who.client, command, after.revision().next());
                        done.is_ok_and(|done| done.outcome != answer.outcome || !done.changes.is_empty())
                    }
                    _ => false,
                })
            };
            can.sort_by_key(|(index, _)| !is_it(*index));
        }
        can.into_iter().next()
    }

    /// What that command changed, if it is the one that made the next commit.
    fn perhaps(&self, index: usize, logged: Option<&Commit>) -> Option<Vec<Change>> {
        let record = self.court.records.get(index)?;
        let What::Command { command, came } = &record.what else { return None };
        let next = self.naive.revision().next();
        let done = self.naive.try_command(record.who.client, command, next).ok()?;
        let is_its = !done.changes.is_empty()
            && logged.is_none_or(|commit| is_same(&done.changes, &commit.changes))
            && match came {
                Came::Answered { answer, .. } => answer.outcome == done.outcome,
                _ => true,
            }
            // Without a log, something that ended may have had this revision, after which it changed nothing.
            && (logged.is_some() || !self.court.has_unknown());
        is_its.then_some(done.changes)
    }

    /// A commit that nobody was told of: something ended, or it is somebody's in doubt.
    fn unclaimed(&mut self, place: Place, commit: &Commit) {
        let ends = |change: &Change| matches!(change.kind, ChangeKind::Expired | ChangeKind::LeaseGone);
        if commit.changes.is_empty() || !commit.changes.iter().all(ends) {
            return self.doubts.offer(self.court, self.sights, place, &self.naive, &commit.changes);
        }
        self.court.judged.ends += 1;
        let gone: HashSet<&Key> = commit.changes.iter().map(|change| &change.key).collect();
        for Change { key, kind, entry, .. } in &commit.changes {
            let before = self.naive.get(key);
            let lease = before.and_then(|before| before.lease);
            let wrong = match kind {
                _ if entry.is_some() => Some("something is there".to_owned()),
                _ if before.is_none() => Some("nothing was there".to_owned()),
                ChangeKind::Expired if before.is_some_and(|before| before.ttl.is_none()) => {
                    Some("it had no time to live".to_owned())
                }
                ChangeKind::LeaseGone => self.wrong_end(lease, &gone),
                _ => None,
            };
            if let Some(wrong) = wrong {
                let what = format!("{key:?} ended at revision {}: {wrong}", place.revision);
                self.court.accuse(Fault::WrongEnd, what, []);
            }
        }
    }

    fn wrong_end(&self, lease: Option<LeaseId>, gone: &HashSet<&Key>) -> Option<String> {
        let Some(lease) = lease else { return Some("it had no lease".to_owned()) };
        if !self.court.may_end(lease) {
            return Some(format!("lease {lease} has no time to live, and its owner lives"));
        }
        let left = self.naive.under(lease).find(|key| !gone.contains(key))?;
        Some(format!("its lease {lease} did not end for {left:?}"))
    }

    /// Judges what was answered, read or told by the state as it is now.
    fn judge(&mut self, place: Place, task: Task, claimed: &HashSet<usize>) {
        let index = match task {
            Task::Write(index) if place.revision == 0 => {
                let what = "acknowledged as revision 0, which is before the first".to_owned();
                return self.court.accuse(Fault::LostWrite, what, [index]);
            }
            Task::Write(_) => return,
            Task::Perhaps(index) if claimed.contains(&index) => return,
            Task::Draw(index) => {
                if let Some((place, range)) = self.wanted.get(index) {
                    let picture = self.naive.range(range).map(|(key, entry)| (key.clone(), entry.clone()));
                    self.pictures.insert((*place, range.clone()), picture.collect());
                }
                return;
            }
            Task::Perhaps(index) | Task::Judge(index) | Task::End(index) | Task::Gone(index) => index,
        };
        let Some(record) = self.court.records.get(index) else { return };
        match &record.what {
            What::Command { came: Came::Answered { .. }, .. } => self.answer(place, index),
            What::Read { seen, .. } => {
                compare::read(self.court, index, place, seen, &self.naive, &self.past);
            }
            What::Told { notice: Notice::Present { entries, .. }, watch } => {
                // What a watcher watches that nobody says began, `watches` complains about.
                if let Some(range) = self.court.ranges.get(&(record.who.client, *watch)).copied() {
                    compare::present(self.court, index, range, entries, &self.naive);
                }
            }
            What::Gone { .. } => {
                let leases = &self.court.leases.owners;
                let own = leases.iter().filter(|(_, owner)| **owner == record.who.client);
                let own: Vec<LeaseId> = own.map(|(lease, _)| *lease).collect();
                for lease in own {
                    if let Some(key) = self.naive.under(lease).next() {
                        let what = format!("{key:?} is still there, under its lease {lease}");
                        self.court.accuse(Fault::DeadOwner, what, [index]);
                    }
                    self.naive.end(lease);
                }
            }
            _ => {}
        }
    }

    /// An answer of something that changed nothing.
    fn answer(&mut self, place: Place, index: usize) {
        let Some(record) = self.court.records.get(index) else { return };
        let What::Command { command, came: Came::Answered { answer, .. } } = &record.what else { return };
        self.court.judged.answers += 1;
        if matches!(command, Command::Grant { .. }) && matches!(answer.outcome, Outcome::Granted(_)) {
            return;
        }
        let fault = if answer.is_conflict() { Fault::WrongConflict } else { Fault::WrongAnswer };
        let revision = place.revision;
        match self.naive.try_command(record.who.client, command, Revision::new(revision).next()) {
            Ok(done) if done.outcome != answer.outcome => {
                let what = format!("at revision {revision} it answers {:?}", done.outcome);
                self.court.accuse(fault, what, [index]);
            }
            Ok(done) if !done.changes.is_empty() => {
                let what = format!("revision {revision} is not its own, but it changes {:?}", done.changes);
                self.court.accuse(Fault::LostWrite, what, [index]);
            }
            Ok(_) => {}
            Err(error) => {
                let what = format!("at revision {revision} it is refused: {error}");
                self.court.accuse(fault, what, [index]);
            }
        }
        if let Command::Revoke { lease } = command {
            self.naive.end(*lease);
        }
    }

    /// What is about revisions that are not known.
    fn beyond(&mut self, rest: &[(Place, Task)], has_log: bool) {
        let end = self.past.end();
        if !self.past.is_whole {
            self.court.judged.unjudged += rest.len() as u64;
            self.refusals.handle_hole();
            let hole = rest.iter().find(|(_, task)| matches!(task, Task::Write(_)));
            if let (Some((place, Task::Write(index))), false) = (hole, has_log || self.court.has_unknown()) {
                let what = format!("revisions {} to {} are nobody's", end + 1, place.revision - 1);
                self.court.accuse(Fault::Hole, what, [*index]);
            }
            return;
        }
        for (place, task) in rest {
            let (fault, index) = match task {
                Task::Write(index) | Task::Perhaps(index) => (Fault::LostWrite, *index),
                Task::Judge(index) | Task::End(index) | Task::Gone(index) => (Fault::WrongRead, *index),
                Task::Draw(_) => continue,
            };
            let what = format!("there is no revision {}, the last is {end}", place.revision);
            self.court.accuse(fault, what, [index]);
        }
    }
}

/// Whether these are the same changes, whatever was there before.
pub(super) fn is_same(a: &[Change], b: &[Change]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| (&a.key, a.kind, &a.entry) == (&b.key, b.kind, &b.entry))
}
