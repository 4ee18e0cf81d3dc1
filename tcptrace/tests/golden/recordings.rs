//! Recordings of each version of the format stay readable: each file in `recordings/` was written once, and is never written
//! anew.
//! Where it is no longer read, or says something else, the format has changed and needs another version.

use std::{borrow::Cow, env, fs, path::PathBuf, sync::Arc};

use tcptrace::{
    analysis::rates::meter::{Counter, Reading, Round},
    model::{
        decode::split,
        keyed::Addresses,
        place::Place,
        processes::{ProcessAnswer, ProcessNames, ProcessQuestion},
        snapshot::Snapshot,
        time::WallOffset,
    },
    pipeline::{
        input::{CounterReading, Input, ListingKind},
        recording::{
            Error, FORMAT_VERSION,
            chunk::Compressor,
            encoder::{Encoder, NameLog},
            frames::{Frame, visit},
            header::Header,
            index::Index,
            reader::{self, End},
        },
        settings::SessionSettings,
    },
};
use tcptrace_common::{
    counters::Counters,
    record::{WIRE_VERSION, owner_source},
    state::{CLOSE, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LISTEN, SYN_SENT},
};

use crate::{
    compare::compare,
    support::{
        listing,
        records::{Life, START_NS, Stream, process},
        replay::{context, json, output, session, settings},
    },
};

/// Files that this test makes begin so.
pub(crate) const RECORDED: &str = "recording_";

const WALL: WallOffset = WallOffset(1_772_597_167_250_000_000);

fn file(version: u16) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/recordings")).join(format!("v{version}"))
}

/// One input of each kind.
fn write() -> Vec<u8> {
    let mut stream = Stream::new();
    let mut life = Life::in_state(CLOSE, "10.0.0.1:40000", "10.0.0.2:443");
    life = life.owned_by(process(501, b"curl", owner_source::CONNECT));
    for state in [SYN_SENT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE] {
        life.enters(&mut stream, state);
        stream.wait_us(700);
    }
    let now_ns = stream.now_ns;
    let snapshot = Snapshot {
        started_ns: START_NS + 1,
        ended_ns: START_NS + 2,
        sockets: vec![listing::socket(
            7,
            tcptrace::model::state::State::from_raw(LISTEN).unwrap(),
            "0.0.0.0:80",
            "0.0.0.0:0",
        )],
        holders: Some(tcptrace::model::holders::Holders::new(vec![listing::holder(7, 33, 33, 4, b"nginx")])),
        namespaces: vec![tcptrace::model::namespace::Namespace {
            inode: listing::BLUE,
            name: Some("blue".to_owned()),
            ..Default::default()
        }],
        ..Snapshot::default()
    };
    let counters = Counters { sent: 5, ..Counters::default() };
    let answer = ProcessAnswer {
        names: Some(ProcessNames {
            command: tcptrace::model::event::Command::new(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0"),
            executable: Some("/usr/bin/curl".to_owned()),
            args: Some(["curl".to_owned()].into()),
            ns_pid: Some(5),
            parent: None,
        }),
        place: Some(Arc::new(Place::from_cgroup("/system.slice/web.service"))),
    };
    let before = [
        Input::Clock(START_NS, WALL),
        Input::NetnsNames(Cow::Owned(vec![(listing::BLUE, "blue".to_owned())])),
        Input::ListingBegun,
        Input::Listed(ListingKind::All, Cow::Owned(snapshot.clone())),
        Input::ListingBegun,
        Input::ListingFailed(true),
    ];
    let after = [
        Input::Read(now_ns),
        Input::Counters(CounterReading::new(now_ns, &[counters, Counters::default()], 0, 3)),
        Input::Listed(ListingKind::Suspects, Cow::Owned(snapshot.clone())),
        Input::Listed(ListingKind::Listeners, Cow::Owned(snapshot)),
        Input::Process(ProcessQuestion { id: (501, None), cgroup: 4711 }, Cow::Owned(answer)),
        Input::Users(Cow::Owned(vec![(1000, "ada".to_owned())])),
        Input::Services(Cow::Owned(vec![(443, "https".into())])),
        Input::Host([10, 0, 0, 2].into(), Some("db.example".to_owned())),
        Input::Released,
        Input::NamesAsked(now_ns),
        Input::Evaluated(now_ns),
        Input::IntervalEnded(now_ns),
        Input::Finished(now_ns),
        Input::Ended(Cow::Borrowed("interrupted")),
    ];
    let header = Header {
        tcptrace: "0.1.0".to_owned(),
        boot_id: "01234567-89ab-cdef-0123-456789abcdef".to_owned(),
        wire: WIRE_VERSION,
        run_ns: START_NS,
        start_ns: START_NS,
        wall: WALL,
        reset_reasons: vec![(3, "no_socket".to_owned())],
        polls: true,
        max_sockets: 1000,
        findings: true,
        settings: vec![("net.ipv4.tcp_sack".to_owned(), "1".to_owned())],
        ..Header::default()
    };
    let mut names = context().names;
    let mut encoder = Encoder::new(Addresses::Raw, NameLog::default(), START_NS);
    let mut compressor = Compressor::new().unwrap();
    let (mut bytes, mut index) = (header.encode(), Index::default());
    let mut cut = |encoder: &mut Encoder, bytes: &mut Vec<u8>| {
        let chunk = encoder.take().unwrap();
        index.add(bytes.len() as u64, &chunk);
        bytes.extend(compressor.encode(&chunk).unwrap());
    };
    before.iter().for_each(|input| encoder.add(input, &mut names));
    cut(&mut encoder, &mut bytes);
    for record in split(&stream.bytes) {
        encoder.add(&Input::Record(record.unwrap()), &mut names);
    }
    encoder.lose(9);
    let reading = Reading { counters: [Some(7); Counter::ALL.len()], ..Reading::default() };
    encoder.sample(&Round { mono_ns: now_ns, readings: [(listing::BLUE, reading)].into(), ..Round::default() });
    after.iter().for_each(|input| encoder.add(input, &mut names));
    cut(&mut encoder, &mut bytes);
    let end = bytes.len() as u64;
    bytes.extend(compressor.encode(&index.to_chunk()).unwrap());
    bytes.extend(Index::trailer(end));
    bytes
}

#[test]
fn each_version_is_read() {
    let newest = file(FORMAT_VERSION);
    if env::var_os("TCPTRACE_BLESS").is_some() && !newest.exists() {
        fs::write(newest, write()).unwrap();
    }
    let files = (1..=FORMAT_VERSION).map(|version| (format!("{RECORDED}v{version}.json"), read(version)));
    compare(&files.collect::<Vec<_>>(), |name| name.starts_with(RECORDED));
}

/// What a recording of this version says.
fn read(version: u16) -> String {
    let bytes = fs::read(file(version)).unwrap();
    let mut reader = reader::Reader::new(bytes.as_slice()).unwrap();
    assert_eq!((reader.header.tcptrace.as_str(), reader.header.max_sockets), ("0.1.0", 1000));
    let has_samples = version > 1;
    assert_eq!(reader.header.settings.len(), usize::from(has_samples));
    let mut session = session(SessionSettings { polls: true, ..settings() }, json());
    let (mut frames, mut lost) = (Vec::new(), 0);
    while let Some(chunk) = reader.next_chunk() {
        visit::<Error>(&chunk.bytes, |frame| {
            match &frame {
                Frame::Input(input) => _ = session.apply(input),
                Frame::Lost(inputs) => lost += inputs,
                Frame::Owner(owner) => _ = session.context.names.processes.is_settled(owner),
                Frame::Sample(round) => assert_eq!(round.readings[&listing::BLUE].counters[0], Some(7)),
                Frame::Cgroup(..) | Frame::Refused(..) => {}
            }
            frames.push(format!("{frame:?}").split(['(', ' ']).take(2).collect::<Vec<_>>().join(" "));
            Ok(())
        })
        .unwrap();
    }
    assert_eq!((reader.end, lost), (Some(End::Complete), 9));
    for kind in [
        "Input Clock",
        "Input NetnsNames",
        "Input ListingBegun",
        "Input Listed",
        "Input ListingFailed",
        "Input Record",
        "Input Read",
        "Input Counters",
        "Input Evaluated",
        "Input IntervalEnded",
        "Input Finished",
        "Input Ended",
        "Owner Owner",
        "Lost 9)",
    ] {
        assert!(frames.iter().any(|frame| frame.starts_with(kind)), "{kind}: {frames:?}");
    }
    assert_eq!(frames.iter().any(|frame| frame.starts_with("Sample")), has_samples);
    let text = output(&mut session);
    assert!(text.contains("FIN_WAIT2") && text.lines().count() > 5, "{text}");
    text
}
