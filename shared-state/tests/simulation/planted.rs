//! Faults are planted in the core, one after the other, to see whether the simulator has teeth.

use cluster_shared_state::faults::{Fault, plant};

use crate::schedule::Budget;

const FAULTS: [Fault; 19] = [
    Fault::DropDelta,
    Fault::ForgetDelta,
    Fault::ReplyBeforeDelta,
    Fault::TtlSurvives,
    Fault::LeaseOutlivesOwner,
    Fault::IncarnationReused,
    Fault::ResumeOffByOne,
    Fault::SplitTransaction,
    Fault::NoEpochCheck,
    Fault::SnapshotWithoutDeltas,
    Fault::RetryTwice,
    Fault::CoalesceLosesDelete,
    Fault::WrongPrevious,
    Fault::CursorBack,
    Fault::StaleSync,
    Fault::LostWakeup,
    Fault::MissedOffByOne,
    Fault::BellForgotten,
    Fault::MissedInSilence,
];

/// A fault that is met no sooner would be met once in a run of the schedules, by chance.
const SCHEDULES: u64 = 500;

#[test]
fn planted_faults_are_found() {
    let mut found = 0;
    for fault in FAULTS {
        plant(Some(fault));
        let failure = (0..SCHEDULES).find_map(|seed| Some((seed, Budget::WHOLE.run(seed).err()?)));
        plant(None);
        match failure {
            Some((seed, failure)) => {
                found += 1;
                let line: String = failure.replace('\n', " ").chars().take(110).collect();
                println!("{fault:?}: by schedule {}: {line}", seed + 1);
            }
            None => println!("{fault:?}: not within {SCHEDULES} schedules"),
        }
    }
    println!("{found}/{} planted faults found", FAULTS.len());
    assert_eq!(found, FAULTS.len(), "the simulator must find all faults that are planted");
}
