//! What is told of real deaths. (Killing for want of memory is left to samples.)

use cluster_supervisor::os::{Autopsy, Death, Sender};
use cluster_supervisor::{Exit, StopSignal};

use crate::processes::eventually;
use crate::support::{Shell, with_bystander};

fn examine(shell: &Shell, autopsy: &Autopsy, sent: Option<StopSignal>) -> Death {
    eventually("the child to end", || autopsy.examine(&shell.child, sent).unwrap())
}

pub(crate) fn a_core_dump_is_told() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core).maximum;
    if pattern.starts_with('|') || pattern.contains('/') || limit.is_some() {
        println!("skipped: core dumps go elsewhere here, or are limited");
        return;
    }
    let folder = std::env::temp_dir().join(format!("cluster-core-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    for (limit, dumped) in [("unlimited", true), ("0", false)] {
        with_bystander(|| {
            let script = format!("cd {}; ulimit -c {limit}; read go; kill -ABRT $$", folder.display());
            let mut shell = Shell::run(&script);
            let autopsy = Autopsy::begin(&shell.child);
            assert_eq!(autopsy.examine(&shell.child, None).unwrap(), None, "it lives");
            shell.say("go");
            let death = examine(&shell, &autopsy, None);
            assert_eq!((death.exit(), death.core_dumped()), (Exit::Signal(6), dumped), "limit {limit}");
            assert_eq!(shell.reap(), Exit::Signal(6), "it was left to be reaped");
            assert_eq!(autopsy.examine(&shell.child, None).unwrap(), None, "and then is no more");
        });
    }
    std::fs::remove_dir_all(folder).unwrap();
}

pub(crate) fn a_signal_of_ours_is_told_from_anothers() {
    with_bystander(|| {
        let mut shell = Shell::run("kill -TERM $$");
        let autopsy = Autopsy::begin(&shell.child);
        let death = examine(&shell, &autopsy, None);
        assert_eq!((death.exit(), death.sender()), (Exit::Signal(15), None));
        let asked = examine(&shell, &autopsy, Some(StopSignal::Term));
        assert_eq!(asked.sender(), Some(Sender::Supervisor));
        let killed = examine(&shell, &autopsy, Some(StopSignal::Kill));
        assert_eq!(killed.sender(), None, "SIGKILL of ours came too late");
        shell.reap();
    });
}
