//! What a process uses, as far as it was measured.

use std::time::Duration;

/// What a process uses at a time. What was not measured is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Sample {
    resident: Option<u64>,
    proportional: Option<u64>,
    cpu: Option<Duration>,
    files: Option<u64>,
    threads: Option<u64>,
}

impl Sample {
    /// Nothing was measured.
    pub const fn new() -> Self {
        Self { resident: None, proportional: None, cpu: None, files: None, threads: None }
    }

    /// With this resident memory, in bytes.
    pub const fn resident(self, bytes: u64) -> Self {
        Self { resident: Some(bytes), ..self }
    }

    /// With this proportional share of memory, in bytes.
    pub const fn proportional(self, bytes: u64) -> Self {
        Self { proportional: Some(bytes), ..self }
    }

    /// With so much processor time used so far.
    pub const fn cpu(self, used: Duration) -> Self {
        Self { cpu: Some(used), ..self }
    }

    /// With so many open descriptors.
    pub const fn open_files(self, files: u64) -> Self {
        Self { files: Some(files), ..self }
    }

    /// With so many threads.
    pub const fn with_threads(self, threads: u64) -> Self {
        Self { threads: Some(threads), ..self }
    }

    /// Resident memory, in bytes.
    pub const fn resident_bytes(&self) -> Option<u64> {
        self.resident
    }

    /// Proportional share of memory, in bytes.
    pub const fn proportional_bytes(&self) -> Option<u64> {
        self.proportional
    }

    /// Processor time used so far.
    pub const fn cpu_time(&self) -> Option<Duration> {
        self.cpu
    }

    /// Open descriptors.
    pub const fn files(&self) -> Option<u64> {
        self.files
    }

    /// Threads.
    pub const fn threads(&self) -> Option<u64> {
        self.threads
    }
}
