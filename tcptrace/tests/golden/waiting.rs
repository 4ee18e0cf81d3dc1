//! Events wait for the names of their processes: not long, in order, and each is written once.

use std::{cell::RefCell, rc::Rc};

use serde_json::Value;
use tcptrace::{
    model::{
        decode::split,
        filter::Expr,
        processes::{ProcessAnswer, ProcessNames, ProcessQuestion, ProcessSource, Processes},
    },
    pipeline::{
        record_filter::RecordFilter,
        route::{Renderer, Route},
        session::Session,
        settings::SessionSettings,
    },
    sys::processes::command,
};

use crate::{
    stories,
    support::{
        records::{START_NS, Stream},
        replay::{context, json, output, plain, session, settings, text},
    },
};

const MS: u64 = 1_000_000;

/// A session whose processes nobody reads until the test does.
fn waiting(renderer: Renderer) -> (Session, Rc<RefCell<Vec<ProcessQuestion>>>) {
    waiting_with(settings(), renderer)
}

fn waiting_with(settings: SessionSettings, renderer: Renderer) -> (Session, Rc<RefCell<Vec<ProcessQuestion>>>) {
    asking(session(settings, renderer))
}

fn asking(mut session: Session) -> (Session, Rc<RefCell<Vec<ProcessQuestion>>>) {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let to = Rc::clone(&asked);
    let ask = move |question| {
        to.borrow_mut().push(question);
        true
    };
    session.context.names.processes = Processes::new(ProcessSource::Later(Box::new(ask)));
    session.context.now_ns = 100 * MS;
    (session, asked)
}

fn ingest(session: &mut Session) -> usize {
    let mut stream = Stream::new();
    stories::all(&mut stream);
    let records: Vec<_> = split(&stream.bytes).map(Result::unwrap).collect();
    records.iter().for_each(|record| session.ingest(record));
    records.len()
}

fn answer(question: ProcessQuestion) -> ProcessAnswer {
    let executable = Some(format!("/bin/{}", question.id.0));
    let names = ProcessNames { command: command(b"curl"), executable, args: None, ns_pid: Some(1), parent: None };
    ProcessAnswer { names: Some(names), place: None }
}

fn lines(session: &mut Session) -> Vec<Value> {
    output(session).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn events_wait_for_their_processes_and_keep_their_order() {
    let (mut session, asked) = waiting(json());
    let events = ingest(&mut session);
    assert_eq!(lines(&mut session).len(), 0, "the first one waits, and so do all after it");
    let questions = asked.take();
    let mut pids: Vec<_> = questions.iter().map(|question| question.id).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), questions.len(), "each is asked for once");
    // One that has another name at a later event is asked for again.
    let mut left = questions;
    while !left.is_empty() {
        for question in left {
            session.context.names.processes.learn(question.id, answer(question));
        }
        session.release();
        left = asked.take();
    }
    let lines = lines(&mut session);
    assert_eq!((lines.len(), session.written()), (events, events as u64));
    assert!(lines.is_sorted_by_key(|line| line["mono_ns"].as_u64()));
    let of_curl: Vec<_> = lines.iter().filter(|line| line["command"] == "curl").collect();
    assert!(!of_curl.is_empty());
    for line in of_curl {
        assert_eq!(line["executable"], format!("/bin/{}", line["pid"]));
        assert_eq!(line["ns_pid"], 1);
    }
}

/// Records of process 4242, and of no other.
fn of_curl() -> SessionSettings {
    SessionSettings { rest: Some(Expr::parse("exe == /bin/4242", &[]).unwrap()), ..settings() }
}

fn answer_all(session: &mut Session, asked: &RefCell<Vec<ProcessQuestion>>) {
    loop {
        let questions = asked.take();
        if questions.is_empty() {
            return;
        }
        for question in questions {
            session.context.names.processes.learn(question.id, answer(question));
        }
        session.release();
    }
}

#[test]
fn a_filter_by_names_waits_for_them() {
    let (mut session, asked) = waiting(json());
    ingest(&mut session);
    answer_all(&mut session, &asked);
    let mut want = lines(&mut session);
    let is_unknown = |line: &&Value| !line["pid"].is_null() && line["executable"].is_null();
    let unknown = want.iter().filter(is_unknown).count() as u64;
    want.retain(|line| line["executable"] == "/bin/4242");
    assert!(want.len() > 10, "{want:#?}");
    let (mut session, asked) = waiting_with(of_curl(), json());
    ingest(&mut session);
    assert_eq!((lines(&mut session).len(), session.written()), (0, 0), "not decided yet");
    answer_all(&mut session, &asked);
    assert_eq!(lines(&mut session), want);
    assert_eq!((session.written(), session.losses.undecided), (want.len() as u64, unknown));
    // As the filter of an output among others.
    let only = RecordFilter { only: of_curl().rest, ..RecordFilter::default() };
    let routes = vec![Route::new(json(), only), Route::new(json(), RecordFilter::default())];
    let (mut session, asked) = asking(Session::new(settings(), routes, context(), START_NS));
    let events = ingest(&mut session);
    answer_all(&mut session, &asked);
    let outputs: Vec<_> = session.take().map(|records| records.bytes().to_vec()).collect();
    let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!((count(&outputs[0]), count(&outputs[1])), (want.len(), events));
}

#[test]
fn what_is_never_decided_is_left_out_and_counted() {
    let (mut session, _) = waiting_with(of_curl(), json());
    ingest(&mut session);
    session.context.now_ns += 1000 * MS - 1;
    session.release();
    assert_eq!(session.losses.undecided, 0);
    session.context.now_ns += 1;
    session.release();
    assert_eq!((lines(&mut session).len(), session.written()), (0, 0));
    assert!(session.losses.undecided > 10, "{}", session.losses.undecided);
    // At the end nobody waits, and what is known counts.
    let (mut session, asked) = waiting_with(SessionSettings { count: Some(2), ..of_curl() }, json());
    ingest(&mut session);
    for question in asked.take() {
        session.context.names.processes.learn(question.id, answer(question));
    }
    session.finish(200 * MS);
    let events = lines(&mut session).iter().filter(|line| line["event"] == "transition").count();
    assert_eq!((events, session.written()), (2, 2), "only what is written is counted");
}

#[test]
fn no_event_waits_for_long() {
    let (mut session, _) = waiting(json());
    let events = ingest(&mut session);
    session.context.now_ns += 50 * MS - 1;
    session.release();
    assert_eq!(lines(&mut session).len(), 0);
    session.context.now_ns += 1;
    session.release();
    let lines = lines(&mut session);
    assert_eq!(lines.len(), events);
    assert!(lines.iter().all(|line| line["executable"].is_null()), "unknown, not a guess");
}

#[test]
fn whoever_shows_no_names_waits_for_none() {
    let (mut session, asked) = waiting(text(plain()));
    ingest(&mut session);
    assert!(output(&mut session).lines().count() > 1 && asked.borrow().is_empty());
    let (mut session, _) = waiting(json());
    let events = ingest(&mut session);
    session.finish(200 * MS);
    assert!(lines(&mut session).len() > events, "the end waits for nobody");
}
