//! What one worker uses, as it was last measured.

use std::time::{Duration, Instant};

use cluster_health::Sample;
use cluster_health::os::{Rollup, Sampler};
use tokio::task::JoinHandle;

use crate::builder::Gauge;

/// A worker's figures, off `/proc`.
#[derive(Debug)]
pub(super) struct Vitals {
    /// `None` if it can't be looked at: then the board is all that is known.
    sampler: Option<Sampler>,
    last: Option<(Instant, Sample)>,
    /// The last that was known of each: descriptors are counted less often than the rest, and a process that is about to end has no memory.
    resident: Option<u64>,
    open_files: Option<u64>,
    /// The share of a core that it used between the last two samples, in thousandths.
    cpu_permille: Option<u32>,
    /// Who measures its memory closely.
    pub(super) confirming: Option<JoinHandle<()>>,
}

impl Vitals {
    pub(super) fn new(sampler: Option<Sampler>) -> Self {
        Self { sampler, last: None, resident: None, open_files: None, cpu_permille: None, confirming: None }
    }

    pub(super) fn sample(&mut self, now: Instant) -> Option<Sample> {
        let sample = self.sampler.as_mut()?.sample().ok()?;
        if let Some((at, before)) = self.last {
            self.cpu_permille = share(before, sample, now.saturating_duration_since(at));
        }
        self.last = Some((now, sample));
        self.resident = sample.resident_bytes().or(self.resident);
        self.open_files = sample.open_descriptors().or(self.open_files);
        Some(sample)
    }

    /// What it used when it was last measured.
    pub(super) fn last(&self) -> Sample {
        let last = self.last.map_or_else(Sample::new, |(_, sample)| sample);
        let last = self.resident.map_or(last, |bytes| last.resident(bytes));
        self.open_files.map_or(last, |open| last.descriptors(open))
    }

    /// When it was measured last.
    pub(super) fn measured(&self) -> Option<Instant> {
        self.last.map(|(at, _)| at)
    }

    pub(super) fn cpu_permille(&self) -> Option<u32> {
        self.cpu_permille
    }

    /// What the strategy balances by.
    pub(super) fn used(&self, gauge: Gauge) -> Option<u64> {
        match gauge {
            Gauge::Memory => self.last().resident_bytes(),
            Gauge::Cpu => self.cpu_permille.map(u64::from),
        }
    }

    pub(super) fn rollup(&self) -> Option<Rollup> {
        self.sampler.as_ref()?.rollup().ok()
    }
}

fn share(before: Sample, now: Sample, passed: Duration) -> Option<u32> {
    let used = now.processor_time()?.saturating_sub(before.processor_time()?);
    let permille = 1000 * used.as_micros() / passed.as_micros().max(1);
    u32::try_from(permille).ok()
}
