//! Ctrl-C and SIGTERM: noted here, and found by whoever waits, so that all that was started is ended on the way out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::Result;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(2);

/// Notes the signals from now on; they end this process no more.
pub(crate) fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(std::future::poll_fn(|cx| {
            let interrupted = interrupt.poll_recv(cx).is_ready();
            let terminated = terminate.poll_recv(cx).is_ready();
            if interrupted || terminated { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        }));
        INTERRUPTED.store(true, Ordering::SeqCst);
    });
    Ok(())
}

/// An error after a signal.
pub(crate) fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) { Err("interrupted".into()) } else { Ok(()) }
}

/// Waits until `condition` gives something, fails, takes too long, or a signal comes.
pub(crate) fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        check()?;
        if Instant::now() >= deadline {
            return Err(format!("waited {patience:?} in vain for {what}").into());
        }
        std::thread::park_timeout(STEP);
    }
}
