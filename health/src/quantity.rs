//! What is measured of a member, and how it reads.

use std::fmt;
use std::sync::Arc;

/// Something of a member that has a value at each time: what a [`Limit`](crate::Limit) is set for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Quantity {
    /// Memory in bytes. Resident by samples; if a monitor [confirms](crate::Checks::confirm_memory), the proportional share has the
    /// last word.
    Memory,
    /// Processor time, as a share of one core: 1.0 is one core all the time, 4.0 four of them.
    Cpu,
    /// Open descriptors.
    Files,
    /// Threads.
    Threads,
    /// How late the member's loop runs, in seconds.
    Lag,
    /// Anything that the application counts, by its name.
    Gauge(Arc<str>),
}

impl Quantity {
    /// A gauge of the application.
    pub fn gauge(name: impl Into<Arc<str>>) -> Self {
        Self::Gauge(name.into())
    }

    /// A value of it, as people read it: `512 MiB`, `80 % of a core`, `12 ms`.
    pub(crate) fn show(&self, value: f64) -> Shown<'_> {
        Shown { quantity: self, value }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Cpu => "CPU use",
            Self::Files => "open descriptors",
            Self::Threads => "threads",
            Self::Lag => "loop lag",
            Self::Gauge(name) => name,
        })
    }
}

/// A value with its unit.
pub(crate) struct Shown<'a> {
    quantity: &'a Quantity,
    value: f64,
}

const MEBIBYTE: f64 = 1_048_576.0;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value;
        match self.quantity {
            Quantity::Memory if value >= 10.0 * MEBIBYTE => write!(f, "{:.0} MiB", value / MEBIBYTE),
            Quantity::Memory => write!(f, "{:.1} MiB", value / MEBIBYTE),
            Quantity::Cpu => write!(f, "{:.0} % of a core", 100.0 * value),
            Quantity::Lag if value < 1.0 => write!(f, "{:.0} ms", 1000.0 * value),
            Quantity::Lag => write!(f, "{value:.1} s"),
            Quantity::Files | Quantity::Threads | Quantity::Gauge(_) => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_people_write_them() {
        let shown = |quantity: Quantity, value: f64| quantity.show(value).to_string();
        assert_eq!(shown(Quantity::Memory, 512.0 * MEBIBYTE), "512 MiB");
        assert_eq!(shown(Quantity::Memory, 1.5 * MEBIBYTE), "1.5 MiB");
        assert_eq!(shown(Quantity::Cpu, 0.8), "80 % of a core");
        assert_eq!(shown(Quantity::Lag, 0.0125), "12 ms");
        assert_eq!(shown(Quantity::Lag, 2.5), "2.5 s");
        assert_eq!(shown(Quantity::Files, 1000.0), "1000");
        assert_eq!(shown(Quantity::gauge("queue"), 0.5), "0.5");
        assert_eq!(Quantity::gauge("queue").to_string(), "queue");
    }
}
