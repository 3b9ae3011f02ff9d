//! Slots that are started, stopped and counted while a roll goes on.

mod common;

use std::collections::BTreeSet;

use cluster_supervisor::{Budget, Event, Release, Restart, Roll, RollOutcome, RollRefused, WorkerId};
use common::{NEW, SECOND, SIGABRT, Stage, id, policy, serving};

fn releases(stage: &Stage) -> Vec<u32> {
    stage.supervisor.releases().into_iter().map(Release::number).collect()
}

#[test]
fn a_slot_that_is_started_meanwhile_is_rolled_too() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW));
    stage.supervisor.scale(3, stage.now);
    assert_eq!(stage.supervisor.release_of(id(2, 1)), Some(Release::default()), "the roll may fail yet");
    stage.becomes_ready(id(2, 1));
    for slot in 0..3 {
        assert_eq!(stage.outcome(), None);
        stage.takes_over(id(slot, 2));
    }
    assert_eq!(stage.outcome(), Some(RollOutcome::Completed));
    assert_eq!(stage.releases(), [7, 7, 7]);
}

#[test]
fn a_slot_that_is_started_with_what_the_roll_brings_is_not_rolled() {
    let mut stage = serving(1, policy());
    stage.roll(Roll::to(NEW));
    stage.supervisor.set_release(NEW);
    stage.supervisor.start(stage.now);
    stage.becomes_ready(id(1, 1));
    stage.takes_over(id(0, 2));
    assert_eq!(stage.outcome(), Some(RollOutcome::Completed));
}

#[test]
fn one_that_is_started_in_a_roll_of_the_same_release_is_not_rolled() {
    let mut stage = serving(1, policy());
    stage.roll(Roll::same());
    stage.supervisor.start(stage.now);
    stage.becomes_ready(id(1, 1));
    stage.takes_over(id(0, 2));
    assert_eq!(stage.outcome(), Some(RollOutcome::Completed));
}

#[test]
fn one_that_is_started_while_a_roll_goes_back_is_left_alone() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW));
    stage.takes_over(id(0, 2));
    stage.supervisor.abort_roll(stage.now);
    stage.supervisor.start(stage.now);
    stage.becomes_ready(id(2, 1));
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.leaves(id(1, 2));
    stage.takes_over(id(0, 3));
    assert_eq!(stage.outcome(), Some(RollOutcome::Aborted));
    assert_eq!(stage.releases(), [0, 0, 0]);
}

#[test]
fn a_slot_that_was_replaced_and_is_started_anew_is_replaced_anew() {
    for is_again in [true, false] {
        let mut stage = serving(2, policy());
        stage.roll(Roll::to(NEW));
        stage.takes_over(id(0, 2));
        stage.supervisor.stop(id(0, 2), stage.now);
        stage.leaves(id(0, 2));
        if is_again {
            assert_eq!(stage.supervisor.start_again(0, stage.now), Some(id(0, 3)));
        } else {
            assert_eq!(stage.supervisor.start(stage.now), id(0, 3));
        }
        assert_eq!(stage.supervisor.release_of(id(0, 3)), Some(Release::default()));
        stage.becomes_ready(id(0, 3));
        stage.takes_over(id(1, 2));
        stage.takes_over(id(0, 4));
        assert_eq!(stage.outcome(), Some(RollOutcome::Completed));
        assert_eq!(stage.releases(), [7, 7]);
    }
}

#[test]
fn a_slot_that_was_replaced_and_started_anew_does_not_go_back() {
    let mut stage = serving(3, policy());
    stage.roll(Roll::to(NEW));
    stage.takes_over(id(0, 2));
    stage.supervisor.stop(id(0, 2), stage.now);
    stage.leaves(id(0, 2));
    stage.supervisor.start_again(0, stage.now);
    stage.becomes_ready(id(0, 3));
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.look_away();
    stage.exit(id(1, 2), SIGABRT);
    assert_eq!(stage.spawns(), [], "it runs the old release already");
    assert_eq!(stage.outcomes().pop().unwrap().split_once("; ").unwrap().1, "replaced 1");
}

#[test]
fn a_back_off_that_is_cut_short_makes_a_slot_one_that_was_started() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::same());
    stage.takes_over(id(0, 2));
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.exit(id(0, 2), SIGABRT);
    stage.supervisor.start_again(0, stage.now);
    assert!(stage.supervisor.current_roll().is_some());
}

#[test]
fn a_stop_takes_a_slot_out_of_the_roll() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW));
    stage.takes_over(id(0, 2));
    stage.supervisor.stop(id(1, 1), stage.now);
    assert_eq!(stage.outcome(), Some(RollOutcome::Completed));
    assert_eq!(stage.supervisor.release(), NEW);
}

#[test]
fn a_stop_takes_a_slot_out_of_the_way_back() {
    let mut stage = serving(3, policy());
    stage.roll(Roll::to(NEW));
    stage.takes_over(id(0, 2));
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.supervisor.abort_roll(stage.now);
    stage.supervisor.stop(id(0, 2), stage.now);
    let line = stage.outcomes().pop().unwrap();
    assert_eq!(line, "roll 1 aborted; replaced 1", "it is not one that could not go back");
}

#[test]
fn a_roll_does_not_undo_a_stop() {
    let mut stage = serving(3, policy().budget(Budget::new(0, SECOND)));
    stage.exit(id(2, 1), SIGABRT);
    stage.supervisor.stop(id(2, 1), stage.now);
    stage.look_away();
    stage.roll(Roll::to(NEW));
    stage.ends_and_comes();
    let wanted: Vec<bool> = stage.supervisor.slots().map(|slot| slot.is_wanted()).collect();
    assert_eq!(wanted, [true, true, false]);
    assert_eq!(stage.supervisor.given_up().count(), 1, "how it ended is still there to see");
}

#[test]
fn a_roll_that_crosses_a_shutdown_starts_nobody() {
    let mut stage = serving(2, policy().budget(Budget::new(0, SECOND)));
    stage.exit(id(0, 1), SIGABRT);
    stage.supervisor.shutdown(stage.now);
    stage.look_away();
    assert_eq!(stage.supervisor.roll(Roll::same(), stage.now), Err(RollRefused::NoSlots));
    assert_eq!(stage.spawns(), []);
}

#[test]
fn releases_are_kept_that_somebody_may_be_started_with() {
    let mut stage = serving(3, policy().max_surge(2));
    stage.roll(Roll::to(NEW));
    assert_eq!(releases(&stage), [0, 7]);
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.takes_over(id(0, 2));
    stage.takes_over(id(1, 2));
    stage.supervisor.set_release(NEW);
    stage.supervisor.handle_spawned(id(2, 2), stage.now);
    stage.exit(id(2, 1), SIGABRT);
    assert_eq!(releases(&stage), [0, 7], "the roll may go back");
    stage.supervisor.handle_ready(id(2, 2), stage.now);
    assert_eq!(stage.supervisor.current_roll(), None);
    assert_eq!(releases(&stage), [7]);
}

#[test]
fn a_release_that_is_only_on_trial_is_kept() {
    let mut stage = serving(1, policy().max_surge(0).max_unavailable(1));
    stage.roll(Roll::to(NEW));
    stage.supervisor.abort_roll(stage.now);
    assert_eq!(releases(&stage), [0, 7], "until the roll is over");
    stage.leaves(id(0, 1));
    stage.becomes_ready(id(0, 2));
    assert_eq!(releases(&stage), [0]);
}

#[test]
fn the_release_of_a_slot_that_was_given_up_is_kept_until_it_is_stopped() {
    let mut stage = serving(2, policy().budget(Budget::new(0, SECOND)));
    stage.exit(id(0, 1), SIGABRT);
    stage.supervisor.stop(id(1, 1), stage.now);
    stage.leaves(id(1, 1));
    stage.supervisor.set_release(NEW);
    assert_eq!(stage.supervisor.releases(), BTreeSet::from([Release::default(), NEW]));
    stage.supervisor.stop(id(0, 1), stage.now);
    assert_eq!(stage.supervisor.releases(), BTreeSet::from([NEW]));
}

#[test]
fn a_slot_that_got_another_chance_is_told_of_when_it_is_not_wanted_any_more() {
    let mut stage = serving(1, policy().budget(Budget::new(0, SECOND)));
    stage.exit(id(0, 1), SIGABRT);
    stage.roll(Roll::to(NEW));
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    stage.supervisor.stop(id(0, 2), stage.now);
    let told = std::iter::from_fn(|| stage.supervisor.poll_event());
    assert_eq!(told.filter(|event| *event == Event::Stopped { slot: 0 }).count(), 1);
}

#[test]
fn nobody_is_started_beside_a_successor_whose_slot_was_given_up() {
    let mut stage = serving(1, policy().budget(Budget::new(0, SECOND)));
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.exit(id(0, 1), SIGABRT);
    assert_eq!(stage.supervisor.given_up().count(), 1);
    assert_eq!(stage.supervisor.start(stage.now), id(1, 1), "0.2 was recalled and lives");
}

#[test]
fn a_slot_whose_work_is_done_is_taken_out_of_the_roll() {
    let mut stage = serving(3, policy().restart(Restart::OnFailure));
    stage.roll(Roll::to(NEW));
    stage.leaves(id(1, 1));
    stage.takes_over(id(0, 2));
    stage.takes_over(id(2, 2));
    assert_eq!(stage.outcome(), Some(RollOutcome::Completed));
}

#[test]
fn a_slot_that_is_given_up_meanwhile_gets_its_turn_again() {
    let mut stage = serving(2, policy().budget(Budget::new(0, SECOND)));
    stage.roll(Roll::same());
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.look_away();
    stage.exit(id(0, 1), SIGABRT);
    assert_eq!(stage.stops(), [id(0, 2)], "it would go on as if nothing had happened");
    stage.leaves(id(0, 2));
    stage.takes_over(id(1, 2));
    stage.becomes_ready(id(0, 3));
    assert_eq!(stage.outcome(), Some(RollOutcome::Completed));
    assert_eq!(stage.supervisor.given_up().count(), 0);
}

#[test]
fn a_shutdown_after_the_first_were_replaced_aborts_the_roll() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW));
    stage.takes_over(id(0, 2));
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.supervisor.shutdown(stage.now);
    assert_eq!(stage.outcomes().pop().unwrap(), "roll 1 aborted; replaced 1");
    assert_eq!(stage.supervisor.release(), Release::default());
}

#[test]
fn the_release_of_one_that_drains_is_kept() {
    let mut stage = serving(1, policy());
    stage.roll(Roll::to(NEW));
    stage.becomes_ready(id(0, 2));
    assert_eq!(stage.supervisor.current_roll(), None);
    assert_eq!(releases(&stage), [0, 7]);
    stage.leaves(id(0, 1));
    assert_eq!(releases(&stage), [7]);
}

/// The user starts a slot again out of its back-off.
fn start_again_out_of_back_off(stage: &mut Stage, own: WorkerId) {
    stage.exit(own, SIGABRT);
    let next = id(own.slot(), own.generation() + 1);
    stage.supervisor.handle_spawn_failed(next, stage.now);
    let again = id(own.slot(), next.generation() + 1);
    assert_eq!(stage.supervisor.start_again(own.slot(), stage.now), Some(again));
}

#[test]
fn one_that_is_started_again_has_its_turn_once() {
    for (roll, replaced) in [(Roll::same(), 1), (Roll::to(NEW), 2)] {
        let mut stage = serving(2, policy());
        stage.roll(roll.canaries(1, 10 * SECOND));
        stage.becomes_ready(id(0, 2));
        start_again_out_of_back_off(&mut stage, id(1, 1));
        stage.becomes_ready(id(1, 3));
        stage.jump(10 * SECOND);
        stage.ends_and_comes();
        let end = format!("roll 1 completed; replaced {replaced}");
        assert_eq!(stage.outcomes().pop(), Some(end), "what was started in a roll of the same is new");
    }
}

#[test]
fn a_roll_does_not_wait_for_one_that_was_started_again_since_it_was_replaced() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::same());
    stage.supervisor.pause_roll();
    stage.takes_over(id(0, 2));
    start_again_out_of_back_off(&mut stage, id(0, 2));
    stage.look_away();
    stage.supervisor.resume_roll(stage.now);
    assert_eq!(stage.spawns(), [id(1, 2)]);
}

#[test]
fn what_was_replaced_may_go_back_to_a_release_that_nobody_else_runs() {
    let mut stage = serving(1, policy());
    stage.roll(Roll::to(NEW));
    stage.supervisor.set_release(Release::new(9));
    stage.supervisor.start(stage.now);
    stage.becomes_ready(id(1, 1));
    stage.takes_over(id(0, 2));
    assert_eq!(stage.releases(), [7, 9]);
    assert_eq!(releases(&stage), [0, 7, 9]);
}
