//! Services: the local ports at which connections come in.

use std::fmt::Write as _;

use super::{
    processes::{CLOSES, sum},
    scene::Scene,
    sockets::{by_name, number, process, unknown},
    table::{Column, Rows},
    theme::Emphasis,
};
use crate::{analysis::overview::ServiceLine, model::state::State};

pub(super) struct Services<'a>(pub &'a Scene);

const PORT: usize = 0;
const NAME: usize = 1;
const PROCESS: usize = 2;
pub(super) const SOCKETS: usize = 3;
const ESTABLISHED: usize = 4;
const CLOSE_WAIT: usize = 5;
const ACCEPT_QUEUE: usize = 6;
const HALF_OPEN: usize = 7;
const CLOSING: usize = 8;

const fn counts(title: &'static str, key: char, width: u16, rank: u8) -> Column {
    Column { title, key, width: (width, width + 2), is_number: true, rank, descends: true }
}

impl Services<'_> {
    fn line(&self, row: usize) -> &ServiceLine {
        &self.0.overview.services[row]
    }

    fn count(line: &ServiceLine, column: usize) -> u64 {
        match column {
            PORT => line.port.into(),
            SOCKETS => line.sockets,
            ESTABLISHED => line.states[State::Established.index()],
            CLOSE_WAIT => line.states[State::CloseWait.index()],
            HALF_OPEN => line.half_open.max(line.states[State::SynRecv.index()]),
            CLOSING => sum(&line.states, &CLOSES),
            _ => line.states[State::Listen.index()],
        }
    }
}

impl Rows for Services<'_> {
    const COLUMNS: &'static [Column] = &[
        Column { title: "Port", key: 'P', width: (6, 6), is_number: true, rank: 0, descends: false },
        Column { title: "Name", key: 'A', width: (10, 16), is_number: false, rank: 3, descends: false },
        Column { title: "Process", key: 'R', width: (15, 26), is_number: false, rank: 0, descends: false },
        counts("Sockets", 'S', 8, 0),
        counts("Estab", 'E', 6, 0),
        counts("CloseW", 'C', 7, 0),
        Column { title: "Accept-Q", key: 'Q', width: (9, 12), is_number: true, rank: 1, descends: true },
        counts("Half-open", 'H', 10, 2),
        counts("Closing", 'F', 8, 3),
        counts("Listen", 'L', 7, 4),
        Column { title: "Netns", key: 'T', width: (11, 20), is_number: false, rank: 5, descends: false },
    ];

    fn len(&self) -> usize {
        self.0.overview.services.len()
    }

    fn id(&self, row: usize) -> u64 {
        let line = self.line(row);
        u64::from(line.netns.unwrap_or(0)) << 16 | u64::from(line.port)
    }

    fn key(&self, row: usize, column: usize) -> Option<u128> {
        let line = self.line(row);
        match column {
            NAME => self.0.service_names.get(row).filter(|name| !name.is_empty()).map(|name| {
                let mut bytes = [0; 16];
                bytes.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
                u128::from_be_bytes(bytes)
            }),
            PROCESS => self.0.overview.process_of(line.process).map(by_name),
            ACCEPT_QUEUE => line.accept_queue.map(|(length, _)| length.into()),
            10.. => line.netns.map(u128::from),
            _ => Some(Self::count(line, column).into()),
        }
    }

    fn cell(&self, row: usize, column: usize, to: &mut String) -> Emphasis {
        let line = self.line(row);
        match column {
            NAME => *to += self.0.service_names.get(row).map_or("", String::as_str),
            PROCESS => return process(&self.0.overview, line.process, to),
            ACCEPT_QUEUE => match line.accept_queue {
                Some((length, limit)) => {
                    _ = write!(to, "{length}/{limit}");
                    return if length > limit {
                        Emphasis::Trouble
                    } else if length > 0 {
                        Emphasis::Attention
                    } else {
                        Emphasis::Dim
                    };
                }
                None => return unknown(to),
            },
            PORT => _ = write!(to, "{}", line.port),
            10.. => *to += &self.0.netns_of(line.netns),
            _ => {
                let count = Self::count(line, column);
                return match number(to, count) {
                    Emphasis::Plain if column == CLOSE_WAIT => Emphasis::Trouble,
                    emphasis => emphasis,
                };
            }
        }
        Emphasis::Plain
    }
}
