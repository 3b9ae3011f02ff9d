//! Rolls that turn back: who gets what he had before, when, and what is told of it.

mod common;

use cluster_supervisor::{Action, Budget, Event, Release, Roll, RollOutcome, Unfit};
use common::{NEW, SECOND, SIGABRT, SIGKILL, Stage, id, policy, serving};

/// Of three slots the first was replaced, and the successor of the second is spawned.
fn halfway() -> Stage {
    let mut stage = serving(3, policy());
    stage.roll(Roll::to(NEW));
    stage.takes_over(id(0, 2));
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.look_away();
    stage
}

/// How often it was told that a roll goes back, and for which reason.
fn reasons(events: &[Event]) -> Vec<RollOutcome> {
    let reason = |event: &Event| match event {
        Event::RollingBack { outcome, .. } => Some(outcome.clone()),
        _ => None,
    };
    events.iter().filter_map(reason).collect()
}

#[test]
fn an_impatient_second_abort_does_not_stop_the_way_back() {
    for is_aborted in [true, false] {
        let mut stage = halfway();
        if is_aborted {
            stage.supervisor.abort_roll(stage.now);
            stage.leaves(id(1, 2));
        } else {
            stage.exit(id(1, 2), SIGABRT);
        }
        assert!(stage.spawns().contains(&id(0, 3)), "back to the old release");
        stage.supervisor.abort_roll(stage.now);
        stage.takes_over(id(0, 3));
        assert_eq!(stage.releases(), [0, 0, 0]);
        let outcome = stage.outcome().unwrap();
        assert_eq!(matches!(outcome, RollOutcome::Aborted), is_aborted, "the first reason counts: {outcome}");
    }
}

#[test]
fn that_it_goes_back_is_told_once() {
    let mut stage = halfway();
    stage.supervisor.abort_roll(stage.now);
    stage.supervisor.abort_roll(stage.now);
    stage.leaves(id(1, 2));
    stage.exit(id(0, 2), SIGABRT);
    stage.takes_over(id(0, 3));
    let events = stage.events();
    assert_eq!(reasons(&events), [RollOutcome::Aborted]);
    let told = |event: &Event| matches!(event, Event::RollingBack { .. });
    let recalled =
        |event: &Event| matches!(event, Event::ReplaceFailed { slot: 1, reason: Unfit::Recalled, .. });
    let goes_back = |event: &Event| matches!(event, Event::Replacing { slot: 0, .. });
    let order =
        [events.iter().position(recalled), events.iter().position(told), events.iter().position(goes_back)];
    assert!(order.is_sorted(), "{events:?}");
}

#[test]
fn that_it_goes_back_is_told_before_anybody_goes_back() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW));
    stage.takes_over(id(0, 2));
    stage.look_away();
    stage.supervisor.handle_spawn_failed(id(1, 2), stage.now);
    let told = |event: &Event| matches!(event, Event::RollingBack { .. } | Event::Replacing { .. });
    let lines: Vec<_> = stage.events().iter().filter(|event| told(event)).map(Event::to_string).collect();
    let back = "roll 1 stopped, since successor 1.2 could not be started: it goes back";
    assert_eq!(lines, [back, "slot 0 gets successor 0.3"]);
}

#[test]
fn a_pause_ends_when_the_roll_turns_back() {
    let mut stage = halfway();
    stage.supervisor.pause_roll();
    stage.supervisor.abort_roll(stage.now);
    let view = stage.supervisor.roll_view().unwrap();
    assert_eq!((view.is_paused(), view.is_rolling_back()), (false, true));
    stage.leaves(id(1, 2));
    assert_eq!(stage.spawns(), [id(0, 3)]);
}

#[test]
fn those_that_were_replaced_last_go_back_first_and_nobody_bakes() {
    let mut stage = serving(4, policy());
    stage.roll(Roll::to(NEW).bake(60 * SECOND));
    for slot in 0..3 {
        stage.becomes_ready(id(slot, 2));
        assert_eq!(stage.next_deadline(), 60 * SECOND);
        stage.leaves(id(slot, 1));
    }
    stage.look_away();
    stage.supervisor.handle_spawn_failed(id(3, 2), stage.now);
    for slot in [2, 1, 0] {
        assert_eq!(stage.spawns(), [id(slot, 3)]);
        stage.becomes_ready(id(slot, 3));
        assert_eq!(stage.stops(), [id(slot, 2)], "at once");
        stage.leaves(id(slot, 2));
    }
    assert_eq!(stage.releases(), [0; 4]);
}

#[test]
fn one_that_cannot_go_back_is_left_behind_alone_and_told() {
    let mut stage = serving(4, policy().max_surge(4));
    stage.roll(Roll::to(NEW));
    (0..3).for_each(|slot| stage.takes_over(id(slot, 2)));
    stage.supervisor.handle_spawned(id(3, 2), stage.now);
    stage.look_away();
    stage.exit(id(3, 2), SIGABRT);
    assert_eq!(stage.spawns(), [id(2, 3), id(1, 3), id(0, 3)]);
    stage.supervisor.handle_spawn_failed(id(2, 3), stage.now);
    stage.takes_over(id(1, 3));
    stage.takes_over(id(0, 3));
    assert_eq!(stage.releases(), [0, 0, 7, 0]);
    let line = stage.outcomes().pop().unwrap();
    assert!(line.ends_with("; replaced 3, of which 1 could not go back"), "{line}");
}

#[test]
fn nobody_is_left_behind_who_was_not_to_go_back() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW).roll_back(false));
    stage.takes_over(id(0, 2));
    stage.supervisor.abort_roll(stage.now);
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.leaves(id(1, 2));
    assert_eq!(stage.outcomes().pop().unwrap(), "roll 1 aborted; replaced 1");
}

#[test]
fn a_slot_that_ran_the_release_before_has_nothing_to_go_back_to() {
    let mut stage = Stage::new(policy());
    stage.supervisor.set_release(NEW);
    stage.ready();
    stage.supervisor.set_release(Release::default());
    stage.ready();
    assert_eq!(stage.releases(), [7, 0]);
    stage.roll(Roll::to(NEW));
    stage.takes_over(id(0, 2));
    stage.look_away();
    stage.supervisor.handle_spawn_failed(id(1, 2), stage.now);
    assert_eq!(stage.spawns(), []);
    let end = "roll 1 stopped, since successor 1.2 could not be started; replaced 1";
    assert_eq!(stage.outcomes().pop().unwrap(), end);
}

#[test]
fn nobody_waits_on_the_way_back() {
    let mut stage = serving(3, policy());
    stage.roll(Roll::to(NEW));
    stage.takes_over(id(0, 2));
    stage.takes_over(id(1, 2));
    stage.look_away();
    stage.supervisor.handle_unhealthy(id(0, 2), stage.now);
    stage.supervisor.handle_spawn_failed(id(2, 2), stage.now);
    assert_eq!(stage.spawns(), [id(1, 3)], "0.2 has not gone yet");
}

#[test]
fn an_abort_does_not_wait_for_the_bake_time() {
    let mut stage = serving(1, policy().max_surge(0).max_unavailable(1));
    stage.roll(Roll::to(NEW).bake(24 * 3600 * SECOND));
    stage.leaves(id(0, 1));
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    stage.supervisor.abort_roll(stage.now);
    assert_eq!(stage.actions(), [Action::Withdraw(id(0, 2)), Action::AskStop(id(0, 2))], "it makes way");
    stage.leaves(id(0, 2));
    stage.becomes_ready(id(0, 3));
    assert_eq!(stage.releases(), [0]);
    assert_eq!(stage.outcomes().pop().unwrap(), "roll 1 aborted; replaced 1");
}

#[test]
fn a_successor_whose_predecessor_has_crashed_serves_until_the_old_release_does() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW).bake(24 * 3600 * SECOND));
    stage.becomes_ready(id(0, 2));
    stage.exit(id(0, 1), SIGABRT);
    assert!(stage.spawns().contains(&id(1, 2)));
    stage.supervisor.abort_roll(stage.now);
    assert_eq!(stage.spawns(), [], "1.2 may come yet, and would be one too many with 0.3");
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    assert_eq!(stage.stops(), [id(1, 2)]);
    stage.leaves(id(1, 2));
    assert_eq!(stage.spawns(), [id(0, 3)]);
    stage.becomes_ready(id(0, 3));
    assert_eq!(stage.stops(), [id(0, 2)]);
    assert_eq!(stage.outcome(), Some(RollOutcome::Aborted));
}

#[test]
fn a_successor_that_alone_serves_takes_over_although_it_is_too_late_and_goes_back_in_its_turn() {
    for roll_back in [true, false] {
        let mut stage = serving(1, policy());
        stage.roll(Roll::to(NEW).bake(60 * SECOND).roll_back(roll_back));
        stage.becomes_ready(id(0, 2));
        stage.supervisor.handle_unhealthy(id(0, 1), stage.now);
        stage.supervisor.abort_roll(stage.now);
        assert_eq!(stage.ready_count(), 1, "0.1 dies: with 0.2 nobody would serve");
        stage.look_away();
        stage.exit(id(0, 1), SIGKILL);
        assert_eq!(stage.spawns() == [id(0, 3)], roll_back);
        if roll_back {
            stage.takes_over(id(0, 3));
            assert_eq!(stage.outcomes().pop().unwrap(), "roll 1 aborted; replaced 1");
        }
        assert_eq!(stage.releases(), [if roll_back { 0 } else { 7 }]);
    }
}

#[test]
fn one_that_makes_way_already_is_followed_by_what_was_there_before() {
    let mut stage = serving(1, policy().max_surge(0).max_unavailable(1));
    stage.roll(Roll::to(NEW).bake(60 * SECOND));
    assert_eq!(stage.stops(), [id(0, 1)]);
    stage.look_away();
    stage.supervisor.abort_roll(stage.now);
    let replacing = stage.events().into_iter().find_map(|event| match event {
        Event::Replacing { slot, id, release, .. } => Some((slot, id, release.number())),
        _ => None,
    });
    assert_eq!(replacing, Some((0, None, 0)), "it was to be release 7");
    stage.leaves(id(0, 1));
    assert_eq!(stage.spawns(), [id(0, 2)]);
    stage.becomes_ready(id(0, 2));
    assert_eq!(
        stage.outcomes(),
        ["worker 0.2 took over", "roll 1 aborted; replaced 0"],
        "without a bake time"
    );
    assert_eq!(stage.releases(), [0]);
}

#[test]
fn what_was_replaced_and_crashes_goes_back_at_once_with_a_clean_record() {
    let mut stage = halfway();
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(stage.spawns(), [id(0, 3)]);
    assert_eq!(stage.supervisor.release_of(id(0, 3)).unwrap().number(), 0);
    let slot = stage.supervisor.slots().next().unwrap();
    assert_eq!((slot.failures(), slot.restarts()), (0, 0), "the old release did not fail");
    stage.becomes_ready(id(0, 3));
    stage.leaves(id(1, 2));
    let why = "killed by signal 6 (SIGABRT) after it was ready";
    assert_eq!(
        stage.outcomes(),
        [
            "successor 1.2 did not take over: it was recalled".to_owned(),
            format!("roll 1 stopped, since successor 0.2 {why}; replaced 1"),
        ]
    );
    assert_eq!(stage.supervisor.release().number(), 0);
}

#[test]
fn what_was_replaced_and_crashes_comes_again_where_a_roll_does_not_go_back() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW).roll_back(false));
    stage.takes_over(id(0, 2));
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.look_away();
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(stage.spawns_and_stops(), [Action::AskStop(id(1, 2)), Action::Spawn(id(0, 3))]);
    assert_eq!(stage.supervisor.release_of(id(0, 3)), Some(NEW));
    assert_eq!(stage.supervisor.slots().next().unwrap().failures(), 1);
    assert!(stage.outcomes().pop().unwrap().starts_with("roll 1 stopped, since successor 0.2 killed"));
}

#[test]
fn what_was_replaced_and_is_asked_to_stop_speaks_against_nobody() {
    let mut stage = halfway();
    stage.supervisor.stop(id(0, 2), stage.now);
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(stage.outcomes(), [""; 0]);
    stage.takes_over(id(1, 2));
    assert_eq!(stage.spawns(), [id(2, 2)]);
}

#[test]
fn a_successor_that_does_not_serve_does_not_take_over_for_an_abort() {
    for is_ready in [true, false] {
        let mut stage = serving(1, policy());
        stage.roll(Roll::to(NEW).bake(60 * SECOND));
        stage.supervisor.handle_spawned(id(0, 2), stage.now);
        if is_ready {
            stage.supervisor.handle_ready(id(0, 2), stage.now);
            stage.supervisor.handle_unhealthy(id(0, 2), stage.now);
        }
        stage.supervisor.handle_unhealthy(id(0, 1), stage.now);
        stage.supervisor.abort_roll(stage.now);
        assert_eq!(stage.outcomes()[0], "successor 0.2 did not take over: it was recalled");
        stage.exit(id(0, 1), SIGKILL);
        assert_eq!(stage.supervisor.release_of(id(0, 3)).unwrap().number(), 0);
    }
}

#[test]
fn what_goes_back_at_once_has_a_clean_record_whatever_failed_before() {
    let mut stage = serving(3, policy());
    stage.roll(Roll::to(NEW));
    stage.supervisor.pause_roll();
    stage.takes_over(id(0, 2));
    stage.supervisor.replace(id(0, 2), stage.now);
    stage.supervisor.handle_spawned(id(0, 3), stage.now);
    stage.exit(id(0, 2), SIGABRT);
    // The roll goes back when there is room for it, and that is taken.
    stage.supervisor.replace(id(1, 1), stage.now);
    stage.supervisor.handle_ready(id(0, 3), stage.now);
    stage.look_away();
    assert_eq!(stage.supervisor.slots().next().unwrap().failures(), 1);
    stage.exit(id(0, 3), SIGABRT);
    assert_eq!(stage.spawns(), [id(0, 4)]);
    assert_eq!(stage.supervisor.release_of(id(0, 4)).unwrap().number(), 0);
    assert_eq!(stage.supervisor.slots().next().unwrap().failures(), 0);
}
#[test]
fn one_that_crashes_on_the_way_back_leaves_its_slot_what_it_had() {
    let mut stage = serving(2, policy().max_surge(0).max_unavailable(1));
    stage.roll(Roll::to(NEW));
    stage.leaves(id(0, 1));
    stage.becomes_ready(id(0, 2));
    stage.leaves(id(1, 1));
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.exit(id(1, 2), SIGABRT);
    stage.becomes_ready(id(1, 3));
    stage.leaves(id(0, 2));
    stage.supervisor.handle_spawned(id(0, 3), stage.now);
    stage.look_away();
    stage.exit(id(0, 3), SIGABRT);
    assert_eq!(stage.spawns(), [id(0, 4)]);
    assert_eq!(stage.supervisor.release_of(id(0, 4)), Some(NEW));
    let line = stage.outcomes().pop().unwrap();
    assert!(line.ends_with("; replaced 1, of which 1 could not go back"), "{line}");
}

#[test]
fn what_was_replaced_and_makes_way_again_speaks_against_nobody() {
    let mut stage = serving(2, policy().max_surge(0).max_unavailable(1));
    stage.roll(Roll::to(NEW));
    stage.supervisor.pause_roll();
    stage.leaves(id(0, 1));
    stage.becomes_ready(id(0, 2));
    stage.supervisor.replace(id(0, 2), stage.now);
    stage.look_away();
    stage.leaves(id(0, 2));
    assert_eq!(stage.spawns(), [id(0, 3)]);
    assert_eq!(reasons(&stage.events()), []);
}

#[test]
fn a_shutdown_does_not_wait_for_a_slot_that_was_to_go_back_and_was_given_up() {
    let mut stage = serving(1, policy().budget(Budget::new(0, SECOND)));
    stage.supervisor.start(stage.now);
    stage.becomes_ready(id(1, 1));
    stage.roll(Roll::to(NEW));
    stage.supervisor.pause_roll();
    stage.takes_over(id(0, 2));
    stage.supervisor.replace(id(0, 2), stage.now);
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(stage.supervisor.given_up().count(), 1);
    assert!(stage.supervisor.roll_view().unwrap().is_rolling_back());
    stage.supervisor.shutdown(stage.now);
    assert!(stage.supervisor.current_roll().is_none());
}

#[test]
fn many_trials_that_end_at_once_need_no_stack() {
    const SLOTS: u32 = 1000;
    // As much as a thread has by default.
    let run = std::thread::Builder::new().stack_size(2 << 20).spawn(|| {
        let mut stage = serving(SLOTS, policy().max_surge(SLOTS));
        stage.roll(Roll::to(NEW));
        stage.look_away();
        stage.supervisor.handle_spawn_failed(id(0, 2), stage.now);
        assert!(matches!(stage.outcome(), Some(RollOutcome::Failed { .. })));
    });
    run.unwrap().join().unwrap();
}
