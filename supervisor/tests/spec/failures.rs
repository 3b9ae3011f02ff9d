//! Failures: each comes back as an error, and leaves nothing behind.

use std::error::Error as _;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use cluster_supervisor::os::{ChildSpec, Error, Executable, Resource, User};

use crate::look::{is_root, spec, through_trampoline};
use crate::plain::scratch;
use crate::scenes::{SCENE, stage};
use crate::settings::NOBODY;

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// A program that tells if it ran.
fn witness() -> (ChildSpec, std::path::PathBuf) {
    let path = scratch("witness");
    (spec("touch").args([&path]), path)
}

#[track_caller]
fn fails(change: impl FnOnce(ChildSpec) -> ChildSpec) -> String {
    let (spec, path) = witness();
    let error = change(spec).spawn().unwrap_err();
    assert!(!path.exists(), "the program must not run when a setting failed");
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| text.contains(part)), "{text:?} has not all of {parts:?}");
}

pub(crate) fn a_setting_that_fails_comes_back_with_operation_and_cause() {
    assert_has(
        &fails(|spec| spec.limit(Resource::Data, 9, 8)),
        &["could not set the limits", "touch", "os error 22"],
    );
    assert_has(&fails(|spec| spec.cpus([1023])), &["could not set the CPUs", "os error 22"]);
    let missing = fails(|spec| through_trampoline(&spec.directory("/no/such")));
    assert_has(&missing, &["could not enter the directory", "os error 2"]);
    // Nothing of ours changes before the program is known to start: this goes the fast way.
    assert_has(&fails(|spec| spec.directory("/no/such")), &["could not enter the directory", "os error 2"]);
    assert_has(
        &fails(|spec| spec.descriptor(1 << 30, null())),
        &["could not put descriptors at their numbers"],
    );
    if !is_root() {
        let uid = rustix::process::getuid().as_raw();
        assert_has(&fails(|spec| spec.user(User::new(uid, 0))), &["could not set the", "os error 1"]);
        assert_has(&fails(|spec| spec.user(User::new(0, 0))), &["to stop a child of another user"]);
    }
}

pub(crate) fn what_can_not_be_is_refused_before_anything_starts() {
    let colon = fails(|spec| spec.listener("a:b", null()));
    assert_has(&colon, &["could not start", "without a colon"]);
    assert_has(&fails(|spec| spec.listener("a\n", null())), &["printable"]);
    assert_has(&fails(|spec| spec.descriptor(2, null())), &["numbers below 3"]);
    assert_has(&fails(|spec| spec.descriptor(3, null()).listener("a", null())), &["the same number"]);
    assert_has(&fails(|spec| spec.user(User::new(u32::MAX, 0))), &["no user"]);
    assert_has(&fails(|spec| spec.nice(20)), &["nice"]);
    assert_has(&fails(|spec| spec.umask(0o1000)), &["umask"]);
    let nul = fails(|spec| through_trampoline(&spec.args(["a\0b"])));
    assert_has(&nul, &["could not start"]);
    let huge = "x".repeat(1 << 20);
    let too_long = fails(|spec| through_trampoline(&spec.args(std::iter::repeat_n(&huge, 9))));
    assert_has(&too_long, &["could not start", "os error 7"]);
}

pub(crate) fn a_program_that_can_not_start_comes_back_on_both_ways() {
    let path = scratch("unstartable");
    let check = |kind| {
        let spec = ChildSpec::new(Executable::open(&path).unwrap());
        for spec in [through_trampoline(&spec), spec] {
            let Err(Error::Spawn { path: named, source }) = spec.spawn() else { panic!("it can't start") };
            assert_eq!((named, source.kind()), (path.clone(), kind));
        }
    };
    // No permission, then no such interpreter.
    fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    check(ErrorKind::PermissionDenied);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    check(ErrorKind::NotFound);
    fs::remove_file(&path).unwrap();
}

pub(crate) fn a_file_that_the_kernel_does_not_know_is_given_to_no_shell() {
    let path = scratch("unknown");
    for bytes in [&b"\x7fELF"[..], b"\x7fELF\necho hello\n", b"echo hello\n", b"x"] {
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let spec = ChildSpec::new(Executable::open(&path).unwrap());
        for spec in [through_trampoline(&spec), spec] {
            let Err(Error::Spawn { source, .. }) = spec.spawn() else { panic!("{bytes:?} is no program") };
            assert_eq!(source.raw_os_error(), Some(8), "{bytes:?}: {source}");
        }
    }
    fs::remove_file(&path).unwrap();
}

pub(crate) fn an_empty_file_is_no_executable() {
    let path = scratch("empty");
    File::create(&path).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let Err(Error::Open { source, .. }) = Executable::open(&path) else { panic!("it is nothing") };
    assert_eq!(source.to_string(), "the file is empty");
    fs::remove_file(&path).unwrap();
}

/// A process that is to start something in a directory.
pub(crate) fn enter_a_directory() {
    let spec = spec("true").directory(std::env::var_os(DIRECTORY).unwrap());
    for spec in [through_trampoline(&spec), spec] {
        let error = spec.spawn().unwrap_err();
        println!("{error}: {}", error.source().unwrap());
    }
}

const DIRECTORY: &str = "CLUSTER_SPEC_DIRECTORY";

pub(crate) fn a_bad_directory_is_named_on_both_ways() {
    let path = scratch("bad-directory");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
    let check = |directory: &str, cause: &str, user: u32| {
        let mut stage = stage("directory");
        if is_root() {
            stage.uid(user);
        }
        let output = stage.env(DIRECTORY, directory).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let named = text
            .lines()
            .filter(|line| line.contains("could not enter the directory") && line.contains(cause));
        assert_eq!(named.count(), 2, "{directory}: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    let own = rustix::process::getuid().as_raw();
    check("/no/such", "No such file", own);
    check("/dev/null", "Not a directory", own);
    check("/dev/null/below", "Not a directory", own);
    check(path.to_str().unwrap(), "Permission denied", NOBODY);
    fs::remove_dir(path).unwrap();
}

/// A process whose `/proc` goes away.
pub(crate) fn do_without_proc() {
    // So that nothing of it shows outside.
    assert!(
        std::process::Command::new("mount")
            .args(["-t", "tmpfs", "none", "/proc"])
            .status()
            .unwrap()
            .success()
    );
    let spec = spec("true");
    for spec in [through_trampoline(&spec), spec] {
        println!("{}", spec.spawn().unwrap_err());
    }
}

pub(crate) fn a_missing_proc_is_named_on_both_ways() {
    let unshare = || std::process::Command::new("unshare");
    if !unshare().args(["--mount", "true"]).output().is_ok_and(|output| output.status.success()) {
        return println!("skipped: a /proc of one's own takes root and unshare(1)");
    }
    let exe = std::env::current_exe().unwrap();
    let output = unshare().arg("--mount").arg(exe).env(SCENE, "no_proc").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.matches("a mounted /proc").count(), 2, "{text}{errors}");
}

pub(crate) fn the_directory_is_entered_as_the_user() {
    if !is_root() {
        return println!("skipped: changing the user takes root");
    }
    let path = scratch("private");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    let refused = fails(|spec| spec.directory(&path).user(User::new(NOBODY, NOBODY)));
    assert_has(&refused, &["could not enter the directory", "os error 13"]);
    fs::remove_dir(path).unwrap();
}
