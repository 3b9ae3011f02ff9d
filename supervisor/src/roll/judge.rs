//! Whether figures speak against a successor.

use std::fmt;

/// Requests that a worker has answered since it began, and how many of them ended in an error that was its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    requests: u64,
    errors: u64,
}

impl Figures {
    /// So many requests and errors among them.
    pub const fn new(requests: u64, errors: u64) -> Self {
        // Whoever counts them may read the one a moment before the other.
        Self { requests: if requests < errors { errors } else { requests }, errors }
    }

    /// All requests.
    pub const fn requests(self) -> u64 {
        self.requests
    }

    /// Those that ended in an error.
    pub const fn errors(self) -> u64 {
        self.errors
    }

    /// What came after `earlier`.
    pub(crate) const fn since(self, earlier: Self) -> Self {
        Self::new(self.requests.saturating_sub(earlier.requests), self.errors.saturating_sub(earlier.errors))
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self::new(self.requests.saturating_add(other.requests), self.errors.saturating_add(other.errors))
    }

    fn error_ratio(self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} requests", self.errors, self.requests)
    }
}

/// When the errors of a successor are too many.
///
/// It is compared with the workers beside it in the same time: when a database is down all have errors, and that is no
/// reason to keep the old release.
///
/// | setting | default |
/// |---|---|
/// | [`margin`](Self::margin) | 0.05: an error ratio of more than 5 percentage points above that of the others |
/// | [`min_requests`](Self::min_requests) | 20: below that, figures say nothing |
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Judge {
    margin: f64,
    min_requests: u64,
}

impl Judge {
    /// The defaults of the table above.
    pub const fn new() -> Self {
        Self { margin: 0.05, min_requests: 20 }
    }

    /// By how much the part of its requests that fail may exceed that of the others, 0.0 to 1.0.
    pub const fn margin(self, margin: f64) -> Self {
        Self { margin, ..self }
    }

    /// How many requests it must have had for its figures to count.
    pub const fn min_requests(self, min_requests: u64) -> Self {
        Self { min_requests, ..self }
    }

    /// Whether `figures` speak against the one who has them, beside those of the `others` in the same time.
    pub fn is_bad(&self, figures: Figures, others: Figures) -> bool {
        figures.requests >= self.min_requests.max(1)
            && figures.error_ratio() > others.error_ratio() + self.margin
    }
}

impl Default for Judge {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_compared_with_those_beside_it() {
        let judge = Judge::new();
        let all_fail = Figures::new(20, 20);
        assert!(judge.is_bad(all_fail, Figures::new(500, 1)));
        assert!(judge.is_bad(all_fail, Figures::default()), "nobody else had any requests");
        assert!(!judge.is_bad(all_fail, Figures::new(500, 490)), "it is not alone");
        assert!(!judge.is_bad(Figures::new(19, 19), Figures::new(500, 0)), "too few to say");
        assert!(!judge.is_bad(Figures::new(100, 5), Figures::new(500, 0)), "within the margin");
        assert!(judge.is_bad(Figures::new(100, 6), Figures::new(500, 0)));
        assert!(!judge.min_requests(0).is_bad(Figures::default(), Figures::default()));
    }

    #[test]
    fn figures_never_have_more_errors_than_requests() {
        assert_eq!(Figures::new(3, 5), Figures::new(5, 5));
        assert_eq!(Figures::new(9, 3).since(Figures::new(4, 2)), Figures::new(5, 1));
        assert_eq!(Figures::new(1, 1).since(Figures::new(4, 2)), Figures::default());
        assert_eq!(Figures::new(7, 2).to_string(), "2 of 7 requests");
    }
}
