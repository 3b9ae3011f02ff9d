//! What members are checked for.

use std::time::Duration;

use crate::probe::InARow;
use crate::{Heartbeat, Limit, Outliers, Probe, Quantity};

/// What a [`Monitor`](crate::Monitor) checks its members for. All but the heartbeat is off unless it is set.
///
/// | setting | default |
/// |---|---|
/// | [`heartbeat`](Self::heartbeat) | [`Heartbeat::new`] |
/// | [`limit`](Self::limit) | none |
/// | [`outliers`](Self::outliers) | off |
/// | [`max_requests`](Self::max_requests), [`max_lifetime`](Self::max_lifetime) | none; [`jitter`](Self::jitter) 10 % |
/// | [`confirm_memory`](Self::confirm_memory) | yes |
/// | [`cpu_window`](Self::cpu_window) | 10 s |
/// | [`starts`](Self::starts) | no: a member is expected to beat at once |
///
/// ```
/// use std::time::Duration;
/// use cluster_health::{Checks, Limit, Outliers, Quantity};
///
/// let half_a_minute = Duration::from_secs(30);
/// let checks = Checks::new()
///     .limit(Quantity::Memory, Limit::over(500.0 * 1048576.0).lasting(half_a_minute).recycle())
///     .limit(Quantity::Cpu, Limit::over(0.8).lasting(half_a_minute))
///     .limit(Quantity::gauge("queue"), Limit::over(1000.0).suspect())
///     .outliers(Outliers::new())
///     .max_requests(100_000);
/// # let _ = checks;
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Checks {
    pub(crate) heartbeat: Heartbeat,
    pub(crate) limits: Vec<(Quantity, Limit)>,
    pub(crate) outliers: Option<Outliers>,
    pub(crate) probes: [InARow; 3],
    pub(crate) starts: bool,
    pub(crate) max_requests: Option<u64>,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) jitter: f64,
    pub(crate) confirm_memory: bool,
    pub(crate) cpu_window: Duration,
    pub(crate) seed: u64,
}

impl Checks {
    /// The defaults of the table.
    pub fn new() -> Self {
        Self {
            heartbeat: Heartbeat::new(),
            limits: Vec::new(),
            outliers: None,
            probes: Probe::ALL.map(InARow::of),
            starts: false,
            max_requests: None,
            max_lifetime: None,
            jitter: 0.1,
            confirm_memory: true,
            cpu_window: Duration::from_secs(10),
            seed: 0,
        }
    }

    /// How members beat.
    pub fn heartbeat(self, heartbeat: Heartbeat) -> Self {
        Self { heartbeat, ..self }
    }

    /// How members are expected to beat.
    pub fn heartbeat_expected(&self) -> Heartbeat {
        self.heartbeat
    }

    /// Adds a limit. There may be several for one quantity: a soft one and a hard one, say.
    pub fn limit(mut self, quantity: Quantity, limit: Limit) -> Self {
        self.limits.push((quantity, limit));
        self
    }

    /// Compares how many of their requests members fail.
    pub fn outliers(self, outliers: Outliers) -> Self {
        Self { outliers: Some(outliers), ..self }
    }

    /// How many answers to a probe in a row change a member's standing.
    pub fn probe(mut self, probe: Probe, in_a_row: InARow) -> Self {
        self.probes[probe.index()] = in_a_row;
        self
    }

    /// Members begin by starting: until they answer [`Probe::Startup`] well, nothing else is held against them. How long that
    /// may take is for the number of bad answers to say, or for whoever has started them.
    pub fn starts(self) -> Self {
        Self { starts: true, ..self }
    }

    /// After so many requests, less [jitter](Self::jitter), a member is to be replaced when convenient.
    pub fn max_requests(self, requests: u64) -> Self {
        Self { max_requests: Some(requests.max(1)), ..self }
    }

    /// After so long, less [jitter](Self::jitter), a member is to be replaced when convenient.
    pub fn max_lifetime(self, time: Duration) -> Self {
        Self { max_lifetime: Some(time), ..self }
    }

    /// By which part requests and lifetimes are shortened at most, for each member by another one: so that those that began together
    /// don't end together. 0 to 1.
    pub fn jitter(self, part: f64) -> Self {
        Self { jitter: if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) }, ..self }
    }

    /// Whether resident memory over a limit that leads to a replacement has to be confirmed by the proportional share, which
    /// counts what several processes share once: see [`Monitor::poll_confirm`](crate::Monitor::poll_confirm). Until that is answered
    /// nothing is told; whoever will not answer it says no here.
    pub fn confirm_memory(self, confirm: bool) -> Self {
        Self { confirm_memory: confirm, ..self }
    }

    /// Over which time the use of processors is counted; there is none before samples span it.
    pub fn cpu_window(self, window: Duration) -> Self {
        Self { cpu_window: window, ..self }
    }

    /// Feeds the jitter. Equal seeds and inputs give equal verdicts.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }
}

impl Default for Checks {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Heartbeat> for Checks {
    /// Nothing but the heartbeat.
    fn from(heartbeat: Heartbeat) -> Self {
        Self::new().heartbeat(heartbeat)
    }
}
