//! What is judged, and what was found so far.

use std::collections::{HashMap, HashSet};

use super::log::Log;
use super::place::{Epochs, Place};
use super::record::{Came, Record, What};
use super::verdict::{Fault, Judged, Verdict, Violation};
use crate::command::{Command, Operation};
use crate::{ClientId, KeyRange, LeaseId, Outcome};

/// Violations that are kept; all are counted.
const KEPT: usize = 100;

/// What is judged, and what was found so far.
#[derive(Debug)]
pub(super) struct Court<'a> {
    pub(super) records: &'a [Record],
    pub(super) log: Option<&'a Log>,
    pub(super) epochs: Epochs,
    /// Clients that ended, and the place at which the primary knew, if that was noted.
    pub(super) ended: HashMap<ClientId, Option<Place>>,
    pub(super) leases: Leases,
    /// What each watcher watches.
    pub(super) ranges: HashMap<(ClientId, u64), &'a KeyRange>,
    /// Whether there may be commits that nobody was told of.
    has_unknown: bool,
    pub(super) judged: Judged,
    violations: Vec<Violation>,
    total: usize,
}

/// What is known of leases before anything is replayed.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// Whose each is.
    pub(super) owners: HashMap<LeaseId, ClientId>,
    /// Those that need no reason to end: they were not kept alive, or somebody wanted it.
    mortal: HashSet<LeaseId>,
}

impl<'a> Court<'a> {
    pub(super) fn new(records: &'a [Record], log: Option<&'a Log>) -> Self {
        let mut court = Self {
            records,
            log,
            epochs: Epochs::of(records, log),
            ended: HashMap::new(),
            leases: Leases::default(),
            ranges: HashMap::new(),
            has_unknown: false,
            judged: Judged::default(),
            violations: Vec::new(),
            total: 0,
        };
        let mut started = HashMap::new();
        for (place, record) in records.iter().enumerate() {
            let client = record.who.client;
            match &record.what {
                What::Started => {
                    if let Some(earlier) = started.insert(client, place) {
                        let what = format!("{client} started twice");
                        court.accuse(Fault::Reincarnation, what, [earlier, place]);
                    }
                }
                What::Died => {
                    court.ended.entry(client).or_default();
                }
                What::Gone { at } => {
                    let at = court.epochs.place(*at);
                    court.ended.insert(client, at);
                }
                What::Command { command, came } => {
                    court.has_unknown |= *came == Came::InDoubt || lives(command);
                    court.lease(place, client, command, came);
                }
                What::Watch { watch, range, .. } => {
                    court.ranges.insert((client, *watch), range);
                }
                _ => {}
            }
            if record.returned.is_none() {
                court.ended.entry(client).or_default();
            }
        }
        court
    }

    fn lease(&mut self, place: usize, client: ClientId, command: &Command, came: &Came) {
        let outcome = match came {
            Came::Answered { answer, .. } => Some(&answer.outcome),
            _ => None,
        };
        match (command, outcome) {
            (Command::Grant { ttl }, Some(Outcome::Granted(lease))) => {
                if ttl.is_some() {
                    self.leases.mortal.insert(*lease);
                }
                if let Some(other) = self.leases.owners.insert(*lease, client) {
                    let what = format!("lease {lease} was granted to {other} before");
                    self.accuse(Fault::SameLease, what, [place]);
                }
            }
            (Command::Revoke { lease }, _) if !matches!(came, Came::NotSent) => {
                self.leases.mortal.insert(*lease);
            }
            _ => {}
        }
    }

    /// Whether the lease may have ended without anyone's word.
    pub(super) fn may_end(&self, lease: LeaseId) -> bool {
        let owner = self.leases.owners.get(&lease);
        self.leases.mortal.contains(&lease) || owner.is_none_or(|owner| self.ended.contains_key(owner))
    }

    pub(super) const fn has_unknown(&self) -> bool {
        self.has_unknown
    }

    pub(super) fn accuse(&mut self, fault: Fault, what: String, records: impl IntoIterator<Item = usize>) {
        self.total += 1;
        if self.violations.len() >= KEPT {
            return;
        }
        let records: Vec<usize> = records.into_iter().collect();
        let shown = records.iter().filter_map(|place| self.records.get(*place)).map(show).collect();
        self.violations.push(Violation { fault, what, records, shown });
    }

    pub(super) fn verdict(self) -> Verdict {
        Verdict { violations: self.violations, total: self.total, judged: self.judged }
    }
}

/// Whether something may end by itself after this.
fn lives(command: &Command) -> bool {
    let operations: Vec<&Operation> = match command {
        Command::Apply { operation, .. } => vec![operation],
        Command::Transact(it) => it.then.iter().chain(&it.otherwise).collect(),
        Command::Grant { .. } | Command::KeepAlive { .. } | Command::Revoke { .. } => return true,
    };
    operations.into_iter().any(|operation| match operation {
        Operation::Put(it) => it.life.ttl.is_some(),
        Operation::Increment(it) => it.life.ttl.is_some(),
        Operation::Append(it) => it.life.ttl.is_some(),
        Operation::Delete(_) | Operation::DeleteRange(_) => false,
    })
}

fn show(record: &Record) -> String {
    let returned = record.returned.map_or_else(|| "never".to_owned(), |at| at.to_string());
    let what = format!("{:?}", record.what);
    // A whole state would bury everything else.
    let mut shown: String = what.chars().take(600).collect();
    if shown.len() < what.len() {
        shown.push('…');
    }
    let who = record.who;
    format!("{} thread {} [{} – {returned}] {shown}", who.client, who.thread, record.invoked)
}
