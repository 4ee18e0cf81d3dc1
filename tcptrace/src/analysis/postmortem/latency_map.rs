//! How long transitions took, over time: a grid of fixed size whose columns grow with the recording.

use crate::model::state::State;

/// Most columns; then several are merged into one.
const MAX_COLUMNS: usize = 160;
/// Times in this many octaves are told apart, from [`FIRST_OCTAVE`] on; others count as the nearest.
pub(super) const OCTAVES: usize = 32;
/// The first octave: 1.02 µs.
const FIRST_OCTAVE: u32 = 10;
/// Parts of an octave; percentiles are at most one part too high.
const PARTS: usize = 16;
/// Widths of a column, in ns: round times, so that columns begin at round times of day.
const WIDTHS: [u64; 13] = [
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
    5_000_000_000,
    15_000_000_000,
    60_000_000_000,
    300_000_000_000,
    900_000_000_000,
    3_600_000_000_000,
    14_400_000_000_000,
    86_400_000_000_000,
    864_000_000_000_000,
];

/// A part of a connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// SYN_SENT and SYN_RECV.
    Opening,
    /// ESTABLISHED.
    Open,
    /// What comes after it.
    Closing,
}

impl Phase {
    /// All, in order.
    pub const ALL: [Self; 3] = [Self::Opening, Self::Open, Self::Closing];

    const fn of(old: State) -> Option<Self> {
        match old {
            State::Listen | State::Close => None,
            State::SynSent | State::SynRecv => Some(Self::Opening),
            State::Established => Some(Self::Open),
            _ => Some(Self::Closing),
        }
    }
}

/// Times, counted by parts of octaves.
#[derive(Clone, Debug)]
pub struct Times(Box<[u32; OCTAVES * PARTS]>);

impl Default for Times {
    fn default() -> Self {
        Self(Box::new([0; OCTAVES * PARTS]))
    }
}

impl Times {
    fn add(&mut self, ns: u64) {
        let ns = ns.max(1 << FIRST_OCTAVE);
        let octave = ns.ilog2();
        let part = (ns >> (octave - PARTS.ilog2())) as usize % PARTS;
        let place = ((octave - FIRST_OCTAVE) as usize).min(OCTAVES - 1) * PARTS + part;
        if let Some(count) = self.0.get_mut(place) {
            *count = count.saturating_add(1);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0.iter()) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// Number of times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|count| u64::from(*count)).sum()
    }

    /// Number of times by octave; the first one begins at [`Times::octave_ns`] of 0.
    #[must_use]
    pub fn octaves(&self) -> [u64; OCTAVES] {
        let mut octaves = [0; OCTAVES];
        for (octave, parts) in octaves.iter_mut().zip(self.0.chunks(PARTS)) {
            *octave = parts.iter().map(|count| u64::from(*count)).sum();
        }
        octaves
    }

    /// Where an octave begins, in ns.
    #[must_use]
    pub const fn octave_ns(octave: usize) -> u64 {
        1 << (FIRST_OCTAVE as usize + octave)
    }

    /// The time in ns that this share of times does not exceed, at most a sixteenth too high; `None` without times.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((count as f64 * quantile).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let place = self.0.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        let (octave, part) = (place / PARTS, place % PARTS);
        let begin = Self::octave_ns(octave);
        Some(begin + begin / PARTS as u64 * (part as u64 + 1) - 1)
    }
}

/// The times within an interval, by phase.
#[derive(Clone, Debug, Default)]
struct Column([Option<Times>; 3]);

impl Column {
    fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            match (mine.as_mut(), theirs) {
                (Some(mine), Some(theirs)) => mine.merge(&theirs),
                (None, theirs) => *mine = theirs,
                (Some(_), None) => {}
            }
        }
    }
}

/// How long transitions took, by interval and phase.
#[derive(Clone, Debug, Default)]
pub struct LatencyMap {
    /// Wall-clock time in ns at which the first column begins.
    start_ns: i64,
    /// Index of the width in [`WIDTHS`].
    width: usize,
    columns: Vec<Column>,
}

impl LatencyMap {
    pub(super) fn add(&mut self, wall_ns: i64, old: State, ns: u64) {
        let Some(phase) = Phase::of(old) else { return };
        if self.columns.is_empty() {
            self.start_ns = wall_ns - wall_ns.rem_euclid(self.width_ns());
        }
        loop {
            // The wall clock may have been set back.
            let place = (wall_ns.saturating_sub(self.start_ns) / self.width_ns()).max(0) as usize;
            if place < MAX_COLUMNS {
                if self.columns.len() <= place {
                    self.columns.resize_with(place + 1, Column::default);
                }
                if let Some(times) = self.columns.get_mut(place).and_then(|column| column.0.get_mut(phase as usize)) {
                    times.get_or_insert_default().add(ns);
                }
                return;
            }
            if self.width + 1 >= WIDTHS.len() {
                return; // after five years
            }
            self.widen();
        }
    }

    /// Goes on to the next width.
    fn widen(&mut self) {
        let narrow = self.width_ns();
        self.width += 1;
        let start_ns = self.start_ns - self.start_ns.rem_euclid(self.width_ns());
        let shift = ((self.start_ns - start_ns) / narrow) as usize;
        let factor = (self.width_ns() / narrow).max(1) as usize;
        let mut columns: Vec<Column> = Vec::new();
        for (place, column) in std::mem::take(&mut self.columns).into_iter().enumerate() {
            let place = (place + shift) / factor;
            if columns.len() <= place {
                columns.resize_with(place + 1, Column::default);
            }
            if let Some(wide) = columns.last_mut() {
                wide.merge(column);
            }
        }
        (self.columns, self.start_ns) = (columns, start_ns);
    }

    /// Width of a column in ns.
    #[must_use]
    pub fn width_ns(&self) -> i64 {
        WIDTHS.get(self.width).map_or(i64::MAX, |width| *width as i64)
    }

    /// Wall-clock time in ns at which the first column begins.
    #[must_use]
    pub const fn start_ns(&self) -> i64 {
        self.start_ns
    }

    /// Number of columns.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.columns.len()
    }

    /// True if there are no times.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The columns of a phase, in order of time.
    pub fn columns(&self, phase: Phase) -> impl Iterator<Item = Option<&Times>> {
        self.columns.iter().map(move |column| column.0.get(phase as usize).and_then(Option::as_ref))
    }

    /// The times of a phase in these columns.
    #[must_use]
    pub fn within(&self, phase: Phase, columns: std::ops::Range<usize>) -> Times {
        let mut sum = Times::default();
        self.columns(phase).take(columns.end).skip(columns.start).flatten().for_each(|times| sum.merge(times));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn percentiles_are_at_most_a_sixteenth_too_high() {
        let mut times = Times::default();
        assert_eq!(times.quantile_ns(0.5), None);
        for us in 1..=1000_u64 {
            times.add(us * 10_000);
        }
        for (quantile, want) in [(0.5, 5_000_000.0), (0.99, 9_900_000.0), (1.0, 10_000_000.0)] {
            let got = times.quantile_ns(quantile).unwrap() as f64;
            assert!((0.0..=1.0 / 16.0).contains(&(got / want - 1.0)), "{got} for {want}");
        }
        times.add(0);
        times.add(u64::MAX);
        assert_eq!((times.count(), times.octaves().iter().sum::<u64>()), (1002, 1002), "none is lost");
        assert_eq!((times.octaves()[0], times.octaves()[OCTAVES - 1]), (1, 1));
    }

    #[test]
    fn columns_grow_with_the_recording_and_begin_at_round_times() {
        let mut map = LatencyMap::default();
        let start = 1_772_597_167 * S + 250_000_000;
        for second in 0..7_200 {
            map.add(start + second * S, State::SynSent, 1_000_000);
        }
        map.add(start, State::Listen, 1); // no time of a connection
        assert_eq!(map.width_ns(), 60 * S);
        assert_eq!(map.start_ns() % (60 * S), 0);
        assert!(map.len() <= MAX_COLUMNS);
        let counts: Vec<_> = map.columns(Phase::Opening).map(|times| times.map_or(0, Times::count)).collect();
        assert_eq!(counts.iter().sum::<u64>(), 7_200);
        assert!(counts[1..counts.len() - 1].iter().all(|count| *count == 60), "{counts:?}");
        assert_eq!(map.within(Phase::Opening, 0..map.len()).count(), 7_200);
        assert_eq!(map.within(Phase::Open, 0..map.len()).count(), 0);
        map.add(start - 3600 * S, State::Established, 5);
        assert_eq!(map.within(Phase::Open, 0..1).count(), 1, "the clock was set back");
        map.add(i64::MAX, State::Established, 5); // far away
        assert!(map.len() <= MAX_COLUMNS);
    }
}
