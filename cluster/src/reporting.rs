//! What the primary tells of itself regularly, and when. Off by default.

use std::fmt;
use std::time::{Duration, Instant};

use crate::status::ClusterStatus;

/// The shortest interval.
const SHORTEST: Duration = Duration::from_millis(10);

/// What is told, how often and to whom.
#[derive(Debug, Default)]
pub(crate) struct Reporting {
    /// The status as an event.
    pub(crate) metrics: Periodic,
    /// The status for people.
    pub(crate) table: Periodic,
    pub(crate) sink: Sink,
}

impl Reporting {
    pub(crate) fn start(&mut self, now: Instant) {
        self.metrics.start(now);
        self.table.start(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.metrics.next, self.table.next].into_iter().flatten().min()
    }
}

/// Something that is due regularly, or never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Periodic {
    every: Option<Duration>,
    next: Option<Instant>,
}

impl Periodic {
    pub(crate) fn every(time: Duration) -> Self {
        Self { every: Some(time.max(SHORTEST)), next: None }
    }

    fn start(&mut self, now: Instant) {
        self.next = self.every.and_then(|every| now.checked_add(every));
    }

    /// Whether it is due. Then it is again after its interval: what was missed is not made up for.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|next| next <= now);
        if due {
            self.start(now);
        }
        due
    }
}

type Write = Box<dyn FnMut(&ClusterStatus) + Send>;

/// Where the status for people goes: the log, unless somebody wants it.
#[derive(Default)]
pub(crate) struct Sink(Option<Write>);

impl Sink {
    pub(crate) fn to(write: impl FnMut(&ClusterStatus) + Send + 'static) -> Self {
        Self(Some(Box::new(write)))
    }

    pub(crate) fn write(&mut self, status: &ClusterStatus) {
        match &mut self.0 {
            Some(write) => write(status),
            None => tracing::info!("{status}"),
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Sink(user's)" } else { "Sink(log)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_due_once_and_what_was_missed_is_not_made_up_for() {
        let second = Duration::from_secs(1);
        let begin = Instant::now();
        let mut reporting = Reporting { metrics: Periodic::every(second), ..Reporting::default() };
        assert_eq!(reporting.poll_timeout(), None);
        reporting.start(begin);
        assert_eq!(reporting.poll_timeout(), Some(begin + second));
        assert!(!reporting.metrics.is_due(begin));
        let late = begin + 10 * second;
        assert!(reporting.metrics.is_due(late) && !reporting.metrics.is_due(late));
        assert_eq!(reporting.poll_timeout(), Some(late + second));
        assert!(!reporting.table.is_due(late), "off unless it is asked for");
    }

    #[test]
    fn an_interval_of_nothing_is_a_short_one() {
        assert_eq!(Periodic::every(Duration::ZERO), Periodic::every(SHORTEST));
        let mut never = Periodic::every(Duration::MAX);
        never.start(Instant::now());
        assert_eq!(never.next, None, "later than any time there is");
    }
}
