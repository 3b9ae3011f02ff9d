//! Steering a runner from other threads: a mailbox, and a bell that wakes the loop.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::mailbox::{Mailbox, Order};
use crate::os::{Error, Stop};

/// Steers a [`Runner`](super::Runner) that runs, from any thread or from its callback: from [`Runner::control`](super::Runner::control).
///
/// Its methods only put in an order and return at once; the runner carries orders out in the order in which they came, and what
/// comes of them is told as news. Orders given before it runs wait for that.
/// Services are known by their names, which are unique in a runner.
///
/// Clones steer the same runner. While one lives, the runner stays for a service that was [stopped](Self::stop), since it
/// may be started again; when the last is dropped and nothing else is left to do, it ends.
///
/// ```
/// use cluster_supervisor::Policy;
/// use cluster_supervisor::os::{ChildSpec, Executable, Runner, Service};
///
/// let mut runner = Runner::new(Policy::new());
/// let spec = ChildSpec::new(Executable::find("sleep")?).args(["1000"]);
/// runner.add(Service::new("sleeper", spec))?;
/// let control = runner.control()?;
/// let runs = std::thread::spawn(move || runner.run(|news| println!("{news}")));
/// control.restart("sleeper")?;
/// control.shutdown()?;
/// let given_up = runs.join().unwrap()?;
/// assert!(given_up.is_empty());
/// assert!(control.start("sleeper").is_err(), "it has ended");
/// # Ok::<(), cluster_supervisor::os::Error>(())
/// ```
#[derive(Debug)]
pub struct Control {
    line: Arc<Line>,
}

impl Control {
    pub(super) fn new(line: &Arc<Line>) -> Self {
        line.mailbox().add_handle();
        Self { line: Arc::clone(line) }
    }

    /// Replaces the child of this service, by the rules of [`Supervisor::replace`](crate::Supervisor::replace): when it is ready,
    /// and not at the same time as others, unless the policy allows it. Asked twice before that, it is replaced once.
    ///
    /// Which of the two is there first is for the policy that the [`Runner`](super::Runner) was made with, since it concerns all
    /// services together:
    ///
    /// - By default ([`max_surge`](crate::Policy::max_surge) is 1) the new child is started beside the old one, which is asked to
    ///   stop once the new one is ready. If the new one fails before, the old one stays. That is for programs of which two can
    ///   live at once.
    /// - Two programs that bind the same port, or lock the same file, can't. Worse, with [`Ready::AtOnce`](super::Ready::AtOnce) the
    ///   new one counts as ready before it fails, and the old one goes. These need `max_surge(0)` with
    ///   [`max_unavailable(1)`](crate::Policy::max_unavailable): the old child is stopped, with the patience of its
    ///   [`StopSequence`](crate::StopSequence), and the new one started when it has gone. While another service is not ready,
    ///   whyever, it waits for that.
    ///
    /// A service that doesn't run is started, as by [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// [`Error::UnknownService`], [`Error::Ended`] in a shutdown and after it, [`Error::Busy`] when 1024 orders wait.
    pub fn restart(&self, name: &str) -> Result<(), Error> {
        self.put(name, Order::Restart)
    }

    /// Stops this service, gracefully by its policy; it stays down until it is started. For one that is down already nothing
    /// changes.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownService`], [`Error::Ended`] after the end, [`Error::Busy`] when 1024 orders wait.
    pub fn stop(&self, name: &str) -> Result<(), Error> {
        self.put(name, Order::Stop)
    }

    /// Starts this service again: one that was stopped, has finished or was given up; at once one that waits out its back-off;
    /// and one that still stops, when it has gone. It begins with a clean record, as if nothing had failed before. For one
    /// that runs nothing changes.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownService`], [`Error::Ended`] in a shutdown and after it, [`Error::Busy`] when 1024 orders wait.
    pub fn start(&self, name: &str) -> Result<(), Error> {
        self.put(name, Order::Start)
    }

    /// Stops all services gracefully, and with them the runner, as the first SIGTERM does. Orders that wait are dropped. There is
    /// always room for this one.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] after the end.
    pub fn shutdown(&self) -> Result<(), Error> {
        self.shut_down(Stop::Graceful)
    }

    /// The same at once, as the second SIGTERM does: all are killed.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`] after the end.
    pub fn shutdown_now(&self) -> Result<(), Error> {
        self.shut_down(Stop::Now)
    }

    fn put(&self, name: &str, order: Order) -> Result<(), Error> {
        self.line.mailbox().put(name, order)?;
        self.line.ring();
        Ok(())
    }

    fn shut_down(&self, stop: Stop) -> Result<(), Error> {
        self.line.mailbox().shut_down(stop)?;
        self.line.ring();
        Ok(())
    }
}

impl Clone for Control {
    fn clone(&self) -> Self {
        Self::new(&self.line)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.line.mailbox().drop_handle();
        // It may have been the last that the runner waits for.
        self.line.ring();
    }
}

/// What a runner and those who steer it share.
#[derive(Debug)]
pub(super) struct Line {
    mailbox: Mutex<Mailbox>,
    bell: OwnedFd,
}

impl Line {
    pub(super) fn open() -> Result<Self, Error> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self { mailbox: Mutex::default(), bell: bell.map_err(Error::os("create an eventfd"))? })
    }

    pub(super) fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        // Nobody panics while he holds it, so it is whole.
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all orders. Whatever comes from now on rings anew.
    pub(super) fn take(&self) -> (VecDeque<(u32, Order)>, Option<Stop>) {
        // It fails when it has not rung.
        let _ = rustix::io::read(&self.bell, &mut [0_u8; 8]);
        self.mailbox().take()
    }

    fn ring(&self) {
        // It fails when it has been rung 2⁶⁴ - 2 times and nobody came: then it rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
