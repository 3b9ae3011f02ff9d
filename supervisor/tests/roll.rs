//! Replacing workers that live, one situation at a time.

mod common;

use cluster_supervisor::{
    Action, Budget, Event, Exit, ExitCause, Figures, Judge, Release, Restart, Roll, RollOutcome, RollRefused,
    StopSignal, Unfit,
};
use common::{NEW, SECOND, SIGABRT, Stage, id, policy, serving};

#[test]
fn each_successor_is_ready_before_its_predecessor_has_to_go_and_only_one_is_on_its_way() {
    let mut stage = serving(3, policy());
    stage.roll(Roll::to(NEW));
    for slot in 0..3 {
        assert_eq!(stage.actions(), [Action::Spawn(id(slot, 2))]);
        assert_eq!(stage.supervisor.release_of(id(slot, 2)), Some(NEW));
        stage.supervisor.handle_spawned(id(slot, 2), stage.now);
        assert_eq!(stage.actions(), []);
        stage.supervisor.handle_ready(id(slot, 2), stage.now);
        let (old, new) = (id(slot, 1), id(slot, 2));
        assert_eq!(stage.actions(), [Action::Admit(new), Action::Withdraw(old), Action::AskStop(old)]);
        // While the old one drains there is one too many already.
        stage.leaves(old);
    }
    assert_eq!(stage.actions(), []);
    assert_eq!(
        stage.outcomes(),
        [
            "worker 0.2 took over from 0.1",
            "worker 1.2 took over from 1.1",
            "worker 2.2 took over from 2.1",
            "roll 1 completed; replaced 3",
        ]
    );
    assert_eq!(stage.releases(), [7, 7, 7]);
    let next = stage.supervisor.start(stage.now);
    assert_eq!(stage.supervisor.release_of(next), Some(NEW), "new slots run the new release, too");
}

#[test]
fn a_successor_that_is_never_ready_stops_the_roll_and_the_old_ones_stay() {
    let mut stage = serving(3, policy());
    stage.roll(Roll::same());
    stage.becomes_ready(id(0, 2));
    stage.leaves(id(0, 1));
    stage.look_away();
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    assert_eq!(stage.next_deadline(), 30 * SECOND);
    assert_eq!(stage.actions(), [Action::Signal(id(1, 2), StopSignal::Kill)]);
    stage.exit(id(1, 2), common::SIGKILL);
    assert_eq!(stage.actions(), []);
    let why = "killed by signal 9 (SIGKILL) because it was not ready in time";
    assert_eq!(
        stage.outcomes(),
        [
            format!("successor 1.2 did not take over: it {why}"),
            format!("roll 1 stopped, since successor 1.2 {why}; replaced 1"),
        ]
    );
    let serving: Vec<_> = stage.supervisor.workers().map(|worker| worker.id()).collect();
    assert_eq!(serving, [id(0, 2), id(1, 1), id(2, 1)]);
    // The next one may come.
    stage.roll(Roll::same());
    assert_eq!(stage.actions(), [Action::Spawn(id(0, 3))]);
}

#[test]
fn a_canary_that_crashes_under_traffic_costs_nobody_else_his_place() {
    let mut stage = serving(4, policy().max_surge(4));
    stage.roll(Roll::to(NEW).canaries(1, 10 * SECOND));
    assert_eq!(stage.actions(), [Action::Spawn(id(0, 2))], "nobody else before it is fit");
    stage.becomes_ready(id(0, 2));
    assert_eq!(stage.actions(), [Action::Admit(id(0, 2))], "it serves beside its predecessor");
    stage.jump(9 * SECOND);
    stage.exit(id(0, 2), SIGABRT);
    assert_eq!(stage.actions(), [Action::Withdraw(id(0, 2))]);
    assert_eq!(
        stage.outcomes().last().unwrap(),
        "roll 1 stopped, since successor 0.2 killed by signal 6 (SIGABRT) after it was ready; replaced 0"
    );
    assert_eq!(stage.releases(), [0; 4]);
    // And a crash is answered with the release there was.
    stage.exit(id(2, 1), SIGABRT);
    let restarted = Stage::spawned(&stage.actions());
    assert_eq!(stage.supervisor.release_of(restarted), Some(Release::default()));
    assert_eq!(stage.supervisor.releases().into_iter().collect::<Vec<_>>(), [Release::default()]);
}

#[test]
fn all_others_follow_a_canary_that_is_fit() {
    let mut stage = serving(4, policy().max_surge(8));
    stage.roll(Roll::to(NEW).canaries(1, 10 * SECOND));
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    assert_eq!(stage.next_deadline(), 10 * SECOND);
    let actions = stage.actions();
    assert_eq!(actions[..2], [Action::Withdraw(id(0, 1)), Action::AskStop(id(0, 1))]);
    assert_eq!(actions[2..], [1, 2, 3].map(|slot| Action::Spawn(id(slot, 2))), "at the same time");
}

#[test]
fn a_successor_that_fails_its_requests_is_sent_away() {
    let mut stage = serving(2, policy());
    stage.supervisor.handle_figures(id(1, 1), Figures::new(1000, 0), stage.now);
    stage.roll(Roll::to(NEW).bake(60 * SECOND).judge(Judge::new().min_requests(10)));
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    stage.jump(SECOND);
    stage.supervisor.handle_figures(id(1, 1), Figures::new(1050, 1), stage.now);
    stage.supervisor.handle_figures(id(0, 2), Figures::new(9, 9), stage.now);
    assert_eq!(stage.actions(), [], "too few to say");
    stage.supervisor.handle_figures(id(0, 2), Figures::new(10, 10), stage.now);
    assert_eq!(stage.actions(), [Action::Withdraw(id(0, 2)), Action::AskStop(id(0, 2))]);
    let line = "failed 10 of 10 requests, while the others failed 1 of 50 requests";
    assert_eq!(stage.outcomes()[1], format!("roll 1 stopped, since successor 0.2 {line}; replaced 0"));
}

#[test]
fn errors_that_all_have_speak_against_nobody() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW).bake(60 * SECOND));
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    stage.supervisor.handle_figures(id(1, 1), Figures::new(100, 98), stage.now);
    stage.supervisor.handle_figures(id(0, 2), Figures::new(100, 100), stage.now);
    assert_eq!(stage.actions(), []);
    stage.jump(60 * SECOND);
    assert_eq!(stage.outcomes(), ["worker 0.2 took over from 0.1"]);
}

#[test]
fn a_roll_that_fails_later_takes_back_what_it_did() {
    for roll_back in [true, false] {
        let mut stage = serving(3, policy());
        stage.roll(Roll::to(NEW).roll_back(roll_back));
        stage.becomes_ready(id(0, 2));
        stage.leaves(id(0, 1));
        stage.look_away();
        stage.supervisor.handle_spawn_failed(id(1, 2), stage.now);
        if roll_back {
            assert_eq!(stage.actions(), [Action::Spawn(id(0, 3))]);
            stage.becomes_ready(id(0, 3));
            stage.leaves(id(0, 2));
            assert_eq!(stage.releases(), [0, 0, 0]);
        } else {
            assert_eq!(stage.actions(), []);
            assert_eq!(stage.releases(), [7, 0, 0]);
        }
        let outcomes = stage.outcomes();
        let end = "roll 1 stopped, since successor 1.2 could not be started; replaced 1";
        assert_eq!(outcomes.last().unwrap(), end);
        let next = stage.supervisor.start(stage.now);
        assert_eq!(stage.supervisor.release_of(next), Some(Release::default()));
    }
}

#[test]
fn where_nothing_may_be_too_many_the_old_one_goes_first() {
    let mut stage = serving(3, policy().max_surge(0).max_unavailable(1));
    stage.roll(Roll::to(NEW));
    assert_eq!(stage.actions(), [Action::Withdraw(id(0, 1)), Action::AskStop(id(0, 1))]);
    stage.leaves(id(0, 1));
    assert_eq!(stage.actions(), [Action::Spawn(id(0, 2))]);
    stage.becomes_ready(id(0, 2));
    let next = [Action::Admit(id(0, 2)), Action::Withdraw(id(1, 1)), Action::AskStop(id(1, 1))];
    assert_eq!(stage.actions(), next);
    // Somebody else is missing now: nobody has to go until he is back.
    stage.exit(id(2, 1), SIGABRT);
    stage.look_away();
    stage.leaves(id(1, 1));
    stage.becomes_ready(id(1, 2));
    assert_eq!(stage.stops(), []);
    stage.becomes_ready(id(2, 2));
    let actions = stage.actions();
    assert!(actions.contains(&Action::AskStop(id(2, 2))), "{actions:?}");
}

#[test]
fn a_failed_successor_whose_predecessor_is_gone_makes_way_for_the_old_release() {
    for restart in [Restart::Always, Restart::OnFailure, Restart::Never] {
        let mut stage = serving(2, policy().max_surge(0).max_unavailable(1).restart(restart));
        stage.roll(Roll::to(NEW));
        stage.leaves(id(0, 1));
        stage.supervisor.handle_spawned(id(0, 2), stage.now);
        stage.look_away();
        stage.leaves(id(0, 2));
        assert_eq!(stage.actions(), [Action::Spawn(id(0, 3))], "{restart:?}");
        assert_eq!(stage.supervisor.release_of(id(0, 3)), Some(Release::default()));
        let reason = "exited with code 0 before it was ready";
        assert_eq!(
            stage.outcomes().last().unwrap(),
            &format!("roll 1 stopped, since successor 0.2 {reason}; replaced 0")
        );
    }
}

#[test]
fn replacements_for_different_reasons_never_coincide() {
    let mut stage = serving(3, policy());
    stage.roll(Roll::same());
    assert_eq!(stage.actions(), [Action::Spawn(id(0, 2))]);
    stage.supervisor.replace(id(2, 1), stage.now);
    stage.supervisor.replace(id(1, 1), stage.now);
    assert_eq!(stage.actions(), []);
    let mut order = Vec::new();
    let mut next = id(0, 2);
    loop {
        stage.becomes_ready(next);
        stage.exit(id(next.slot(), 1), Exit::Code(0));
        order.push(next);
        let actions = stage.actions();
        if !actions.iter().any(|action| matches!(action, Action::Spawn(_))) {
            break;
        }
        next = Stage::spawned(&actions);
    }
    // Those that were to be replaced for themselves come first, and the roll once more to its slots.
    assert_eq!(order[..3], [id(0, 2), id(2, 2), id(1, 2)]);
}

#[test]
fn a_predecessor_that_crashes_meanwhile_leaves_its_place_to_the_successor() {
    let mut stage = serving(1, policy());
    stage.roll(Roll::to(NEW).bake(10 * SECOND));
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.look_away();
    stage.exit(id(0, 1), SIGABRT);
    assert_eq!(stage.actions(), [Action::Withdraw(id(0, 1))], "there is somebody already");
    stage.supervisor.handle_ready(id(0, 2), stage.now);
    stage.jump(10 * SECOND);
    assert_eq!(stage.outcomes(), ["worker 0.2 took over", "roll 1 completed; replaced 1"]);
}

#[test]
fn a_slot_that_was_given_up_has_another_chance() {
    let mut stage = serving(2, policy().budget(Budget::new(0, SECOND)));
    stage.exit(id(0, 1), SIGABRT);
    assert_eq!(stage.supervisor.given_up().count(), 1);
    stage.look_away();
    stage.roll(Roll::to(NEW));
    assert_eq!(stage.actions(), [id(0, 2), id(1, 2)].map(Action::Spawn), "it counts as one that is missing");
    stage.becomes_ready(id(0, 2));
    assert_eq!(stage.supervisor.given_up().count(), 0);
    assert_eq!(stage.outcomes(), ["worker 0.2 took over"]);
}

#[test]
fn a_roll_can_be_paused_and_aborted_and_there_is_one_at_a_time() {
    let mut stage = serving(3, policy());
    assert!(!stage.supervisor.pause_roll(), "there is none");
    stage.roll(Roll::to(NEW));
    let busy = stage.supervisor.roll(Roll::same(), stage.now).unwrap_err();
    assert_eq!(busy.to_string(), "roll 1 is not over: wait for its end, or abort it");
    assert!(stage.supervisor.pause_roll() && !stage.supervisor.pause_roll());
    stage.becomes_ready(id(0, 2));
    stage.leaves(id(0, 1));
    assert!(!stage.actions().contains(&Action::Spawn(id(1, 2))), "those under way went on, no other began");
    assert!(stage.supervisor.resume_roll(stage.now));
    assert_eq!(stage.actions(), [Action::Spawn(id(1, 2))]);
    stage.supervisor.handle_spawned(id(1, 2), stage.now);
    stage.supervisor.abort_roll(stage.now);
    assert_eq!(stage.actions(), [Action::AskStop(id(1, 2))]);
    stage.leaves(id(1, 2));
    assert_eq!(stage.actions(), [Action::Spawn(id(0, 3))], "back to the old release");
    stage.becomes_ready(id(0, 3));
    stage.leaves(id(0, 2));
    assert_eq!(stage.outcomes().last().unwrap(), "roll 1 aborted; replaced 1");
    assert_eq!(stage.releases(), [0, 0, 0]);
    stage.supervisor.abort_roll(stage.now);
    assert_eq!(stage.outcomes(), [""; 0]);
}

#[test]
fn a_shutdown_ends_a_roll() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW));
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.look_away();
    stage.supervisor.shutdown(stage.now);
    let mut asked = stage.stops();
    asked.sort_unstable();
    assert_eq!(asked, [id(0, 1), id(0, 2), id(1, 1)]);
    let finished = stage
        .events()
        .into_iter()
        .any(|event| matches!(event, Event::RollFinished { outcome: RollOutcome::Aborted, replaced: 0, .. }));
    assert!(finished);
    assert_eq!(stage.supervisor.roll(Roll::same(), stage.now), Err(RollRefused::NoSlots));
}

#[test]
fn the_newest_leave_first_when_there_shall_be_fewer() {
    let mut stage = serving(3, policy());
    stage.supervisor.scale(5, stage.now);
    assert_eq!(stage.actions(), [Action::Spawn(id(3, 1)), Action::Spawn(id(4, 1))]);
    [id(3, 1), id(4, 1)].into_iter().for_each(|id| stage.becomes_ready(id));
    // A restart makes nobody newer.
    stage.exit(id(0, 1), SIGABRT);
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    stage.supervisor.scale(2, stage.now);
    assert_eq!(stage.stops(), [id(4, 1), id(3, 1), id(2, 1)]);
    stage.supervisor.scale(2, stage.now);
    assert_eq!(stage.actions(), []);
}

#[test]
fn a_successor_that_somebody_stops_is_none() {
    let mut stage = serving(1, policy());
    stage.supervisor.replace(id(0, 1), stage.now);
    stage.supervisor.handle_spawned(id(0, 2), stage.now);
    stage.look_away();
    stage.supervisor.stop(id(0, 2), stage.now);
    assert_eq!(stage.actions(), [Action::AskStop(id(0, 2))]);
    let failed = stage
        .events()
        .into_iter()
        .any(|event| matches!(event, Event::ReplaceFailed { reason: Unfit::Recalled, roll: None, .. }));
    assert!(failed);
    stage.leaves(id(0, 2));
    assert_eq!(stage.supervisor.worker(id(0, 1)).unwrap().state().as_str(), "ready");
    let exited = stage
        .events()
        .into_iter()
        .any(|event| matches!(event, Event::Exited { cause: ExitCause::Asked, .. }));
    assert!(exited);
}

#[test]
fn a_predecessor_without_time_to_drain_is_terminated_in_the_same_breath() {
    let at_once = cluster_supervisor::StopSequence::new().drain(std::time::Duration::ZERO);
    let mut stage = serving(1, policy().stop(at_once));
    stage.roll(Roll::to(NEW).bake(SECOND));
    stage.becomes_ready(id(0, 2));
    stage.look_away();
    stage.jump(SECOND);
    let old = id(0, 1);
    let end = [Action::Withdraw(old), Action::AskStop(old), Action::Signal(old, StopSignal::Term)];
    assert_eq!(stage.actions(), end);
}

#[test]
fn its_beginning_and_its_pauses_are_told() {
    let mut stage = serving(2, policy());
    stage.roll(Roll::to(NEW));
    assert_eq!([0; 2].map(|_| stage.supervisor.pause_roll()), [true, false]);
    assert_eq!([0; 2].map(|_| stage.supervisor.resume_roll(stage.now)), [true, false]);
    let lines: Vec<_> = stage.events().iter().map(Event::to_string).collect();
    let begin = ["roll 1 of 2 workers to release 7 started", "slot 0 gets successor 0.2"];
    assert_eq!(lines, [begin[0], begin[1], "roll 1 paused", "roll 1 resumed"]);
}
