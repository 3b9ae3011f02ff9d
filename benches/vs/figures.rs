//! Medians, ratios, and how figures are written.

use std::time::Duration;

pub(crate) fn times(ratio: Option<f64>) -> String {
    let digits = |ratio| if ratio < 100.0 { 2 } else { 0 };
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.*} ×", digits(ratio)))
}

pub(crate) fn milliseconds(seconds: f64) -> String {
    let digits = match seconds {
        ..0.01 => 2,
        ..1.0 => 1,
        _ => 0,
    };
    format!("{:.digits$} ms", seconds * 1000.0)
}

pub(crate) fn mebibytes(kibibytes: u64) -> String {
    format!("{:.1} MiB", kibibytes as f64 / 1024.0)
}

/// The middle one, or the mean of the two in the middle. 0 of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.len() % 2, values.get(middle), middle.checked_sub(1).and_then(|below| values.get(below))) {
        (1, Some(value), _) => *value,
        (0, Some(above), Some(below)) => f64::midpoint(*above, *below),
        _ => 0.0,
    }
}

/// The one that so many of a hundred are not above. 0 of none.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_an_odd_number_and_the_mean_of_two_of_an_even_one() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median(std::iter::empty()), 0.0);
    }
}
