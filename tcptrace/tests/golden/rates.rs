//! What `tcptrace rates` prints of some looks at the kernel's files, in each form.

use bytes::BytesMut;
use tcptrace::{
    analysis::rates::meter::{Meter, Reading, Round},
    commands::rates::render::{RatesRenderer, RatesText},
    model::{screen::Screen, skipped::Skipped},
    render::{csv::Csv, json::Json},
};

use crate::{
    compare::compare,
    support::replay::{context, plain},
};

/// Files that these tests make begin so.
pub(crate) const RATES: &str = "rates";

/// The files of a namespace after `n` connections were opened there, a tenth of them refused, and closed again.
fn namespace(n: u64) -> Reading {
    let mut reading = Reading::default();
    reading.take_in(&format!(
        "Ip: Forwarding DefaultTTL\nIp: 1 64\n\
         Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs \
         OutSegs RetransSegs InErrs OutRsts InCsumErrors\n\
         Tcp: 1 200 120000 -1 {n} {} {} {} 12 {} {} {} 0 {} 0\n",
        n - n / 10,
        n / 10,
        n / 100,
        n * 9,
        n * 10,
        n / 20,
        n / 10 + n / 100,
    ));
    reading.take_in(&format!(
        "TcpExt: SyncookiesSent SyncookiesRecv TW ListenOverflows ListenDrops TCPTimeouts TCPAbortOnMemory \
         TCPAbortOnTimeout TCPTimeWaitOverflow TCPSynRetrans\nTcpExt: {} 0 {} 0 {} {} 0 0 {} 0\n",
        n / 50,
        n / 2,
        n / 25,
        n / 30,
        n / 40,
    ));
    reading.take_in(&format!("sockets: used 17\nTCP: inuse 11 orphan 5 tw {} alloc 15 mem 53\n", n / 3));
    reading.take_in("TCP6: inuse 2\n");
    reading
}

/// The same of a kernel that has less.
fn older_namespace(opens: u64) -> Reading {
    let mut reading = Reading::default();
    reading.take_in(&format!("Tcp: ActiveOpens CurrEstab InSegs OutSegs RetransSegs\nTcp: {opens} 1 7 0 0\n"));
    reading
}

/// All that is printed.
pub(crate) fn printed(renderer: RatesRenderer) -> String {
    printed_on(renderer, None)
}

fn printed_on(mut renderer: RatesRenderer, screen: Option<Screen>) -> String {
    let looks: [&[(u32, Reading)]; 8] = [
        &[(1, namespace(1000)), (2, namespace(0))],
        &[(1, namespace(1000)), (2, namespace(0))], // nothing happened
        &[(1, namespace(1500)), (2, namespace(100)), (3, namespace(77_000))], // 3 is new
        &[(1, namespace(250_000)), (3, namespace(77_007))], // 2 is gone
        &[(1, namespace(250_000)), (3, namespace(10))], // another 3
        &[(4, older_namespace(9))],
        &[(4, older_namespace(12))],
        &[],
    ];
    let wall = context().wall;
    let rounds = (0..).zip(looks).map(|(index, readings)| Round {
        mono_ns: 3_600_000_000_000 + index * 1_000_250_000,
        readings: readings.iter().cloned().collect(),
        skipped: Skipped { processes_denied: index / 6, namespaces_denied: index / 7, ..Skipped::default() },
    });
    let mut meter = Meter::new(Round::default());
    let mut to = BytesMut::new();
    for (index, round) in rounds.enumerate() {
        let rates = meter.ingest(round);
        if index > 0 {
            renderer.rates(&mut to, &rates, wall, screen);
        }
    }
    String::from_utf8(to.to_vec()).unwrap()
}

fn text() -> RatesRenderer {
    RatesRenderer::Text(RatesText::new(plain().time, false))
}

/// See [`text`].
pub(crate) fn json() -> RatesRenderer {
    RatesRenderer::Json(Json::default())
}

/// See [`text`].
pub(crate) fn csv() -> RatesRenderer {
    RatesRenderer::Csv(Csv::default())
}

#[test]
fn rates_in_each_form() {
    let files = [("txt", text()), ("json", json()), ("csv", csv())];
    let files = files.map(|(extension, renderer)| (format!("{RATES}.{extension}"), printed(renderer)));
    compare(&files, |name| name.starts_with(RATES) && !name.ends_with(".rs"));
}

#[test]
fn columns_stand_below_their_names() {
    let printed = printed(text());
    let ends = |line: &str| -> Vec<usize> {
        let spaces = line.char_indices().filter(|(_, c)| *c == ' ');
        let ends = spaces.map(|(at, _)| at).chain([line.len()]);
        ends.filter(|at| *at > 0 && line.as_bytes()[at - 1] != b' ').collect()
    };
    let heading = printed.lines().next().unwrap();
    for line in printed.lines().skip(1) {
        assert_eq!(ends(line)[1..], ends(heading)[1..], "{printed}");
    }
}

#[test]
fn the_heading_comes_again_with_each_screen_of_a_terminal() {
    let wide = Screen { columns: 200, rows: 22 };
    for (screen, headings) in [(Some(wide), 3), (None, 1)] {
        let mut renderer = text();
        let mut to = BytesMut::new();
        for _ in 0..41 {
            renderer.rates(&mut to, &Meter::new(Round::default()).ingest(Round::default()), context().wall, screen);
        }
        let printed = String::from_utf8(to.to_vec()).unwrap();
        assert_eq!(printed.lines().filter(|line| line.starts_with("TIME")).count(), headings);
        assert_eq!(printed.lines().count(), 41 + headings);
    }
}

#[test]
fn a_narrow_terminal_gets_the_most_useful_columns() {
    for columns in [60, 80, 120] {
        let printed = printed_on(text(), Some(Screen { columns, rows: 50 }));
        let (missing, table) = printed.split_once('\n').unwrap();
        assert!(missing.starts_with(&format!("-- {columns} columns: without ")), "{missing}");
        assert!(table.starts_with("TIME ") && table.contains("FAILED/s"), "{table}");
        let is_too_wide = |line: &&str| line.len() > columns && !line.contains("248444");
        assert_eq!(table.lines().find(is_too_wide), None, "{table}");
    }
}
