//! Settings, as they look in the child.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;

use cluster_supervisor::os::{OpenFiles, ProcessGroup, Resource, User};
use cluster_supervisor::{Exit, StopSignal};
use nix::sys::signal::SigSet;

use crate::look::{
    Cat, has_capability, is_root, output, read_until, spec, stat, through_trampoline, wait_readable,
};
use crate::scenes::SCENE;

const PROCESS_GROUP: usize = 5;
const SESSION: usize = 6;
const NICE: usize = 19;

/// As good as any that isn't root.
pub(crate) const NOBODY: u32 = 65534;

pub(crate) fn groups_and_sessions() {
    let own = std::process::id();
    // Both are 0 in a pid namespace whose first process stayed in its maker's session.
    let (our_group, our_session) = (stat(own, PROCESS_GROUP), stat(own, SESSION));
    for (group, through) in [
        (None, false),
        (None, true),
        (Some(ProcessGroup::Inherit), false),
        (Some(ProcessGroup::Inherit), true),
        (Some(ProcessGroup::Session), true),
    ] {
        let cat = Cat::start(|spec| {
            let spec = if let Some(group) = group { spec.group(group) } else { spec };
            if through { through_trampoline(&spec) } else { spec }
        });
        let pid = i32::try_from(cat.child.pid()).unwrap();
        let expected = match group {
            None => (pid, our_session),
            Some(ProcessGroup::Inherit) => (our_group, our_session),
            Some(_) => (pid, pid),
        };
        assert_eq!((cat.stat(PROCESS_GROUP), cat.stat(SESSION)), expected, "{group:?} {through}");
        cat.end();
    }
}

pub(crate) fn limits_nice_cpus_oom_score_and_umask_are_applied() {
    let nice = (rustix::process::getpriority_process(None).unwrap() + 3).min(19);
    let cpu = first_cpu();
    let cat = Cat::start(|spec| {
        spec.limit(Resource::OpenFiles, 8, 8)
            .limit(Resource::OpenFiles, 40, 50)
            .limit(Resource::CoreSize, 0, 0)
            .limit(Resource::CpuTime, 1000, 2000)
            .nice(nice)
            .cpus([cpu])
            .oom_score_adj(700)
            .umask(0o027)
    });
    let limit = |soft: &str, hard: &str| (soft.to_owned(), hard.to_owned());
    assert_eq!(cat.limit("Max open files"), limit("40", "50"), "the last call counts");
    assert_eq!(cat.limit("Max core file size"), limit("0", "0"));
    assert_eq!(cat.limit("Max cpu time"), limit("1000", "2000"));
    assert_eq!(cat.stat(NICE), nice);
    assert_eq!(cat.status("Cpus_allowed_list"), cpu.to_string());
    assert_eq!(cat.proc("oom_score_adj").trim(), "700");
    assert_eq!(cat.status("Umask"), "0027");
    cat.end();
}

/// Any CPU that we may run on.
fn first_cpu() -> u32 {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..1024).find(|cpu| set.is_set(*cpu as usize)).unwrap()
}

pub(crate) fn the_directory_is_entered() {
    for through in [false, true] {
        let cat = Cat::start(|spec| {
            let spec = spec.directory("/proc/self/..");
            if through { through_trampoline(&spec) } else { spec }
        });
        let directory = fs::read_link(format!("/proc/{}/cwd", cat.child.pid())).unwrap();
        assert_eq!(directory, std::path::Path::new("/proc"));
        cat.end();
    }
}

pub(crate) fn listeners_and_descriptors_are_there_and_nothing_else() {
    let paths = ["a", "b"].map(crate::plain::scratch);
    let [first, second] = paths.each_ref().map(|path| OwnedFd::from(UnixListener::bind(path).unwrap()));
    let (reader, writer) = std::io::pipe().unwrap();
    let inode = |pid: &str, fd: u32| fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
    let ours = |fd: &OwnedFd| inode("self", u32::try_from(std::os::fd::AsRawFd::as_raw_fd(fd)).unwrap());
    let (first_inode, second_inode) = (ours(&first), ours(&second));
    let writer = OwnedFd::from(writer);
    let writer_inode = ours(&writer);
    let cat = Cat::start(|spec| {
        // Above the limit that it gets: descriptors are placed before limits.
        spec.listener("web", first).descriptor(30, writer).listener("admin page", second).limit(
            Resource::OpenFiles,
            20,
            20,
        )
    });
    let pid = cat.child.pid().to_string();
    assert_eq!(cat.descriptors(), BTreeSet::from([0, 1, 2, 3, 4, 30]));
    assert_eq!([inode(&pid, 3), inode(&pid, 4), inode(&pid, 30)], [first_inode, second_inode, writer_inode]);
    assert_eq!(cat.env("LISTEN_PID"), Some(pid), "or it would take the sockets for somebody else's");
    assert_eq!(cat.env("LISTEN_FDS").as_deref(), Some("2"));
    assert_eq!(cat.env("LISTEN_FDNAMES").as_deref(), Some("web:admin page"));
    cat.end();
    drop(reader);
    for path in paths {
        fs::remove_file(path).unwrap();
    }
}

pub(crate) fn numbers_that_somebody_has_taken_are_given_all_the_same() {
    // As a parent leaves them open that doesn't close its own on exec.
    let (taken, other) = (inheritable(700), inheritable(701));
    let listener = UnixListener::bind(crate::plain::scratch("taken")).unwrap();
    let cat = Cat::start(|spec| spec.descriptor(700, OwnedFd::from(listener)));
    assert_eq!(cat.descriptors(), BTreeSet::from([0, 1, 2, 700]));
    let target = fs::read_link(format!("/proc/{}/fd/700", cat.child.pid())).unwrap();
    assert!(target.to_str().unwrap().starts_with("socket:"), "{}", target.display());
    cat.end();
    let through = Cat::start(|spec| through_trampoline(&spec));
    assert_eq!(through.descriptors(), BTreeSet::from([0, 1, 2]));
    through.end();
    drop((taken, other));
    fs::remove_file(crate::plain::scratch("taken")).unwrap();
}

/// A descriptor of this number that children inherit.
fn inheritable(number: i32) -> OwnedFd {
    let fd = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), number).unwrap();
    assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&fd), number);
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
    fd
}

/// A process that ignores and blocks signals.
pub(crate) fn be_deaf() {
    let mut blocked = SigSet::empty();
    blocked.add(nix::sys::signal::Signal::SIGUSR2);
    blocked.thread_block().unwrap();
    let look = spec("grep").args(["-E", "^Sig(Ign|Blk)", "/proc/self/status"]);
    print!("{}{}", output(&look), output(&through_trampoline(&look)));
}

pub(crate) fn no_signal_is_ignored_or_blocked_after_the_trampoline() {
    let exe = std::env::current_exe().unwrap();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' HUP INT TERM USR1; exec \"$0\""]).arg(exe).env(SCENE, "deaf");
    let text = String::from_utf8(shell.output().unwrap().stdout).unwrap();
    // Those between the classic signals and the real-time ones are the C library's.
    let mask =
        |line: &str| u64::from_str_radix(line.split_once(':').unwrap().1.trim(), 16).unwrap() & !(7 << 31);
    let masks: Vec<u64> = text.lines().map(mask).collect();
    let bits = |signals: &[u32]| signals.iter().map(|signal| 1 << (signal - 1)).sum::<u64>();
    let (blocked, ignored) = (bits(&[12]), bits(&[1, 2, 15, 10]));
    // Whoever runs the tests may ignore others.
    let asked_for = [masks[0] & blocked, masks[1] & ignored];
    assert_eq!(asked_for, [blocked, ignored], "directly: {text}");
    assert_eq!(masks[2..], [0, 0], "through the trampoline: {text}");
}

pub(crate) fn the_user_is_set_last_and_completely() {
    if !is_root() {
        return println!("skipped: changing the user takes root");
    }
    let (sys_nice, sys_resource) = (has_capability(23), has_capability(24));
    let ours = rustix::process::getpriority_process(None).unwrap();
    // What takes privileges that the user has no more.
    let nice = if sys_nice { ours - 1 } else { ours };
    let (soft, hard) = (OpenFiles::current().soft(), OpenFiles::current().hard());
    let hard = if sys_resource && hard < 1 << 19 { hard + 1 } else { hard };
    let cat = Cat::start(|spec| {
        let user = User::new(NOBODY, NOBODY - 1).groups([7, 8]);
        spec.user(user).nice(nice).limit(Resource::OpenFiles, soft, hard)
    });
    let four = |id: u32| [id; 4].map(|id| id.to_string()).join(" ");
    assert_eq!(cat.status("Uid"), four(NOBODY), "real, effective, saved, file system");
    assert_eq!(cat.status("Gid"), four(NOBODY - 1));
    assert_eq!(cat.status("Groups"), "7 8");
    assert_eq!(cat.status("CapEff").trim_start_matches('0'), "", "no privilege is left");
    assert_eq!(cat.stat(NICE), nice);
    assert_eq!(cat.limit("Max open files").1, hard.to_string());
    cat.end();
    let cat = Cat::start(|spec| spec.user(User::new(NOBODY, NOBODY)));
    assert_eq!(cat.status("Groups"), "", "ours are given up");
    cat.end();
}

pub(crate) fn ones_own_user_takes_no_privilege() {
    let groups = rustix::process::getgroups().unwrap().into_iter().map(|group| group.as_raw());
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let cat = Cat::start(|spec| spec.user(User::new(uid, gid).groups(groups)));
    assert!(cat.status("Uid").starts_with(&format!("{uid} ")));
    cat.end();
}

#[allow(clippy::disallowed_methods, reason = "the thread is what this is about")]
pub(crate) fn the_death_signal_comes_when_the_spawning_thread_ends() {
    let users = [None, is_root().then(|| User::new(NOBODY, NOBODY))];
    for user in users.into_iter().enumerate().filter(|(place, user)| *place == 0 || user.is_some()) {
        let (end_thread, told_to_end) = mpsc::channel::<()>();
        let (send, receive) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let cat = Cat::start(|spec| {
                let spec = spec.death_signal(StopSignal::Term);
                user.1.into_iter().fold(spec, cluster_supervisor::os::ChildSpec::user)
            });
            send.send(cat).unwrap();
            told_to_end.recv().unwrap();
        });
        let mut cat = receive.recv().unwrap();
        assert_eq!(cat.child.try_reap().unwrap(), None, "it answered, and runs as long as the thread does");
        end_thread.send(()).unwrap();
        thread.join().unwrap();
        wait_readable(&cat.child);
        assert_eq!(cat.child.try_reap().unwrap(), Some(Exit::Signal(15)));
    }
    // Without it, nothing comes.
    let mut child = std::thread::spawn(|| {
        let spec = spec("sh").args(["-c", "read x; echo $x"]);
        let spec =
            spec.stdin(cluster_supervisor::os::Stdio::Piped).stdout(cluster_supervisor::os::Stdio::Piped);
        through_trampoline(&spec).spawn().unwrap()
    })
    .join()
    .unwrap();
    std::io::Write::write_all(&mut child.take_stdin().unwrap(), b"alive\n").unwrap();
    assert_eq!(read_until(&mut child.take_stdout().unwrap(), |_| false), "alive\n");
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
}
