//! The TCP state machine with the number of transitions on each edge, and how long they took.

use super::{
    svg::{self, line, rect},
    words::{count, thousands},
    writer::Html,
};
use crate::{
    analysis::report::{Report, TransitionRow},
    model::{
        state::State::{
            self, Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent,
            TimeWait,
        },
        time::human,
    },
};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 850.0;
/// Size of a state.
const NODE: (f64, f64) = (124.0, 36.0);

/// A state on the picture: its name, and its centre.
const NODES: [(State, f64, f64); 10] = [
    (Listen, 270.0, 150.0),
    (SynSent, 730.0, 150.0),
    (SynRecv, 270.0, 265.0),
    (Established, 500.0, 380.0),
    (FinWait1, 330.0, 495.0),
    (CloseWait, 730.0, 495.0),
    (FinWait2, 170.0, 610.0),
    (Closing, 480.0, 610.0),
    (LastAck, 730.0, 610.0),
    (TimeWait, 310.0, 725.0),
];

/// An edge: the way of its line, where its numbers stand, and on which side of that point (-1 left, 0 middle, 1 right).
struct Edge(State, State, &'static [(f64, f64)], (f64, f64), i8);

/// The edges. Those into CLOSE end at a bar of their own at the bottom, so that few lines cross.
const EDGES: [Edge; 25] = [
    Edge(Close, Listen, &[(440.0, 58.0), (310.0, 132.0)], (362.0, 88.0), -1),
    Edge(Close, SynSent, &[(560.0, 58.0), (690.0, 132.0)], (638.0, 88.0), 1),
    Edge(Listen, SynRecv, &[(270.0, 168.0), (270.0, 247.0)], (278.0, 205.0), 1),
    Edge(Listen, Close, &[(208.0, 150.0), (22.0, 150.0), (22.0, 802.0)], (30.0, 178.0), 1),
    Edge(SynSent, SynRecv, &[(668.0, 158.0), (332.0, 256.0)], (500.0, 190.0), 0),
    Edge(SynSent, Established, &[(700.0, 168.0), (540.0, 362.0)], (640.0, 262.0), 1),
    Edge(SynSent, Close, &[(792.0, 150.0), (965.0, 150.0), (965.0, 802.0)], (957.0, 178.0), -1),
    Edge(SynRecv, Established, &[(332.0, 274.0), (460.0, 362.0)], (412.0, 312.0), 1),
    Edge(SynRecv, FinWait1, &[(285.0, 283.0), (312.0, 477.0)], (288.0, 345.0), -1),
    Edge(SynRecv, Close, &[(208.0, 265.0), (46.0, 265.0), (46.0, 802.0)], (54.0, 293.0), 1),
    Edge(Established, FinWait1, &[(460.0, 398.0), (365.0, 477.0)], (405.0, 425.0), -1),
    Edge(Established, CloseWait, &[(562.0, 388.0), (700.0, 477.0)], (650.0, 425.0), 1),
    Edge(Established, Close, &[(545.0, 398.0), (600.0, 470.0), (600.0, 802.0)], (608.0, 690.0), 1),
    Edge(FinWait1, FinWait2, &[(285.0, 513.0), (195.0, 592.0)], (232.0, 545.0), -1),
    Edge(FinWait1, Closing, &[(375.0, 513.0), (455.0, 592.0)], (428.0, 540.0), 1),
    Edge(FinWait1, TimeWait, &[(325.0, 513.0), (312.0, 707.0)], (312.0, 622.0), 0),
    Edge(FinWait1, Close, &[(388.0, 513.0), (392.0, 802.0)], (400.0, 765.0), 1),
    Edge(FinWait2, TimeWait, &[(195.0, 628.0), (272.0, 707.0)], (226.0, 670.0), -1),
    Edge(FinWait2, Close, &[(140.0, 628.0), (140.0, 802.0)], (132.0, 730.0), -1),
    Edge(Closing, TimeWait, &[(440.0, 628.0), (368.0, 707.0)], (412.0, 680.0), 1),
    Edge(Closing, Close, &[(510.0, 628.0), (510.0, 802.0)], (518.0, 735.0), 1),
    Edge(TimeWait, Close, &[(310.0, 743.0), (310.0, 802.0)], (300.0, 770.0), -1),
    Edge(CloseWait, LastAck, &[(730.0, 513.0), (730.0, 592.0)], (738.0, 550.0), 1),
    Edge(CloseWait, Close, &[(792.0, 495.0), (880.0, 495.0), (880.0, 802.0)], (872.0, 650.0), -1),
    Edge(LastAck, Close, &[(730.0, 628.0), (730.0, 802.0)], (738.0, 745.0), 1),
];

/// Writes the section.
pub(super) fn write(html: &mut Html<'_>, report: &Report) {
    html.section("machine", "State machine");
    if report.transitions.is_empty() {
        html.raw("<p>There was no change of state.</p></section>\n");
        return;
    }
    html.raw(
        "<p>How often sockets went from one state to another, and how long they had been in the state that they left: \
              median, and the time that 99 of 100 did not exceed.</p>\n",
    );
    draw(html, report);
    table(html, report);
    html.raw("</section>\n");
}

fn table(html: &mut Html<'_>, report: &Report) {
    html.table(
        "Changes of state, and the time in the state before",
        &["From", "To", "#Times", "#Known times", "#p50", "#p90", "#p99", "#Longest"],
    );
    for row in &report.transitions {
        html.raw("<tr><th scope=\"row\">").text(row.old).raw("</th><td>").text(row.new).raw("</td>");
        let times = row.times;
        let shown = |time: Option<u64>| time.map_or_else(|| "–".to_owned(), human);
        let cells = [
            thousands(row.count),
            thousands(row.timed),
            shown(times.map(|times| times.p50_ns)),
            shown(times.map(|times| times.p90_ns)),
            shown(times.map(|times| times.p99_ns)),
            shown(times.map(|times| times.max_ns)),
        ];
        for cell in cells {
            html.raw("<td class=\"n\">").text(cell).raw("</td>");
        }
        html.raw("</tr>\n");
    }
    html.end_table();
}

fn draw(html: &mut Html<'_>, report: &Report) {
    let rows = |edge: &Edge| report.transitions.iter().find(|row| (row.old, row.new) == (edge.0, edge.1));
    let is_drawn = |row: &&TransitionRow| EDGES.iter().any(|edge| (edge.0, edge.1) == (row.old, row.new));
    let others = report.transitions.len() - report.transitions.iter().filter(is_drawn).count();
    let text = match others {
        0 => "States as boxes and changes of state as arrows, with their numbers; the table after it has the same."
            .to_owned(),
        _ => format!(
            "States as boxes and changes of state as arrows, with their numbers; {} only in the table after it.",
            count(others as u64, "more stands", "more stand")
        ),
    };
    svg::begin(html, "machine-svg", (WIDTH, HEIGHT), "TCP state machine", text);
    html.raw(
        "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path class=\"tip\" d=\"M0 0L8 4L0 8z\"/></marker></defs>\n",
    );
    // Those that were not used lie below the others.
    for edge in EDGES.iter().filter(|edge| rows(edge).is_none()) {
        path(html, edge, "edge unused");
    }
    for edge in &EDGES {
        if let Some(row) = rows(edge) {
            path(
                html,
                edge,
                match row.count {
                    ..10 => "edge",
                    10..1000 => "edge often",
                    _ => "edge most",
                },
            );
        }
    }
    bar(html, "CLOSE", 40.0, [380.0, 22.0, 240.0, 36.0]);
    bar(html, "CLOSE", 820.0, [10.0, 802.0, WIDTH - 20.0, 36.0]);
    for (state, x, y) in NODES {
        rect(html, "node", [x - NODE.0 / 2.0, y - NODE.1 / 2.0, NODE.0, NODE.1]);
        svg::text(html, "state mid", x, y + 5.0, state);
    }
    for edge in &EDGES {
        let Some(row) = rows(edge) else { continue };
        let (x, y) = edge.3;
        let [many, times] = match edge.4 {
            -1 => ["many end", "times end"],
            0 => ["many mid", "times mid"],
            _ => ["many", "times"],
        };
        svg::text(html, many, x, y, thousands(row.count));
        if let Some(percentiles) = row.times {
            let text = format!("{} · {}", human(percentiles.p50_ns), human(percentiles.p99_ns));
            svg::text(html, times, x, y + 14.0, text);
        }
    }
    svg::text(html, "axis", 0.0, 14.0, "On each arrow: how often, and p50 · p99 of the time in the state before");
    svg::end(html);
}

fn bar(html: &mut Html<'_>, name: &'static str, y: f64, at: [f64; 4]) {
    rect(html, "node", at);
    svg::text(html, "state mid", WIDTH / 2.0, y + 5.0, name);
}

fn path(html: &mut Html<'_>, edge: &Edge, class: &'static str) {
    for (place, pair) in edge.2.windows(2).enumerate() {
        let [(x1, y1), (x2, y2)] = pair else { continue };
        let is_last = place + 2 == edge.2.len();
        if is_last {
            html.raw("<g class=\"tipped\">");
        }
        line(html, class, [*x1, *y1, *x2, *y2]);
        if is_last {
            html.raw("</g>");
        }
    }
    html.raw("\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_edge_is_drawn_once_between_states_of_the_picture() {
        for (place, edge) in EDGES.iter().enumerate() {
            assert!(EDGES[..place].iter().all(|other| (other.0, other.1) != (edge.0, edge.1)), "{} {}", edge.0, edge.1);
            assert!(edge.2.len() >= 2);
            for (x, y) in edge.2.iter().chain([&edge.3]) {
                assert!((0.0..=WIDTH).contains(x) && (0.0..=HEIGHT).contains(y), "{} {}", edge.0, edge.1);
            }
            let near = |state: State, (x, y): (f64, f64)| {
                let node = NODES.iter().find(|node| node.0 == state);
                node.is_none_or(|(_, at_x, at_y)| {
                    (x - at_x).abs() <= NODE.0 / 2.0 + 1.0 && (y - at_y).abs() <= NODE.1 / 2.0 + 1.0
                })
            };
            assert!(near(edge.0, edge.2[0]), "{} to {} begins elsewhere", edge.0, edge.1);
            assert!(near(edge.1, edge.2[edge.2.len() - 1]), "{} to {} ends elsewhere", edge.0, edge.1);
        }
    }
}
