//! No form of output passes a foreign name on as it is: what could steer a terminal, hide itself, turn a line around or
//! make a formula of a cell.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use proptest::{collection::vec, prelude::*};
use tcptrace::{
    analysis::story::{Limits, Stories, connection::StoryFilter},
    cli::args::GroupBy,
    findings::Thresholds,
    model::{
        decode::decode,
        event::Command,
        names::Names,
        namespace::Namespace,
        place::Place,
        processes::{ProcessAnswer, ProcessNames, ProcessQuestion, ProcessSource, Processes},
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
        csv::{Csv, Rows},
        json::Json,
        text::{Ladder, StuckText, Text, TextOptions},
    },
    sys::processes,
};

use crate::{
    any_record::{LETTERS, any_record, foreign_name},
    sockets::any_snapshot,
    support::{
        listing::{self, MakeForm},
        records::START_NS,
        replay::{output, page, plain, settings},
        rfc4180,
    },
};

/// The characters as the issue of trusting names has them, written down once more: `tcptrace::model::printable` does not judge
/// itself.
fn is_raw(c: char) -> bool {
    c.is_control()
        || matches!(c as u32, 0xad | 0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff)
        || matches!(c as u32, 0xe000..=0xf8ff | 0xe_0000..=0xe_0fff | 0xf_0000..)
}

fn first_raw(printed: &str) -> Option<String> {
    printed.lines().find(|line| line.contains(is_raw)).map(|line| format!("{:?}", line.escape_debug().to_string()))
}

fn any_name() -> impl Strategy<Value = String> {
    vec(prop::sample::select(&LETTERS[..]), 0..8).prop_map(|letters| letters.concat())
}

/// A name of each kind that a record does not hold.
fn context(name: &str) -> Context {
    let (cgroup, reason) = (name.to_owned(), HashMap::from([(0, name.to_owned())]));
    let mut names = Names::new(reason, Box::new(move |_| Some(format!("/{cgroup}"))));
    names.netns.extend((0..4).map(|inode| (inode, name.to_owned())));
    let executable = name.to_owned();
    let read = move |question: ProcessQuestion| {
        let command = processes::command(executable.as_bytes());
        let args = Some([executable.clone()].into());
        let parent = Some((question.id.0, command));
        let names = ProcessNames { command, executable: Some(executable.clone()), args, ns_pid: None, parent };
        ProcessAnswer {
            names: Some(names),
            place: Some(Arc::new(Place::from_cgroup(&format!("/{executable}.service")))),
        }
    };
    names.processes = Processes::new(ProcessSource::Now(Box::new(read)));
    names.users.extend((0..2000).map(|uid| (uid, name.to_owned())));
    names.services.extend((0..2000).map(|port| (port, name.into())));
    Context::new(WallOffset(1_772_597_167_250_000_000), names)
}

/// Stories are those of an address.
fn renderers(address: IpAddr) -> Vec<Renderer> {
    let stories = || Box::new(Stories::new(StoryFilter::Address(address), Limits::default()));
    vec![
        Renderer::Text(Text::new(TextOptions { owner_columns: true, ..plain() })),
        Renderer::Json(Json::default()),
        Renderer::Csv(Csv::default()),
        Renderer::Csv(Csv::new(Rows::Findings)),
        Renderer::Story(stories(), StoryForm::Json(Json::default())),
        Renderer::Story(stories(), StoryForm::Text(Ladder::new(false, plain().time))),
        Renderer::Stuck(StuckText::new(false, plain().time)),
        page(),
    ]
}

proptest! {
    #[test]
    fn events_findings_and_reports_have_no_raw_character(input in vec(any_record(), 1..40), name in any_name()) {
        for renderer in renderers(decode(&input[0]).unwrap().socket.local.ip()) {
            let settings = SessionSettings { findings: Some(Thresholds::default()), by_process: true, ..settings() };
            let routes = vec![Route::new(renderer, RecordFilter::default())];
            let mut session = Session::new(settings, routes, context(&name), START_NS);
            for record in &input {
                session.ingest(record);
            }
            session.evaluate(START_NS + 1_000_000_000);
            session.finish(START_NS + 2_000_000_000);
            session.end(START_NS + 2_000_000_000, "interrupted", &[]);
            let printed = output(&mut session);
            prop_assert_eq!(first_raw(&printed), None);
        }
    }

    #[test]
    fn listings_have_no_raw_character(mut snapshot in any_snapshot(), name in any_name(), choice: [u8; 16]) {
        snapshot.namespaces = vec![Namespace { inode: 1, name: Some(name), ..Namespace::default() }];
        for socket in &mut snapshot.sockets {
            if let Some(owner) = &mut socket.owner {
                owner.command = Command::new(foreign_name(choice));
            }
        }
        let forms: [MakeForm; 3] = [listing::text, listing::json, listing::csv];
        for by in [&[][..], &[GroupBy::Pid], &[GroupBy::Cgroup], &[GroupBy::Remote], &[GroupBy::Comm, GroupBy::Netns]] {
            for form in forms {
                let printed = listing::printed(&snapshot, &Default::default(), by, form);
                prop_assert_eq!(first_raw(&printed), None);
            }
        }
    }

    #[test]
    fn no_cell_is_a_formula(mut snapshot in any_snapshot(), choice: [u8; 16], sign in "[ ]?[=+@＝-][^0-9\\PC]?[a-z]") {
        let name = Some(sign.clone());
        snapshot.namespaces = vec![Namespace { inode: 1, name, ..Namespace::default() }];
        for socket in &mut snapshot.sockets {
            if let Some(owner) = &mut socket.owner {
                owner.command = Command::new(foreign_name(choice));
            }
        }
        let rows = rfc4180::rows(&listing::printed(&snapshot, &Default::default(), &[], listing::csv)).unwrap();
        for cell in rows.iter().flatten() {
            let is_formula = cell.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
            prop_assert!(!is_formula || cell.parse::<f64>().is_ok(), "{cell}");
        }
    }
}
