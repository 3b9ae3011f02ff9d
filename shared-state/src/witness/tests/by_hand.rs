//! Hand-made histories: each fault is found, by its own name.

use std::time::Instant;

use crate::command::{Command, Condition, Put, Transaction};
use crate::witness::{Came, Fault, Level, Log, Merging, Record, Seen, Since, Verdict, What, Who, judge};
use crate::{
    Answer, ClientId, Cursor, Entry, Epoch, Increment, Key, KeyRange, Limits, Notice, Outcome, Overflow,
    Revision, Store, View, Watch, WatchId, Watchers,
};

const ONE: ClientId = ClientId::new(1, 1);
const TWO: ClientId = ClientId::new(2, 1);
const EPOCH: Epoch = Epoch::new(7);

/// A store, everything done to it one after the other, and a watcher of all keys.
struct Script {
    store: Store,
    watchers: Watchers,
    watch: WatchId,
    log: Log,
    records: Vec<Record>,
    time: u64,
}

impl Script {
    fn new() -> Self {
        let store = Store::new(EPOCH, Limits::new());
        let mut watchers = Watchers::new(store.cursor(), crate::WatchLimits::new());
        let watch = watchers.watch(Watch::new(KeyRange::All).overflow(Overflow::Tell)).unwrap();
        let mut log = Log::new();
        log.begin(EPOCH);
        let mut script = Self { store, watchers, watch, log, records: Vec::new(), time: 0 };
        let since = Since::Now(Some(Cursor::new(EPOCH, Revision::ZERO)));
        let (range, merging) = (KeyRange::All, Merging::Never);
        script.note(ONE, What::Watch { watch: 0, range, since, merging });
        script
    }

    fn note(&mut self, client: ClientId, what: What) -> usize {
        self.time += 10;
        let who = Who { client, thread: 0 };
        self.records.push(Record { who, invoked: self.time, returned: Some(self.time + 5), what });
        self.records.len() - 1
    }

    fn write(&mut self, client: ClientId, command: impl Into<Command>) -> usize {
        let command = command.into();
        let came = match self.store.execute(client, command.clone(), Instant::now()) {
            Ok(answer) => Came::Answered { epoch: EPOCH, answer },
            Err(error) => Came::Refused(error),
        };
        let place = self.note(client, What::Command { command, came });
        while let Some(commit) = self.store.poll_commit() {
            self.log.push(EPOCH, (*commit).clone());
            self.watchers.handle_commit(&commit);
        }
        while let Some(notice) = self.watchers.next(self.watch, &self.store) {
            self.note(ONE, What::Told { watch: 0, notice });
        }
        place
    }

    fn read(&mut self, client: ClientId, level: Level, key: &str) -> usize {
        let seen = vec![Seen::Key(Key::from(key), View::get(&self.store, key.as_bytes()))];
        let at = self.store.cursor();
        self.note(client, What::Read { level, at, seen })
    }

    fn read_all(&mut self, client: ClientId) -> usize {
        let entries = self.store.range(&KeyRange::All).map(|(key, entry)| (key.clone(), entry.clone()));
        let seen = vec![Seen::Range(KeyRange::All, entries.collect())];
        let at = self.store.cursor();
        self.note(client, What::Read { level: Level::Local, at, seen })
    }

    fn judge(&self) -> Verdict {
        judge(&self.records, Some(&self.log))
    }

    fn finds(&self, fault: Fault) {
        let verdict = self.judge();
        assert!(verdict.has(fault), "{fault:?} was not found: {verdict}");
        let first = verdict.violations.iter().find(|violation| violation.fault == fault).unwrap();
        assert_eq!(first.records.len(), first.shown.len(), "what it is about is shown");
    }

    fn answer(&mut self, place: usize) -> &mut Answer {
        match &mut self.records[place].what {
            What::Command { came: Came::Answered { answer, .. }, .. } => answer,
            other => panic!("{other:?} was not answered"),
        }
    }

    fn seen(&mut self, place: usize) -> &mut Vec<Seen> {
        match &mut self.records[place].what {
            What::Read { seen, .. } => seen,
            other => panic!("{other:?} is no read"),
        }
    }

    fn notices(&mut self) -> Vec<usize> {
        let told = self.records.iter().enumerate().filter(|(_, it)| matches!(it.what, What::Told { .. }));
        told.map(|(place, _)| place).collect()
    }

    fn entry(&self, key: &str) -> Entry {
        View::get(&self.store, key.as_bytes()).unwrap()
    }
}

fn good() -> Script {
    let mut script = Script::new();
    script.write(ONE, Put::new("a", "1"));
    script.write(TWO, Put::new("a", "2").when(Condition::value("1")));
    script.write(ONE, Put::new("a", "3").when(Condition::value("1")));
    script.write(TWO, Increment::new("n", 4));
    script.write(TWO, Increment::new("n", -5).at_least(0));
    script.write(ONE, Transaction::new().then(Put::new("x", "t")).then(Put::new("y", "t")));
    script.write(ONE, Command::delete("a").returning_previous());
    script.read(ONE, Level::Local, "a");
    script.read(TWO, Level::Linearizable, "n");
    script.read_all(TWO);
    script
}

#[test]
fn a_good_history_is_good() {
    let verdict = good().judge();
    assert!(verdict.is_good(), "{verdict}");
    assert_eq!((verdict.judged.commits, verdict.judged.answers, verdict.judged.refusals), (5, 6, 1));
    assert_eq!((verdict.judged.reads, verdict.judged.notices), (3, 5));
}

#[test]
fn a_stale_read() {
    let mut script = good();
    let old = script.entry("n");
    script.write(TWO, Increment::new("n", 1));
    let read = script.read(ONE, Level::Local, "n");
    *script.seen(read) = vec![Seen::Key("n".into(), Some(old))];
    script.finds(Fault::StaleRead);
}

#[test]
fn a_read_of_what_never_was() {
    let mut script = good();
    let mut other = script.entry("n");
    other.value = "nonsense".into();
    let read = script.read(ONE, Level::Local, "n");
    *script.seen(read) = vec![Seen::Key("n".into(), Some(other))];
    script.finds(Fault::WrongRead);
}

#[test]
fn a_lost_update() {
    let mut script = good();
    let place = script.write(ONE, Increment::new("n", 1));
    script.answer(place).outcome = Outcome::Number(4);
    script.finds(Fault::WrongAnswer);
}

#[test]
fn an_acknowledged_write_that_is_not_in_the_log() {
    let mut script = good();
    script.write(ONE, Put::new("b", "lost"));
    script.log.eras[0].commits.pop();
    script.finds(Fault::LostWrite);

    let mut script = good();
    script.log.eras[0].commits[1].changes[0].key = "elsewhere".into();
    script.finds(Fault::LostWrite);
}

#[test]
fn a_write_that_is_applied_twice() {
    let mut script = good();
    let place = script.write(ONE, Increment::new("n", 1));
    let What::Command { command, .. } = script.records[place].what.clone() else { panic!() };
    let place = script.write(ONE, command);
    // Nobody asked for the second.
    script.records.remove(place);
    script.finds(Fault::DoubleApply);
}

#[test]
fn a_write_that_nobody_asked_for() {
    let mut script = good();
    let place = script.write(ONE, Put::new("b", "whence?"));
    script.records.remove(place);
    script.finds(Fault::Unasked);
}

#[test]
fn a_write_in_doubt_is_in_the_log_once_or_not_at_all() {
    let in_doubt = |script: &mut Script, place: usize| {
        if let What::Command { came, .. } = &mut script.records[place].what {
            *came = Came::InDoubt;
        }
        script.records[place].returned = None;
    };
    let mut script = good();
    let place = script.write(TWO, Increment::new("n", 1));
    in_doubt(&mut script, place);
    let verdict = script.judge();
    assert!(verdict.is_good() && verdict.judged.doubtful == 1, "{verdict}");

    let mut script = good();
    let place = script.write(TWO, Increment::new("n", 1));
    let mut never = script.records[place].clone();
    never.returned = None;
    never.what = What::Command { command: Put::new("q", "never came").into(), came: Came::InDoubt };
    script.records.push(never);
    assert!(script.judge().is_good(), "{}", script.judge());

    let mut script = good();
    let first = script.write(TWO, Increment::new("n", 1));
    let second = script.write(TWO, Increment::new("n", 1));
    in_doubt(&mut script, first);
    script.records.remove(second);
    script.finds(Fault::Unasked);
}

#[test]
fn doubt_without_a_reason() {
    let mut script = good();
    let command = Put::new("q", "?").into();
    script.note(ONE, What::Command { command, came: Came::InDoubt });
    script.finds(Fault::NeedlessDoubt);
}

#[test]
fn writes_out_of_order() {
    let mut script = good();
    let first = script.write(ONE, Put::new("b", "1"));
    let second = script.write(TWO, Put::new("c", "2"));
    let time =
        |script: &Script, place: usize| (script.records[place].invoked, script.records[place].returned);
    let (a, b) = (time(&script, first), time(&script, second));
    (script.records[first].invoked, script.records[first].returned) = (b.0 + 100, b.1.map(|it| it + 100));
    (script.records[second].invoked, script.records[second].returned) = a;
    script.finds(Fault::Reordered);
}

#[test]
fn a_write_that_was_seen_before_it_was_asked_for() {
    let mut script = good();
    let place = script.write(TWO, Put::new("b", "1"));
    script.read(ONE, Level::Local, "b");
    script.records[place].invoked = 10_000;
    script.records[place].returned = Some(10_001);
    script.finds(Fault::BeforeItsTime);
}

#[test]
fn two_writes_of_one_revision() {
    let mut script = good();
    let place = script.write(TWO, Put::new("b", "1"));
    let mut other = script.records[place].clone();
    other.who.client = ONE;
    script.records.push(other);
    script.finds(Fault::SameRevision);
}

#[test]
fn a_read_below_the_own_write() {
    let mut script = good();
    let read = script.read_all(TWO);
    script.write(TWO, Put::new("b", "1"));
    let mut late = script.records[read].clone();
    (late.invoked, late.returned) = (10_000, Some(10_001));
    script.records.push(late);
    script.finds(Fault::OwnWriteUnseen);
}

#[test]
fn a_cursor_that_goes_back() {
    let mut script = good();
    let early = script.read_all(TWO);
    script.write(ONE, Put::new("b", "1"));
    script.read_all(TWO);
    let mut late = script.records[early].clone();
    (late.invoked, late.returned) = (10_000, Some(10_001));
    script.records.push(late.clone());
    script.finds(Fault::WentBack);

    // Of another process it may be as old as it likes.
    late.who.client = ClientId::new(3, 1);
    *script.records.last_mut().unwrap() = late;
    assert!(script.judge().is_good(), "{}", script.judge());
}

#[test]
fn a_linearizable_read_that_is_stale() {
    let mut script = good();
    let read = script.read(ClientId::new(3, 1), Level::Linearizable, "n");
    script.write(ONE, Put::new("b", "1"));
    (script.records[read].invoked, script.records[read].returned) = (10_000, Some(10_001));
    script.finds(Fault::NotLinearizable);
}

#[test]
fn a_read_that_did_not_wait_for_long_enough() {
    let mut script = good();
    let wanted = Cursor::new(EPOCH, script.store.cursor().revision.next());
    script.read(TWO, Level::AtLeast(wanted), "n");
    script.write(ONE, Put::new("b", "1"));
    script.finds(Fault::NotReached);
}

#[test]
fn a_failed_condition_with_the_wrong_revision() {
    let mut script = Script::new();
    script.write(ONE, Put::new("a", "1"));
    script.write(ONE, Put::new("a", "2"));
    let place = script.write(TWO, Put::new("a", "3").when(Condition::value("1")));
    script.records[place].invoked = 0;
    assert!(script.judge().is_good(), "{}", script.judge());
    script.answer(place).revision = Revision::new(1);
    script.finds(Fault::WrongConflict);
}

#[test]
fn a_refusal_without_a_reason() {
    let mut script = good();
    let place = script.write(TWO, Increment::new("n", -50).at_least(0));
    let What::Command { command, .. } = &mut script.records[place].what else { panic!() };
    *command = Increment::new("n", -1).at_least(0).into();
    script.finds(Fault::WrongRefusal);
}

#[test]
fn a_torn_transaction_in_a_read() {
    let mut script = good();
    let old = script.entry("x");
    script.write(ONE, Transaction::new().then(Put::new("x", "u")).then(Put::new("y", "u")));
    let read = script.read_all(TWO);
    if let Seen::Range(_, entries) = &mut script.seen(read)[0] {
        entries.iter_mut().find(|(key, _)| **key == *b"x").unwrap().1 = old;
    }
    script.finds(Fault::TornRead);
}

#[test]
fn a_watcher_that_misses_something() {
    let mut script = good();
    let notices = script.notices();
    script.records.remove(notices[1]);
    script.finds(Fault::MissedChange);

    // At the end it shows only if it is said that there was nothing more.
    let mut script = good();
    let last = *script.notices().last().unwrap();
    script.records.remove(last);
    let at = script.store.cursor();
    script.note(ONE, What::Quiet { watch: 0, at });
    script.finds(Fault::MissedChange);
}

#[test]
fn a_watcher_that_is_told_twice() {
    let mut script = good();
    let place = script.notices()[1];
    let again = script.records[place].clone();
    script.records.insert(place + 1, again);
    script.finds(Fault::DoubleChange);
}

#[test]
fn a_watcher_that_is_told_a_part_of_a_transaction() {
    let mut script = good();
    for place in script.notices() {
        if let What::Told { notice: Notice::Changes(batch), .. } = &mut script.records[place].what
            && batch.events.len() == 2
        {
            batch.events.pop();
        }
    }
    script.finds(Fault::TornChange);
}

#[test]
fn a_watcher_that_is_told_another_value_before() {
    let mut script = good();
    let place = script.notices()[1];
    if let What::Told { notice: Notice::Changes(batch), .. } = &mut script.records[place].what {
        batch.events[0].previous = None;
    }
    script.finds(Fault::WrongChange);
}

#[test]
fn a_key_that_outlives_its_owner() {
    let mut script = good();
    let grant = script.write(TWO, Command::grant(None));
    let Outcome::Granted(lease) = script.answer(grant).outcome else { panic!() };
    script.write(TWO, Put::new("mine", "!").lease(lease));
    let at = script.store.cursor();
    script.note(TWO, What::Gone { at });
    script.finds(Fault::DeadOwner);
}

#[test]
fn a_key_that_ends_without_a_reason() {
    let mut script = good();
    let place = script.write(ONE, Command::delete("n"));
    script.records.remove(place);
    script.log.eras[0].commits.last_mut().unwrap().changes[0].kind = crate::ChangeKind::Expired;
    script.finds(Fault::WrongEnd);
}

#[test]
fn an_incarnation_that_comes_twice() {
    let mut script = good();
    script.note(TWO, What::Started);
    script.note(TWO, What::Started);
    script.finds(Fault::Reincarnation);
}

#[test]
fn a_log_with_a_hole() {
    let mut script = good();
    script.log.eras[0].commits.remove(1);
    script.finds(Fault::LogNotDense);
}

#[test]
fn without_a_log_a_revision_of_nobody() {
    let mut script = good();
    let place = script.write(ONE, Put::new("b", "1"));
    script.write(ONE, Put::new("b", "2"));
    script.records.remove(place);
    let verdict = judge(&script.records, None);
    assert!(verdict.has(Fault::Hole), "{verdict}");
}

/// Found by the judge: the difference to an epoch without commits is as of revision zero, and was left out.
#[test]
fn a_watcher_is_told_what_is_gone_with_the_first_revision_zero_of_a_new_epoch() {
    let mut script = good();
    let to = Cursor::new(Epoch::new(8), Revision::ZERO);
    let empty = std::collections::BTreeMap::<Key, Entry>::new();
    let changes = crate::differences(&script.store, Some(script.store.cursor()), &empty, to);
    let keys = changes.changes.len();
    script.watchers.handle_replaced(to, changes);
    let mut told = || script.watchers.next(script.watch, &empty);
    assert!(matches!(told(), Some(Notice::Resynchronised { .. })));
    let Some(Notice::Changes(batch)) = told() else { panic!("it was not told that all is gone") };
    assert_eq!(batch.events.len(), keys);
}
