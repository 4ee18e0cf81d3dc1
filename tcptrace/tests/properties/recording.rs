//! A recording gives back what was written, and nothing else: whatever is cut off, flipped or claimed.

use std::{borrow::Cow, io::Cursor};

use proptest::{collection::vec, prelude::*, sample::Index};
use tcptrace::{
    findings::Thresholds,
    model::{
        keyed::Addresses,
        names::Names,
        snapshot::Snapshot,
        socket::{Kind, ListedSocket},
        state::State,
        time::WallOffset,
    },
    pipeline::{
        input::{CounterReading, Input, ListingKind},
        recording::{
            Error,
            chunk::Compressor,
            encoder::{Encoder, NameLog},
            frames::{Frame, visit},
            header::Header,
            index::{self, Index as FileIndex},
            reader::{End, Reader},
        },
        settings::SessionSettings,
    },
};
use tcptrace_common::{counters::Counters, record::WIRE_VERSION};

use crate::{
    any_record::any_record,
    support::replay::{csv, json, plain, session, settings, text},
};

/// An input that owns what it has.
#[derive(Clone, Debug)]
enum Any {
    Record(Vec<u8>),
    Other(Box<Input<'static>>),
    /// A chunk ends.
    Cut,
}

fn snapshot(ports: &[u16]) -> Snapshot {
    let socket = |port: &u16| {
        ListedSocket::new(Kind::Full, State::Established, 7, ([127, 0, 0, 1], *port).into(), ([10, 0, 0, 1], 1).into())
    };
    Snapshot { started_ns: 1, ended_ns: 2, sockets: ports.iter().map(socket).collect(), ..Snapshot::default() }
}

fn any_input() -> impl Strategy<Value = Any> {
    let counter = |number: u64| Counters { sent: number, ring_full: number / 2, ..Counters::default() };
    let reading = move |(now, numbers): (u64, Vec<u64>)| {
        let by_cpu: Vec<_> = numbers.into_iter().map(counter).collect();
        Any::Other(Box::new(Input::Counters(CounterReading::new(now, &by_cpu, 1, 2))))
    };
    prop_oneof![
        20 => any_record().prop_map(Any::Record),
        3 => (any::<u64>(), any::<i64>()).prop_map(|(now, wall)| Any::Other(Box::new(Input::Clock(now, WallOffset(wall))))),
        1 => any::<u64>().prop_map(|now| Any::Other(Box::new(Input::Evaluated(now)))),
        1 => any::<bool>().prop_map(|first| Any::Other(Box::new(Input::ListingFailed(first)))),
        1 => Just(Any::Other(Box::new(Input::ListingBegun))),
        1 => (any::<u64>(), vec(any::<u64>(), 0..4)).prop_map(reading),
        1 => vec(any::<u16>(), 0..20).prop_map(|ports| {
            Any::Other(Box::new(Input::Listed(ListingKind::Poll, Cow::Owned(snapshot(&ports)))))
        }),
        1 => vec((any::<u32>(), ".{0,8}"), 0..3).prop_map(|names| Any::Other(Box::new(Input::NetnsNames(Cow::Owned(names))))),
        1 => ".{0,8}".prop_map(|reason| Any::Other(Box::new(Input::Ended(Cow::Owned(reason))))),
        1 => Just(Any::Cut),
    ]
}

fn header() -> Header {
    Header { tcptrace: "1".to_owned(), wire: WIRE_VERSION, run_ns: 5, start_ns: 5, ..Header::default() }
}

fn no_names() -> Names {
    Names::new(Default::default(), Box::new(|id| Some(format!("/{id}"))))
}

/// A file with these inputs, and where its chunks begin; with or without an index.
fn file(inputs: &[Any], is_complete: bool) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = header().encode();
    let (mut index, mut starts) = (FileIndex::default(), Vec::new());
    let mut compressor = Compressor::new().unwrap();
    let mut names = no_names();
    let mut encoder = Encoder::new(Addresses::Raw, NameLog::default(), 5);
    let mut cut = |encoder: &mut Encoder| {
        if let Some(chunk) = encoder.take() {
            starts.push(bytes.len());
            index.add(bytes.len() as u64, &chunk);
            bytes.extend(compressor.encode(&chunk).unwrap());
        }
    };
    for input in inputs {
        match input {
            Any::Record(record) => encoder.add(&Input::Record(record), &mut names),
            Any::Other(input) => encoder.add(input, &mut names),
            Any::Cut => cut(&mut encoder),
        }
    }
    cut(&mut encoder);
    if is_complete {
        let place = bytes.len() as u64;
        bytes.extend(compressor.encode(&index.to_chunk()).unwrap());
        bytes.extend(index::Index::trailer(place));
    }
    (bytes, starts)
}

/// What a file gives back, as text, and how it ends.
fn read(bytes: &[u8]) -> Result<(Vec<String>, Option<End>), Error> {
    let mut reader = Reader::new(bytes)?;
    let mut inputs = Vec::new();
    while let Some(chunk) = reader.next_chunk() {
        visit::<Error>(&chunk.bytes, |frame| {
            if let Frame::Input(input) = frame {
                inputs.push(format!("{input:?}"));
            }
            Ok(())
        })?;
    }
    Ok((inputs, reader.end))
}

fn written(inputs: &[Any]) -> Vec<String> {
    let one = |input: &Any| match input {
        Any::Record(record) => Some(format!("{:?}", Input::Record(record))),
        Any::Other(input) => Some(format!("{input:?}")),
        Any::Cut => None,
    };
    inputs.iter().filter_map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_is_read(inputs in vec(any_input(), 0..80), is_complete: bool) {
        let (bytes, starts) = file(&inputs, is_complete);
        let (found, end) = read(&bytes).unwrap();
        prop_assert_eq!(found, written(&inputs));
        prop_assert_eq!(end, Some(if is_complete { End::Complete } else { End::CutOff }));
        let (read_header, index) = FileIndex::read(&mut Cursor::new(&bytes)).unwrap();
        prop_assert_eq!(read_header, header());
        prop_assert_eq!(index.is_complete, is_complete);
        let places: Vec<_> = index.entries.iter().map(|entry| entry.offset as usize).collect();
        prop_assert_eq!(places, starts, "found by a scan too");
    }

    #[test]
    fn what_is_cut_off_is_read_up_to_the_last_whole_chunk(
        inputs in vec(any_input(), 0..60), is_complete: bool, at in any::<Index>(),
    ) {
        let (bytes, starts) = file(&inputs, is_complete);
        let cut = &bytes[..at.index(bytes.len())];
        match read(cut) {
            Err(error) => prop_assert!(cut.len() < header().encode().len(), "{error}"),
            Ok((found, end)) => {
                let all = written(&inputs);
                prop_assert!(all.starts_with(&found));
                let begun = starts.iter().filter(|start| **start < cut.len()).count();
                let is_between = starts.contains(&cut.len()) || cut.len() == header().encode().len();
                prop_assert!(begun > 0 || found.is_empty());
                prop_assert!(!is_between || end == Some(End::CutOff), "{end:?}");
                prop_assert!(FileIndex::read(&mut Cursor::new(cut)).is_ok());
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed(
        inputs in vec(any_input(), 1..60), at in any::<Index>(), bit in 0u8..8,
    ) {
        let (bytes, _) = file(&inputs, false);
        let mut damaged = bytes.clone();
        damaged[at.index(bytes.len())] ^= 1 << bit;
        if let Ok((found, end)) = read(&damaged) {
            prop_assert!(written(&inputs).starts_with(&found));
            prop_assert!(matches!(end, Some(End::Damaged(_))), "{end:?}");
        }
        let _ = FileIndex::read(&mut Cursor::new(&damaged));
    }

    #[test]
    fn random_bytes_are_no_recording(bytes in vec(any::<u8>(), 0..300), behind_a_header: bool) {
        let bytes = if behind_a_header { [header().encode(), bytes].concat() } else { bytes };
        match read(&bytes) {
            Ok((found, end)) => prop_assert!(found.is_empty() && end != Some(End::Complete)),
            Err(error) => prop_assert!(!behind_a_header, "{error}"),
        }
        let _ = FileIndex::read(&mut Cursor::new(&bytes));
    }

    /// The content of a chunk with a right checksum, but from another hand.
    #[test]
    fn hostile_content_is_refused(bytes in vec(any::<u8>(), 0..300)) {
        let mut count = 0_usize;
        let _ = visit::<Error>(&bytes, |_| { count += 1; Ok(()) });
        prop_assert!(count <= bytes.len());
    }
}

/// The content of the chunks of the golden file, which has each kind of frame.
fn golden() -> Vec<Vec<u8>> {
    let file = include_bytes!("../golden/recordings/v1");
    let mut reader = Reader::new(&file[..]).unwrap();
    std::iter::from_fn(|| reader.next_chunk()).map(|chunk| chunk.bytes).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Right checksums, wrong values: what is read is passed to a session with findings and each form of output.
    #[test]
    fn a_session_survives_whatever_a_recording_says(
        flips in vec((any::<Index>(), any::<u8>()), 1..12), form in 0..3_usize,
    ) {
        let renderer = [text(plain()), json(), csv()].into_iter().nth(form).unwrap();
        let settings = SessionSettings { findings: Some(Thresholds::default()), polls: true, ..settings() };
        let mut session = session(settings, renderer);
        for mut content in golden() {
            for (at, byte) in &flips {
                let at = at.index(content.len());
                content[at] = *byte;
            }
            let _ = visit::<Error>(&content, |frame| {
                if let Frame::Input(input) = frame {
                    session.apply(&input);
                }
                Ok(())
            });
        }
        session.apply(&Input::Evaluated(u64::MAX));
        session.apply(&Input::Finished(u64::MAX));
        prop_assert!(session.take().count() == 1);
        for (what, size) in session.sizes() {
            prop_assert!(size < 1 << 20, "{what}: {size}");
        }
    }
}

/// Lengths that the bytes do not have: neither memory nor time is spent on them.
#[test]
fn hostile_lengths_cost_nothing() {
    let (bytes, starts) = file(&[Any::Other(Box::new(Input::ListingBegun))], false);
    // Magic, kind, then the stored and the raw length.
    for place in [8, 12] {
        for length in [u32::MAX, 1 << 30, 32 << 20] {
            let mut hostile = bytes.clone();
            hostile[starts[0] + place..][..4].copy_from_slice(&length.to_le_bytes());
            let (found, end) = read(&hostile).unwrap();
            assert!(found.is_empty() && matches!(end, Some(End::Damaged(_))), "{end:?}");
        }
    }
    // More records than there are.
    let many = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for len in [10, 9, 11, u32::MAX] {
        assert!(visit::<Error>(&[&many[..], &len.to_le_bytes()].concat(), |_| Ok(())).is_err());
    }
    let mut long = header().encode();
    long[10..14].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(read(&long).unwrap_err(), Error::Header);
}

#[test]
fn another_version_is_named() {
    let mut other = header().encode();
    other[8] = 9;
    assert_eq!(read(&other).unwrap_err(), Error::Version(9));
    assert_eq!(read(b"\x7fELF and so on, long enough").unwrap_err(), Error::NoRecording);
    let wire = Header { wire: 77, ..header() };
    assert_eq!(read(&wire.encode()).unwrap_err(), Error::WireVersion(77));
}

/// Kernel addresses are in no recording.
#[test]
fn addresses_are_hidden() {
    let mut socket = snapshot(&[1]);
    socket.sockets[0].sk = Some(0xffff_8881_1234_5678);
    socket.sockets[0].handle = 0xffff_8881_1234_5678;
    let mut encoder = Encoder::new(Addresses::new(false), NameLog::default(), 0);
    encoder.add(&Input::Listed(ListingKind::All, Cow::Owned(socket)), &mut no_names());
    let chunk = encoder.take().unwrap();
    visit::<Error>(&chunk.bytes, |frame| {
        let Frame::Input(Input::Listed(_, snapshot)) = frame else { panic!("{frame:?}") };
        let found = &snapshot.sockets[0];
        assert_eq!(found.sk, Some(found.handle));
        assert_ne!(found.sk, Some(0xffff_8881_1234_5678));
        Ok(())
    })
    .unwrap();
}
