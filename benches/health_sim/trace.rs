//! When a worker beats, and when whom is stopped.

use std::time::Duration;

use fastrand::Rng;

/// What a worker and its monitor live through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    /// Beats come when they should, within 2 %.
    Quiet,
    /// One in a hundred is late, by 50 ms in the mean.
    Loaded,
    /// One in two hundred is late by 0.2 to 1 s, as by a garbage collector.
    Pauses,
    /// Every other hour one in five is late by 150 ms in the mean, and one in a hundred by 600 ms.
    Hourly,
    /// The monitor is stopped for 0.3 to 30 s each minute, every other time together with the worker.
    Stalls,
    /// The worker is stopped for 5 s each minute.
    LongPauses,
}

impl Trace {
    pub(crate) const ALL: [Self; 6] =
        [Self::Quiet, Self::Loaded, Self::Pauses, Self::Hourly, Self::Stalls, Self::LongPauses];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Loaded => "loaded",
            Self::Pauses => "pauses of 0.2 to 1 s",
            Self::Hourly => "hourly overload",
            Self::Stalls => "stalls of the monitor",
            Self::LongPauses => "pauses of 5 s",
        }
    }

    /// How long after the one before it a beat comes, at this time.
    pub(crate) fn gap(self, interval: Duration, at: Duration, rng: &mut Rng) -> Duration {
        // The same numbers are drawn whatever becomes of them, so that all see the same delays.
        let (noise, chance, size, tail) = (rng.f64(), rng.f64(), rng.f64(), rng.f64());
        let exponential = |mean: f64, part: f64| -mean * (1.0 - part).ln();
        let late = match self {
            Self::Quiet | Self::Stalls => 0.0,
            Self::Loaded if chance < LOADED.0 => exponential(LOADED.1, size),
            Self::Pauses if chance < 0.005 => 0.2 + 0.8 * size,
            Self::Hourly if (at.as_secs() / 3600) % 2 == 1 => {
                let often = if chance < 0.2 { exponential(0.15, size) } else { 0.0 };
                often + if tail < 0.01 { exponential(0.6, 100.0 * tail) } else { 0.0 }
            }
            // Once in so many beats as there are in a minute.
            Self::LongPauses if chance < interval.as_secs_f64() / 60.0 => 5.0 - interval.as_secs_f64(),
            Self::Loaded | Self::Pauses | Self::Hourly | Self::LongPauses => 0.0,
        };
        interval.mul_f64(0.98 + 0.04 * noise) + Duration::from_secs_f64(late)
    }
}

/// Of a loaded worker's beats, which part is late, and by how many seconds in the mean.
pub(crate) const LOADED: (f64, f64) = (0.01, 0.05);

/// The monitor is stopped, from then to then, and the worker too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stall {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) together: bool,
}

impl Stall {
    pub(crate) fn next(trace: Trace, at: Duration, rng: &mut Rng) -> Self {
        if trace != Trace::Stalls {
            return Self { from: Duration::MAX, to: Duration::MAX, together: false };
        }
        let from = at + Duration::from_secs_f64(30.0 + 60.0 * rng.f64());
        // As many short ones as long ones.
        let to = from + Duration::from_secs_f64(0.3 * 100f64.powf(rng.f64()));
        Self { from, to, together: rng.bool() }
    }
}
