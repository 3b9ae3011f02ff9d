//! From when on a read, in whatever worker, sees a write.
//!
//! Workers are asked at random, and read when they are; each notes when it began to and what it saw. A read is stale if it does not
//! show the last write that had begun by then. So how long a write takes until all see it is the age from which on reads aren't.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Result;
use crate::order::Order;
use crate::team::Team;

/// Between two that are asked, at most; the kernel adds some 50 µs. So seldom that it is no load.
const PAUSE_MICROS: u64 = 500;

/// Reads next to each other by the age of the write, among which those that are stale are counted.
const WINDOW: usize = 120;

/// Asks workers at random to read until this is dropped.
#[derive(Debug)]
pub(crate) struct Asking {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Asking {
    /// Asks all but the first, which is the one that writes.
    pub(crate) async fn start(team: &Team) -> Result<Self> {
        let mut asked = Vec::new();
        for worker in team.workers.iter().skip(1) {
            let (here, there) = UnixStream::pair()?;
            here.set_nonblocking(true)?;
            there.set_nonblocking(true)?;
            worker.ask_with(&Order::ReadWhenAsked, vec![OwnedFd::from(there)]).await?;
            asked.push(here);
        }
        let is_over = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut rng = fastrand::Rng::with_seed(11);
            while !ends.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_micros(rng.u64(..PAUSE_MICROS)));
                let worker = rng.usize(..asked.len());
                // One who is asked already is not asked again.
                let _ = asked.get(worker).map(|mut worker| worker.write(&[0]));
            }
        });
        Ok(Self { is_over, thread: Some(thread) })
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The ages of a write from which on half of the reads see it, and 11 of 12: then all of eight do in half of the cases, if each sees it
/// by itself, and sooner if they see it together. `written` has begin and end of each write, the first of
/// which took the revision after `before`; `reads` has when each began and the revision that it saw.
/// `None` if there are too few to tell.
pub(crate) fn ages(written: &[u64], before: u64, reads: &[Vec<u64>]) -> Option<[f64; 2]> {
    let begins: Vec<u64> = written.iter().step_by(2).copied().collect();
    let mut by_age = Vec::new();
    for read in reads.iter().flat_map(|reads| reads.chunks_exact(2)) {
        let begun = begins.partition_point(|begin| *begin <= read[0]);
        if let Some(last) = begun.checked_sub(1) {
            by_age.push((read[0] - begins[last], read[1] < before + begun as u64));
        }
    }
    if by_age.len() < WINDOW {
        return None;
    }
    by_age.sort_unstable();
    let from = |share: usize| {
        let stale = |window: &[(u64, bool)]| window.iter().filter(|(_, is_stale)| *is_stale).count();
        let last = by_age.windows(WINDOW).rposition(|window| stale(window) * share > WINDOW);
        last.map_or(0.0, |last| by_age[last + WINDOW - 1].0 as f64)
    };
    Some([from(2), from(12)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a millisecond apart, and reads that see each only after so many nanoseconds.
    fn reads(sees_after: impl Fn(u64) -> u64) -> (Vec<u64>, Vec<Vec<u64>>) {
        let written: Vec<u64> =
            (1..=400).flat_map(|nth| [nth * 1_000_000, nth * 1_000_000 + 50_000]).collect();
        let read = |number: u64| {
            let at = 1_000_000 + number * 9_973;
            let is_seen = at % 1_000_000 >= sees_after(number);
            [at, 10 + at / 1_000_000 - u64::from(!is_seen)]
        };
        (written, vec![(0..39_000).flat_map(read).collect()])
    }

    #[test]
    fn reads_that_see_a_write_after_a_while_give_that() {
        let (written, seen) = reads(|_| 70_000);
        let [half, most] = ages(&written, 10, &seen).unwrap();
        assert!(
            (70_000.0..76_000.0).contains(&half) && (70_000.0..76_000.0).contains(&most),
            "{half} {most}"
        );
    }

    #[test]
    fn some_that_are_late_count_for_most_and_not_for_half() {
        let (written, seen) = reads(|number| if number % 8 == 0 { 300_000 } else { 0 });
        let [half, most] = ages(&written, 10, &seen).unwrap();
        assert!(half == 0.0 && (290_000.0..310_000.0).contains(&most), "{half} {most}");
    }
}
