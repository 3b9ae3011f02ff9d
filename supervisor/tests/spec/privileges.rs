//! Privileges: whom a trampoline obeys, and what a child has left. Most of it takes root to try.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cluster_supervisor::Exit;
use cluster_supervisor::os::{ChildSpec, Error, Executable, Stdio as Stream, User};
use rustix::fs::{StatVfsMountFlags, XattrFlags};
use rustix::net::{AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, socketpair};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

use crate::look::{children, has_capability, is_root, output, spec, wait_readable};
use crate::plain::scratch;
use crate::scenes::{MARKER, SCENE, stage};
use crate::settings::NOBODY;

/// What a trampoline says to one whom it would obey.
const HELLO: &str = "trampoline\u{1}";

/// The program that a scene is about.
const PROGRAM: &str = "CLUSTER_SPEC_PROGRAM";

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// The next packet on a socket; empty at its end.
fn hear(socket: &OwnedFd) -> String {
    let mut buffer = [0; 64];
    let (_, length) = rustix::net::recv(socket, &mut buffer, RecvFlags::empty()).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// This program as a file of its own, which anybody may run.
fn copy_of_this(name: &str) -> PathBuf {
    let path = scratch(name);
    fs::copy("/proc/self/exe", &path).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// Gives a program CAP_SETUID and CAP_SETGID by its file, as `setcap` does (`struct vfs_cap_data`).
fn set_capabilities_of(path: &Path) -> rustix::io::Result<()> {
    let mut value = Vec::new();
    for word in [0x0200_0001_u32, 1 << 6 | 1 << 7, 0, 0, 0] {
        value.extend(word.to_le_bytes());
    }
    rustix::fs::setxattr(path, "security.capability", &value, XattrFlags::empty())
}

/// Somebody without privileges starts a program as a trampoline, and then a child through its own.
pub(crate) fn attack() {
    let (ours, theirs) = pair();
    let program = std::env::var(PROGRAM).unwrap();
    let mut trampoline = Command::new(program);
    let child = trampoline.arg0(MARKER).stdin(theirs).stderr(Stdio::piped()).spawn().unwrap();
    drop(trampoline);
    println!("{:?}", hear(&ours));
    drop(ours);
    let output = child.wait_with_output().unwrap();
    println!("{:?} {}", output.status.code(), String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn a_trampoline_with_privileges_by_its_file_obeys_nobody() {
    if !is_root() {
        return println!("skipped: giving a file privileges takes root");
    }
    let path = copy_of_this("privileged");
    if rustix::fs::statvfs(&path).unwrap().f_flag.contains(StatVfsMountFlags::NOSUID) {
        fs::remove_file(path).unwrap();
        return println!("skipped: files in {} have no privileges", std::env::temp_dir().display());
    }
    let attacked = || {
        let output = stage("attacker").env(PROGRAM, &path).uid(NOBODY).gid(NOBODY).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        attacked().contains(&format!("{HELLO:?}")),
        "it has no privileges yet: its parent may have its way"
    );
    let refuses = |how: &str| {
        let text = attacked();
        assert!(!text.contains(&format!("{HELLO:?}")), "{how}: {text}");
        assert!(text.contains("Some(126)") && text.contains("privileges by its file"), "{how}: {text}");
    };
    for mode in [0o4755, 0o2755] {
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        refuses("setuid or setgid");
    }
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    match set_capabilities_of(&path) {
        Ok(()) => refuses("capabilities"),
        Err(errno) => println!("skipped in part: no capabilities of files here: {errno}"),
    }
    fs::remove_file(path).unwrap();
}

/// Starts a trampoline with a socket that was made by somebody else.
pub(crate) fn stand_between() {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let status = Command::new("/proc/self/exe").arg0(MARKER).stdin(stdin).status().unwrap();
    std::process::exit(status.code().unwrap());
}

pub(crate) fn a_trampoline_obeys_only_its_parent() {
    let (ours, theirs) = pair();
    // Whoever waits for word from here sees that none will come.
    rustix::net::shutdown(&ours, Shutdown::Write).unwrap();
    let output = stage("between").stdin(theirs).output().unwrap();
    assert_eq!(hear(&ours), "", "it says nothing to a stranger");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(126), "{text}");
    assert!(text.contains("somebody else's socket"), "{text}");
}

/// Becomes a user who isn't root, with these capabilities as ambient ones: those that stay over exec.
fn become_nobody_with(capabilities: CapabilitySet) {
    rustix::thread::set_keep_capabilities(true).unwrap();
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
    let sets = CapabilitySets { effective: capabilities, permitted: capabilities, inheritable: capabilities };
    rustix::thread::set_capabilities(None, sets).unwrap();
    for one in capabilities.iter() {
        rustix::thread::configure_capability_in_ambient_set(one, true).unwrap();
    }
}

const SET_USER: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);

/// A supervisor that isn't root and may set users, with a child of another user.
pub(crate) fn be_a_setter_of_users() {
    become_nobody_with(SET_USER | CapabilitySet::KILL);
    let status = ["-E", "^(Cap|Uid)", "/proc/self/status"];
    print!("{}", output(&spec("grep").args(status).user(User::new(NOBODY - 1, NOBODY - 1))));
    println!("and without a change of the user:");
    print!("{}", output(&spec("grep").args(["CapAmb", "/proc/self/status"])));
}

pub(crate) fn no_capability_survives_a_change_of_the_user() {
    if !is_root() {
        return println!("skipped: to have capabilities to lose takes root");
    }
    let text = output(&ChildSpec::new(Executable::current().unwrap()).env(SCENE, "setter"));
    let (changed, unchanged) = text.split_once("and without").unwrap();
    let values =
        |name: &str| changed.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert!(values("Uid:").starts_with(&(NOBODY - 1).to_string()), "{text}");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(values(set).trim_matches('0'), "", "{set} of a child with another user: {text}");
    }
    assert!(unchanged.contains("00e0"), "else there was nothing to lose: {text}");
}

/// A supervisor that may set users, but not signal them; then one that has started a child which it may not signal.
pub(crate) fn be_powerless() {
    let all = rustix::thread::capabilities(None).unwrap();
    let without_kill = CapabilitySets { effective: all.effective - CapabilitySet::KILL, ..all };
    let cat = spec("cat").stdin(Stream::Piped).user(User::new(NOBODY, NOBODY));
    let mut running = cat.spawn().unwrap();
    rustix::thread::set_capabilities(None, without_kill).unwrap();
    println!("{}", cat.spawn().unwrap_err());
    println!("{:?}", children().split_whitespace().count());
    let stdin = running.take_stdin();
    let Err(error) = running.kill_and_reap() else { panic!("it may be killed") };
    println!("{error}");
    let Error::Unkillable { mut child, .. } = error else { panic!("it is not given back") };
    println!("{:?}", child.try_reap().unwrap());
    drop(stdin);
    wait_readable(&*child);
    assert_eq!(child.kill_and_reap().unwrap(), Exit::Code(0), "its zombie may be reaped");
}

pub(crate) fn a_child_that_may_not_be_killed_is_not_started_or_given_back() {
    if !is_root() || !has_capability(5) {
        return println!("skipped: changing the user takes root, killing another's child CAP_KILL");
    }
    let output = stage("powerless").stderr(Stdio::piped()).output().unwrap();
    let (text, panics) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    let [refused, children, unkillable, state] = lines[..] else { panic!("{text}{panics}") };
    assert!(refused.contains("to stop a child of another user takes root or CAP_KILL"), "{refused}");
    assert_eq!(children, "1", "nothing was started");
    assert!(unkillable.contains("could not kill the child"), "{unkillable}");
    assert_eq!(state, "None", "it runs on");
    assert!(output.status.success(), "{panics}");
}
