//! Ctrl-C, SIGTERM, and measurements that hang: the children are ended, whereupon whoever waits for them finds out.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::{Result, child};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How often to look for children that are overdue.
const STEP: Duration = Duration::from_secs(1);
/// From the end of the children to ours, in case that something waits for them in vain.
const PATIENCE: Duration = Duration::from_secs(3);

/// Notes the signals from now on; they end this process no more, or only if all else fails.
pub(crate) fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut signals = pin!(std::future::poll_fn(|cx| {
                let interrupted = interrupt.poll_recv(cx).is_ready();
                let terminated = terminate.poll_recv(cx).is_ready();
                if interrupted || terminated { Poll::Ready(()) } else { Poll::Pending }
            }));
            while tokio::time::timeout(STEP, &mut signals).await.is_err() {
                if child::end_overdue() {
                    eprintln!("vs_ipc: a measurement took too long");
                    tokio::time::sleep(PATIENCE).await;
                    if child::end_overdue() {
                        std::process::exit(1);
                    }
                }
            }
        });
        INTERRUPTED.store(true, Ordering::SeqCst);
        child::end_all();
        std::thread::sleep(PATIENCE);
        std::process::exit(130);
    });
    Ok(())
}

/// An error after a signal.
pub(crate) fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) { Err("interrupted".into()) } else { Ok(()) }
}
