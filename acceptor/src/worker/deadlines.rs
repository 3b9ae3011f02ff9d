//! How long a worker may take on its way out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a worker takes to leave at most, each counted from when it was asked to.
///
/// Who is still there at a deadline is cut off: see [`Gate`](super::Gate).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Deadlines {
    /// Until idle connections are closed, since a request may be on its way on any of them.
    pub linger: Duration,
    /// Until connections are cut that are not long-lived.
    pub ordinary: Duration,
    /// Until connections are cut that are.
    pub long_lived: Duration,
}

impl Deadlines {
    /// Those of a worker that has so long to end in order. Long-lived connections are cut a little before that unless they are given
    /// longer, so that the application can end in order after they have.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cluster_acceptor::worker::Deadlines;
    ///
    /// let second = Duration::from_secs(1);
    /// assert_eq!(Deadlines::new(second, 10 * second, None).long_lived, 9 * second);
    /// let patient = Deadlines::new(second, 10 * second, Some(60 * second));
    /// assert_eq!((patient.ordinary, patient.in_all()), (10 * second, 61 * second));
    /// ```
    pub fn new(linger: Duration, ordinary: Duration, long_lived: Option<Duration>) -> Self {
        let long_lived = long_lived.unwrap_or_else(|| ordinary - slack(ordinary));
        Self { linger, ordinary, long_lived }
    }

    /// How long a worker may take that keeps them, a little for its own end included.
    pub fn in_all(&self) -> Duration {
        self.ordinary.max(self.long_lived.saturating_add(slack(self.ordinary)))
    }
}

/// What an application gets to end in after its last connections were cut.
fn slack(ordinary: Duration) -> Duration {
    ordinary / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn by_default_long_lived_connections_take_no_longer_than_a_worker_may() {
        let deadlines = Deadlines::new(SECOND, 10 * SECOND, None);
        assert_eq!((deadlines.long_lived, deadlines.in_all()), (9 * SECOND, 10 * SECOND));
        let none = Deadlines::new(SECOND, Duration::ZERO, None);
        assert_eq!((none.long_lived, none.in_all()), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_longer_deadline_is_longer_for_the_worker() {
        let deadlines = Deadlines::new(SECOND, 10 * SECOND, Some(60 * SECOND));
        assert_eq!((deadlines.ordinary, deadlines.in_all()), (10 * SECOND, 61 * SECOND));
        assert_eq!(Deadlines::new(SECOND, SECOND, Some(Duration::MAX)).in_all(), Duration::MAX);
    }

    #[test]
    fn a_shorter_one_shortens_nothing() {
        assert_eq!(Deadlines::new(SECOND, 10 * SECOND, Some(Duration::ZERO)).in_all(), 10 * SECOND);
    }
}
