//! Starting a child with a channel.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::clock::now;
use crate::os::CHANNEL_VARIABLE;
use crate::session::Config;
use crate::{Connection, Error, Socket};

/// A process to be started with a channel to this one.
///
/// The channel becomes the child's stdin: that needs no code between fork and exec, so the start takes the same 0.1 ms however large
/// this process is. The Welcome is in it before the child exists. The variable [`CHANNEL_VARIABLE`] tells
/// the number of the descriptor to children in other languages.
///
/// ```no_run
/// use cluster_ipc::blocking::{Endpoint, Receiver, Sender};
/// use cluster_ipc::Spawn;
///
/// # fn main() -> Result<(), cluster_ipc::Error> {
/// let (mut child, connection) = Spawn::new("./worker").greeting("you are number 7").spawn()?;
/// let (sender, _receiver): (Sender<u32>, Receiver<()>) = Endpoint::new(connection)?.split();
/// let answer: String = sender.client().request(&42)?;
/// # drop((answer, child.wait()));
/// # Ok(()) }
/// ```
///
/// In the child:
///
/// ```no_run
/// # use cluster_ipc::blocking::{Endpoint, Receiver, Sender};
/// # fn main() -> Result<(), cluster_ipc::Error> {
/// let connection = cluster_ipc::adopt()?.connect(cluster_ipc::session::Config::new(), b"")?;
/// let (_sender, receiver): (Sender<()>, Receiver<u32>) = Endpoint::new(connection)?.split();
/// receiver.serve(|number| Ok::<_, String>(format!("got {number}")))
/// # }
/// ```
#[derive(Debug)]
pub struct Spawn {
    command: Command,
    config: Config,
    greeting: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    #[cfg(feature = "fd-mapping")]
    number: Option<std::os::fd::RawFd>,
}

impl From<Command> for Spawn {
    /// Whatever stdin the command has is replaced.
    fn from(command: Command) -> Self {
        Self {
            command,
            config: Config::default(),
            greeting: Vec::new(),
            descriptors: Vec::new(),
            #[cfg(feature = "fd-mapping")]
            number: None,
        }
    }
}

impl Spawn {
    /// Starts this program; arguments and the rest are set on a [`Command`], of which this can be made `from`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Command::new(program).into()
    }

    /// The limits of this side of the connection.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// What the child reads first. At most 1 MiB, less some hundred bytes.
    #[must_use]
    pub fn greeting(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.greeting = bytes.into();
        self
    }

    /// Descriptors that the child gets with the greeting, at most 253. They are closed here once the child is started.
    #[must_use]
    pub fn descriptors(mut self, descriptors: Vec<OwnedFd>) -> Self {
        self.descriptors = descriptors;
        self
    }

    /// Puts the channel on this descriptor (3 or higher) instead of stdin, for children that need their stdin.
    ///
    /// That needs code between fork and exec, with the `command-fds` crate, so the start takes longer the larger this
    /// process is: 30 ms at 1 GiB.
    #[cfg(feature = "fd-mapping")]
    #[must_use]
    pub fn on_descriptor(mut self, number: std::os::fd::RawFd) -> Self {
        self.number = Some(number);
        self
    }

    /// Starts the process. The connection notices its death by its pidfd too, so also when somebody else holds a copy of
    /// its end. Reaping it (`wait`) is the caller's.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`] when it can't be started, [`Error::Os`] when there are no descriptors left,
    /// [`Error::TooLarge`] when the greeting is.
    pub fn spawn(mut self) -> Result<(Child, Connection), Error> {
        if self.greeting.len() > MAX_GREETING || self.descriptors.len() > crate::MAX_DESCRIPTORS {
            return Err(Error::TooLarge { max: MAX_GREETING, descriptors: crate::MAX_DESCRIPTORS });
        }
        let (ours, theirs) = Socket::pair()?;
        let now = now();
        let mut connection =
            Connection::parent(ours, self.config, &self.greeting, std::mem::take(&mut self.descriptors), now);
        connection.flush(now);
        self.attach(theirs)?;
        let child = self.command.spawn().map_err(|source| Error::Spawn {
            program: self.command.get_program().to_string_lossy().into_owned(),
            source: Arc::new(source),
        })?;
        // Not reaped yet, whatever has become of it: the pid is still its own.
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        match pidfd {
            Some(Ok(pidfd)) => Ok((child, connection.with_process(pidfd))),
            // Without it the end of the stream tells of the death, if a little later.
            Some(Err(_)) | None => Ok((child, connection)),
        }
    }

    fn attach(&mut self, theirs: Socket) -> Result<(), Error> {
        // For children in other languages, which expect that reading waits. To ours it makes no difference.
        fcntl_setfl(&theirs, OFlags::empty())
            .map_err(Error::os("make the child's end of the channel a blocking one"))?;
        #[cfg(feature = "fd-mapping")]
        if let Some(number) = self.number {
            use command_fds::{CommandFdExt, FdMapping};
            let mapping = FdMapping { parent_fd: theirs.into_fd(), child_fd: number };
            let mapped = self.command.fd_mappings(vec![mapping]);
            mapped
                .map_err(|_| Error::OutOfPlace { what: "the descriptor for the channel is in use twice" })?;
            self.command.env(CHANNEL_VARIABLE, number.to_string());
            return Ok(());
        }
        self.command.stdin(Stdio::from(theirs.into_fd())).env(CHANNEL_VARIABLE, "0");
        Ok(())
    }
}

/// A frame's worth, less what the handshake needs itself.
const MAX_GREETING: usize = crate::DEFAULT_MAX_FRAME - 256;
