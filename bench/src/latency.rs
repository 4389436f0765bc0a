//! Many durations in a few numbers.

use std::time::Duration;

use serde::Serialize;

/// What is told of many durations, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) n: usize,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// `None` of nothing.
    pub(crate) fn of(durations: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort_unstable();
        let max = millis(*sorted.last()?);
        Some(Self {
            n: sorted.len(),
            p50: millis(percentile(&sorted, 50)?),
            p90: millis(percentile(&sorted, 90)?),
            p99: millis(percentile(&sorted, 99)?),
            max,
        })
    }
}

/// The smallest that at least so many of a hundred do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// The middle one; of an even number the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_millis(millis: impl IntoIterator<Item = u64>) -> Option<Summary> {
        Summary::of(millis.into_iter().map(Duration::from_millis))
    }

    #[test]
    fn a_percentile_is_one_of_the_durations_and_the_smallest_that_covers_enough() {
        let told = |n, p50, p90, p99, max| {
            Some(Summary {
                n,
                p50,
                p90,
                p99,
                max,
            })
        };
        assert_eq!(of_millis([]), None);
        assert_eq!(of_millis([7]), told(1, 7.0, 7.0, 7.0, 7.0));
        assert_eq!(of_millis([3, 1, 2]), told(3, 2.0, 3.0, 3.0, 3.0));
        let hundred = (1..=100).rev();
        assert_eq!(of_millis(hundred), told(100, 50.0, 90.0, 99.0, 100.0));
        let hundred_and_one = 1..=101;
        assert_eq!(
            of_millis(hundred_and_one),
            told(101, 51.0, 91.0, 100.0, 101.0)
        );
    }

    #[test]
    fn a_median_is_in_the_middle() {
        for (values, expected) in [
            (vec![], None),
            (vec![4.0], Some(4.0)),
            (vec![9.0, -1.0], Some(4.0)),
            (vec![9.0, 1.0, 2.0], Some(2.0)),
        ] {
            assert_eq!(median(values), expected);
        }
    }
}
