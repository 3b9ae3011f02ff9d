//! What figures are held against.

use std::fmt;

/// One promise, and what was measured.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) bound: Bound,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Gate {
    /// Not if nothing was measured.
    pub(crate) fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtLeast(least) => self.measured >= least,
            Bound::AtMost(most) => self.measured <= most,
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (is_met, Self { what, measured, bound }) = (self.is_met(), self);
        let verdict = if is_met { "met" } else { "**not met**" };
        write!(f, "| {what} | {measured:.2} | {bound} | {verdict} |")
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "at least {least}"),
            Self::AtMost(most) => write!(f, "at most {most}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_met_at_its_bound_and_not_without_a_figure() {
        let gate = |measured, bound| Gate { what: String::new(), measured, bound };
        assert!(gate(1.8, Bound::AtLeast(1.8)).is_met() && !gate(1.7, Bound::AtLeast(1.8)).is_met());
        assert!(gate(2.0, Bound::AtMost(2.0)).is_met() && !gate(2.1, Bound::AtMost(2.0)).is_met());
        assert!(
            !gate(f64::NAN, Bound::AtLeast(1.8)).is_met() && !gate(f64::NAN, Bound::AtMost(2.0)).is_met()
        );
    }
}
