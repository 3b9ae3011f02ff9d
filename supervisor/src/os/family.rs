//! Who belongs to a tree, and in which order its processes are frozen and killed. No I/O.
//!
//! | phase \ look | somebody runs or is new | all stand still, and did before | nobody is left |
//! |--------------|-------------------------|---------------------------------|----------------|
//! | Freezing     | Freeze (at most 10 ×)   | Kill, on to Killing             | Gone           |
//! | Killing      | Kill                    | Kill                            | Gone           |
//!
//! Why two looks: a listing of `/proc` is no snapshot. Somebody who still ran when it began may have had a child with
//! a pid that the listing had passed already. He stands still at its end, so the next listing shows that child.
//! When a second one in a row shows nobody new and nobody running, there is nobody who could have hidden.

use std::collections::{HashMap, HashSet, VecDeque};

use super::procfs::{Identity, Process};

/// The processes of one tree, from one look at all processes to the next.
#[derive(Debug)]
pub(super) struct Family {
    /// This process and init: never part of a tree, whatever a listing seems to say.
    spared: [u32; 2],
    /// The living and those who wait to be reaped, with their distance from the root.
    members: HashMap<Identity, u32>,
    /// Process groups and sessions that began within the tree.
    groups: HashSet<u32>,
    sessions: HashSet<u32>,
    /// Members whom we may not signal: who could not be at the latest try.
    refused: HashSet<Identity>,
    /// Those of the latest look, children before their parents.
    living: Vec<Identity>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Freezing { looks: u32, calm: bool },
    Killing,
}

/// So many looks may pass until all stand still; then they are killed as they are.
const FREEZING_LOOKS: u32 = 10;

/// What to do next to end a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Stop these.
    Freeze(Vec<Identity>),
    /// Kill these, in this order.
    Kill(Vec<Identity>),
    /// There is nobody left.
    Gone,
}

/// A member of the tree at the latest look.
#[derive(Clone, Copy, Debug)]
struct Seen {
    identity: Identity,
    depth: u32,
    frozen: bool,
}

impl Family {
    /// The tree below `root`, which `me` started.
    pub(super) fn new(root: Identity, me: u32) -> Self {
        Self {
            spared: [me, 1],
            members: HashMap::from([(root, 0)]),
            groups: HashSet::new(),
            sessions: HashSet::new(),
            refused: HashSet::new(),
            living: vec![root],
            phase: Phase::START,
        }
    }

    /// Takes a process in, with all that descend from it.
    pub(super) fn claim(&mut self, orphan: Identity) {
        if !self.spared.contains(&orphan.pid) && !self.members.contains_key(&orphan) {
            self.members.insert(orphan, 1);
            self.living.insert(0, orphan);
        }
    }

    /// Remembers that `member` may not be signalled.
    pub(super) fn handle_refused(&mut self, member: Identity) {
        self.refused.insert(member);
    }

    /// Forgets that `member` could not be signalled: it has given up the other user, say.
    pub(super) fn handle_reached(&mut self, member: Identity) {
        self.refused.remove(&member);
    }

    /// Finds the members among all processes and returns those who live.
    pub(super) fn handle_look(&mut self, processes: &[Process]) -> Vec<Identity> {
        self.find(processes).0.iter().map(|seen| seen.identity).collect()
    }

    /// Finds the members among all processes and says what to do to end them.
    pub(super) fn handle_round(&mut self, processes: &[Process]) -> Step {
        let (living, new) = self.find(processes);
        if living.is_empty() {
            self.phase = Phase::START;
            return Step::Gone;
        }
        let frozen = |seen: &Seen| seen.frozen || self.refused.contains(&seen.identity);
        let calm = !new && living.iter().all(frozen);
        match self.phase {
            Phase::Freezing { calm: before, looks } if !(before && calm) && looks < FREEZING_LOOKS => {
                self.phase = Phase::Freezing { calm, looks: looks + 1 };
                let running = living.iter().filter(|seen| !frozen(seen));
                Step::Freeze(running.map(|seen| seen.identity).collect())
            }
            Phase::Freezing { .. } | Phase::Killing => {
                self.phase = Phase::Killing;
                Step::Kill(self.living.clone())
            }
        }
    }

    /// The members who lived at the latest look, and those claimed since, in the order in which to kill them.
    ///
    /// Children before parents: a parent's end may orphan its children's process group, and the kernel wakes a stopped
    /// one then (SIGHUP and SIGCONT). Whoever has SIGKILL already doesn't wake.
    pub(super) fn living(&self) -> &[Identity] {
        &self.living
    }

    /// How many of the living may not be signalled. The dead who wait to be reaped don't count: nobody waits for them.
    pub(super) fn refused(&self) -> usize {
        self.living.iter().filter(|member| self.refused.contains(member)).count()
    }

    /// The members who live, children first, and whether one is among them that was not known before.
    fn find(&mut self, processes: &[Process]) -> (Vec<Seen>, bool) {
        let known = self.still_there(processes);
        let depths = self.grow(processes, &known);
        let living = processes.iter().filter(|process| !process.is_dead());
        let living = living.filter_map(|process| {
            let depth = *depths.get(&process.identity.pid)?;
            Some(Seen { identity: process.identity, depth, frozen: process.is_frozen() })
        });
        let mut living: Vec<Seen> = living.collect();
        living.sort_by_key(|seen| std::cmp::Reverse(seen.depth));
        let new = living.iter().any(|seen| !known.contains_key(&seen.identity.pid));
        self.remember(processes, &depths);
        self.living = living.iter().map(|seen| seen.identity).collect();
        (living, new)
    }

    /// The known members that are listed, by pid, with their depth.
    fn still_there(&self, processes: &[Process]) -> HashMap<u32, u32> {
        let known = |process: &Process| Some((process.identity.pid, *self.members.get(&process.identity)?));
        processes.iter().filter_map(known).collect()
    }

    /// Adds everybody who descends from a member, or is of a group or session that began with one.
    fn grow(&self, processes: &[Process], known: &HashMap<u32, u32>) -> HashMap<u32, u32> {
        let relations = Relations::among(processes);
        let mut depths = known.clone();
        let mut queue: VecDeque<(u32, u32)> = known.iter().map(|(pid, depth)| (*pid, *depth)).collect();
        let mut add = |relative: &Process, depth: u32, queue: &mut VecDeque<_>| {
            let pid = relative.identity.pid;
            if !self.spared.contains(&pid) && !depths.contains_key(&pid) {
                depths.insert(pid, depth);
                queue.push_back((pid, depth));
            }
        };
        let (groups, sessions) = self.circles(processes, known);
        for process in processes {
            if groups.contains(&process.group) || sessions.contains(&process.session) {
                add(process, 1, &mut queue);
            }
        }
        while let Some((pid, depth)) = queue.pop_front() {
            for relative in relations.of(pid) {
                add(relative, depth.saturating_add(1), &mut queue);
            }
        }
        depths
    }

    /// The groups and sessions of earlier looks that are still the tree's.
    ///
    /// Their number is given to nobody else while a process is in them. So they stay the tree's for as long as a member
    /// known by start time is in them, also when the one that they began with is long gone; and not longer.
    fn circles(&self, processes: &[Process], known: &HashMap<u32, u32>) -> (HashSet<u32>, HashSet<u32>) {
        let members = || processes.iter().filter(|process| known.contains_key(&process.identity.pid));
        let groups = members().map(|process| process.group).filter(|id| self.groups.contains(id)).collect();
        let sessions =
            members().map(|process| process.session).filter(|id| self.sessions.contains(id)).collect();
        (groups, sessions)
    }

    fn remember(&mut self, processes: &[Process], depths: &HashMap<u32, u32>) {
        let (mut groups, mut sessions) = self.circles(processes, depths);
        groups.extend(depths.keys());
        sessions.extend(depths.keys());
        (self.groups, self.sessions) = (groups, sessions);
        let member = |process: &Process| Some((process.identity, *depths.get(&process.identity.pid)?));
        self.members = processes.iter().filter_map(member).collect();
        let members = &self.members;
        self.refused.retain(|refused| members.contains_key(refused));
    }
}

impl Phase {
    const START: Self = Self::Freezing { looks: 0, calm: false };
}

/// All processes by what may make them relatives of one.
struct Relations<'a> {
    by_pid: HashMap<u32, &'a Process>,
    by_parent: HashMap<u32, Vec<&'a Process>>,
    by_circle: HashMap<u32, Vec<&'a Process>>,
}

impl<'a> Relations<'a> {
    fn among(processes: &'a [Process]) -> Self {
        let mut relations =
            Self { by_pid: HashMap::new(), by_parent: HashMap::new(), by_circle: HashMap::new() };
        for process in processes {
            relations.by_pid.insert(process.identity.pid, process);
            relations.by_parent.entry(process.parent).or_default().push(process);
            relations.by_circle.entry(process.group).or_default().push(process);
            relations.by_circle.entry(process.session).or_default().push(process);
        }
        relations
    }

    /// The children of a process, and all of the group and session that began with it.
    ///
    /// A child that began before its parent is none: a stranger got the parent's pid since the child was looked at.
    fn of(&self, pid: u32) -> impl Iterator<Item = &'a Process> {
        let started = self.by_pid.get(&pid).map(|process| process.identity.started);
        let children = self.by_parent.get(&pid).into_iter().flatten().copied();
        let children = children.filter(move |child| started.is_some_and(|at| at <= child.identity.started));
        children.chain(self.by_circle.get(&pid).into_iter().flatten().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ME: u32 = 10;
    const ROOT: u32 = 100;

    /// Init, the supervisor, a shell beside it, and the child that the tree begins with.
    fn machine() -> Vec<Process> {
        vec![
            Process::sample(1, 0, 1, 1),
            Process::sample(ME, 1, ME, ME),
            Process::sample(11, ME, 11, ME),
            Process::sample(ROOT, ME, ROOT, ME),
        ]
    }

    fn family() -> Family {
        Family::new(Process::sample(ROOT, ME, ROOT, ME).identity, ME)
    }

    fn pids(members: &[Identity]) -> Vec<u32> {
        let mut pids: Vec<u32> = members.iter().map(|member| member.pid).collect();
        pids.sort_unstable();
        pids
    }

    fn look(family: &mut Family, processes: &[Process]) -> Vec<u32> {
        pids(&family.handle_look(processes))
    }

    /// The machine, and `others` besides.
    fn with(others: impl IntoIterator<Item = Process>) -> Vec<Process> {
        machine().into_iter().chain(others).collect()
    }

    fn without(mut processes: Vec<Process>, pid: u32) -> Vec<Process> {
        processes.retain(|process| process.identity.pid != pid);
        processes
    }

    fn frozen(processes: Vec<Process>) -> Vec<Process> {
        processes.into_iter().map(|process| process.in_state(b'T')).collect()
    }

    #[test]
    fn descendants_belong_to_the_tree_wherever_they_went() {
        let grandchild = Process::sample(101, ROOT, 101, 101);
        let below = Process::sample(102, 101, 102, 102);
        let members = look(&mut family(), &with([below, grandchild]));
        assert_eq!(members, [100, 101, 102], "a session of one's own is no way out");
    }

    #[test]
    fn an_orphan_belongs_to_the_tree_by_its_group_or_its_session() {
        let by_group = Process::sample(101, 1, ROOT, ME);
        let by_session = Process::sample(102, 1, 102, ROOT);
        assert_eq!(look(&mut family(), &with([by_group, by_session])), [100, 101, 102]);
    }

    #[test]
    fn an_orphan_that_left_is_known_if_it_was_seen_before() {
        let mut family = family();
        look(&mut family, &with([Process::sample(101, ROOT, 101, 101)]));
        let orphan = Process::sample(101, 1, 101, 101);
        assert_eq!(look(&mut family, &without(with([orphan]), ROOT)), [101]);
        let mut stranger = Family::new(Process::sample(ROOT, ME, ROOT, ME).identity, ME);
        assert_eq!(look(&mut stranger, &with([Process::sample(101, 1, 101, 101)])), [100]);
    }

    #[test]
    fn a_pid_that_is_used_again_belongs_to_nobody() {
        let mut family = family();
        look(&mut family, &with([Process::sample(101, ROOT, 101, 101)]));
        let reused = Process::sample(101, 1, 101, 101).started(7000);
        assert_eq!(look(&mut family, &with([reused])), [100]);
        let root_reused = Process::sample(ROOT, 1, ROOT, ROOT).started(7000);
        assert!(look(&mut family, &without(with([]), ROOT)).is_empty());
        assert!(look(&mut family, &[root_reused]).is_empty());
    }

    #[test]
    fn a_group_is_the_trees_while_a_known_member_is_in_it() {
        let mut family = family();
        look(&mut family, &with([Process::sample(101, ROOT, ROOT, ME)]));
        let rest = [Process::sample(101, 1, ROOT, ME), Process::sample(102, 1, ROOT, ME)];
        assert_eq!(look(&mut family, &rest), [101, 102], "the leader is gone, the group is not");
        assert!(look(&mut family, &[]).is_empty());
        let stranger = Process::sample(103, 1, ROOT, ME);
        assert!(look(&mut family, &[stranger]).is_empty(), "the group's number has gone to somebody else");
    }

    #[test]
    fn a_child_older_than_its_parent_is_no_child() {
        let old = Process::sample(50, ROOT, 50, 50);
        assert_eq!(look(&mut family(), &with([old])), [100], "its parent's pid was used again");
    }

    #[test]
    fn neither_the_supervisor_nor_init_is_ever_a_member() {
        let me = Process::sample(ME, ROOT, ROOT, ROOT).started(9000);
        let init = Process::sample(1, ROOT, ROOT, ROOT).started(9000);
        let mut family = family();
        family.claim(me.identity);
        assert_eq!(look(&mut family, &[me, init, Process::sample(ROOT, ME, ROOT, ME)]), [100]);
    }

    #[test]
    fn a_group_or_session_that_the_child_only_stayed_in_is_not_the_trees() {
        let sibling = Process::sample(11, ME, ME, ME);
        let processes = [Process::sample(ME, 1, ME, ME), sibling, Process::sample(ROOT, ME, ME, ME)];
        let mut family = family();
        for _ in 0..3 {
            assert_eq!(
                look(&mut family, &processes),
                [100],
                "the supervisor's other children are in it, too"
            );
        }
    }

    #[test]
    fn an_orphan_is_claimed_with_all_below_it() {
        let daemon = Process::sample(200, ME, 200, 200);
        let mut family = family();
        family.claim(daemon.identity);
        assert_eq!(look(&mut family, &with([daemon, Process::sample(201, 200, 201, 201)])), [100, 200, 201]);
    }

    #[test]
    fn all_are_frozen_then_killed_children_first() {
        let mut family = family();
        let running = with([Process::sample(101, ROOT, 101, ME), Process::sample(102, 101, 102, ME)]);
        assert!(matches!(family.handle_round(&running), Step::Freeze(f) if pids(&f) == [100, 101, 102]));
        let still = frozen(running);
        assert_eq!(family.handle_round(&still), Step::Freeze(vec![]), "one calm look is not enough");
        let Step::Kill(order) = family.handle_round(&still) else { panic!("two are") };
        assert_eq!(order.iter().map(|member| member.pid).collect::<Vec<_>>(), [102, 101, 100]);
        assert_eq!(family.handle_round(&machine()[..3]), Step::Gone);
    }

    #[test]
    fn somebody_new_is_frozen_before_anybody_is_killed() {
        let mut family = family();
        family.handle_round(&machine());
        family.handle_round(&frozen(machine()));
        let born = Process::sample(101, ROOT, 101, 101);
        let found = family.handle_round(&frozen(machine()).into_iter().chain([born]).collect::<Vec<_>>());
        assert!(matches!(found, Step::Freeze(f) if pids(&f) == [101]));
    }

    #[test]
    fn who_will_not_freeze_is_killed_in_the_end() {
        let mut family = family();
        let freezing = (0..100).take_while(|_| matches!(family.handle_round(&machine()), Step::Freeze(_)));
        assert_eq!(freezing.count(), FREEZING_LOOKS as usize);
    }

    #[test]
    fn who_may_not_be_signalled_holds_up_nobody_and_is_counted() {
        let mut family = family();
        let foreign = Process::sample(101, ROOT, ROOT, ME);
        let mut processes = frozen(machine());
        processes.push(foreign.clone());
        family.handle_round(&processes);
        family.handle_refused(foreign.identity);
        family.handle_round(&processes);
        assert!(matches!(family.handle_round(&processes), Step::Kill(_)));
        assert_eq!(family.refused(), 1);
        family.handle_round(&machine());
        assert_eq!(family.refused(), 0, "it has gone");
    }

    #[test]
    fn a_zombie_that_may_not_be_signalled_does_not_count_for_one_who_lives() {
        let mut family = family();
        let foreign = Process::sample(101, ROOT, ROOT, ME);
        family.handle_round(&with([foreign.clone()]));
        family.handle_refused(foreign.identity);
        assert_eq!((family.living().len(), family.refused()), (2, 1));
        family.handle_round(&with([foreign.in_state(b'Z')]));
        assert_eq!(
            (family.living().len(), family.refused()),
            (1, 0),
            "the root is left, and can be waited for"
        );
    }

    #[test]
    fn who_can_be_signalled_again_is_waited_for_again() {
        let mut family = family();
        family.handle_round(&machine());
        let root = Process::sample(ROOT, ME, ROOT, ME).identity;
        family.handle_refused(root);
        assert_eq!(family.refused(), 1);
        family.handle_reached(root);
        assert_eq!(family.refused(), 0);
    }

    #[test]
    fn the_dead_are_not_left_over() {
        let dead = machine().into_iter().map(|process| process.in_state(b'Z')).collect::<Vec<_>>();
        assert_eq!(family().handle_round(&dead), Step::Gone);
    }

    fn process() -> impl Strategy<Value = Process> {
        (0..40_u32, 0..40_u32, 0..40_u32, 0..40_u32, 0..100_u64, prop::sample::select(&b"RSDTZ"[..]))
            .prop_map(|(pid, parent, group, session, started, state)| {
                Process::sample(pid, parent, group, session).started(started).in_state(state)
            })
    }

    proptest! {
        /// Whatever is listed: the spared are spared, and the rounds say Gone exactly if no member lives.
        #[test]
        fn any_listing_is_taken(looks in prop::collection::vec(prop::collection::vec(process(), 0..40), 1..20)) {
            let mut family = Family::new(Process::sample(20, ME, 20, ME).identity, ME);
            for processes in &looks {
                match family.handle_round(processes) {
                    Step::Gone => prop_assert!(family.handle_look(processes).is_empty()),
                    Step::Freeze(members) | Step::Kill(members) => {
                        prop_assert!(members.iter().all(|member| ![1, ME].contains(&member.pid)));
                    }
                }
            }
        }
    }
}
