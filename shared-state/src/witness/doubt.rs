//! Commits that nobody was told of, and commands that nobody was told the end of: which is whose?
//!
//! Each such commit is offered to the commands that would have done just that to the state as it then was. What
//! that state was is known from the log, whatever is decided here; so whether every commit can have a command
//! of its own, and each command at most one commit, is a matching in a bipartite graph, and is decided exactly.

use std::collections::{HashMap, VecDeque};

use super::court::Court;
use super::naive::Naive;
use super::order::Sights;
use super::place::Place;
use super::record::{Came, What};
use super::replay::is_same;
use super::verdict::Fault;
use crate::command::{Command, Operation};
use crate::protocol;
use crate::{Change, ClientId, Key};

/// How often the whole history is searched for whose command was applied twice.
const SEARCHES: usize = 20;

#[derive(Debug, Default)]
pub(super) struct Doubts {
    groups: Vec<Group>,
    by_key: HashMap<Key, Vec<usize>>,
    /// Groups of commands that may change any key.
    anywhere: Vec<usize>,
    wants: Vec<Want>,
    searches: usize,
}

/// Commands that do the same whenever they are carried out.
#[derive(Debug)]
struct Group {
    /// By the time at which they were invoked.
    members: Vec<Member>,
    /// All before it have a commit.
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    invoked: u64,
    record: usize,
    /// Which of the commits it is.
    is: Option<usize>,
}

/// A commit that is looking for its command.
#[derive(Debug)]
struct Want {
    place: Place,
    /// It had been seen by then.
    seen: u64,
    groups: Vec<usize>,
}

impl Doubts {
    pub(super) fn of(court: &Court<'_>) -> Self {
        let mut doubts = Self::default();
        let mut names: HashMap<(Option<ClientId>, Vec<u8>), usize> = HashMap::new();
        for (record, it) in court.records.iter().enumerate() {
            let What::Command { command, came: Came::InDoubt } = &it.what else { continue };
            let Reach { keys, is_anywhere, is_personal } = reach(command);
            let name = (is_personal.then_some(it.who.client), protocol::encode(command).to_vec());
            let group = *names.entry(name).or_insert_with(|| {
                let group = doubts.groups.len();
                doubts.groups.push(Group { members: Vec::new(), next: 0 });
                if is_anywhere {
                    doubts.anywhere.push(group);
                }
                for key in keys {
                    doubts.by_key.entry(key.clone()).or_default().push(group);
                }
                group
            });
            if let Some(group) = doubts.groups.get_mut(group) {
                group.members.push(Member { invoked: it.invoked, record, is: None });
            }
        }
        for group in &mut doubts.groups {
            group.members.sort_by_key(|member| member.invoked);
        }
        doubts
    }

    /// Nobody was told of this commit, which came after that state.
    pub(super) fn offer(
        &mut self,
        court: &mut Court<'_>,
        sights: &Sights,
        place: Place,
        before: &Naive,
        changes: &[Change],
    ) {
        let by_key = changes.iter().filter_map(|change| self.by_key.get(&change.key)).flatten();
        let mut groups: Vec<usize> = by_key.chain(&self.anywhere).copied().collect();
        groups.sort_unstable();
        groups.dedup();
        groups.retain(|group| {
            let member = self.groups.get(*group).and_then(|group| group.members.first());
            member.is_some_and(|member| does(court, member.record, before, changes))
        });
        if groups.is_empty() {
            return self.unasked(court, place, before, changes);
        }
        let seen = sights.all.reached(place).unwrap_or(u64::MAX);
        self.wants.push(Want { place, seen, groups });
    }

    fn unasked(&mut self, court: &mut Court<'_>, place: Place, before: &Naive, changes: &[Change]) {
        self.searches += 1;
        let twice = (self.searches <= SEARCHES)
            .then(|| (0..court.records.len()).find(|record| does(court, *record, before, changes)))
            .flatten();
        let revision = place.revision;
        match twice {
            Some(record) => {
                let what = format!("revision {revision} does once more what was done");
                court.accuse(Fault::DoubleApply, what, [record]);
            }
            None => {
                let what = format!("nobody asked for revision {revision}: {changes:?}");
                court.accuse(Fault::Unasked, what, []);
            }
        }
    }

    /// Gives each commit its command.
    pub(super) fn settle(mut self, court: &mut Court<'_>) {
        for want in 0..self.wants.len() {
            if self.find(court, want) {
                court.judged.doubtful += 1;
                continue;
            }
            let Some(it) = self.wants.get(want) else { continue };
            let revision = it.place.revision;
            let members = it.groups.iter().filter_map(|group| self.groups.get(*group));
            let some: Vec<_> = members.flat_map(|group| &group.members).take(4).map(|it| it.record).collect();
            let what = format!(
                "revision {revision} is more than was asked for: all commands in doubt that would do this have \
                 another revision, were invoked after it was seen, or their client was gone"
            );
            court.accuse(Fault::Unasked, what, some);
        }
    }

    /// Finds a command for it, if need be by finding others for those that have one (breadth first).
    fn find(&mut self, court: &Court<'_>, want: usize) -> bool {
        // For each command that was reached: the commit that would take it.
        let mut taker: HashMap<(usize, usize), usize> = HashMap::new();
        // Which command a commit on the way has now.
        let mut has: HashMap<usize, (usize, usize)> = HashMap::new();
        let mut queue = VecDeque::from([want]);
        while let Some(this) = queue.pop_front() {
            let Some(Want { place, seen, groups }) = self.wants.get(this) else { continue };
            for group in groups {
                let Some(Group { members, next }) = self.groups.get(*group) else { continue };
                // First those that are free, then the others.
                let order = (*next..members.len()).chain(0..*next);
                for index in order {
                    let Some(member) = members.get(index) else { continue };
                    let is_gone = || is_gone(court, member.record, *place);
                    if member.invoked > *seen || taker.contains_key(&(*group, index)) || is_gone() {
                        continue;
                    }
                    taker.insert((*group, index), this);
                    if let Some(other) = member.is {
                        has.insert(other, (*group, index));
                        queue.push_back(other);
                        continue;
                    }
                    self.hand_over((*group, index), &taker, &has);
                    return true;
                }
            }
        }
        false
    }

    fn hand_over(
        &mut self,
        mut free: (usize, usize),
        taker: &HashMap<(usize, usize), usize>,
        has: &HashMap<usize, (usize, usize)>,
    ) {
        while let Some(want) = taker.get(&free) {
            if let Some(group) = self.groups.get_mut(free.0) {
                if let Some(member) = group.members.get_mut(free.1) {
                    member.is = Some(*want);
                }
                while group.members.get(group.next).is_some_and(|member| member.is.is_some()) {
                    group.next += 1;
                }
            }
            let Some(before) = has.get(want) else { return };
            free = *before;
        }
    }
}

fn is_gone(court: &Court<'_>, record: usize, place: Place) -> bool {
    let client = court.records.get(record).map(|it| it.who.client);
    let gone = client.and_then(|client| court.ended.get(&client)).copied().flatten();
    gone.is_some_and(|gone| gone < place)
}

/// Whether the command of that record would change just this.
fn does(court: &Court<'_>, record: usize, before: &Naive, changes: &[Change]) -> bool {
    let Some(it) = court.records.get(record) else { return false };
    let What::Command { command, .. } = &it.what else { return false };
    let done = before.try_command(it.who.client, command, before.revision().next());
    done.is_ok_and(|done| is_same(&done.changes, changes))
}

/// What a command may change.
struct Reach<'a> {
    keys: Vec<&'a Key>,
    is_anywhere: bool,
    /// Whether it matters whose command it is.
    is_personal: bool,
}

fn reach(command: &Command) -> Reach<'_> {
    let operations: Vec<&Operation> = match command {
        Command::Apply { operation, .. } => vec![operation],
        Command::Transact(transaction) => transaction.then.iter().chain(&transaction.otherwise).collect(),
        Command::Grant { .. } | Command::KeepAlive { .. } | Command::Revoke { .. } => {
            return Reach { keys: Vec::new(), is_anywhere: true, is_personal: true };
        }
    };
    let mut reach = Reach { keys: Vec::new(), is_anywhere: false, is_personal: false };
    for operation in operations {
        let (key, life) = match operation {
            Operation::Put(it) => (&it.key, it.life),
            Operation::Append(it) => (&it.key, it.life),
            Operation::Increment(it) => (&it.key, it.life),
            Operation::Delete(it) => {
                reach.keys.push(&it.key);
                continue;
            }
            Operation::DeleteRange(_) => {
                reach.is_anywhere = true;
                continue;
            }
        };
        reach.keys.push(key);
        reach.is_personal |= life.lease.is_some();
    }
    reach.keys.sort_unstable();
    reach.keys.dedup();
    reach
}
