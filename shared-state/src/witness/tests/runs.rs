//! Runs of the real cores are judged good.

use super::{seeds, world};
use crate::witness::{Judged, judge};

#[test]
fn runs_of_the_cores_are_good() {
    let mut all = Judged::default();
    for seed in seeds(300, 20_000) {
        let history = world::run(seed, 1500);
        let verdict = judge(&history.records, Some(&history.log));
        assert!(verdict.is_good(), "seed {seed}: {verdict}");
        let Judged { commits, ends, doubtful, answers, refusals, reads, notices, .. } = verdict.judged;
        all.commits += commits;
        all.ends += ends;
        all.doubtful += doubtful;
        all.answers += answers;
        all.refusals += refusals;
        all.reads += reads;
        all.notices += notices;
    }
    assert!(all.ends > 100 && all.doubtful > 100 && all.refusals > 100, "the runs are too tame: {all:?}");
    assert!(all.notices > 10_000 && all.reads > 10_000, "the runs are too tame: {all:?}");
    eprintln!("{all:?}");
}

#[test]
fn runs_without_a_log_are_good_as_far_as_they_can_be_judged() {
    for seed in seeds(100, 5_000) {
        let history = world::run(seed, 600);
        let verdict = judge(&history.records, None);
        assert!(verdict.is_good(), "seed {seed}: {verdict}");
    }
}
