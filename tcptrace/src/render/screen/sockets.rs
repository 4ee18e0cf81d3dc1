//! Sockets, one a line.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use super::{
    scene::Scene,
    table::{Column, Rows, TableState},
    theme::{Emphasis, of_state},
};
use crate::{
    analysis::overview::{Overview, ProcessLine},
    model::{printable::printable, state::State},
    render::text::{Address, words::age_words},
};

pub(super) struct Sockets<'a>(pub &'a Scene);

const STATE: usize = 0;
pub(super) const AGE: usize = 1;
const PROCESS: usize = 2;
const LOCAL: usize = 3;
const REMOTE: usize = 4;
const RECV_Q: usize = 5;
const SEND_Q: usize = 6;
const RETRANS: usize = 7;
const BY: usize = 8;

impl Rows for Sockets<'_> {
    const COLUMNS: &'static [Column] = &[
        Column { title: "State", key: 'S', width: (11, 11), is_number: false, rank: 0, descends: false },
        Column { title: "Age", key: 'A', width: (8, 8), is_number: true, rank: 0, descends: true },
        Column { title: "Process", key: 'P', width: (15, 26), is_number: false, rank: 0, descends: false },
        Column { title: "Local", key: 'L', width: (21, 47), is_number: false, rank: 2, descends: false },
        Column { title: "Remote", key: 'M', width: (21, 47), is_number: false, rank: 1, descends: false },
        Column { title: "Recv-Q", key: 'R', width: (7, 8), is_number: true, rank: 3, descends: true },
        Column { title: "Send-Q", key: 'Q', width: (7, 8), is_number: true, rank: 3, descends: true },
        Column { title: "Retr", key: 'T', width: (5, 6), is_number: true, rank: 4, descends: true },
        Column { title: "By", key: 'B', width: (8, 8), is_number: false, rank: 5, descends: false },
        Column { title: "Netns", key: 'E', width: (11, 20), is_number: false, rank: 6, descends: false },
    ];

    fn len(&self) -> usize {
        self.0.overview.sockets.len()
    }

    fn id(&self, row: usize) -> u64 {
        self.0.overview.sockets[row].id()
    }

    fn key(&self, row: usize, column: usize) -> Option<u128> {
        let overview = &self.0.overview;
        let line = &overview.sockets[row];
        match column {
            STATE => Some(line.state.index() as u128),
            AGE => Some(line.age(overview.now_ns).ns.into()),
            PROCESS => overview.process_of(line.process).map(by_name),
            LOCAL => Some(by_end(line.local)),
            REMOTE => Some(by_end(line.remote)),
            RECV_Q => line.queues.map(|(receive, _)| receive.into()),
            SEND_Q => line.queues.map(|(_, send)| send.into()),
            RETRANS => Some(line.retransmits.into()),
            BY => line.by.map(|by| by as u128),
            _ => line.netns.map(u128::from),
        }
    }

    fn cell(&self, row: usize, column: usize, to: &mut String) -> Emphasis {
        let overview = &self.0.overview;
        let line = &overview.sockets[row];
        let queue = |to: &mut String, length: Option<u32>| match length {
            Some(0) => number(to, 0),
            Some(length) => {
                number(to, length.into());
                Emphasis::Attention
            }
            None => unknown(to),
        };
        match column {
            STATE => {
                *to += line.state.name();
                return of_state(line.state);
            }
            AGE => *to += &age_words(line.age(overview.now_ns)),
            PROCESS if line.is_orphan => *to += "(kernel)",
            PROCESS => return process(overview, line.process, to),
            LOCAL => _ = write!(to, "{}", Address(line.local)),
            REMOTE if line.state == State::Listen => return unknown(to),
            REMOTE => _ = write!(to, "{}", Address(line.remote)),
            RECV_Q => return queue(to, line.queues.map(|(receive, _)| receive)),
            SEND_Q if line.state == State::Listen => {
                _ = write!(to, "{}", line.queues.map_or_else(|| "?".to_owned(), |(_, limit)| limit.to_string()));
            }
            SEND_Q => return queue(to, line.queues.map(|(_, send)| send)),
            RETRANS => return number(to, line.retransmits.into()),
            BY => *to += line.by.map_or("unknown", |by| by.name()),
            _ => *to += &self.0.netns_of(line.netns),
        }
        Emphasis::Plain
    }
}

/// The value of `tcptrace sockets --sort` for the same order.
pub(super) fn sort_flag(table: &TableState) -> Option<String> {
    let name = match table.column {
        STATE => "state",
        AGE => "age",
        PROCESS => "owner",
        LOCAL => "local",
        REMOTE => "remote",
        RECV_Q => "recv-q",
        SEND_Q => "send-q",
        RETRANS => "total-retrans",
        BY => "by",
        _ => "netns",
    };
    Some(format!("{}{name}", if table.descends { "-" } else { "" }))
}

/// A number; zeros do not stand out.
pub(super) fn number(to: &mut String, number: u64) -> Emphasis {
    _ = write!(to, "{number}");
    if number == 0 { Emphasis::Dim } else { Emphasis::Plain }
}

pub(super) fn unknown(to: &mut String) -> Emphasis {
    to.push('-');
    Emphasis::Dim
}

/// A process as `command[pid]`.
pub(super) fn process(overview: &Overview, index: Option<u32>, to: &mut String) -> Emphasis {
    let Some(line) = overview.process_of(index) else { return unknown(to) };
    _ = write!(to, "{}[{}]", printable(&line.command.to_text()), line.pid);
    Emphasis::Plain
}

/// The order of names; the same names are in no order.
pub(super) fn by_name(line: &ProcessLine) -> u128 {
    let mut bytes = [0; 16];
    let name = line.command.as_bytes();
    bytes[..name.len().min(16)].copy_from_slice(&name[..name.len().min(16)]);
    u128::from_be_bytes(bytes)
}

/// The order of ends: IPv4 first, by address and port. Of IPv6 the lowest bits of the address give way to the port.
fn by_end(end: SocketAddr) -> u128 {
    match end.ip() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 16 | u128::from(end.port()),
        IpAddr::V6(v6) => v6.to_bits() & !0xffff | u128::from(end.port()),
    }
}
