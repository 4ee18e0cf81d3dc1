//! How long transitions took over time: for each phase of a connection's life a map of times by interval, with the median and
//! the 99th percentile as lines; and a table of both.

use super::{
    svg::{self, line, ticks},
    words::{thousands, time_of_day},
    writer::Html,
};
use crate::{
    analysis::postmortem::{LatencyMap, Phase, Times},
    model::time::human,
};

const WIDTH: f64 = 960.0;
/// Where the map begins and ends.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 950.0;
const TOP: f64 = 26.0;
/// Height of an octave of times.
const ROW: f64 = 11.0;
/// Most rows of the table.
const INTERVALS: usize = 24;
/// Levels of darkness; each stands for four times as many as the one before.
const LEVELS: [&str; 6] = ["h1", "h2", "h3", "h4", "h5", "h6"];

/// Writes the section.
pub(super) fn write(html: &mut Html<'_>, map: &LatencyMap) {
    html.section("latency", "Latency over time");
    if map.is_empty() {
        html.raw("<p>No time in a state is known exactly.</p></section>\n");
        return;
    }
    html.raw("<p>How long sockets had been in the state that they left, by when they left it. The stronger the colour, the more; the solid line is \
              the median, the dashed line the 99th percentile.</p>\n<ul class=\"legend\" aria-label=\"Sockets in a field\">");
    for (level, class) in LEVELS.iter().enumerate() {
        html.raw("<li><svg viewBox=\"0 0 12 12\" aria-hidden=\"true\"><path class=\"").raw(class);
        html.raw("\" d=\"M0 0h12v12h-12z\"/></svg> ").text(match level {
            0 => "1 to 3".to_owned(),
            5 => format!("{} or more", 4_u32.pow(5)),
            _ => format!("{} to {}", 4_u32.pow(level as u32), 4_u32.pow(level as u32 + 1) - 1),
        });
        html.raw("</li>");
    }
    html.raw("</ul>\n");
    for (phase, name, states) in [
        (Phase::Opening, "opening", "Opening: SYN_SENT and SYN_RECV"),
        (Phase::Open, "open", "Open: ESTABLISHED"),
        (Phase::Closing, "closing", "Closing: the states after it"),
    ] {
        html.raw("<h3>").raw(states).raw("</h3>\n");
        draw(html, map, phase, name, states);
    }
    table(html, map);
    html.raw("</section>\n");
}

fn draw(html: &mut Html<'_>, map: &LatencyMap, phase: Phase, id: &'static str, title: &'static str) {
    let sum = map.within(phase, 0..map.len());
    let octaves = sum.octaves();
    let first = octaves.iter().position(|count| *count > 0);
    let (Some(first), Some(last)) = (first, octaves.iter().rposition(|count| *count > 0)) else {
        html.raw("<p>None.</p>\n");
        return;
    };
    let (first, last) = (first.saturating_sub(1), (last + 1).min(octaves.len() - 1));
    let rows = (last - first + 1) as f64;
    let (bottom, height) = (TOP + rows * ROW, TOP + rows * ROW + 8.0);
    let column = (RIGHT - LEFT) / map.len() as f64;
    let (p50, p99) = (sum.quantile_ns(0.5).unwrap_or(0), sum.quantile_ns(0.99).unwrap_or(0));
    let text = format!(
        "{} times between {} and {}; half of all within {}, 99 of 100 within {}. The table after the pictures has both by interval.",
        thousands(sum.count()),
        human(Times::octave_ns(first)),
        human(Times::octave_ns(last + 1)),
        human(p50),
        human(p99)
    );
    let id = match id {
        "opening" => "opening-svg",
        "open" => "open-svg",
        _ => "closing-svg",
    };
    svg::begin(html, id, (WIDTH, height), title, text);
    let y = |ns: u64| bottom - ((ns.max(1) as f64).log2() - (Times::octave_ns(first) as f64).log2()) * ROW;
    let decades = (3..14).map(|power| 10_u64.pow(power));
    let lowest = Times::octave_ns(first);
    for ns in decades.filter(|ns| *ns >= lowest && y(*ns) >= TOP) {
        line(html, "grid", [LEFT, y(ns), RIGHT, y(ns)]);
        svg::text(html, "axis end", LEFT - 8.0, y(ns) + 4.0, round(ns));
    }
    cells(html, map, phase, (first, last), column, bottom);
    let end_ns = map.start_ns() + map.width_ns().saturating_mul(map.len() as i64);
    let span = (end_ns - map.start_ns()).max(1) as f64;
    for tick in ticks(map.start_ns(), end_ns, 7) {
        let x = LEFT + (tick - map.start_ns()) as f64 / span * (RIGHT - LEFT);
        line(html, "tick", [x, TOP - 6.0, x, TOP]);
        let class = if x > WIDTH - 60.0 { "axis end" } else { "axis mid" };
        svg::text(html, class, x, TOP - 11.0, time_of_day(tick, if span < 5e9 { 3 } else { 0 }));
    }
    for (quantile, class) in [(0.5, "p50"), (0.99, "p99")] {
        curve(html, map, phase, quantile, class, column, &y);
    }
    svg::end(html);
}

/// Writes the fields: one path for each level of darkness.
fn cells(html: &mut Html<'_>, map: &LatencyMap, phase: Phase, (first, last): (usize, usize), column: f64, bottom: f64) {
    let mut by_level: [Vec<(usize, usize)>; 6] = Default::default();
    for (place, times) in map.columns(phase).enumerate() {
        let Some(times) = times else { continue };
        for (octave, count) in times.octaves().into_iter().enumerate().take(last + 1).skip(first) {
            if let Some(level) = count.checked_ilog2().map(|log| (log / 2).min(5) as usize)
                && let Some(fields) = by_level.get_mut(level)
            {
                fields.push((place, octave));
            }
        }
    }
    for (fields, class) in by_level.iter().zip(LEVELS).filter(|(fields, _)| !fields.is_empty()) {
        html.raw("<path class=\"").raw(class).raw("\" d=\"");
        for (place, octave) in fields {
            let (x, y) = (LEFT + *place as f64 * column, bottom - (octave - first + 1) as f64 * ROW);
            html.raw("M").number(x).raw(" ").number(y).raw("h").number(column.max(1.0)).raw("v").number(ROW);
            html.raw("H").number(x).raw("z");
        }
        html.raw("\"/>\n");
    }
}

/// Writes a percentile over time; it is interrupted where there are no times.
fn curve(
    html: &mut Html<'_>,
    map: &LatencyMap,
    phase: Phase,
    quantile: f64,
    class: &'static str,
    column: f64,
    y: &dyn Fn(u64) -> f64,
) {
    html.raw("<path class=\"").raw(class).raw("\" d=\"");
    let mut is_drawing = false;
    for (place, times) in map.columns(phase).enumerate() {
        let Some(ns) = times.and_then(|times| times.quantile_ns(quantile)) else {
            is_drawing = false;
            continue;
        };
        let x = LEFT + place as f64 * column;
        html.raw(if is_drawing { "L" } else { "M" }).number(x).raw(" ").number(y(ns)).raw("h").number(column);
        is_drawing = true;
    }
    html.raw("\"/>\n");
}

/// A power of ten as time.
fn round(ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms")];
    let (unit, name) = units.into_iter().find(|(unit, _)| ns >= *unit).unwrap_or((1_000, "µs"));
    format!("{} {name}", ns / unit)
}

fn table(html: &mut Html<'_>, map: &LatencyMap) {
    let each = map.len().div_ceil(INTERVALS).max(1);
    let width = map.width_ns().saturating_mul(each as i64);
    let caption = format!("Time in the state before, by interval of {}", human(width.unsigned_abs()));
    html.raw("<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"").text(&caption);
    html.raw("\"><table><caption>")
        .text(&caption)
        .raw("</caption><thead><tr><th scope=\"col\" rowspan=\"2\">From</th>");
    for name in ["Opening", "Open", "Closing"] {
        html.raw("<th scope=\"colgroup\" colspan=\"3\">").raw(name).raw("</th>");
    }
    html.raw("</tr><tr>");
    for _ in Phase::ALL {
        html.raw("<th scope=\"col\" class=\"n\">Times</th><th scope=\"col\" class=\"n\">p50</th><th scope=\"col\" class=\"n\">p99</th>");
    }
    html.raw("</tr></thead><tbody>\n");
    for place in (0..map.len()).step_by(each) {
        let times = Phase::ALL.map(|phase| map.within(phase, place..place + each));
        if times.iter().all(|times| times.count() == 0) {
            continue;
        }
        let begin = map.start_ns() + map.width_ns().saturating_mul(place as i64);
        html.raw("<tr><th scope=\"row\" class=\"t\">")
            .text(time_of_day(begin, if width < 1_000_000_000 { 3 } else { 0 }));
        html.raw("</th>");
        for times in times {
            let shown = |quantile| times.quantile_ns(quantile).map_or_else(|| "–".to_owned(), human);
            for cell in [thousands(times.count()), shown(0.5), shown(0.99)] {
                html.raw("<td class=\"n\">").text(cell).raw("</td>");
            }
        }
        html.raw("</tr>\n");
    }
    html.end_table();
}
