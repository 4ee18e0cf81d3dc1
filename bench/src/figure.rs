//! Figures: the median of several measurements, with its spread.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The median of some samples and their quartiles. A figure that was measured once is its own median and quartiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// Half of the samples are at most this.
    pub(crate) median: f64,
    /// A quarter of the samples are at most this.
    pub(crate) q1: f64,
    /// Three quarters of the samples are at most this.
    pub(crate) q3: f64,
    /// The number of samples.
    pub(crate) n: usize,
}

impl Figure {
    /// `None` if there is no sample, or one that is not a number.
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        if !sorted.iter().all(|sample| sample.is_finite()) {
            return None;
        }
        // Between two samples, in proportion.
        let quantile = |share: f64| {
            let place = share * last as f64;
            let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Some(Self { median: quantile(0.5), q1: quantile(0.25), q3: quantile(0.75), n: sorted.len() })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.n == 1 {
            return to.pad(&number(self.median));
        }
        to.pad(&format!("{} ({} – {})", number(self.median), number(self.q1), number(self.q3)))
    }
}

/// Three digits or more, with thousands separated by commas.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        size if size < 10.0 => 3,
        size if size < 1000.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, whole) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quartiles() {
        assert_eq!(Figure::of([3.0, 1.0, 2.0, 5.0, 4.0]), Some(Figure { median: 3.0, q1: 2.0, q3: 4.0, n: 5 }));
        assert_eq!(Figure::of([4.0, 1.0, 2.0, 3.0]), Some(Figure { median: 2.5, q1: 1.75, q3: 3.25, n: 4 }));
        assert_eq!(Figure::of([7.0]), Some(Figure { median: 7.0, q1: 7.0, q3: 7.0, n: 1 }));
        assert_eq!(Figure::of([]), None);
        assert_eq!(Figure::of([1.0, f64::NAN]), None);
        assert_eq!(Figure::of([1.0, f64::INFINITY]), None);
    }

    #[test]
    fn figures_are_shown_with_their_spread() {
        assert_eq!(Figure::of([1.0]).unwrap().to_string(), "1.000");
        assert_eq!(Figure::of([0.9, 0.95, 1.0]).unwrap().to_string(), "0.950 (0.925 – 0.975)");
        assert_eq!(Figure::of([1234567.0]).unwrap().to_string(), "1,234,567");
    }

    #[test]
    fn numbers_have_as_many_digits_as_they_need() {
        for (value, text) in [
            (0.0, "0"),
            (9.8765, "9.877"),
            (-12.34, "-12.3"),
            (999.0, "999.0"),
            (1000.4, "1,000"),
            (-270123.0, "-270,123"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
