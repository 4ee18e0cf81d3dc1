//! Summaries of `--aggregate` as CSV: a row for each transition, kind of event and ending, in total and for each port or
//! cgroup.

use std::iter;

use bytes::BytesMut;

use super::{csv::Csv, fields::number};
use crate::{
    analysis::report::{Activity, Key, Report, TransitionRow},
    model::{close_reason::CloseReason, errno, time::WallOffset},
    render::fields::FieldValue::{self, Flag, Null, Number, Text, Time},
};

/// The values of a row that differ between its kinds.
#[derive(Clone, Default)]
struct Row<'a> {
    what: &'static str,
    count: u64,
    transition: Option<&'a TransitionRow>,
    ending: Option<CloseReason>,
}

impl Csv {
    /// Writes a report.
    pub fn report(&mut self, to: &mut BytesMut, report: &Report, wall: WallOffset) {
        let all = (None, &report.activity, &report.transitions, &report.endings);
        let keys = report.keys.iter().flatten();
        let keys = keys.map(|row| (Some(&row.key), &row.activity, &row.transitions, &row.endings));
        for (key, activity, transitions, endings) in iter::once(all).chain(keys) {
            let transitions = transitions.iter().map(|row| Row {
                what: "transition",
                count: row.count,
                transition: Some(row),
                ..Row::default()
            });
            let endings = endings.iter().map(|(ending, count)| Row {
                what: "ending",
                count: *count,
                ending: Some(*ending),
                ..Row::default()
            });
            for row in transitions.chain(endings).chain(events(activity)) {
                self.row(to, fields(report, wall, key, &row).into_iter());
            }
        }
    }
}

/// The kinds of events that have only a count.
fn events<'a>(activity: &Activity) -> impl Iterator<Item = Row<'a>> + use<'a> {
    let counts = [
        ("retransmit", activity.retransmits),
        ("reset_sent", activity.resets_sent),
        ("reset_received", activity.resets_received),
    ];
    counts.into_iter().map(|(what, count)| Row { what, count, ..Row::default() })
}

fn fields<'a>(
    report: &Report,
    wall: WallOffset,
    key: Option<&'a Key>,
    row: &Row<'a>,
) -> [(&'static str, FieldValue<'a>); 19] {
    let (by, port, cgroup) = match key {
        None => ("all", None, None),
        Some(Key::Port(port)) => ("port", *port, None),
        Some(Key::Cgroup(cgroup)) => ("cgroup", None, cgroup.as_ref()),
        Some(Key::Other) => ("other", None, None),
    };
    let path = cgroup.and_then(|(_, path)| path.as_deref());
    let times = row.transition.and_then(|row| row.times);
    let errno = row.ending.and_then(CloseReason::errno).and_then(errno::name);
    [
        ("time", Time(wall.wall_ns(report.now_ns))),
        ("mono_ns", Number(report.now_ns)),
        ("final", Flag(report.is_final)),
        ("span_ns", Number(report.span_ns)),
        ("by", Text(by)),
        ("port", number(port)),
        ("cgroup_id", number(cgroup.map(|(id, _)| *id))),
        ("cgroup", path.map_or(Null, Text)),
        ("what", Text(row.what)),
        ("old_state", row.transition.map_or(Null, |row| Text(row.old.name()))),
        ("new_state", row.transition.map_or(Null, |row| Text(row.new.name()))),
        ("ending", row.ending.map_or(Null, |ending| Text(ending.name()))),
        ("errno", errno.map_or(Null, Text)),
        ("count", Number(row.count)),
        ("timed", number(row.transition.map(|row| row.timed))),
        ("p50_ns", number(times.map(|times| times.p50_ns))),
        ("p90_ns", number(times.map(|times| times.p90_ns))),
        ("p99_ns", number(times.map(|times| times.p99_ns))),
        ("max_ns", number(times.map(|times| times.max_ns))),
    ]
}
