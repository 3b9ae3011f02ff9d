//! Stopping a whole tree.

use cluster_supervisor::Exit;
use cluster_supervisor::os::{Ask, OpenFiles, Tree, User, set_open_files};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::processes::{self, eventually};
use crate::support::{MARK, Shell, is_stopped, with_bystander};

/// Sleeps on, whatever signal comes that can be ignored.
const STUBBORN: &str = "trap '' TERM HUP; echo $$ >&3; while :; do sleep 1000; done";

pub(crate) fn a_child_that_ignores_sigterm_is_killed() {
    with_bystander(|| {
        let mut shell = Shell::run(STUBBORN);
        shell.hears();
        let mut tree = Tree::of(&shell.child).unwrap();
        tree.ask(Ask::Child).unwrap();
        eventually("its command to run", || (tree.look().unwrap() == 2).then_some(()));
        shell.kill(&mut tree);
        assert_eq!(shell.reap(), Exit::Signal(9));
        assert!(tree.kill_round().unwrap().is_nobody(), "nor is anybody there after the child was reaped");
    });
}

pub(crate) fn a_grandchild_with_its_own_session_is_killed() {
    with_bystander(|| {
        let mut shell = Shell::run(&format!("setsid sh -c \"{}\" & wait", STUBBORN.replace('$', "\\$")));
        let grandchild: u32 = shell.hears().parse().unwrap();
        let mut tree = Tree::of(&shell.child).unwrap();
        tree.ask(Ask::Child).unwrap();
        assert_eq!(shell.reap(), Exit::Signal(15));
        // The one by whom it could be found has ended and was reaped.
        assert!(shell.marked().contains(&grandchild));
        shell.kill(&mut tree);
    });
}

pub(crate) fn a_child_that_stopped_itself_acts_on_sigterm() {
    for whom in [Ask::Child, Ask::Group, Ask::Tree] {
        with_bystander(|| {
            let mut shell = Shell::run("trap 'exit 3' TERM; kill -STOP $$; while :; do sleep 0.01; done");
            let pid = shell.child.pid();
            eventually("it to stop itself", || is_stopped(pid).then_some(()));
            let mut tree = Tree::of(&shell.child).unwrap();
            tree.ask(whom).unwrap();
            assert_eq!(shell.reap(), Exit::Code(3), "it was woken and could tidy up");
            shell.kill(&mut tree);
        });
    }
}

/// Two hundred links; each starts the next and one that stays, and ends after 10 ms.
pub(crate) const LINKS: &str = r#"
    link() { [ "$1" -lt 200 ] || exit; NEXT link $(($1 + 1)) & sleep 1000 & sleep 0.01; exit; }
    link 0
"#;

pub(crate) fn a_chain_of_forks_ends() {
    with_bystander(|| {
        let mut shell = Shell::run(&LINKS.replace("NEXT", ""));
        let mut tree = Tree::of(&shell.child).unwrap();
        eventually("the chain to grow", || (shell.marked().len() > 20).then_some(()));
        shell.kill(&mut tree);
        shell.reap();
    });
}

pub(crate) fn the_rest_of_a_group_is_killed_after_its_leader_was_reaped() {
    with_bystander(|| {
        let mut shell = Shell::run("sleep 1000 & read word");
        let mut tree = Tree::of(&shell.child).unwrap();
        eventually("its command to run", || (tree.look().unwrap() == 2).then_some(()));
        shell.say("end");
        assert_eq!(shell.reap(), Exit::Code(0));
        assert_eq!(shell.marked().len(), 1);
        shell.kill(&mut tree);
    });
}

pub(crate) fn only_who_is_asked_ends() {
    // Its group is a pipeline of three and itself; beyond the group are a shell and its command.
    let script = "setsid sh -c 'echo >&3; sleep 1000; :' & sleep 1000 | sleep 1000 | sleep 1000; :";
    for (whom, left) in [(Ask::Child, 5), (Ask::Group, 2), (Ask::Tree, 0)] {
        with_bystander(|| {
            let mut shell = Shell::run(script);
            eventually("all of them to run", || (sleeps(&shell) == 4).then_some(()));
            let mut tree = Tree::of(&shell.child).unwrap();
            tree.ask(whom).unwrap();
            assert_eq!(shell.reap(), Exit::Signal(15));
            eventually(&format!("{left} to be left"), || (shell.marked().len() == left).then_some(()));
            shell.kill(&mut tree);
        });
    }
}

fn sleeps(shell: &Shell) -> usize {
    let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    shell.marked().iter().filter(|pid| name(pid) == "sleep\n").count()
}

/// In a process of its own, whose limit it is.
pub(crate) fn without_descriptors_the_group_is_killed() {
    with_bystander(|| {
        let mut shell = Shell::run("exec >/dev/null 2>&1; sleep 1000 & echo >&3; trap '' TERM; sleep 1000");
        shell.hears();
        eventually("all of them to run", || (sleeps(&shell) == 2).then_some(()));
        let mut tree = Tree::of(&shell.child).unwrap();
        let before = OpenFiles::current().soft();
        set_open_files(0).unwrap();
        let error = tree.kill_round().unwrap_err();
        set_open_files(before).unwrap();
        assert!(error.to_string().contains("free descriptors"), "{error}");
        eventually("all of the group to end", || shell.marked().is_empty().then_some(()));
        assert_eq!(shell.reap(), Exit::Signal(9));
    });
}

pub(crate) fn everybody_is_killed_at_once() {
    for rounds in [0, 1, 2] {
        with_bystander(|| {
            // It doesn't wait for those it has started, who are killed before it: it would end by itself.
            let script = "setsid sh -c 'sleep 1000 & echo >&3; wait' & sleep 1000 & read word";
            let mut shell = Shell::run(script);
            shell.hears();
            eventually("all of them to run", || (sleeps(&shell) == 2).then_some(()));
            let mut tree = Tree::of(&shell.child).unwrap();
            for _ in 0..rounds {
                // Everybody is stopped, and nobody killed.
                assert_eq!(tree.kill_round().unwrap().living(), 4);
            }
            let left = tree.kill_all().unwrap();
            assert_eq!((left.living(), left.refused()), (4, 0));
            eventually("all of them to end", || shell.marked().is_empty().then_some(()));
            assert_eq!(shell.reap(), Exit::Signal(9));
            assert!(tree.kill_all().unwrap().is_nobody());
        });
    }
}

/// In a process of its own, which gives up a capability.
pub(crate) fn who_may_not_be_killed_any_more_is_not_left_stopped() {
    let all = rustix::thread::capabilities(None).unwrap();
    if !rustix::process::getuid().is_root() || !all.effective.contains(CapabilitySet::KILL) {
        return println!("skipped: changing the user takes root, killing another's child CAP_KILL");
    }
    let shell = Shell::run_as("sleep 1000; :", |spec| spec.user(User::new(65534, 65534)));
    eventually("its command to run", || (sleeps(&shell) == 1).then_some(()));
    let mut tree = Tree::of(&shell.child).unwrap();
    assert_eq!(tree.kill_round().unwrap().living(), 2);
    let pids = shell.marked();
    eventually("both to stand still", || pids.iter().all(|pid| is_stopped(*pid)).then_some(()));
    let without_kill = CapabilitySets { effective: all.effective - CapabilitySet::KILL, ..all };
    rustix::thread::set_capabilities(None, without_kill).unwrap();
    let left = tree.kill_all().unwrap();
    assert_eq!((left.living(), left.refused()), (2, 2));
    eventually("both to go on", || pids.iter().all(|pid| !is_stopped(*pid)).then_some(()));
    rustix::thread::set_capabilities(None, all).unwrap();
    shell.kill(&mut tree);
}

pub(crate) fn a_child_that_is_given_up_ends_with_its_group() {
    with_bystander(|| {
        let shell = Shell::run("sleep 1000 & sleep 1000; :");
        eventually("all of them to run", || (sleeps(&shell) == 2).then_some(()));
        let Shell { child, mark, .. } = shell;
        assert_eq!(child.kill_and_reap().unwrap(), Exit::Signal(9));
        eventually("all of them to end", || processes::marked(MARK, &mark).is_empty().then_some(()));
    });
}
