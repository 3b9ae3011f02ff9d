//! What a child is started as.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use super::command_line::CommandLine;
use super::procfs::without_proc;
use super::settings::{Limit, ProcessGroup, Resource, Settings, User};
use super::stdio::{ChildEnds, OurEnds, Stdio, StdioSet};
use super::trampoline::{Description, Launch, launch, trampoline_is_available};
use super::{Child, Error, Executable};
use crate::StopSignal;

/// The first descriptor number that isn't a standard stream; sockets for `LISTEN_FDS` begin here.
const LISTEN_START: u32 = 3;

/// What a child is started as: program, arguments, environment, user, limits, descriptors.
///
/// One specification starts any number of children. What is different for one of them goes into a clone, which is
/// cheap: `spec.clone().stdin(socket.into()).spawn()`.
///
/// | what | default |
/// |---|---|
/// | arguments | none, `argv[0]` is the executable's path |
/// | environment | this process's, without what a service manager tells it (`NOTIFY_SOCKET`, `LISTEN_*`, `WATCHDOG_*`) |
/// | directory, user, limits, … | those of this process |
/// | stdin | `/dev/null` |
/// | stdout, stderr | those of this process |
/// | process group | one of its own |
/// | signals | their defaults; after a direct start ignored and blocked as in this process, but for `SIGPIPE` |
/// | other descriptors | none, unless this process has some that aren't closed on exec, and the start is a direct one |
///
/// # The fast way and the other
///
/// Program, arguments, environment, directory, standard streams and process group take the standard library's
/// `posix_spawn`, at the same cost however large this process is. All else needs code that runs in the child before
/// its program: there this program is started once more and applies it, for which its `main` must call
/// [`trampoline`](super::trampoline()) first thing. [`needs_trampoline`](Self::needs_trampoline) tells which.
///
/// Settings are applied in this order: session, descriptors, umask, nice, CPUs, OOM score; limits; supplementary
/// groups, group, user, capabilities; death signal; directory. So everything but the directory is done with this process's
/// privileges, and the directory is entered with the child's.
///
/// A signal that this process ignores since it was started so (`nohup`, `&` in a script) is ignored by a child that is
/// started directly, as the kernel has it. `SIGTERM` then asks in vain, and its deadline comes.
///
/// ```
/// use cluster_supervisor::os::{ChildSpec, Executable, Resource, Stdio, User, trampoline};
///
/// fn main() -> Result<(), cluster_supervisor::os::Error> {
///     trampoline();
///     let spec = ChildSpec::new(Executable::find("sh")?).args(["-c", "exit 3"]).stdout(Stdio::Null);
///     let child = spec.spawn()?;
///     assert_eq!(child.wait()?, cluster_supervisor::Exit::Code(3));
///
///     let confined = spec.limit(Resource::OpenFiles, 64, 64).nice(5);
///     assert!(confined.needs_trampoline());
///     let as_nobody = confined.clone().user(User::new(65534, 65534)); // takes root to spawn
///     assert_eq!(confined.spawn()?.wait()?, cluster_supervisor::Exit::Code(3));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ChildSpec {
    executable: Arc<Executable>,
    command: CommandLine,
    stdio: StdioSet,
    group: ProcessGroup,
    settings: Settings,
    descriptors: Vec<(u32, Arc<OwnedFd>)>,
    listeners: Vec<(OsString, Arc<OwnedFd>)>,
    timeout: Duration,
}

impl ChildSpec {
    /// A child that runs `executable`, with everything else as by default.
    pub fn new(executable: impl Into<Arc<Executable>>) -> Self {
        let executable = executable.into();
        let command = CommandLine { arg0: executable.path().into(), ..CommandLine::default() };
        Self {
            executable,
            command,
            stdio: StdioSet { stdin: Stdio::Null, stdout: Stdio::Inherit, stderr: Stdio::Inherit },
            group: ProcessGroup::New,
            settings: Settings::default(),
            descriptors: Vec::new(),
            listeners: Vec::new(),
            timeout: Duration::from_secs(10),
        }
    }

    /// What it runs; [`Executable::is_pinned`] tells whether a file replaced on disk makes a difference.
    pub fn executable(&self) -> &Executable {
        &self.executable
    }

    /// The same child with another executable: another release of the same program, say.
    #[must_use]
    pub fn run(mut self, executable: impl Into<Arc<Executable>>) -> Self {
        self.executable = executable.into();
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets `argv[0]`. Default: the path of the executable. A script never sees it.
    #[must_use]
    pub fn arg0(mut self, arg0: impl AsRef<OsStr>) -> Self {
        self.command.arg0 = arg0.as_ref().to_owned();
        self
    }

    /// Sets an environment variable, on top of what is inherited.
    ///
    /// So a child may still speak to the service manager of this process:
    /// `spec.env("NOTIFY_SOCKET", std::env::var_os("NOTIFY_SOCKET").unwrap_or_default())`.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env.push((key.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Removes an environment variable, inherited or set before.
    #[must_use]
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.command.env.push((key.as_ref().to_owned(), None));
        self
    }

    /// Inherits no environment, and forgets what was set before.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.command.clear_env = true;
        self.command.env.clear();
        self
    }

    /// Sets the working directory. Default: this process's.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.command.directory = Some(directory.into());
        self
    }

    /// Sets where stdin comes from. Default: `/dev/null`, since the children of a supervisor would compete for its own.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdio) -> Self {
        self.stdio.stdin = stdin;
        self
    }

    /// Sets where stdout goes. Default: to this process's.
    #[must_use]
    pub fn stdout(mut self, stdout: Stdio) -> Self {
        self.stdio.stdout = stdout;
        self
    }

    /// Sets where stderr goes. Default: to this process's.
    #[must_use]
    pub fn stderr(mut self, stderr: Stdio) -> Self {
        self.stdio.stderr = stderr;
        self
    }

    /// Sets the process group. Default: one of its own. A session takes the trampoline.
    #[must_use]
    pub fn group(mut self, group: ProcessGroup) -> Self {
        self.group = group;
        self.settings.session = group == ProcessGroup::Session;
        self
    }

    /// Runs it as another user, by the trampoline. Takes root, or `CAP_SETUID`, `CAP_SETGID` and, since a
    /// child that can't be stopped isn't started, `CAP_KILL`.
    ///
    /// Unless that is root, it has no capabilities then, not even ambient ones of this process.
    #[must_use]
    pub fn user(mut self, user: User) -> Self {
        self.settings.user = Some(user);
        self
    }

    /// Limits a resource, by the trampoline; `u64::MAX` means without limit.
    ///
    /// The soft limit counts, and the child may raise it up to the hard one. The last call for a resource counts.
    #[must_use]
    pub fn limit(mut self, resource: Resource, soft: u64, hard: u64) -> Self {
        self.settings.limits.retain(|limit| limit.resource != resource);
        self.settings.limits.push(Limit { resource, soft, hard });
        self
    }

    /// Sets the nice value, by the trampoline: -20 (first) to 19 (last). Below this process's it takes `CAP_SYS_NICE`.
    #[must_use]
    pub fn nice(mut self, nice: i32) -> Self {
        self.settings.nice = Some(nice);
        self
    }

    /// Sets the CPUs that it may run on, by number, by the trampoline. None: those of this process.
    #[must_use]
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = u32>) -> Self {
        self.settings.cpus = cpus.into_iter().collect();
        self
    }

    /// Sets how soon the kernel kills it when memory runs out (`oom_score_adj`), by the trampoline: -1000 (never) to
    /// 1000 (first). A lower one than this process's takes `CAP_SYS_RESOURCE`.
    #[must_use]
    pub fn oom_score_adj(mut self, score: i32) -> Self {
        self.settings.oom_score_adj = Some(score);
        self
    }

    /// Sets the umask, by the trampoline: the permissions that files it makes don't get, such as `0o022`.
    #[must_use]
    pub fn umask(mut self, mask: u32) -> Self {
        self.settings.umask = Some(mask);
        self
    }

    /// Sends it this signal when the *thread* that calls [`spawn`](Self::spawn) ends (`PR_SET_PDEATHSIG`), by the
    /// trampoline: so spawn from a thread that lives as long as this process.
    ///
    /// A program that changes its user itself, or has more privileges by its file, loses it.
    #[must_use]
    pub fn death_signal(mut self, signal: StopSignal) -> Self {
        self.settings.death_signal = Some(signal);
        self
    }

    /// Gives it a descriptor under this number, from 3 on, by the trampoline. The specification holds the descriptor,
    /// each child gets a duplicate.
    #[must_use]
    pub fn descriptor(mut self, number: u32, descriptor: impl Into<Arc<OwnedFd>>) -> Self {
        self.descriptors.push((number, descriptor.into()));
        self
    }

    /// Gives it a socket as systemd's socket activation does, by the trampoline: the sockets have the numbers from 3
    /// on in the order of these calls, and `LISTEN_FDS`, `LISTEN_FDNAMES` and `LISTEN_PID` tell of them.
    ///
    /// A name is up to 255 printable ASCII characters without a colon (`man 3 sd_listen_fds_with_names`).
    #[must_use]
    pub fn listener(mut self, name: impl AsRef<OsStr>, socket: impl Into<Arc<OwnedFd>>) -> Self {
        self.listeners.push((name.as_ref().to_owned(), socket.into()));
        self
    }

    /// Sets how long a start through the trampoline may take, until the program runs. Default: 10 s.
    ///
    /// It takes about as long as starting this program and that one; without an answer the child is killed.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether it is started through [`trampoline`](super::trampoline()).
    pub fn needs_trampoline(&self) -> bool {
        self.settings != Settings::default() || !self.descriptors.is_empty() || !self.listeners.is_empty()
    }

    /// Starts a child. Through the trampoline it waits until the program runs, a millisecond or so.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a setting that can't be, [`Error::Spawn`] when the program can't be started,
    /// [`Error::Setting`] when a setting can't be applied, [`Error::NoTrampoline`] and [`Error::Trampoline`] when
    /// there is nobody to apply it, [`Error::Os`] at the limit of open files.
    /// Nothing is left running then, and the program has not run. Only a trampoline that hangs and may not be killed is
    /// given back in [`Error::Unkillable`].
    pub fn spawn(&self) -> Result<Child, Error> {
        let description = self.needs_trampoline().then(|| self.describe()).transpose()?;
        let (childs, ours) = self.stdio.open()?;
        match description {
            None => self.spawn_directly(childs, ours),
            Some(description) => launch(&self.launch(), &description, childs, ours),
        }
    }

    /// Whether it can be started, as far as that can be said without doing it.
    pub(super) fn check(&self) -> Result<(), Error> {
        if !self.needs_trampoline() {
            return Ok(());
        }
        self.describe()?;
        if trampoline_is_available() {
            Ok(())
        } else {
            Err(Error::NoTrampoline { path: self.executable.path().to_owned() })
        }
    }

    fn spawn_directly(&self, childs: ChildEnds, ours: OurEnds) -> Result<Child, Error> {
        let mut command = self.command.command(&self.executable.start_path());
        command.stdin(childs.stdin).stdout(childs.stdout).stderr(childs.stderr);
        if self.group == ProcessGroup::New {
            command.process_group(0);
        }
        if let Some(directory) = &self.command.directory {
            command.current_dir(directory);
        }
        let child = command.spawn().map_err(|source| self.failed(source))?;
        // The command holds our copies of the child's ends: they must be gone for the child's to be the only ones.
        drop(command);
        Child::watch(child, ours).map_err(|source| self.failed(source))
    }

    /// What a failed spawn is about: `posix_spawn` tells neither a bad directory nor a missing `/proc` from a bad program.
    fn failed(&self, source: std::io::Error) -> Error {
        let path = self.executable.path().to_owned();
        if let Some(Err(source)) = self.command.directory.as_deref().map(is_enterable) {
            return Error::Setting { operation: "enter the directory", path, source };
        }
        if self.executable.is_pinned() && source.kind() == ErrorKind::NotFound {
            return without_proc().unwrap_or(Error::Spawn { path, source });
        }
        Error::Spawn { path, source }
    }

    fn launch(&self) -> Launch<'_> {
        let listeners = self.listeners.iter().map(|(_, socket)| socket);
        let descriptors = listeners.chain(self.descriptors.iter().map(|(_, descriptor)| descriptor));
        Launch {
            executable: &self.executable,
            descriptors: descriptors.map(|descriptor| descriptor.as_fd()).collect(),
            new_group: self.group == ProcessGroup::New,
            timeout: self.timeout,
        }
    }

    /// The description for a trampoline, its numbers in the order of [`launch`](Self::launch)'s descriptors.
    fn describe(&self) -> Result<Description, Error> {
        let invalid = |what| Error::Invalid { path: self.executable.path().to_owned(), what };
        if !self.listeners.iter().all(|(name, _)| is_listener_name(name)) {
            return Err(invalid("a listener's name is up to 255 printable ASCII characters without a colon"));
        }
        let listeners = (LISTEN_START..).take(self.listeners.len());
        let description = Description {
            parent: std::process::id(),
            by_path: (!self.executable.is_pinned()).then(|| self.executable.start_path()),
            command: self.command_with_listeners(),
            settings: self.settings.clone(),
            numbers: listeners.chain(self.descriptors.iter().map(|(number, _)| *number)).collect(),
            listens: !self.listeners.is_empty(),
        };
        if let Some(what) = description.fault() {
            return Err(invalid(what));
        }
        if self.settings.user.as_ref().is_some_and(|user| !user.may_be_signalled()) {
            return Err(invalid("to stop a child of another user takes root or CAP_KILL"));
        }
        Ok(description)
    }

    fn command_with_listeners(&self) -> CommandLine {
        let mut command = self.command.clone();
        if !self.listeners.is_empty() {
            let names: Vec<_> = self.listeners.iter().map(|(name, _)| name.as_os_str()).collect();
            command.env.push(("LISTEN_FDS".into(), Some(names.len().to_string().into())));
            command.env.push(("LISTEN_FDNAMES".into(), Some(names.join(OsStr::new(":")))));
        }
        command
    }
}

/// Whether this process may enter a directory, or why not.
fn is_enterable(directory: &Path) -> std::io::Result<()> {
    if !std::fs::metadata(directory)?.is_dir() {
        return Err(Errno::NOTDIR.into());
    }
    Ok(rustix::fs::accessat(CWD, directory, Access::EXEC_OK, AtFlags::EACCESS)?)
}

fn is_listener_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.len() <= 255 && name.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b':')
}
