//! Files that pretend to be the kernel's.

use std::fs::{create_dir_all, remove_dir_all, write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cluster_health::os::{Cgroup, Condition, Error, Pressure, Report, Roots, Sampler, State};

/// A folder of this test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cluster-health-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        create_dir_all(&path).unwrap();
        Self(path)
    }

    /// With a `/proc` that shows this process, and nothing true about it.
    fn with_proc() -> Self {
        let folder = Self::new();
        symlink(process::id().to_string(), folder.0.join("self")).unwrap();
        for thread in [0, 1] {
            let task = format!("{}/task/{}", process::id(), process::id() + thread);
            let letter = if thread == 0 { 'S' } else { 'D' };
            folder.put(&format!("{task}/stat"), stat(letter));
            folder.put(&format!("{task}/wchan"), "nfs_wait_bit_killable");
        }
        folder.put_own("stat", stat('S'));
        folder.put_own("statm", "1000 300 1 1 0 1 0\n");
        folder.put_own("smaps_rollup", "0-1 [rollup]\nPss:  5 kB\nSwap:  2 kB\n");
        for descriptor in 0..7 {
            folder.put_own(&format!("fd/{descriptor}"), "");
        }
        folder
    }

    fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        write(path, text).unwrap();
    }

    fn put_own(&self, path: &str, text: impl AsRef<[u8]>) {
        self.put(&format!("{}/{path}", process::id()), text);
    }

    fn roots(&self) -> Roots {
        Roots::new().proc(&self.0).cgroup(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.0);
    }
}

fn stat(letter: char) -> String {
    format!("1 (fake) {letter} 1 1 1 0 -1 0 0 0 0 0 200 100 0 0 20 0 2 0 0 0 0\n")
}

pub(crate) fn a_fake_tree_is_read() {
    let tree = Folder::with_proc();
    let roots = tree.roots();
    let mut sampler = Sampler::open_in(&roots, process::id()).unwrap().count_descriptors_every(2);
    let sample = sampler.sample().unwrap();
    assert_eq!(sample.resident_bytes(), Some(300 * rustix::param::page_size() as u64));
    assert_eq!(sample.open_descriptors(), Some(7), "the size of this folder is not their number");
    assert_eq!(sampler.sample().unwrap().open_descriptors(), None, "not every time");
    tree.put_own("fd/7", "");
    assert_eq!(sampler.sample().unwrap().open_descriptors(), Some(8));
    let share = sampler.proportional().unwrap();
    assert_eq!((share.bytes(), share.swapped_bytes()), (5 << 10, 2 << 10));

    tree.put_own("statm", "0 0 0 0 0 0 0\n");
    let without = sampler.sample().unwrap();
    assert_eq!(without.resident_bytes(), None, "the first thread has ended, and took its memory");

    let report = Report::of_in(&roots, process::id()).unwrap();
    assert_eq!((report.name(), report.state()), ("fake", State::Sleeping));
    assert_eq!(report.condition(), Condition::Uninterruptible { threads: 1 });
    assert_eq!(
        report.processor_time(),
        Duration::from_secs(300) / rustix::param::clock_ticks_per_second() as u32
    );
    let text = report.to_string();
    let line = "in an uninterruptible wait: nfs_wait_bit_killable (1 of 2 threads)\nprocess ";
    assert!(text.starts_with(line), "{text}");
}

pub(crate) fn nonsense_is_refused() {
    let tree = Folder::with_proc();
    let mut sampler = Sampler::open_in(&tree.roots(), process::id()).unwrap();
    for nonsense in [&b""[..], b"\xff\xff", b"1 99999999999999999999", b"1 18446744073709551615", b"1"] {
        tree.put_own("statm", nonsense);
        let error = sampler.sample().unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }) && !error.is_gone(), "{error}");
        assert!(error.to_string().contains("statm"), "{error}");
    }
    tree.put_own("stat", vec![b'('; 1 << 20]);
    let error = Report::of_in(&tree.roots(), process::id()).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    tree.put_own("smaps_rollup", "Rss: 1 kB\n");
    assert!(matches!(sampler.proportional().unwrap_err(), Error::Malformed { .. }));
}

pub(crate) fn without_proc_the_remedy_is_told() {
    let roots = Roots::new().proc("/nonexistent");
    for error in [
        Sampler::open_in(&roots, process::id()).unwrap_err(),
        Report::of_in(&roots, process::id()).unwrap_err(),
    ] {
        assert!(matches!(error, Error::NoProc { .. }), "{error}");
        assert!(error.to_string().contains("mount"), "{error}");
    }
}

pub(crate) fn a_proc_of_another_namespace_is_refused() {
    let tree = Folder::new();
    // Somebody else, there.
    symlink((process::id() + 1).to_string(), tree.0.join("self")).unwrap();
    for error in [
        Sampler::open_in(&tree.roots(), process::id()).unwrap_err(),
        Report::of_in(&tree.roots(), process::id()).unwrap_err(),
    ] {
        assert!(matches!(error, Error::ForeignProc { .. }), "{error}");
    }
}

/// As `hidepid=2` has it.
pub(crate) fn a_hidden_process_is_not_gone() {
    let tree = Folder::new();
    symlink(process::id().to_string(), tree.0.join("self")).unwrap();
    for error in [
        Sampler::open_in(&tree.roots(), process::id()).unwrap_err(),
        Report::of_in(&tree.roots(), process::id()).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Hidden { .. }), "{error}");
        assert!(error.to_string().contains("hidepid"), "{error}");
    }
}

pub(crate) fn a_cgroup_is_read() {
    let tree = Folder::new();
    tree.put_own("cgroup", "4:memory:/old\n0::/service/worker\n");
    assert!(Cgroup::of_in(&tree.roots(), process::id()).is_none(), "no version 2");
    // As where version 1 has the root.
    tree.put("unified/cgroup.controllers", "");
    let group = |name: &str| format!("unified/service/worker/{name}");
    tree.put(&group("memory.current"), "1048576\n");
    tree.put(&group("memory.max"), "2097152\n");
    tree.put(&group("memory.events"), "low 0\noom 3\noom_kill 2\noom_group_kill 1\n");
    tree.put(&group("cpu.max"), "50000 100000\n");
    tree.put(&group("memory.pressure"), "some avg10=1.00 avg60=0.00 avg300=0.00 total=7\n");
    let cgroup = Cgroup::of_in(&tree.roots(), process::id()).unwrap();
    assert_eq!((cgroup.memory(), cgroup.memory_limit()), (Some(1 << 20), Some(2 << 20)));
    assert_eq!((cgroup.oom_kills(), cgroup.cpu_limit()), (Some(2), Some(0.5)));
    assert_eq!(cgroup.pressure().memory().unwrap().some().avg10(), 0.01);
    assert_eq!(cgroup.pressure().io(), None);

    tree.put(&group("memory.max"), "max\n");
    tree.put(&group("memory.current"), "3\n");
    assert_eq!((cgroup.memory(), cgroup.memory_limit()), (Some(3), None), "they are read anew");
    assert!(Cgroup::at(Path::new("/nonexistent")).is_none());
}

pub(crate) fn pressure_is_read() {
    let tree = Folder::new();
    tree.put("pressure/cpu", "some avg10=12.34 avg60=0.00 avg300=0.00 total=1000\n");
    tree.put("pressure/io", "garbage\n");
    let pressure = Pressure::of_machine_in(&tree.roots());
    let cpu = pressure.cpu().unwrap();
    assert_eq!((cpu.some().avg10(), cpu.some().total()), (0.1234, Duration::from_millis(1)));
    assert_eq!((cpu.full(), pressure.io(), pressure.memory()), (None, None, None));
}

pub(crate) fn this_machine_has_pressure_or_not() {
    let pressure = Pressure::of_machine();
    for stalls in [pressure.cpu(), pressure.memory(), pressure.io()].into_iter().flatten() {
        assert!((0.0..=1.0).contains(&stalls.some().avg10()));
    }
    // And control groups; whatever there is must not be an error.
    if let Some(cgroup) = Cgroup::of(process::id()) {
        let _ = (cgroup.memory(), cgroup.memory_limit(), cgroup.oom_kills(), cgroup.cpu_limit());
    }
}
