//! How much is lost to waiting for processors, memory and I/O.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::Roots;
use super::files;
use super::text::{hundredths, number, words};

/// How much is lost to waiting for processors, memory and I/O (PSI), of the machine or of a control group.
///
/// For telling a worker that is sick from a machine that is overloaded. The files are kept open; each call reads one,
/// for less than two microseconds.
/// Where the kernel does not measure it (`psi=0`, before Linux 4.20, control groups of version 1), every answer is
/// `None`.
///
/// ```
/// use cluster_health::os::Pressure;
///
/// let pressure = Pressure::of_machine();
/// if let Some(memory) = pressure.memory() {
///     println!("somebody waited for memory in {:.0} % of the last ten seconds", memory.some().avg10() * 100.0);
/// }
/// ```
#[derive(Debug)]
pub struct Pressure {
    cpu: Option<OwnedFd>,
    memory: Option<OwnedFd>,
    io: Option<OwnedFd>,
}

impl Pressure {
    /// Of all processes (`/proc/pressure`).
    pub fn of_machine() -> Self {
        Self::of_machine_in(&Roots::new())
    }

    /// The same with other roots.
    pub fn of_machine_in(roots: &Roots) -> Self {
        Self::in_folder(&roots.proc_path().join("pressure"), "")
    }

    /// Of a control group, from its folder.
    pub(super) fn of_cgroup(folder: &Path) -> Self {
        Self::in_folder(folder, ".pressure")
    }

    fn in_folder(folder: &Path, suffix: &str) -> Self {
        let open = |name: &str| File::open(folder.join(format!("{name}{suffix}"))).ok().map(OwnedFd::from);
        Self { cpu: open("cpu"), memory: open("memory"), io: open("io") }
    }

    /// Time lost to waiting for a processor.
    pub fn cpu(&self) -> Option<Stalls> {
        read(self.cpu.as_ref()?)
    }

    /// Time lost to want of memory: to reclaiming it, and to reading again what was dropped.
    pub fn memory(&self) -> Option<Stalls> {
        read(self.memory.as_ref()?)
    }

    /// Time lost to waiting for block devices.
    pub fn io(&self) -> Option<Stalls> {
        read(self.io.as_ref()?)
    }
}

fn read(file: impl AsFd) -> Option<Stalls> {
    let mut buffer = [0; 256];
    Stalls::parse(files::read(file, &mut buffer).ok()?)
}

/// How much is lost to one of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stalls {
    some: Stall,
    full: Option<Stall>,
}

impl Stalls {
    /// While at least one task waited.
    pub fn some(self) -> Stall {
        self.some
    }

    /// While all of those that were not idle waited, so that nothing was done. `None` where it is not measured.
    pub fn full(self) -> Option<Stall> {
        self.full
    }

    /// Reads `some avg10=0.12 avg60=0.05 avg300=0.00 total=12345` and the same of `full`.
    fn parse(text: &[u8]) -> Option<Self> {
        let lines = || text.split(|byte| *byte == b'\n');
        let some = lines().find_map(|line| Stall::parse(line, b"some"))?;
        Some(Self { some, full: lines().find_map(|line| Stall::parse(line, b"full")) })
    }
}

/// A share of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stall {
    /// In hundredths of a percent.
    avg10: u64,
    total: Duration,
}

impl Stall {
    /// The share of about the last ten seconds, from 0 to 1.
    pub fn avg10(self) -> f64 {
        // Parsing has bounded it.
        self.avg10 as f64 / 10_000.0
    }

    /// All of it since the machine or the group was there: the difference between two readings, by the time between
    /// them, is the share of that time.
    pub fn total(self) -> Duration {
        self.total
    }

    fn parse(line: &[u8], kind: &[u8]) -> Option<Self> {
        let mut words = words(line);
        if words.next()? != kind {
            return None;
        }
        let (mut avg10, mut total) = (None, None);
        for word in words {
            if let Some(value) = word.strip_prefix(b"avg10=") {
                avg10 = hundredths(value).filter(|share| *share <= 10_000);
            } else if let Some(value) = word.strip_prefix(b"total=") {
                total = number(value).map(Duration::from_micros);
            }
        }
        Some(Self { avg10: avg10?, total: total? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &[u8] = b"some avg10=12.50 avg60=0.05 avg300=0.00 total=1500000\n\
                          full avg10=0.07 avg60=0.00 avg300=0.00 total=20\n";

    #[test]
    fn both_lines_are_read() {
        let stalls = Stalls::parse(TEXT).unwrap();
        assert_eq!((stalls.some().avg10(), stalls.some().total()), (0.125, Duration::from_millis(1500)));
        let full = stalls.full().unwrap();
        assert_eq!((full.avg10(), full.total()), (0.0007, Duration::from_micros(20)));
    }

    #[test]
    fn before_linux_5_13_processors_have_one_line() {
        let stalls = Stalls::parse(TEXT.split_inclusive(|byte| *byte == b'\n').next().unwrap()).unwrap();
        assert_eq!(stalls.full(), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for wrong in ["", "some", "some avg10=nan total=1", "some avg10=100.01 total=1", "some avg10=1.00"] {
            assert_eq!(Stalls::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn where_nothing_is_measured_nothing_is_said() {
        let none = Pressure::of_machine_in(&Roots::new().proc("/nonexistent"));
        assert_eq!((none.cpu(), none.memory(), none.io()), (None, None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..110_usize) {
            let _ = Stalls::parse(&bytes);
            let mut text = TEXT.to_vec();
            text.splice(at.min(text.len())..(at + 5).min(text.len()), bytes);
            if let Some(stalls) = Stalls::parse(&text) {
                prop_assert!((0.0..=1.0).contains(&stalls.some().avg10()));
            }
        }
    }
}
