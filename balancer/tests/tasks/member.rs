//! A member as a process of its own: what it is told and what it says lie in queues, as in a socket.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cluster_balancer::tasks::TaskId;

/// What it is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    Give(TaskId),
    Recall(TaskId),
    Cancel(TaskId),
}

/// What it says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word {
    Taken(TaskId),
    Refused(TaskId),
    Finished(TaskId),
}

#[derive(Default)]
pub(crate) struct Process {
    pub(crate) inbox: VecDeque<Told>,
    pub(crate) said: VecDeque<Word>,
    /// Has it, and has not begun.
    held: BTreeSet<TaskId>,
    running: BTreeSet<TaskId>,
}

impl Process {
    /// Reads one thing that it was told.
    pub(crate) fn read(&mut self) {
        match self.inbox.pop_front() {
            Some(Told::Give(task)) => assert!(self.held.insert(task), "given twice"),
            Some(Told::Recall(task) | Told::Cancel(task)) => {
                if self.held.remove(&task) {
                    self.said.push_back(Word::Refused(task));
                } else if self.running.remove(&task) {
                    // Whoever is asked to give back what it has begun could also go on.
                    self.said.push_back(Word::Finished(task));
                }
            }
            None => {}
        }
    }

    /// Begins a task: says so first. How often each was begun is counted for all members.
    pub(crate) fn begin(&mut self, begun: &mut BTreeMap<TaskId, u32>) {
        if let Some(task) = self.held.pop_first() {
            self.said.push_back(Word::Taken(task));
            self.running.insert(task);
            *begun.entry(task).or_default() += 1;
        }
    }

    pub(crate) fn refuse(&mut self) {
        if let Some(task) = self.held.pop_last() {
            self.said.push_back(Word::Refused(task));
        }
    }

    pub(crate) fn finish(&mut self) {
        if let Some(task) = self.running.pop_first() {
            self.said.push_back(Word::Finished(task));
        }
    }
}
