//! Stopping a whole tree.

use cluster_supervisor::Exit;
use cluster_supervisor::os::{Ask, OpenFiles, Tree, set_open_files};

use crate::processes::eventually;
use crate::support::{Shell, is_stopped, with_bystander};

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
        let mut shell = Shell::run("sleep 1000 & echo >&3; trap '' TERM; sleep 1000");
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
