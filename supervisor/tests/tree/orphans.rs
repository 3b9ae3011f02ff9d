//! A subreaper: orphans come to it. Each of these runs in a process of its own.

use std::cell::RefCell;

use cluster_supervisor::Exit;
use cluster_supervisor::os::{Reaper, Tree, become_subreaper};

use crate::processes::eventually;
use crate::stop::LINKS;
use crate::support::{Bystander, Shell, children, field};

pub(crate) fn a_daemon_comes_to_the_subreaper_and_is_ended() {
    become_subreaper().unwrap();
    let bystander = Bystander::new();
    let spared = children();
    let owned = |pid: u32| spared.contains(&pid);
    let mut shell = Shell::run("setsid sh -c 'sleep 1000 & echo $! >&3'; exit 0");
    let mut tree = Tree::of(&shell.child).unwrap();
    let daemon: u32 = shell.hears().parse().unwrap();
    assert_eq!(shell.reap(), Exit::Code(0));
    let reaper = Reaper::new();
    eventually("the daemon to come to us", || (reaper.living(owned).unwrap() == [daemon]).then_some(()));
    // Its pid was told by the shell that forked it, which says nothing of its exec.
    eventually("the daemon's program to begin", || (field(daemon, "Name")? == "sleep").then_some(()));

    assert!(!tree.claim(1).unwrap() && !tree.claim(std::process::id()).unwrap(), "neither is our child");
    assert!(tree.claim(daemon).unwrap());
    shell.kill(&mut tree);
    let orphans =
        eventually("it to be reaped", || Some(reaper.reap(owned).unwrap()).filter(|o| !o.is_empty()));
    let told: Vec<_> = orphans.iter().map(|orphan| (orphan.pid, &*orphan.name, orphan.exit)).collect();
    assert_eq!(told, [(daemon, "sleep", Exit::Signal(9))]);
    assert_eq!(children(), spared, "no zombie is left");
    bystander.must_be_well();
}

pub(crate) fn many_orphans_are_reaped_at_once() {
    become_subreaper().unwrap();
    let many = 1500;
    let mut shell = Shell::run(&format!("i=0; while [ $i -lt {many} ]; do (: &); i=$((i+1)); done"));
    let child = shell.child.pid();
    let (reaper, owned) = (Reaper::new(), |pid| pid == child);
    eventually("all to be orphans and dead", || (reaper.dead(owned).unwrap().len() == many).then_some(()));
    assert_eq!(reaper.reap(owned).unwrap().len(), many, "nobody tells that there are more");
    assert_eq!(shell.reap(), Exit::Code(0));
    assert_eq!(children(), [0; 0], "no zombie is left");
}

pub(crate) fn the_exit_of_a_child_is_left_to_who_started_it() {
    become_subreaper().unwrap();
    let mut shell = Shell::run("sh -c '(read go; exit 5) <&3 & echo $! >&3'; exit 7");
    let child = shell.child.pid();
    let orphan: u32 = shell.hears().parse().unwrap();
    let reaper = Reaper::new();
    let owned = |pid| pid == child;
    eventually("the orphan to come to us", || (reaper.living(owned).unwrap() == [orphan]).then_some(()));
    // Both are there to be reaped now; the child's end comes first.
    shell.say("go");
    let orphans =
        eventually("it to be reaped", || Some(reaper.reap(owned).unwrap()).filter(|o| !o.is_empty()));
    assert_eq!(orphans.iter().map(|o| (o.pid, o.exit)).collect::<Vec<_>>(), [(orphan, Exit::Code(5))]);
    assert_eq!(reaper.reap(owned).unwrap(), []);
    assert_eq!(children(), [child], "it waits to be reaped by its owner");
    assert_eq!(shell.reap(), Exit::Code(7));
    assert_eq!(reaper.reap(owned).unwrap(), []);
}

pub(crate) fn a_chain_that_leaves_its_session_at_each_step_ends() {
    become_subreaper().unwrap();
    let bystander = Bystander::new();
    let spared = children();
    // As the other chain, but a link can be found by neither parent nor group nor session once the one before has ended.
    let script = std::env::temp_dir().join(format!("cluster-chain-{}", std::process::id()));
    let link =
        LINKS.replace("NEXT link", &format!("setsid sh {}", script.display())).replace("link 0", "link $1");
    std::fs::write(&script, link).unwrap();
    let mut shell = Shell::run(&format!("exec sh {} 0", script.display()));
    let mut tree = Tree::of(&shell.child).unwrap();
    eventually("the chain to grow", || (shell.marked().len() > 20).then_some(()));

    let (reaper, child) = (Reaper::new(), RefCell::new(shell.child.pid()));
    let owned = |pid: u32| spared.contains(&pid) || pid == *child.borrow();
    eventually("everybody to be killed", || {
        for orphan in reaper.living(owned).unwrap() {
            tree.claim(orphan).unwrap();
        }
        let left = tree.kill_round().unwrap();
        (left.is_nobody() && reaper.living(owned).unwrap().is_empty()).then_some(())
    });
    assert_eq!(shell.marked(), [0; 0], "nobody is left");
    shell.reap();
    *child.borrow_mut() = 0;
    eventually("all orphans to be reaped", || {
        reaper.reap(owned).unwrap();
        (children() == spared).then_some(())
    });
    std::fs::remove_file(script).unwrap();
    bystander.must_be_well();
}
