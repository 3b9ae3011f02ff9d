//! What the judge says.

use std::fmt;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// Two writes were given the same revision.
    SameRevision,
    /// The log leaves a revision out, or repeats one.
    LogNotDense,
    /// A revision was given to nobody.
    Hole,
    /// What was written later, in real time, has the lower revision.
    Reordered,
    /// A linearizable read, or an answer of the primary, knows nothing of what was there before it was asked for.
    NotLinearizable,
    /// Something was seen before it was asked for.
    BeforeItsTime,
    /// A replica went back.
    WentBack,
    /// A client did not see what it had been told before (of its own write, say).
    OwnWriteUnseen,
    /// It was not waited for long enough.
    NotReached,
    /// An answer is not what the replay answers.
    WrongAnswer,
    /// A failed condition is not what there was at the revision it names.
    WrongConflict,
    /// A refusal has no reason.
    WrongRefusal,
    /// An acknowledged write is not in the log.
    LostWrite,
    /// The log has what nobody asked for.
    Unasked,
    /// The log has a command once more.
    DoubleApply,
    /// A key or a lease ended by itself that could not.
    WrongEnd,
    /// What is left of a client that is gone.
    DeadOwner,
    /// What a replica held was older than it says.
    StaleRead,
    /// What a replica held is not what there was.
    WrongRead,
    /// A part of a transaction was seen, another was not.
    TornRead,
    /// A watcher was not told of a change.
    MissedChange,
    /// A watcher was told again.
    DoubleChange,
    /// A watcher was told a part of a transaction.
    TornChange,
    /// A watcher was told something that did not happen so.
    WrongChange,
    /// A watcher was told something without the word that belongs before it, or was not told what belongs
    /// after it.
    WrongWord,
    /// In doubt, although nothing happened to primary or client.
    NeedlessDoubt,
    /// An incarnation was used twice.
    Reincarnation,
    /// A lease was granted twice.
    SameLease,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// What kind.
    pub fault: Fault,
    /// What was found, and what should be.
    pub what: String,
    /// The records it is about: their places in what was judged.
    pub records: Vec<usize>,
    /// The same, readable.
    pub shown: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.fault, self.what)?;
        for (place, shown) in self.records.iter().zip(&self.shown) {
            write!(f, "\n    #{place} {shown}")?;
        }
        Ok(())
    }
}

/// What the judge says of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// What is wrong; at most 100 of them.
    pub violations: Vec<Violation>,
    /// How many there are in all.
    pub total: usize,
    /// How much was judged.
    pub judged: Judged,
}

/// How much was judged: a verdict on nothing is worth nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Judged {
    /// Commits that were replayed.
    pub commits: u64,
    /// Of those: nobody asked for them (what expired, what ended with a lease).
    pub ends: u64,
    /// Of those: commands in doubt that had been carried out.
    pub doubtful: u64,
    /// Answers that were compared with the replay, failed conditions included.
    pub answers: u64,
    /// Refusals that the replay confirmed.
    pub refusals: u64,
    /// Refusals by limits, which are believed.
    pub believed: u64,
    /// Keys and ranges read that were compared with the replay.
    pub reads: u64,
    /// Batches and states told to watchers that were compared with the replay.
    pub notices: u64,
    /// What could not be compared, since there is no log and revisions are missing.
    pub unjudged: u64,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub const fn is_good(&self) -> bool {
        self.total == 0
    }

    /// Whether this is among what is wrong.
    pub fn has(&self, fault: Fault) -> bool {
        self.violations.iter().any(|violation| violation.fault == fault)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_good() {
            return write!(f, "nothing wrong: {:?}", self.judged);
        }
        write!(f, "{} violations, {:?}", self.total, self.judged)?;
        for violation in &self.violations {
            write!(f, "\n{violation}")?;
        }
        Ok(())
    }
}
