//! How a roll ends, and who is to blame.

mod common;

use cluster_supervisor::{Budget, Exit, Figures, Group, Release, Roll, RollOutcome, Unfit, WorkerId};
use common::{NEW, SECOND, SIGABRT, SIGKILL, Stage, id, policy, serving};

/// Who was no good, if the roll has failed since the last look.
fn blamed(stage: &mut Stage) -> Option<WorkerId> {
    match stage.outcome()? {
        RollOutcome::Failed { id, reason: Unfit::Ended { .. } | Unfit::SpawnFailed } => Some(id),
        _ => None,
    }
}

#[test]
fn a_successor_that_comes_alone_and_crashes_stops_the_roll() {
    let one_at_a_time = policy().max_surge(0).max_unavailable(1).budget(Budget::new(0, 60 * SECOND));
    let mut stage = serving(4, one_at_a_time);
    stage.roll(Roll::to(NEW));
    stage.leaves(id(0, 1));
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(blamed(&mut stage), Some(id(0, 2)));
    assert_eq!(stage.supervisor.given_up().count(), 0, "not its slot, which has another release");
    assert_eq!(stage.ready_count(), 3);
}

#[test]
fn a_successor_that_crashes_in_the_place_of_one_that_crashed_stops_the_roll() {
    // Slot 0 has no restart left: its worker crashes while its successor is on trial, and so does that one.
    let mut stage = serving(2, policy().budget(Budget::new(1, 60 * SECOND)));
    stage.exit(id(0, 1), SIGABRT);
    stage.becomes_ready(id(0, 2));
    stage.roll(Roll::to(NEW));
    stage.supervisor.handle_spawned(id(0, 3), stage.now);
    stage.exit(id(0, 2), SIGABRT);
    stage.look_away();
    stage.exit(id(0, 3), SIGABRT);
    assert_eq!(stage.spawns(), [id(0, 4)], "of the old release");
    // 1.2 has come meanwhile, and is recalled.
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.leaves(id(1, 2));
    assert_eq!(blamed(&mut stage), Some(id(0, 3)));
    assert_eq!(stage.releases(), [0, 0]);
}

#[test]
fn a_broken_fix_for_slots_that_were_given_up_is_not_completed() {
    let mut stage = serving(2, policy().budget(Budget::new(0, SECOND)));
    (0..2).for_each(|slot| stage.exit(id(slot, 1), SIGABRT));
    stage.look_away();
    stage.roll(Roll::to(NEW));
    for slot in 0..2 {
        stage.supervisor.handle_spawned(id(slot, 2), stage.now);
        stage.exit(id(slot, 2), SIGABRT);
    }
    assert_eq!(blamed(&mut stage), Some(id(0, 2)));
    assert_eq!(stage.supervisor.release(), Release::default(), "for slots that come later");
}

#[test]
fn a_roll_that_replaced_nobody_was_aborted() {
    let mut stage = serving(1, policy());
    stage.roll(Roll::to(NEW).canaries(1, 60 * SECOND));
    stage.becomes_ready(id(0, 2));
    stage.supervisor.stop(id(0, 1), stage.now);
    stage.leaves(id(0, 2));
    assert_eq!(stage.outcome(), Some(RollOutcome::Aborted));
    assert_eq!(stage.supervisor.release(), Release::default());
}

#[test]
fn the_one_that_crashed_is_blamed_and_not_one_that_was_recalled_for_it() {
    let mut stage = serving(2, policy().group(Group::OneForAll).max_surge(2));
    stage.roll(Roll::to(NEW).bake(60 * SECOND));
    stage.becomes_ready(id(0, 2));
    stage.becomes_ready(id(1, 2));
    stage.exit(id(0, 1), SIGABRT);
    stage.exit(id(0, 2), SIGABRT);
    stage.ends_and_comes();
    assert_eq!(blamed(&mut stage), Some(id(0, 2)));
}

#[test]
fn a_crash_of_an_old_worker_elsewhere_is_not_the_fault_of_a_successor() {
    let mut stage = serving(2, policy().group(Group::OneForAll));
    stage.roll(Roll::to(NEW));
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.exit(id(1, 1), SIGABRT);
    stage.ends_and_comes();
    assert_eq!(stage.outcome(), Some(RollOutcome::Completed));
    assert_eq!(stage.releases(), [7, 7]);
}

#[test]
fn a_successor_that_uses_up_the_budget_of_a_group_is_named() {
    let all = policy().group(Group::OneForAll).budget(Budget::new(0, SECOND));
    let mut stage = serving(2, all.max_surge(0).max_unavailable(1));
    stage.roll(Roll::to(NEW));
    stage.leaves(id(0, 1));
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(blamed(&mut stage), Some(id(0, 2)));
}

#[test]
fn a_vacated_slot_stays_in_the_roll_when_its_group_is_restarted() {
    let mut stage = serving(2, policy().group(Group::OneForAll).max_surge(0).max_unavailable(1));
    stage.roll(Roll::to(NEW));
    stage.exit(id(1, 1), SIGABRT);
    stage.ends_and_comes();
    assert_eq!(stage.outcome(), Some(RollOutcome::Completed));
    assert_eq!(stage.releases(), [7, 7]);
}

#[test]
fn a_roll_waits_for_those_it_has_replaced() {
    let mut stage = serving(3, policy());
    stage.roll(Roll::same());
    stage.becomes_ready(id(0, 2));
    stage.exit(id(0, 2), SIGABRT);
    stage.leaves(id(0, 1));
    assert_eq!(stage.spawns(), [id(0, 3)], "there is room for 1.2, but nobody serves in slot 0");
    stage.becomes_ready(id(0, 3));
    assert_eq!(stage.spawns(), [id(1, 2)]);
}

#[test]
fn a_roll_does_not_wait_for_as_many_as_may_be_missing() {
    let mut stage = serving(4, policy().max_surge(2).max_unavailable(1));
    stage.roll(Roll::same());
    stage.supervisor.pause_roll();
    stage.takes_over(id(0, 2));
    stage.takes_over(id(1, 2));
    stage.leaves(id(2, 1));
    stage.becomes_ready(id(2, 2));
    stage.exit(id(0, 2), SIGABRT);
    stage.exit(id(1, 2), SIGABRT);
    stage.look_away();
    stage.supervisor.resume_roll(stage.now);
    assert_eq!(stage.spawns(), [], "two of those that were replaced are missing");
    stage.becomes_ready(id(0, 3));
    assert_eq!(stage.spawns(), [id(3, 2)], "one is");
}

#[test]
fn what_was_replaced_may_crash_once_but_not_twice_in_a_row() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::same());
    stage.takes_over(id(0, 2));
    stage.exit(id(0, 2), SIGABRT);
    stage.supervisor.handle_spawned(id(0, 3), stage.now);
    assert_eq!(stage.outcome(), None, "it may have been a coincidence");
    stage.exit(id(0, 3), SIGABRT);
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.leaves(id(1, 2));
    assert_eq!(blamed(&mut stage), Some(id(0, 3)));
}

#[test]
fn what_was_replaced_and_is_given_up_stops_the_roll() {
    let mut stage = serving(2, policy().budget(Budget::new(0, SECOND)));
    stage.roll(Roll::same());
    stage.takes_over(id(0, 2));
    stage.exit(id(0, 2), SIGABRT);
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.leaves(id(1, 2));
    assert_eq!(blamed(&mut stage), Some(id(0, 2)));
    assert_eq!(
        stage.supervisor.given_up().count(),
        1,
        "with the same release there is nothing to go back to"
    );
}

#[test]
fn one_that_was_not_replaced_may_crash_as_it_likes() {
    let mut stage = serving(3, policy());
    stage.roll(Roll::same());
    stage.exit(id(2, 1), SIGABRT);
    stage.supervisor.handle_spawned(id(2, 2), stage.now);
    stage.exit(id(2, 2), SIGABRT);
    assert_eq!(stage.outcome(), None);
    assert!(stage.supervisor.current_roll().is_some());
}

#[test]
fn crashes_of_what_was_replaced_stop_a_roll_before_nobody_serves() {
    for roll in [Roll::same(), Roll::to(NEW)] {
        let mut stage = serving(3, policy());
        stage.roll(roll);
        for slot in 0..3 {
            stage.becomes_ready(id(slot, 2));
            stage.exit(id(slot, 2), SIGABRT);
            if stage.supervisor.slots().all(|view| view.newest() != id(slot, 1)) {
                stage.leaves(id(slot, 1));
            }
        }
        assert!(stage.ready_count() >= 2, "{} serve", stage.ready_count());
    }
}

#[test]
fn a_crash_loop_of_what_was_replaced_does_not_stall_the_roll_for_ever() {
    let mut stage = serving(2, policy().max_surge(0).max_unavailable(1).budget(Budget::unlimited()));
    stage.roll(Roll::same());
    stage.leaves(id(0, 1));
    stage.becomes_ready(id(0, 2));
    stage.exit(id(0, 2), SIGABRT);
    stage.look_away();
    for generation in 3..5 {
        stage.supervisor.handle_spawned(id(0, generation), stage.now);
        stage.exit(id(0, generation), SIGABRT);
        if stage.supervisor.poll_timeout().is_some() {
            stage.next_deadline();
        }
    }
    stage.leaves(id(1, 1));
    stage.becomes_ready(id(1, 2));
    assert!(stage.supervisor.current_roll().is_none());
}

#[test]
fn a_roll_goes_back_and_takes_the_slot_that_was_replaced_again_for_itself_with_it() {
    let mut stage = serving(2, policy().max_surge(2));
    stage.roll(Roll::to(NEW).canaries(2, 60 * SECOND));
    stage.becomes_ready(id(0, 2));
    stage.jump(60 * SECOND);
    stage.leaves(id(0, 1));
    stage.becomes_ready(id(1, 2));
    stage.supervisor.replace(id(0, 2), stage.now);
    stage.supervisor.handle_spawned(id(0, 3), stage.now);
    stage.look_away();
    // 0.3, of the new release, is on trial for another reason.
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(stage.spawns_and_stops().len(), 1, "1.2 is recalled, and 0.3 stays for the moment");
    stage.becomes_ready(id(0, 3));
    stage.leaves(id(1, 2));
    assert_eq!(stage.spawns(), [id(0, 4)]);
    stage.takes_over(id(0, 4));
    assert_eq!(stage.releases(), [0, 0]);
    assert_eq!(blamed(&mut stage), Some(id(0, 2)));
}

#[test]
fn figures_of_a_successor_whose_bake_time_is_over_change_nothing() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW).bake(SECOND));
    stage.becomes_ready(id(0, 2));
    stage.jump(SECOND);
    stage.supervisor.handle_figures(id(0, 2), Figures::new(100, 100), stage.now);
    assert_eq!(stage.outcome(), None);
    assert_eq!(stage.releases(), [7, 0]);
}

#[test]
fn a_successor_that_somebody_stops_stops_the_roll() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW));
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.supervisor.stop(id(0, 2), stage.now);
    stage.exit(id(0, 2), Exit::Code(0));
    let outcome = stage.outcome();
    let expected = RollOutcome::Failed { id: id(0, 2), reason: Unfit::Recalled };
    assert_eq!(outcome, Some(expected));
}

#[test]
fn a_successor_that_is_being_killed_when_its_bake_time_is_over_does_not_take_over() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW).bake(SECOND));
    stage.becomes_ready(id(0, 2));
    stage.supervisor.handle_unhealthy(id(0, 2), stage.now);
    stage.now += SECOND;
    stage.supervisor.handle_timeout(stage.now);
    assert_eq!(stage.outcomes(), [""; 0]);
    stage.exit(id(0, 2), SIGKILL);
    assert_eq!(blamed(&mut stage), Some(id(0, 2)));
    assert_eq!(stage.releases(), [0, 0]);
}

#[test]
fn a_successor_that_is_no_part_of_the_roll_does_not_speak_against_it() {
    let mut stage = serving(2, policy().max_surge(0).max_unavailable(1));
    stage.roll(Roll::same());
    stage.supervisor.pause_roll();
    stage.leaves(id(0, 1));
    stage.becomes_ready(id(0, 2));
    stage.exit(id(0, 2), SIGABRT);
    stage.becomes_ready(id(0, 3));
    stage.supervisor.replace(id(0, 3), stage.now);
    stage.leaves(id(0, 3));
    stage.supervisor.handle_spawned(id(0, 4), stage.now);
    stage.exit(id(0, 4), SIGABRT);
    assert!(!stage.supervisor.roll_view().unwrap().is_rolling_back());
}

#[test]
fn a_successor_is_not_compared_with_those_that_leave() {
    let mut stage = serving(2, policy().max_surge(2));
    stage.supervisor.replace(id(1, 1), stage.now);
    stage.becomes_ready(id(1, 2));
    stage.roll(Roll::to(NEW).canaries(1, 60 * SECOND));
    stage.becomes_ready(id(0, 2));
    stage.supervisor.handle_figures(id(1, 1), Figures::new(1000, 1000), stage.now);
    stage.supervisor.handle_figures(id(1, 2), Figures::new(30, 0), stage.now);
    stage.look_away();
    stage.supervisor.handle_figures(id(0, 2), Figures::new(30, 30), stage.now);
    assert_eq!(stage.stops(), [id(0, 2)]);
}

#[test]
fn a_slot_that_serves_while_its_worker_is_replaced_again_holds_up_nobody() {
    let mut stage = serving(2, policy().max_surge(2));
    stage.roll(Roll::same().canaries(1, SECOND));
    stage.becomes_ready(id(0, 2));
    stage.supervisor.pause_roll();
    stage.jump(SECOND);
    stage.leaves(id(0, 1));
    stage.supervisor.replace(id(0, 2), stage.now);
    stage.look_away();
    stage.supervisor.resume_roll(stage.now);
    assert_eq!(stage.spawns(), [id(1, 2)]);
}
