//! A stream of records through a session, as the program would print it.

use std::{collections::HashMap, sync::Arc};

use jiff::tz::{Offset, TimeZone};
use tcptrace::{
    analysis::story::{Limits, Stories, connection::StoryFilter},
    model::{
        decode::split,
        keyed::Addresses,
        names::Names,
        place::{Place, PlaceSource, Sourced},
        processes::{ProcessAnswer, ProcessNames, ProcessQuestion, ProcessSource, Processes},
        socket_filter::SocketFilter,
        state::StateSet,
        time::WallOffset,
    },
    pipeline::{
        record_filter::RecordFilter,
        route::{Renderer, Route, StoryForm},
        session::Session,
        settings::SessionSettings,
    },
    render::{
        context::Context,
        csv::Csv,
        html::Page,
        json::Json,
        text::{Ladder, Text, TextOptions, TimeStyle},
    },
    sys::processes,
};

use super::records::{START_NS, Stream};

/// A context whose wall clock showed 2026-03-04T04:06:07.25Z at boot, and in which one cgroup and two reasons of RSTs
/// have names.
pub(crate) fn context() -> Context {
    let reasons = HashMap::from([(3, "no_socket".to_owned()), (7, "tcp_abort_on_close".to_owned())]);
    let cgroup = |id| (id == 4711).then(|| "/system.slice/web.service".to_owned());
    let mut names = Names::new(reasons, Box::new(cgroup));
    names.addresses = Addresses::Raw;
    names.processes = Processes::new(ProcessSource::Now(Box::new(process)));
    names.users.extend([(33, "www-data".to_owned()), (1000, "me".to_owned())]);
    names.services.extend([(22, "ssh".into()), (80, "http".into()), (443, "https".into())]);
    Context::new(WallOffset(1_772_597_167_250_000_000), names)
}

/// What `/proc` and the container's runtime tell about the processes of the streams.
fn process(question: ProcessQuestion) -> ProcessAnswer {
    let names = |command: &[u8], executable: &str, args: &[&str], ns_pid, parent: (u32, &[u8])| {
        let args = Some(args.iter().map(|arg| (*arg).to_owned()).collect());
        let (executable, parent) = (Some(executable.to_owned()), Some((parent.0, processes::command(parent.1))));
        Some(ProcessNames { command: processes::command(command), executable, args, ns_pid: Some(ns_pid), parent })
    };
    match question.id.0 {
        4242 => {
            let args = ["curl", "-H", "Authorization: ***", "https://198.51.100.7/"];
            let names = names(b"curl", "/usr/bin/curl", &args, 4242, (4200, b"bash"));
            ProcessAnswer { names, place: Some(Arc::new(Place::from_cgroup("/system.slice/web.service"))) }
        }
        800 => {
            let names = names(b"web", "/usr/sbin/web", &["/usr/sbin/web", "--port=80"], 17, (790, b"containerd-shim"));
            ProcessAnswer { names, place: Some(Arc::new(pod())) }
        }
        6666 => {
            let executable = "/tmp/\u{1b}[2J back\ndoor (deleted)";
            let names = names(b"\x1b[2Jsh", executable, &["\u{1b}]0;x", "=1+1"], 6666, (1, b"\xff\n"));
            ProcessAnswer { names, place: None }
        }
        _ => ProcessAnswer::default(),
    }
}

fn pod() -> Place {
    let id = "0123456789abcdef".repeat(4);
    let path = format!("/kubepods/burstable/pod4a1b2c3d-0e5f-6789-abcd-ef0123456789/cri-containerd-{id}");
    let mut place = Place::from_cgroup(&path);
    let fact = |text: &str| Some(Sourced::new(text.into(), PlaceSource::ContainerdTask));
    if let Some(container) = &mut place.container {
        (container.name, container.image) = (fact("web"), fact("registry.example/web:1.4"));
    }
    if let Some(pod) = &mut place.pod {
        (pod.name, pod.namespace, pod.container) = (fact("web-6d4c-x2x"), fact("shop"), fact("web"));
    }
    place
}

/// Settings that keep and print all; nothing is listed.
pub(crate) fn settings() -> SessionSettings {
    SessionSettings {
        states: StateSet::default(),
        selection: SocketFilter::default(),
        rest: None,
        owner_unchecked: false,
        unfiltered: false,
        polls: false,
        max_sockets: 1000,
        by_process: false,
        events: true,
        count: None,
        findings: None,
        metrics: None,
    }
}

/// Text without colour, in UTC, as `--time utc` gives.
pub(crate) fn plain() -> TextOptions {
    let time = TimeStyle::Wall(TimeZone::UTC);
    TextOptions { time, color: false, owner_columns: false, columns: Vec::new(), fits: false }
}

/// A time zone that is never UTC, and the same on all machines.
pub(crate) fn zone() -> TimeZone {
    TimeZone::fixed(Offset::constant(2))
}

/// Renderers for each form of output.
pub(crate) fn text(options: TextOptions) -> Renderer {
    Renderer::Text(Text::new(options))
}

/// See [`text`].
pub(crate) fn json() -> Renderer {
    Renderer::Json(Json::default())
}

/// See [`text`].
pub(crate) fn csv() -> Renderer {
    Renderer::Csv(Csv::default())
}

/// See [`text`]; stories of the connections with this port.
pub(crate) fn ladder(port: u16, color: bool) -> Renderer {
    let stories = Stories::new(StoryFilter::Port(port), Limits::default());
    let ladder = Ladder::new(color, TimeStyle::Wall(TimeZone::UTC));
    Renderer::Story(Box::new(stories), StoryForm::Text(ladder))
}

/// See [`ladder`]; as JSON.
pub(crate) fn stories_json(port: u16) -> Renderer {
    let stories = Stories::new(StoryFilter::Port(port), Limits::default());
    Renderer::Story(Box::new(stories), StoryForm::Json(Json::default()))
}

/// See [`text`]; one page about all.
pub(crate) fn page() -> Renderer {
    Renderer::Page(Box::default(), Page { recorded_by: "0.1.0".to_owned(), ..Page::default() })
}

/// A session that began when streams begin.
pub(crate) fn session(settings: SessionSettings, renderer: Renderer) -> Session {
    Session::new(settings, vec![Route::new(renderer, RecordFilter::default())], context(), START_NS)
}

/// All that the program prints for a stream that is over a second after its last record.
pub(crate) fn replay(stream: &Stream, settings: SessionSettings, renderer: Renderer) -> String {
    let mut session = session(settings, renderer);
    for record in split(&stream.bytes) {
        session.ingest(record.unwrap());
    }
    let end_ns = stream.now_ns + 1_000_000_000;
    session.finish(end_ns);
    session.end(end_ns, "interrupted", &[]);
    output(&mut session)
}

/// What a session printed since the last call.
pub(crate) fn output(session: &mut Session) -> String {
    let taken: Vec<_> = session.take().collect();
    String::from_utf8(taken.iter().flat_map(|records| records.bytes().to_vec()).collect()).unwrap()
}
