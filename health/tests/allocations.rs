//! What a round of samples allocates: nothing.

use allocation_counter::measure;
use cluster_health::Sample;
use cluster_health::os::{Pressure, Sampler};

#[test]
fn a_sample_allocates_nothing() {
    // This process itself is no child, but surely not reaped.
    let mut sampler = Sampler::open(std::process::id()).unwrap();
    let mut sum = 0;
    let used = measure(|| {
        for _ in 0..1000 {
            sum += sampler.sample().as_ref().ok().and_then(Sample::resident_bytes).unwrap_or(0);
        }
    });
    assert!(sum > 0, "the samples were taken");
    assert_eq!(used.count_total, 0, "{used:?}");
}

#[test]
fn pressure_allocates_nothing() {
    let pressure = Pressure::of_machine();
    let used = measure(|| {
        for _ in 0..100 {
            let _ = (pressure.cpu(), pressure.memory(), pressure.io());
        }
    });
    assert_eq!(used.count_total, 0, "{used:?}");
}
