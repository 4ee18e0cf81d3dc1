//! The state machine of RFC 9293 (figure 5), with the number of sockets in each state, and for each transition its rate and
//! how long sockets were in the state before.

use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    page::wrap_into,
    processes::{count_words, rate_words},
    scene::Scene,
    theme::{Emphasis, Theme, of_state},
};
use crate::{
    analysis::overview::EdgeLine,
    model::{
        state::State::{
            self, Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent,
            TimeWait,
        },
        time::human,
    },
};

/// Size of the drawing, without what follows below.
const SIZE: (u16, u16) = (60, 14);
/// Width of the table of transitions.
const TABLE: u16 = 79;

const LINES: [&str; SIZE.1 as usize] = [
    "   ┌────────────────── CLOSE ─────────┐",
    "   │                                  │",
    "   ▼                                  ▼",
    "   │                                  │",
    "   ▼                                  │",
    "   │                                  │",
    "   └────────►                  ◄──────┘",
    "   ┌────────────────┴─────────────────┐",
    "   │                                  │",
    "               ───────────────────┐    ",
    "   │                              │   │",
    "                                  │    ",
    "   │                              │   │",
    "                  ◄               ┘    ",
];

/// Where each state stands; CLOSE also stands at the top, in the drawing.
const NODES: [(State, u16, u16); 11] = [
    (Listen, 2, 2),
    (SynSent, 37, 2),
    (SynRecv, 2, 4),
    (Established, 14, 6),
    (FinWait1, 2, 9),
    (CloseWait, 37, 9),
    (FinWait2, 2, 11),
    (LastAck, 37, 11),
    (TimeWait, 2, 13),
    (Closing, 20, 13),
    (Close, 37, 13),
];

/// Where the figures of each transition stand.
const EDGES: [(State, State, u16, u16); 11] = [
    (Close, Listen, 5, 1),
    (Close, SynSent, 40, 1),
    (Listen, SynRecv, 5, 3),
    (SynSent, Established, 40, 4),
    (SynRecv, Established, 5, 5),
    (Established, FinWait1, 5, 8),
    (Established, CloseWait, 40, 8),
    (FinWait1, FinWait2, 5, 10),
    (CloseWait, LastAck, 40, 10),
    (FinWait2, TimeWait, 5, 12),
    (LastAck, Close, 40, 12),
];
/// Transitions that are drawn with their rate alone, to the left of their line.
const RATES: [(State, State, u16, u16); 1] = [(FinWait1, Closing, 33, 10)];

/// Draws the states; `chosen` is the one that keys move.
pub(super) fn draw(scene: &Scene, chosen: State, theme: Theme, area: Rect, to: &mut Buffer) {
    let is_beside = area.width >= SIZE.0 + 2 + TABLE;
    let drawing = Rect { width: area.width.min(SIZE.0), ..area };
    let y = drawing_of(scene, chosen, theme, drawing, to);
    let table = if is_beside {
        Rect { x: area.x + SIZE.0 + 2, width: area.width - SIZE.0 - 2, ..area }
    } else {
        let top = (y + 1).min(area.bottom());
        Rect { y: top, height: area.bottom() - top, ..area }
    };
    if table.height >= 3 {
        edges(scene, theme, table, to);
    }
}

/// Draws the machine, and returns the line after it.
fn drawing_of(scene: &Scene, chosen: State, theme: Theme, area: Rect, to: &mut Buffer) -> u16 {
    let put = |to: &mut Buffer, x: u16, y: u16, text: &str, style| {
        if y < area.height && x < area.width {
            to.set_stringn(area.x + x, area.y + y, text, usize::from(area.width - x), style);
        }
    };
    for (y, line) in LINES.iter().enumerate() {
        put(to, 0, y as u16, line, theme.frame());
    }
    put(to, 23, 0, "CLOSE", theme.of(Emphasis::Dim));
    for (state, x, y) in NODES {
        let count = scene.overview.states[state.index()];
        let text = if state == Close { state.name().to_owned() } else { format!("{state} {}", count_words(count)) };
        let style = theme.of(if count == 0 { Emphasis::Dim } else { of_state(state) });
        put(to, x, y, &text, style);
        if state == chosen {
            put(to, x.saturating_sub(1), y, ">", theme.title());
            let width = (text.len() as u16).min(area.width.saturating_sub(x));
            if y < area.height {
                to.set_style(Rect { x: area.x + x, y: area.y + y, width, height: 1 }, theme.chosen());
            }
        }
    }
    put(to, 33, 13, "◄", theme.frame());
    let find =
        |old: State, new: State| scene.overview.edges.iter().find(|edge| (edge.row.old, edge.row.new) == (old, new));
    for (old, new, x, y) in EDGES {
        let (text, emphasis) = match find(old, new) {
            Some(edge) => (figures(edge), Emphasis::Plain),
            None => ("-".to_owned(), Emphasis::Dim),
        };
        put(to, x, y, &text, theme.of(emphasis));
    }
    for (old, new, end, y) in RATES {
        let text = find(old, new).map_or_else(|| "-".to_owned(), |edge| rate_words(edge.rate));
        put(to, end - text.len() as u16, y, &text, theme.of(Emphasis::Dim));
    }
    let is_drawn = |edge: &&EdgeLine| {
        let ends = (edge.row.old, edge.row.new);
        EDGES.iter().chain(&RATES).any(|(old, new, ..)| (*old, *new) == ends)
    };
    let others: Vec<_> = scene.overview.edges.iter().filter(|edge| !is_drawn(edge)).collect();
    let mut lines = Vec::new();
    if !others.is_empty() {
        let words = others
            .iter()
            .map(|edge| format!("{} → {} {}", edge.row.old, edge.row.new, rate_words(edge.rate)))
            .collect::<Vec<_>>()
            .join(", ");
        wrap_into(&mut lines, &format!("Also: {words}"), area.width, 2, theme.of(Emphasis::Plain));
    }
    let legend = "per second, p50 and p99 of the time in the state before";
    wrap_into(&mut lines, legend, area.width, 2, theme.of(Emphasis::Dim));
    for (line, (text, style)) in lines.iter().enumerate() {
        put(to, 0, SIZE.1 + line as u16, text, *style);
    }
    area.y + SIZE.1 + lines.len() as u16
}

/// Rate, p50 and p99.
fn figures(edge: &EdgeLine) -> String {
    let rate = rate_words(edge.rate);
    match edge.row.times {
        Some(times) => format!("{rate} {} {}", human(times.p50_ns), human(times.p99_ns)),
        None => format!("{rate} - -"),
    }
}

/// All transitions that were seen.
fn edges(scene: &Scene, theme: Theme, area: Rect, to: &mut Buffer) {
    let line = |cells: [&str; 7]| {
        let [edge, count, rate, p50, p90, p99, max] = cells;
        format!("{edge:<26} {count:>7} {rate:>7} {p50:>8} {p90:>8} {p99:>8} {max:>8}")
    };
    let title = format!("Transition (in {})", human(scene.counted_ns));
    let heading = line([&title, "Count", "/s", "p50", "p90", "p99", "max"]);
    to.set_stringn(area.x, area.y, heading, area.width.into(), theme.heading());
    for (y, edge) in (area.y + 1..area.bottom()).zip(&scene.overview.edges) {
        let EdgeLine { row, rate } = edge;
        let times = row.times.map(|times| [times.p50_ns, times.p90_ns, times.p99_ns, times.max_ns].map(human));
        let times = times.unwrap_or_else(|| std::array::from_fn(|_| "-".to_owned()));
        let [p50, p90, p99, max] = times.each_ref().map(String::as_str);
        let name = format!("{} → {}", row.old, row.new);
        let text = line([&name, &count_words(row.count), &rate_words(*rate), p50, p90, p99, max]);
        to.set_stringn(area.x, y, text, area.width.into(), theme.of(of_state(row.new)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_and_every_transition_of_the_figure_is_drawn() {
        assert!(State::ALL.iter().all(|state| NODES.iter().any(|(drawn, ..)| drawn == state)));
        for line in LINES {
            assert!(line.chars().count() <= usize::from(SIZE.0), "{line}");
        }
        for (state, x, y) in NODES {
            assert!(x + state.name().len() as u16 + 6 <= SIZE.0 && y < SIZE.1, "{state}");
        }
        let longest = "999k 59.9ms 59.9ms".len() as u16;
        assert!(EDGES.iter().all(|(_, _, x, y)| x + longest <= SIZE.0 && *y < SIZE.1));
    }
}
