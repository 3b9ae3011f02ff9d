//! What needs no trampoline, and is the same with one.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use cluster_supervisor::Exit;
use cluster_supervisor::os::{ChildSpec, Executable, Stdio};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};

use crate::look::{Cat, output, read_until, spec, through_trampoline};
use crate::scenes::{SCENE, stage};

/// A file of this test alone.
pub(crate) fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("cluster-spec-{name}-{}", std::process::id()))
}

fn on_both_ways(spec: &ChildSpec, check: impl Fn(&ChildSpec)) {
    assert!(!spec.needs_trampoline());
    check(spec);
    check(&through_trampoline(spec));
}

pub(crate) fn arguments_and_environment_arrive_on_both_ways() {
    let script = r#"printf '%s|' "$0" "$@" "$SET" "${REMOVED-gone}" "${HOME-gone}""#;
    let spec = spec("sh")
        .args(["-c", script, "zero", "a b", ""])
        .arg0("shell")
        .env("SET", "first")
        .env("SET", "second")
        .env("REMOVED", "x")
        .env_remove("REMOVED")
        .env_remove("HOME");
    on_both_ways(&spec, |spec| assert_eq!(output(spec), "zero|a b||second|gone|gone|"));
    let cmdline = ChildSpec::new(Executable::find("cat").unwrap()).arg0("tom").args(["/proc/self/cmdline"]);
    on_both_ways(&cmdline, |spec| assert_eq!(output(spec), "tom\0/proc/self/cmdline\0"));
}

pub(crate) fn a_cleared_environment_has_only_what_was_set_after() {
    let spec = spec("env").env("BEFORE", "1").env_clear().env("AFTER", "2");
    on_both_ways(&spec, |spec| assert_eq!(output(spec), "AFTER=2\n"));
}

/// A process that a service manager has started.
pub(crate) fn be_managed() {
    on_both_ways(&spec("env"), |spec| print!("{}", output(spec)));
    let own = spec("env").env("NOTIFY_SOCKET", "own").env("LISTEN_FDS", "1");
    on_both_ways(&own, |spec| print!("{}", output(spec)));
}

pub(crate) fn what_a_service_manager_tells_us_stays_with_us() {
    let told =
        ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_USEC", "WATCHDOG_PID"];
    let output = stage("managed").envs(told.map(|key| (key, "ours"))).env("OTHER", "ours").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = |end: &str| text.lines().filter(|line| line.ends_with(end)).collect::<Vec<_>>();
    assert_eq!(lines("=ours"), ["OTHER=ours"; 4], "{text}");
    assert_eq!(lines("NOTIFY_SOCKET=own").len(), 2, "unless the specification says so: {text}");
    assert_eq!(lines("LISTEN_FDS=1").len(), 2, "{text}");
}

pub(crate) fn piped_streams_are_non_blocking_here_and_blocking_there() {
    let script = "read line; echo out $line; echo err $line >&2; cat /proc/self/fdinfo/0";
    let all = spec("sh").args(["-c", script]).stdin(Stdio::Piped).stdout(Stdio::Piped).stderr(Stdio::Piped);
    on_both_ways(&all, |spec| {
        let mut child = spec.spawn().unwrap();
        let mut stdin = child.take_stdin().unwrap();
        let (mut stdout, mut stderr) = (child.take_stdout().unwrap(), child.take_stderr().unwrap());
        for end in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            assert!(fcntl_getfl(end).unwrap().contains(OFlags::NONBLOCK));
            assert!(fcntl_getfd(end).unwrap().contains(FdFlags::CLOEXEC));
        }
        stdin.write_all(b"hello\n").unwrap();
        let out = read_until(&mut stdout, |_| false);
        assert!(out.starts_with("out hello\n"), "{out}");
        let flags = out.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
        assert_eq!(flags & OFlags::NONBLOCK.bits(), 0, "the child's end is an ordinary one");
        assert_eq!(read_until(&mut stderr, |_| false), "err hello\n");
        assert!(child.take_stdout().is_none(), "taken once");
        assert_eq!(child.wait().unwrap(), Exit::Code(0));
    });
}

pub(crate) fn a_given_descriptor_serves_each_child() {
    let path = scratch("given");
    let file: OwnedFd = File::options().create(true).append(true).open(&path).unwrap().into();
    let given = spec("echo").args(["line"]).stdout(Stdio::from(file));
    on_both_ways(&given, |spec| assert_eq!(spec.spawn().unwrap().wait().unwrap(), Exit::Code(0)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "line\nline\n");
    fs::remove_file(path).unwrap();
    // Nothing comes from stdin unless asked for.
    on_both_ways(&spec("cat"), |spec| assert_eq!(output(spec), ""));
}

pub(crate) fn a_script_runs_by_its_path_and_is_not_pinned() {
    let path = scratch("script");
    fs::write(&path, "#!/bin/sh\necho \"$0 $1\"\n").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let script = Executable::open(&path).unwrap();
    assert!(!script.is_pinned(), "its interpreter would find nothing under a closed descriptor");
    let spec = ChildSpec::new(script).args(["one"]);
    on_both_ways(&spec, |spec| assert_eq!(output(spec), format!("{} one\n", path.display())));
    fs::remove_file(path).unwrap();
}

pub(crate) fn a_deleted_program_runs_on_both_ways() {
    let path = scratch("deleted");
    fs::copy(Executable::find("echo").unwrap().path(), &path).unwrap();
    let program = Executable::open(&path).unwrap();
    assert!(program.is_pinned());
    fs::remove_file(&path).unwrap();
    on_both_ways(&ChildSpec::new(program).args(["here"]), |spec| assert_eq!(output(spec), "here\n"));
}

/// A process whose file is deleted, or replaced, when it has begun.
pub(crate) fn show_what_is_running() {
    let path = std::env::current_exe().unwrap();
    let shown = || Executable::current().unwrap().path().display().to_string();
    let before = shown();
    // With a second name it isn't gone, but not where it was.
    fs::hard_link(&path, path.with_extension("second")).unwrap();
    fs::remove_file(&path).unwrap();
    let moved = shown();
    fs::remove_file(path.with_extension("second")).unwrap();
    let deleted = shown();
    fs::write(&path, "another release").unwrap();
    println!("{before}\n{moved}\n{deleted}\n{}", shown());
}

pub(crate) fn the_running_program_has_the_path_that_it_was_started_from() {
    // The second is called what the kernel calls a deleted one.
    for end in ["", " (deleted)"] {
        let path = PathBuf::from(format!("{}{end}", scratch("running").display()));
        fs::copy("/proc/self/exe", &path).unwrap();
        let output = Command::new(&path).env(SCENE, "current").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), [path.to_str().unwrap(); 4], "{text}");
        fs::remove_file(&path).unwrap();
    }
}

/// A process that closes its stdin when it has begun.
pub(crate) fn close_stdin() {
    nix::unistd::close(0).unwrap();
    let echo = spec("echo").args(["runs"]);
    assert!(echo.executable().as_fd().as_raw_fd() > 2);
    on_both_ways(&echo, |spec| print!("{}", output(spec)));
}

pub(crate) fn an_executable_takes_the_place_of_no_standard_stream() {
    let output = stage("no_stdin").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "runs\nruns\n", "{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn a_name_is_looked_up_in_path() {
    let found = Executable::find("cat").unwrap();
    assert!(found.path().is_absolute() && found.path().ends_with("cat"), "{}", found.path().display());
    assert_eq!(Executable::find("/bin/cat").unwrap().path(), "/bin/cat");
    let error = Executable::find("no-such-program-anywhere").unwrap_err();
    assert_eq!(error.to_string(), "could not open the executable no-such-program-anywhere");
    let cat = Cat::start(|spec| spec);
    assert_eq!(
        fs::read_link(format!("/proc/{}/exe", cat.child.pid())).unwrap(),
        found.path().canonicalize().unwrap()
    );
    cat.end();
}
