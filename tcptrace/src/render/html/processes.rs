//! Processes: what they did, the sockets that they have at the end, and where they run.

use std::collections::BTreeMap;

use super::{
    words::{place_and_executable, process, thousands},
    writer::Html,
};
use crate::{
    analysis::{
        postmortem::Postmortem,
        report::{Activity, Report},
    },
    model::{
        event::{Command, Owner},
        state::State,
    },
    render::context::Context,
};

/// Most processes in the table.
const LISTED: usize = 60;

#[derive(Default)]
struct Row {
    activity: Activity,
    owner: Option<Owner>,
    sockets: [u64; State::ALL.len()],
}

/// Writes the section.
pub(super) fn write(html: &mut Html<'_>, all: &Postmortem, report: &Report, context: &mut Context) {
    html.section("processes", "Processes");
    let mut rows: BTreeMap<Option<(u32, Command)>, Row> = BTreeMap::new();
    for active in report.processes.iter().flatten() {
        let owner = active.process.and_then(|process| all.owner(process).copied());
        rows.insert(active.process, Row { activity: active.activity, owner, ..Row::default() });
    }
    for alive in report.sockets.iter().flatten() {
        let row = rows.entry(alive.owner.map(|owner| (owner.pid, owner.command))).or_default();
        row.owner = row.owner.or(alive.owner);
        if let Some(count) = row.sockets.get_mut(alive.state.index()) {
            *count += alive.count;
        }
    }
    if rows.is_empty() {
        html.raw("<p>There are none.</p></section>\n");
        return;
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(process, row)| {
        let alive: u64 = row.sockets.iter().sum();
        (std::cmp::Reverse(row.activity.total() + alive), *process)
    });
    let left_out = rows.len().saturating_sub(LISTED);
    if left_out > 0 {
        html.raw("<p>").number(left_out as f64).raw(" with the least are left out.</p>\n");
    }
    let columns = [
        "Process",
        "#Changes of state",
        "#Retransmits",
        "#RSTs sent",
        "#RSTs received",
        "Sockets at the end",
        "Runs in",
        "Executable",
    ];
    html.table("Processes with the most events and sockets", &columns);
    for (whose, row) in rows.iter().take(LISTED) {
        html.raw("<tr><th scope=\"row\">").text(process(*whose)).raw("</th>");
        let Activity { transitions, retransmits, resets_sent, resets_received } = row.activity;
        for count in [transitions, retransmits, resets_sent, resets_received] {
            html.raw("<td class=\"n\">").text(thousands(count)).raw("</td>");
        }
        let sockets = State::ALL.iter().zip(row.sockets).filter(|(_, count)| *count > 0);
        let sockets: Vec<_> = sockets.map(|(state, count)| format!("{} {state}", thousands(count))).collect();
        let (place, executable) = place_and_executable(row.owner.as_ref(), &mut context.names);
        html.raw("<td>").text(sockets.join(", ")).raw("</td><td>").text(place).raw("</td><td>").text(executable);
        html.raw("</td></tr>\n");
    }
    html.end_table().raw("</section>\n");
}
