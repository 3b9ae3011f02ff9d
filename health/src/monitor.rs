//! The monitor: all members, what comes in about them, and what is concluded.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::lateness::Lateness;
use crate::member::{Finding, Member};
use crate::outliers::Count;
use crate::pending::Pending;
use crate::{Checks, Failures, Heartbeat, Probe, Quantity, Sample, Standing, Verdict};

/// Watches its members: their heartbeats, what they use, what they fail, how they answer.
///
/// `K` names a member and should name one *life* of it (a worker and its generation), so that a late beat
/// of a dead member finds nothing.
///
/// After any `insert`, `remove` or `handle_*`, poll [`poll_verdict`](Self::poll_verdict) until it returns
/// `None`, then wait until [`poll_timeout`](Self::poll_timeout) and call
/// [`handle_timeout`](Self::handle_timeout). A driver that reads beats off shared memory does so just
/// before that call.
///
/// # When the monitor itself was late
///
/// It announces a tick every half interval. If one comes more than half an interval late (the process was
/// stopped, the machine slept or was overloaded), it can't tell the silence of others from its own:
///
/// - Every member's deadlines move by the whole lateness: time in which the monitor stood still is no
///   silence.
/// - After that, every member has its full grace again: no verdict comes earlier than
///   [`suspect_after`](Heartbeat::suspect_after) from now without another heartbeat. This is given once
///   before each suspicion and once before each death, so that a monitor that is late every time still
///   finds a member that hangs, after as many ticks as ever and a little.
///
/// - It is no time over a limit, either, and makes nobody older. A probe that was asked before its end and failed, requests that failed
///   until it was noticed, and lag that reaches back into it say nothing.
///
/// It is noticed by whatever comes first after it, with its time: the tick, a beat, a value. So a stall of any length, of the monitor alone or of everyone, raises no suspicion. Calls that come
/// early or more often than announced are free and change nothing of this.
#[derive(Debug)]
pub struct Monitor<K> {
    checks: Checks,
    lateness: Lateness,
    /// In no order; `place_of` finds them.
    members: Vec<Member<K>>,
    place_of: HashMap<K, usize>,
    verdicts: Pending<K>,
    /// How many lives there were.
    lives: u64,
    /// Whose memory is to be looked at, in the order in which that came up.
    doubts: BTreeMap<u64, K>,
    /// How often that came up.
    doubted: u64,
    rng: fastrand::Rng,
    /// When members were last compared.
    swept: Option<Instant>,
    /// When the last stall ended.
    stalled: Option<Instant>,
}

impl<K: Copy + Eq + Hash> Monitor<K> {
    /// A monitor without members, which checks them for this: [`Checks`], or nothing but a [`Heartbeat`].
    pub fn new(checks: impl Into<Checks>) -> Self {
        let checks = checks.into();
        Self {
            lateness: Lateness::new(checks.heartbeat.tick()),
            rng: fastrand::Rng::with_seed(checks.seed),
            checks,
            members: Vec::new(),
            place_of: HashMap::new(),
            verdicts: Pending::new(),
            lives: 0,
            doubts: BTreeMap::new(),
            doubted: 0,
            swept: None,
            stalled: None,
        }
    }

    // Verbs: what the user wants.

    /// Watches a member from now on, as if it had just beaten. A member that is there already starts anew:
    /// what was concluded about it and not polled is forgotten.
    pub fn insert(&mut self, key: K, now: Instant) {
        self.remove(key);
        self.place_of.insert(key, self.members.len());
        self.lives += 1;
        let chance = self.rng.f64();
        self.members.push(Member::new(key, self.lives, &self.checks, chance, now));
        self.lateness.start(now);
    }

    /// Watches a member no more, and forgets verdicts about it that were not polled. Idempotent.
    pub fn remove(&mut self, key: K) {
        let Some(place) = self.place_of.remove(&key) else { return };
        let gone = self.members.swap_remove(place);
        gone.doubt.and_then(|doubt| self.doubts.remove(&doubt));
        if let Some(moved) = self.members.get(place) {
            self.place_of.insert(moved.key, place);
        }
        if self.members.is_empty() {
            self.lateness.stop();
        }
    }

    // Inputs: what happened.

    /// The member gave a sign of life. Unknown members are ignored, here and everywhere.
    pub fn handle_beat(&mut self, key: K, now: Instant) {
        self.with(key, now, |member, checks, found| {
            member.handle_beat(checks, now).into_iter().for_each(found);
        });
    }

    /// The member's own count of its beats reads so much now; if it changed, that is a beat.
    ///
    /// For counters in shared memory that a member raises without telling anyone. The first reading is
    /// only remembered, since it may be old. The value is not trusted: any change will do, backwards too.
    pub fn handle_counter(&mut self, key: K, value: u64, now: Instant) {
        self.with(key, now, |member, checks, found| {
            if member.beats.counted(value) {
                member.handle_beat(checks, now).into_iter().for_each(found);
            }
        });
    }

    /// The silence of this member has another reason (a debugger holds it, say): it stays suspect, if it is, and has its time anew before it
    /// is unhealthy.
    pub fn excuse(&mut self, key: K, now: Instant) {
        let heartbeat = self.checks.heartbeat;
        if let Some(member) = self.member_mut(key) {
            member.beats.excuse(&heartbeat, now);
        }
    }

    /// What a process uses, as it was measured now. What is missing in the sample changes nothing.
    pub fn handle_sample(&mut self, key: K, sample: &Sample, now: Instant) {
        self.with(key, now, |member, checks, found| {
            if let Some(bytes) = sample.proportional_bytes() {
                member.limits.handle_confirmation(Some(bytes as f64), checks, now, found);
            }
            let window = checks.cpu_window;
            let used = sample.processor_time().and_then(|used| member.usage.handle_time(used, window, now));
            let values = [
                (Quantity::Memory, sample.resident_bytes().map(|bytes| bytes as f64)),
                (Quantity::Cpu, used),
                (Quantity::Files, sample.open_descriptors().map(|open| open as f64)),
                (Quantity::Threads, sample.thread_count().map(|threads| threads as f64)),
            ];
            for (quantity, value) in values {
                if let Some(value) = value {
                    member.handle_value(&quantity, value, checks, now, found);
                }
            }
        });
    }

    /// One of a member's quantities has this value now: its lag, or a gauge of its own.
    /// A value that is no number changes nothing.
    pub fn handle_value(&mut self, key: K, quantity: &Quantity, value: f64, now: Instant) {
        self.notice_stall(now);
        // Lag reaches back into the past, and may be told of a few beats later.
        let reaches = value + self.checks.heartbeat.beats_every().saturating_mul(5).as_secs_f64();
        let ago = self.stalled.map(|stalled| now.saturating_duration_since(stalled).as_secs_f64());
        if *quantity == Quantity::Lag && ago.is_some_and(|ago| ago <= reaches) {
            return;
        }
        self.with(key, now, |member, checks, found| member.handle_value(quantity, value, checks, now, found));
    }

    /// The memory that [`poll_confirm`](Self::poll_confirm) asked for can't be measured more closely: what was measured first has to do.
    pub fn handle_unconfirmed(&mut self, key: K, now: Instant) {
        self.with(key, now, |member, checks, found| {
            member.limits.handle_confirmation(None, checks, now, found)
        });
    }

    /// The member has answered so many requests so far, and so many of them with a failure. Who fails more than the others goes by what
    /// comes after the first reading, which may be old.
    pub fn handle_requests(&mut self, key: K, requests: u64, failed: u64) {
        if let Some(member) = self.member_mut(key) {
            member.handle_requests(requests, failed);
        }
    }

    /// A probe that was begun at `began` was answered: well, or with what was wrong. A bad answer to one that was under way while
    /// the monitor itself stood still is not counted, and neither is any to one that was begun before the member was inserted.
    pub fn handle_probe(
        &mut self,
        key: K,
        probe: Probe,
        answer: Result<(), &str>,
        began: Instant,
        now: Instant,
    ) {
        self.notice_stall(now);
        let is_excused = answer.is_err() && self.stalled.is_some_and(|stalled| began <= stalled);
        if !is_excused {
            self.with(key, now, |member, checks, found| {
                member.handle_probe(probe, answer, began, checks, now).into_iter().for_each(found);
            });
        }
    }

    /// Looks who has been silent for too long, and who fails more than the others. Afterwards, [`poll_timeout`](Self::poll_timeout) is
    /// `None` or later than `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.notice_stall(now);
        self.lateness.take(now);
        let Self { members, checks, verdicts, .. } = self;
        for member in members {
            let (key, life) = (member.key, member.life);
            member.judge(checks, now, &mut |finding| verdicts.push(life, verdict(key, finding)));
        }
        self.sweep(now);
        self.bound();
    }

    /// If the monitor itself stood still until now, that is nobody's fault.
    fn notice_stall(&mut self, now: Instant) {
        let Some(late) = self.lateness.take_stall(now) else { return };
        self.stalled = Some(now);
        for member in &mut self.members {
            member.forgive(&self.checks, late, now);
        }
    }

    /// Compares what members fail, now and then.
    fn sweep(&mut self, now: Instant) {
        let Some(outliers) = self.checks.outliers else { return };
        let is_due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= outliers.sweep());
        if !is_due {
            return;
        }
        self.swept = Some(now);
        let counts: Vec<Count> =
            self.members.iter_mut().map(|member| member.record.handle_sweep(outliers.window, now)).collect();
        let all = counts.iter().copied().fold(Count::default(), Count::plus);
        let is_ejected = |member: &&Member<K>| member.record.until.is_some();
        let ejected = self.members.iter().filter(is_ejected).count();
        let mut room = outliers.allowed(self.members.len()).saturating_sub(ejected);
        let is_well = |member: &Member<K>| member.standing(&self.checks) == Standing::Well;
        let mut well = self.members.iter().filter(|member| is_well(member)).count();
        let worst = self.members.iter().zip(&counts).enumerate().filter(|(_, (member, own))| {
            let may_go = member.record.until.is_none() && !member.is_starting();
            may_go && outliers.is_one(**own, all.minus(**own))
        });
        let mut worst: Vec<_> = worst.map(|(at, (member, own))| (at, *own, is_well(member))).collect();
        worst.sort_by(|(_, a, _), (_, b, _)| b.share().total_cmp(&a.share()));
        for (at, own, was_well) in worst {
            // Most are left, and one that is well is among them.
            let left = well - usize::from(was_well);
            if room == 0 || left == 0 {
                continue;
            }
            (room, well) = (room - 1, left);
            let others = all.minus(own);
            let failures = Failures {
                requests: own.requests,
                failed: own.failed,
                others_requests: others.requests,
                others_failed: others.failed,
                lasting: Duration::ZERO,
            };
            let member = &mut self.members[at];
            if let Some(finding) = member.eject(failures, &self.checks, now) {
                self.verdicts.push(member.life, verdict(member.key, finding));
            }
        }
    }

    // Outputs: what to do next.

    /// When to call [`handle_timeout`](Self::handle_timeout): every half interval while there are members.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.lateness.due()
    }

    /// Whose memory is to be measured more closely, off the loop if that takes long: answer by a
    /// [sample](Self::handle_sample) with the proportional share, or by [`handle_unconfirmed`](Self::handle_unconfirmed).
    /// The same until it is answered.
    pub fn poll_confirm(&self) -> Option<K> {
        self.doubts.first_key_value().map(|(_, key)| *key)
    }

    /// What was concluded, oldest first.
    ///
    /// Whoever polls seldom may miss that a member recovered and fell ill of the same again in between; nothing else, and never how
    /// that ended.
    pub fn poll_verdict(&mut self) -> Option<Verdict<K>> {
        let (members, place_of) = (&self.members, &self.place_of);
        self.verdicts.pop(|key, life| lives(members, place_of, key, life))
    }

    // Getters.

    /// How a member stands, all in all; `None` if it is not watched.
    pub fn standing(&self, key: K) -> Option<Standing> {
        let place = self.place_of.get(&key)?;
        self.members.get(*place).map(|member| member.standing(&self.checks))
    }

    /// What members are checked for.
    pub fn checks(&self) -> &Checks {
        &self.checks
    }

    /// How members are expected to beat.
    pub fn heartbeat(&self) -> Heartbeat {
        self.checks.heartbeat
    }

    fn member_mut(&mut self, key: K) -> Option<&mut Member<K>> {
        self.members.get_mut(*self.place_of.get(&key)?)
    }

    /// Does something with a member at this time, and concludes what it finds.
    fn with(
        &mut self,
        key: K,
        now: Instant,
        act: impl FnOnce(&mut Member<K>, &Checks, &mut dyn FnMut(Finding)),
    ) {
        self.notice_stall(now);
        let Self { members, place_of, verdicts, checks, doubts, doubted, .. } = self;
        let Some(member) = place_of.get(&key).and_then(|place| members.get_mut(*place)) else { return };
        let life = member.life;
        act(member, checks, &mut |finding| verdicts.push(life, verdict(key, finding)));
        match (member.doubt, member.limits.needs_confirmation()) {
            (None, true) => {
                *doubted += 1;
                doubts.insert(*doubted, key);
                member.doubt = Some(*doubted);
            }
            (Some(doubt), false) => {
                doubts.remove(&doubt);
                member.doubt = None;
            }
            (None, false) | (Some(_), true) => {}
        }
        self.bound();
    }

    fn bound(&mut self) {
        let (members, place_of) = (&self.members, &self.place_of);
        self.verdicts.bound(|key, life| lives(members, place_of, key, life));
    }
}

/// Whether the member with this key is still the one that lived this life.
fn lives<K: Eq + Hash>(members: &[Member<K>], place_of: &HashMap<K, usize>, key: K, life: u64) -> bool {
    place_of.get(&key).and_then(|place| members.get(*place)).is_some_and(|member| member.life == life)
}

fn verdict<K>(key: K, (kind, cause, since): Finding) -> Verdict<K> {
    Verdict { key, kind, cause, since }
}
