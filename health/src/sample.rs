//! What is known of a process at a time.

use std::time::Duration;

/// What is known of a process at a time: figures, none of which has to be there.
///
/// Where it comes from is the caller's business: on Linux `os::Sampler` reads it off `/proc` (feature `os`); a
/// program may fill it from what its workers report of themselves.
/// A figure that is missing was not taken this time, which is not zero: whoever compares it to a threshold should
/// neither count nor forget anything for it.
///
/// ```
/// use std::time::Duration;
/// use cluster_health::Sample;
///
/// let sample = Sample::new().resident(12 << 20).processor(Duration::from_millis(1500));
/// assert_eq!(sample.resident_bytes(), Some(12_582_912));
/// assert_eq!(sample.open_descriptors(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    resident: Option<u64>,
    proportional: Option<u64>,
    processor: Option<Duration>,
    descriptors: Option<u64>,
    threads: Option<u64>,
}

impl Sample {
    /// Nothing is known.
    pub const fn new() -> Self {
        Self { resident: None, proportional: None, processor: None, descriptors: None, threads: None }
    }

    /// Memory that is present for it, in bytes (`RSS`): pages that it shares with others count in full for each.
    ///
    /// Cheap to read (`/proc/PID/statm`), and on machines with many processors off by up to some hundred kilobytes,
    /// since the kernel counts by processor and sums up seldom.
    #[must_use]
    pub const fn resident(mut self, bytes: u64) -> Self {
        self.resident = Some(bytes);
        self
    }

    /// Its share of the memory that is present, in bytes (`PSS`): a page that `n` processes share counts `1/n`.
    ///
    /// The fair figure for forked workers, and expensive (`/proc/PID/smaps_rollup`): to confirm what the resident
    /// size gave reason to suspect.
    #[must_use]
    pub const fn proportional(mut self, bytes: u64) -> Self {
        self.proportional = Some(bytes);
        self
    }

    /// Processor time that all its threads, also those that have ended, have used so far, in user space and kernel
    /// (its processor clock, `clock_getcpuclockid(3)`).
    ///
    /// Its children are not in it. The difference between two samples, by the time between them, is the share of one
    /// processor.
    #[must_use]
    pub const fn processor(mut self, used: Duration) -> Self {
        self.processor = Some(used);
        self
    }

    /// Descriptors that it has open (`/proc/PID/fd`).
    #[must_use]
    pub const fn descriptors(mut self, open: u64) -> Self {
        self.descriptors = Some(open);
        self
    }

    /// Threads that it has (`/proc/PID/task`).
    #[must_use]
    pub const fn threads(mut self, threads: u64) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Memory that is present for it, in bytes: [`resident`](Self::resident).
    pub const fn resident_bytes(&self) -> Option<u64> {
        self.resident
    }

    /// Its share of the memory that is present, in bytes: [`proportional`](Self::proportional).
    pub const fn proportional_bytes(&self) -> Option<u64> {
        self.proportional
    }

    /// Processor time used so far: [`processor`](Self::processor).
    pub const fn processor_time(&self) -> Option<Duration> {
        self.processor
    }

    /// How many descriptors are open: [`descriptors`](Self::descriptors).
    pub const fn open_descriptors(&self) -> Option<u64> {
        self.descriptors
    }

    /// How many threads there are: [`threads`](Self::threads).
    pub const fn thread_count(&self) -> Option<u64> {
        self.threads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_not_known() {
        let none = Sample::new();
        assert_eq!(none, Sample::default());
        let all =
            none.resident(1).proportional(2).processor(Duration::from_secs(3)).descriptors(4).threads(5);
        assert_eq!((none.resident_bytes(), none.processor_time()), (None, None));
        assert_eq!((all.resident_bytes(), all.proportional_bytes()), (Some(1), Some(2)));
        assert_eq!(all.processor_time(), Some(Duration::from_secs(3)));
        assert_eq!((all.open_descriptors(), all.thread_count()), (Some(4), Some(5)));
    }
}
