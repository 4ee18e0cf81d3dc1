//! Any bytes as a recording, through the reader and a session with all renderers: no panic, no hang, bounded memory.
//!
//! Random bytes hardly ever have a right checksum. So the first byte says what the others are: a whole file, the content
//! of a chunk that gets a header and a checksum here, or such a content without the way through a file. The property tests
//! run this too, on mutated files of the corpus.

use std::{collections::HashMap, io::Cursor};

use jiff::tz::TimeZone;
use tcptrace::{
    findings::Thresholds,
    model::{names::Names, processes::ProcessSource, socket_filter::SocketFilter, state::StateSet, time::WallOffset},
    pipeline::{
        input::Input,
        record_filter::RecordFilter,
        recording::{
            Error,
            chunk::{ChunkKind, Compressor, RawChunk},
            frames::{Frame, visit},
            header::Header,
            index::Index,
            reader::Reader,
        },
        route::{Renderer, Route},
        session::Session,
        settings::SessionSettings,
    },
    render::{
        context::Context,
        csv::Csv,
        json::Json,
        text::{Text, TextOptions, TimeStyle},
    },
};
use tcptrace_common::record::{
    KIND_RESET_RECEIVED, KIND_RESET_SENT, KIND_RETRANSMIT, KIND_SYNACK_RETRANSMIT, KIND_TRANSITION, OwnerChange, Reset,
    Retransmit, Transition, WIRE_VERSION,
};

/// Reads and replays these bytes.
pub(crate) fn recording(bytes: &[u8]) {
    let Some((form, bytes)) = bytes.split_first() else { return };
    match form % 3 {
        0 => file(bytes),
        1 => file(&whole(bytes)),
        _ => {
            let mut session = session(&Header::default());
            let _ = feed(&mut session, bytes);
            end(session);
        }
    }
}

/// Feeds records whose kind, length and version are right, as far as the bytes last; the rest is any bytes.
pub(crate) fn records(mut bytes: &[u8]) {
    let mut session = session(&Header::default());
    while let Some((kind, rest)) = bytes.split_first() {
        let kind = kind % 7;
        let len = match kind {
            KIND_TRANSITION => size_of::<Transition>(),
            KIND_RETRANSMIT | KIND_SYNACK_RETRANSMIT => size_of::<Retransmit>(),
            KIND_RESET_SENT | KIND_RESET_RECEIVED => size_of::<Reset>(),
            _ => size_of::<OwnerChange>(),
        };
        let (body, rest) = rest.split_at(rest.len().min(len));
        let mut record = vec![0; len];
        record[..body.len()].copy_from_slice(body);
        record[..4].copy_from_slice(&[kind, WIRE_VERSION, len as u8, 0]);
        session.apply(&Input::Record(&record));
        bytes = rest;
    }
    end(session);
}

/// A file with one chunk of this content, whose length and checksum are right.
fn whole(bytes: &[u8]) -> Vec<u8> {
    let chunk = RawChunk { kind: ChunkKind::Inputs, times: 0..=u64::MAX, inputs: 1, bytes: bytes.to_vec() };
    let wire = Header::read(&mut &include_bytes!("../tcptrace/tests/golden/recordings/v1")[..]);
    let mut file = Header { wire: wire.map_or(0, |(header, _)| header.wire), ..Header::default() }.encode();
    if let Ok(mut compressor) = Compressor::new() {
        file.extend_from_slice(compressor.encode(&chunk).unwrap_or_default());
    }
    file
}

/// Reads a file as a replay does.
fn file(bytes: &[u8]) {
    let _ = Index::read(&mut Cursor::new(bytes));
    let Ok(mut reader) = Reader::new(bytes) else { return };
    let mut session = session(&reader.header);
    while let Some(chunk) = reader.next_chunk() {
        if feed(&mut session, &chunk.bytes).is_err() {
            break;
        }
    }
    assert!(reader.offset <= bytes.len() as u64);
    end(session);
}

fn feed(session: &mut Session, content: &[u8]) -> Result<(), Error> {
    visit::<Error>(content, |frame| {
        match frame {
            Frame::Input(input) => _ = session.apply(&input),
            Frame::Owner(owner) => _ = session.context.names.processes.is_settled(&owner),
            _ => {}
        }
        if session.rendered() > 1 << 16 {
            session.take().for_each(drop);
        }
        Ok(())
    })
}

fn end(mut session: Session) {
    session.apply(&Input::Evaluated(u64::MAX / 2));
    session.apply(&Input::Finished(u64::MAX / 2));
    session.end(u64::MAX / 2, "closed", &[]);
    session.take().for_each(drop);
    for (what, size) in session.sizes() {
        assert!(size <= 1 << 21, "{what}: {size}");
    }
}

fn session(header: &Header) -> Session {
    let mut names = Names::new(header.reset_reasons.iter().cloned().collect::<HashMap<_, _>>(), Box::new(|_| None));
    names.processes.set_source(ProcessSource::Later(Box::new(|_| true)));
    let text = TextOptions {
        time: TimeStyle::Wall(TimeZone::UTC),
        color: true,
        owner_columns: true,
        columns: Vec::new(),
        fits: false,
    };
    let renderers = [Renderer::Text(Text::new(text)), Renderer::Json(Json::default()), Renderer::Csv(Csv::default())];
    let routes = renderers.into_iter().map(|renderer| Route::new(renderer, RecordFilter::default())).collect();
    let settings = SessionSettings {
        states: StateSet::default(),
        selection: SocketFilter::default(),
        rest: None,
        owner_unchecked: header.owner_unchecked,
        unfiltered: true,
        polls: header.polls,
        max_sockets: 10_000,
        by_process: true,
        events: true,
        count: None,
        findings: Some(Thresholds::default()),
        metrics: Some(Default::default()),
    };
    let context = Context::new(WallOffset(header.wall.0), names);
    Session::new(settings, routes, context, header.start_ns)
}
