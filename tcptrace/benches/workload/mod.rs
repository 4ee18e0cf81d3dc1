//! What all benchmarks of the pure core work on: records made of the structs that the BPF programs write, of a host with
//! many clients' and servers' sockets, half of each.

use std::collections::HashMap;

use bytes::BytesMut;
use jiff::tz::TimeZone;
use tcptrace::{
    analysis::summary::Summary,
    findings::Thresholds,
    model::{
        decode::{decode, split},
        event::Event,
        keyed::Addresses,
        names::Names,
        socket_filter::SocketFilter,
        state::StateSet,
        time::WallOffset,
    },
    pipeline::{
        input::Input,
        recording::{
            Error,
            chunk::{ChunkHeader, Compressor, HEADER_LEN},
            encoder::{Encoder, NameLog},
            frames::{Frame, visit},
        },
        session::Session,
        settings::SessionSettings,
    },
    render::{
        context::Context,
        csv::Csv,
        json::Json,
        text::{Text, TextOptions, TimeStyle},
    },
    table::Table,
};
use tcptrace_common::{
    record::{
        AF_INET, AF_INET6, Header, KIND_RETRANSMIT, KIND_TRANSITION, Owner, Retransmit, Socket, Transition,
        WIRE_VERSION, owner_source, socket_flag,
    },
    state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT},
};
use zerocopy::IntoBytes as _;

/// CLOCK_MONOTONIC at which the load begins: an hour after boot.
pub(crate) const START_NS: u64 = 3_600_000_000_000;

/// Connections whose records come at the same time, each with its next one in turn.
const AT_ONCE: u32 = 32;

/// How a socket comes to ESTABLISHED.
const OPENING: [[(u8, u8); 2]; 2] =
    [[(CLOSE, SYN_SENT), (SYN_SENT, ESTABLISHED)], [(LISTEN, SYN_RECV), (SYN_RECV, ESTABLISHED)]];
/// How it ends. Sockets with an even number are clients', the others servers'.
const CLOSING: [[(u8, u8); 3]; 2] = [
    [(ESTABLISHED, FIN_WAIT1), (FIN_WAIT1, FIN_WAIT2), (FIN_WAIT2, CLOSE)],
    [(ESTABLISHED, CLOSE_WAIT), (CLOSE_WAIT, LAST_ACK), (LAST_ACK, CLOSE)],
];

/// Records one after the other.
pub(crate) struct Stream {
    /// The records.
    pub(crate) bytes: Vec<u8>,
    now_ns: u64,
    family: u16,
}

impl Stream {
    /// Of sockets that talk IPv4.
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), now_ns: START_NS, family: AF_INET }
    }

    /// Of sockets that talk IPv6.
    #[allow(dead_code, reason = "each benchmark uses a part of this")]
    pub(crate) fn ipv6() -> Self {
        Self { family: AF_INET6, ..Self::new() }
    }

    /// The socket of this number comes to ESTABLISHED.
    pub(crate) fn open(&mut self, number: u32) {
        OPENING[number as usize % 2].iter().for_each(|&(old, new)| self.transition(number, old, new));
    }

    /// Sockets out of `live` ones end, and others come in their places: ten transitions for each connection, which has
    /// two of the sockets.
    pub(crate) fn churn(&mut self, sockets: u32, live: u32) {
        for first in (0..sockets).step_by(AT_ONCE as usize) {
            for step in 0..5 {
                for nth in first..(first + AT_ONCE).min(sockets) {
                    // All over the table, and no socket twice at once.
                    let number = (u64::from(nth) * 7919 % u64::from(live)) as u32;
                    let side = number as usize % 2;
                    let (old, new) = if step < 3 { CLOSING[side][step] } else { OPENING[side][step - 3] };
                    self.transition(number, old, new);
                }
            }
        }
    }

    /// The socket of this number sends a segment again.
    #[allow(dead_code, reason = "each benchmark uses a part of this")]
    pub(crate) fn retransmit(&mut self, number: u32) {
        let header = self.header(number, KIND_RETRANSMIT, size_of::<Retransmit>());
        let socket = self.socket(number, ESTABLISHED);
        let record =
            Retransmit { header, socket, owner: owner(number, ESTABLISHED), total_retrans: 1, ..Retransmit::default() };
        self.bytes.extend_from_slice(record.as_bytes());
    }

    /// The socket of this number goes from one state to another.
    pub(crate) fn transition(&mut self, number: u32, old: u8, new: u8) {
        let record = Transition {
            header: self.header(number, KIND_TRANSITION, size_of::<Transition>()),
            socket: self.socket(number, old),
            owner: owner(number, old),
            entered_ns: self.now_ns - 40_000 - u64::from(number % 1000),
            bytes_acked: 1448,
            bytes_received: 12_345,
            srtt_us8: if old == SYN_SENT { 0 } else { 3272 },
            old,
            new,
            ..Transition::default()
        };
        self.bytes.extend_from_slice(record.as_bytes());
    }

    fn header(&mut self, number: u32, kind: u8, len: usize) -> Header {
        self.now_ns += 4_000;
        Header {
            kind,
            version: WIRE_VERSION,
            len: len as u16,
            cpu: number % 2,
            time_ns: self.now_ns,
            // As far apart as the kernel's slabs have them.
            sk: 0xffff_8881_0000_0000 + u64::from(number) * 2432,
            cookie: u64::from(number) + 1,
        }
    }

    fn socket(&self, number: u32, state: u8) -> Socket {
        let client = number / 2;
        let port = 32_768 + (client % 28_000) as u16;
        let address = |last: u32| {
            let [b, c, d] = [(last >> 16) as u8, (last >> 8) as u8, last as u8];
            match self.family {
                AF_INET6 => [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, b, c, d],
                _ => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, b, c, d],
            }
        };
        let (here, there) = (address(1), address(0x10_0000 + client / 28_000));
        let (local_port, remote_port, remote) =
            if number.is_multiple_of(2) { (port, 443, there) } else { (8080, port, address(0x20_0000 + client)) };
        let (local, family) = (here, self.family);
        let flags = if state == LISTEN || state == SYN_RECV { 0 } else { socket_flag::ATTACHED | socket_flag::OWNED }
            | if state == FIN_WAIT2 { socket_flag::DONE | socket_flag::DEAD } else { 0 };
        Socket { local, remote, local_port, remote_port, family, flags, netns: 4_026_531_840, state, pad: [0; 3] }
    }
}

/// One of 64 processes.
fn owner(number: u32, state: u8) -> Owner {
    let source = match (number % 2, state) {
        (0, _) => owner_source::CONNECT,
        (_, LISTEN | SYN_RECV) => owner_source::LISTENER,
        _ => owner_source::ACCEPT,
    };
    let pid = 1000 + number / 2 % 64;
    Owner { pid, uid: 33, cgroup: 4711, source, comm: *b"nginx-worker\0\0\0\0", ..Owner::default() }
}

/// Records as the ring buffer gives them.
pub(crate) fn records(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(bytes).map(|record| record.expect("the stream is whole"))
}

/// The events of a stream.
pub(crate) fn events(bytes: &[u8]) -> Vec<Event> {
    records(bytes).map(|record| decode(record).expect("a record")).collect()
}

/// Decodes a stream, and takes it into a table.
pub(crate) fn ingest(table: &mut Table, bytes: &[u8]) {
    for record in records(bytes) {
        let mut event = decode(record).expect("a record");
        std::hint::black_box(table.ingest(&mut event));
    }
}

/// A table of so many established connections.
pub(crate) fn table(live: u32) -> Table {
    let mut table = Table::new(2 << 20, StateSet::default(), true);
    fill(&mut table, live, Stream::new());
    table
}

/// Adds so many established connections.
pub(crate) fn fill(table: &mut Table, live: u32, mut stream: Stream) {
    for number in 0..live {
        stream.open(number);
        if stream.bytes.len() > 1 << 20 || number + 1 == live {
            ingest(table, &stream.bytes);
            stream.bytes.clear();
        }
    }
}

/// Takes events into a new summary.
pub(crate) fn summary(events: &[Event]) -> Summary {
    let mut summary = Summary::new(false);
    events.iter().for_each(|event| summary.ingest(event));
    summary
}

/// A writer of lines.
pub(crate) enum Writer {
    /// JSON.
    Json(Json),
    /// CSV.
    Csv(Csv),
    /// Text, in UTC and without colour.
    Text(Text),
}

impl Writer {
    /// By the name of its form.
    pub(crate) fn named(form: &str) -> Self {
        match form {
            "json" => Self::Json(Json::default()),
            "csv" => Self::Csv(Csv::default()),
            _ => Self::Text(Text::new(TextOptions {
                time: TimeStyle::Wall(TimeZone::UTC),
                color: false,
                owner_columns: false,
                columns: Vec::new(),
                fits: false,
            })),
        }
    }

    /// Writes events into a buffer that is emptied when it is as full as a session's.
    pub(crate) fn write(&mut self, events: &[Event], to: &mut BytesMut, context: &mut Context) {
        for event in events {
            match self {
                Self::Json(json) => json.event(to, event, context),
                Self::Csv(csv) => csv.event(to, event, context),
                Self::Text(text) => text.event(to, event, context),
            }
            if to.len() >= 64 << 10 {
                to.clear();
            }
        }
    }
}

/// A context with a name for the cgroup.
pub(crate) fn context() -> Context {
    let cgroup = |id| (id == 4711).then(|| "/system.slice/nginx.service".to_owned());
    Context::new(WallOffset(1_772_597_167_250_000_000), Names::new(HashMap::new(), Box::new(cgroup)))
}

/// Makes chunks of a recording.
#[allow(dead_code, reason = "each benchmark uses a part of this")]
pub(crate) struct Recorder {
    encoder: Encoder,
    compressor: Compressor,
}

#[allow(dead_code, reason = "each benchmark uses a part of this")]
impl Recorder {
    pub(crate) fn new() -> Self {
        let encoder = Encoder::new(Addresses::new(false), NameLog::default(), START_NS);
        Self { encoder, compressor: Compressor::new().expect("memory") }
    }

    /// A stream as a chunk of a file.
    pub(crate) fn chunk(&mut self, bytes: &[u8], context: &mut Context) -> Vec<u8> {
        records(bytes).for_each(|record| self.encoder.add(&Input::Record(record), &mut context.names));
        let chunk = self.encoder.take().expect("there are inputs");
        let bytes = self.compressor.encode(&chunk).expect("it is not too large").to_vec();
        self.encoder.reuse(chunk.bytes);
        bytes
    }
}

/// A session that looks for findings and prints nothing, with so many established connections.
#[allow(dead_code, reason = "each benchmark uses a part of this")]
pub(crate) fn session(live: u32) -> Session {
    let settings = SessionSettings {
        states: StateSet::default(),
        selection: SocketFilter::default(),
        rest: None,
        owner_unchecked: false,
        unfiltered: true,
        polls: true,
        max_sockets: 2 << 20,
        by_process: false,
        events: false,
        count: None,
        findings: Some(Thresholds::default()),
        metrics: None,
    };
    let mut session = Session::new(settings, Vec::new(), context(), START_NS);
    let mut stream = Stream::new();
    (0..live).for_each(|number| stream.open(number));
    records(&stream.bytes).for_each(|record| session.ingest(record));
    session
}

/// Feeds a session from a chunk of a file.
#[allow(dead_code, reason = "each benchmark uses a part of this")]
pub(crate) fn replay(session: &mut Session, bytes: &[u8], buffer: Vec<u8>) -> Vec<u8> {
    let (header, stored) = bytes.split_first_chunk::<HEADER_LEN>().expect("a chunk has a header");
    let chunk = ChunkHeader::parse(header).and_then(|header| header.decode(stored, buffer)).expect("a whole chunk");
    let fed = visit::<Error>(&chunk.bytes, |frame| {
        if let Frame::Input(input) = frame {
            session.apply(&input);
        }
        Ok(())
    });
    fed.expect("what was written");
    chunk.bytes
}
