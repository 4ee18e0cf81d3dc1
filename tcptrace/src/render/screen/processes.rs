//! Processes: their sockets by state, and what happens to these.

use super::{
    scene::Scene,
    sockets::{by_name, number},
    table::{Column, Rows},
    theme::Emphasis,
};
use crate::{
    analysis::overview::{ProcessLine, history::Rate},
    model::{
        printable::printable,
        state::{State, StateCounts},
    },
};

pub(super) struct Processes<'a>(pub &'a Scene);

const PROCESS: usize = 0;
const PID: usize = 1;
pub(super) const SOCKETS: usize = 2;
const ESTABLISHED: usize = 3;
const CLOSE_WAIT: usize = 4;
const TRANSITIONS: usize = 5;
const RETRANSMITS: usize = 6;
const RESETS: usize = 7;
const LISTEN: usize = 8;
const OPENING: usize = 9;
const CLOSING: usize = 10;
const ALL_RETRANSMITS: usize = 11;

/// States in which this side waits for the handshake, and for the end.
const OPENS: [State; 2] = [State::SynSent, State::SynRecv];
pub(super) const CLOSES: [State; 5] =
    [State::FinWait1, State::FinWait2, State::Closing, State::LastAck, State::TimeWait];

pub(super) fn sum(counts: &StateCounts, states: &[State]) -> u64 {
    states.iter().map(|state| counts[state.index()]).sum()
}

impl Processes<'_> {
    fn line(&self, row: usize) -> &ProcessLine {
        &self.0.overview.processes[row]
    }

    fn count(line: &ProcessLine, column: usize) -> u64 {
        let of = |state: State| line.states[state.index()];
        match column {
            PID => line.pid.into(),
            SOCKETS => line.sockets,
            ESTABLISHED => of(State::Established),
            CLOSE_WAIT => of(State::CloseWait),
            LISTEN => of(State::Listen),
            OPENING => sum(&line.states, &OPENS),
            CLOSING => sum(&line.states, &CLOSES),
            ALL_RETRANSMITS => line.activity.retransmits,
            _ => line.activity.resets_sent + line.activity.resets_received,
        }
    }

    fn rate(line: &ProcessLine, column: usize) -> Option<Rate> {
        match column {
            TRANSITIONS => Some(line.rates.transitions),
            RETRANSMITS => Some(line.rates.retransmits),
            RESETS => Some(line.rates.resets),
            _ => None,
        }
    }
}

const fn counts(title: &'static str, key: char, width: u16, rank: u8) -> Column {
    Column { title, key, width: (width, width + 2), is_number: true, rank, descends: true }
}

impl Rows for Processes<'_> {
    const COLUMNS: &'static [Column] = &[
        Column { title: "Process", key: 'P', width: (12, 30), is_number: false, rank: 0, descends: false },
        counts("PID", 'I', 7, 4),
        counts("Sockets", 'S', 8, 0),
        counts("Estab", 'E', 6, 0),
        counts("CloseW", 'C', 7, 0),
        counts("Trans/s", 'T', 8, 0),
        counts("Retr/s", 'R', 7, 1),
        counts("RST/s", 'X', 6, 2),
        counts("Listen", 'L', 7, 3),
        counts("Opening", 'O', 8, 3),
        counts("Closing", 'F', 8, 3),
        counts("Retr", 'A', 6, 5),
        counts("RST", 'B', 6, 5),
    ];

    fn len(&self) -> usize {
        self.0.overview.processes.len()
    }

    fn id(&self, row: usize) -> u64 {
        self.line(row).pid.into()
    }

    fn key(&self, row: usize, column: usize) -> Option<u128> {
        let line = self.line(row);
        if column == PROCESS {
            return Some(by_name(line));
        }
        // Rates are not negative, and their bits are in the order of their values.
        let key = Self::rate(line, column).map_or_else(|| Self::count(line, column), f64::to_bits);
        Some(key.into())
    }

    fn cell(&self, row: usize, column: usize, to: &mut String) -> Emphasis {
        let line = self.line(row);
        if column == PROCESS {
            *to += &printable(&line.command.to_text());
            return Emphasis::Plain;
        }
        if let Some(rate) = Self::rate(line, column) {
            *to += &rate_words(rate);
            return if rate == 0.0 {
                Emphasis::Dim
            } else if column == TRANSITIONS {
                Emphasis::Plain
            } else {
                Emphasis::Attention
            };
        }
        let count = Self::count(line, column);
        match number(to, count) {
            Emphasis::Plain if column == CLOSE_WAIT => Emphasis::Trouble,
            emphasis => emphasis,
        }
    }
}

/// A rate in three digits: `0`, `0.3`, `12`, `1.2k`.
pub(super) fn rate_words(rate: Rate) -> String {
    match rate {
        0.0 => "0".to_owned(),
        ..0.05 => "<0.1".to_owned(),
        ..9.95 => format!("{rate:.1}"),
        _ => count_words(rate.round() as u64),
    }
}

/// A number in at most five characters: `999`, `1.2k`, `45k`, `1.2M`.
pub(super) fn count_words(count: u64) -> String {
    const UNITS: [(u64, char); 4] = [(1_000_000_000_000, 'T'), (1_000_000_000, 'G'), (1_000_000, 'M'), (1000, 'k')];
    match UNITS.into_iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) if count < 10 * unit => format!("{}.{}{name}", count / unit, count % unit * 10 / unit),
        Some((unit, name)) => format!("{}{name}", count / unit),
        None => count.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let counts = [0, 999, 1000, 1999, 10_000, 999_999, 1_234_567, u64::MAX].map(count_words);
        assert_eq!(counts, ["0", "999", "1.0k", "1.9k", "10k", "999k", "1.2M", "18446744T"]);
        let rates = [0.0, 0.01, 0.3, 9.94, 9.96, 123.4, 12_345.0].map(rate_words);
        assert_eq!(rates, ["0", "<0.1", "0.3", "9.9", "10", "123", "12k"]);
    }
}
