//! When findings opened and ended: a picture, and a table of the same.

use super::{
    page::EXPLAINED,
    svg::{self, line, rect, ticks},
    words::{Words, owners, thousands, time_of_day},
    writer::Html,
};
use crate::{
    analysis::{
        postmortem::{Episode, Postmortem},
        report::Report,
    },
    findings::Severity,
    model::time::human,
};

/// Most findings in the picture, and in the table.
const DRAWN: usize = 40;
const LISTED: usize = 200;

const WIDTH: f64 = 960.0;
/// Where the bars begin.
const LEFT: f64 = 300.0;
const ROW: f64 = 24.0;
const TOP: f64 = 28.0;

/// Writes the section.
pub(super) fn write(html: &mut Html<'_>, all: &Postmortem, report: &Report, words: &Words) {
    html.section("timeline", "Findings over time");
    let ranked = all.episodes.ranked();
    if ranked.is_empty() {
        html.raw("<p>There are none.</p></section>\n");
        return;
    }
    draw(html, &ranked, report, words);
    let caption = match ranked.len() {
        len @ ..=LISTED => format!("All {len} findings, the worst first"),
        len => format!("The worst {LISTED} of {len} findings"),
    };
    html.table(caption, &["Finding", "Severity", "Owner", "Where", "#Most", "Opened", "Ended", "#Lasted"]);
    for (place, episode) in ranked.iter().take(LISTED).enumerate() {
        let detection = &episode.detection;
        html.raw("<tr><th scope=\"row\">");
        if place < EXPLAINED {
            html.raw("<a href=\"#finding-").number(episode.number as f64).raw("\">").text(label(episode)).raw("</a>");
        } else {
            html.text(label(episode));
        }
        html.raw("</th><td>");
        severity(html, episode.severity);
        html.raw("</td><td>").text(owners(detection)).raw("</td><td>").text(words.place(detection.subject));
        html.raw("</td><td class=\"n\">").text(thousands(detection.count)).raw("</td><td class=\"t\">");
        html.text(words.time(episode.opened_ns)).raw("</td><td class=\"t\">").text(ended(episode, words));
        html.raw("</td><td class=\"n\">").text(human(episode.seen_ns.saturating_sub(episode.opened_ns)));
        html.raw("</td></tr>\n");
    }
    html.end_table().raw("</section>\n");
}

/// Kind and number.
pub(super) fn label(episode: &Episode) -> String {
    format!("{} #{}", episode.detection.kind.id(), episode.number)
}

/// When it ended, in words.
pub(super) fn ended(episode: &Episode, words: &Words) -> String {
    match episode.merged_into {
        Some(into) => format!("part of #{into}"),
        None if episode.is_over => words.time(episode.seen_ns),
        None => "still there".to_owned(),
    }
}

/// Writes a severity, which is marked by its shape, too.
pub(super) fn severity(html: &mut Html<'_>, severity: Severity) {
    html.raw(match severity {
        Severity::Critical => "<span class=\"sev critical\">◆&nbsp;critical</span>",
        Severity::Warning => "<span class=\"sev warning\">▲&nbsp;warning</span>",
        Severity::Info => "<span class=\"sev info\">●&nbsp;info</span>",
    });
}

fn draw(html: &mut Html<'_>, ranked: &[&Episode], report: &Report, words: &Words) {
    let mut drawn: Vec<_> = ranked.iter().take(DRAWN).collect();
    drawn.sort_by_key(|episode| (episode.opened_ns, episode.number));
    let height = TOP + drawn.len() as f64 * ROW + 8.0;
    let start_ns = report.now_ns.saturating_sub(report.span_ns);
    let (from_ns, to_ns) = (words.wall.wall_ns(start_ns), words.wall.wall_ns(report.now_ns));
    let span = (to_ns - from_ns).max(1) as f64;
    let x = |wall_ns: i64| LEFT + ((wall_ns - from_ns) as f64 / span).clamp(0.0, 1.0) * (WIDTH - LEFT - 10.0);
    let left_out = ranked.len() - drawn.len();
    let text =
        format!("A bar for each finding, from its opening to its end; {left_out} less important ones are left out.");
    svg::begin(html, "timeline-svg", (WIDTH, height), "Findings over time", text);
    let digits = if span < 5e9 { 3 } else { 0 };
    for tick in ticks(from_ns, to_ns, 6) {
        line(html, "grid", [x(tick), TOP - 8.0, x(tick), height]);
        let class = if x(tick) > WIDTH - 60.0 { "axis end" } else { "axis mid" };
        svg::text(html, class, x(tick).min(WIDTH), TOP - 14.0, time_of_day(tick, digits));
    }
    for (row, episode) in drawn.iter().enumerate() {
        let y = TOP + row as f64 * ROW;
        let (mark, bar, name) = match episode.severity {
            Severity::Critical => ("◆", "bar critical", "name critical"),
            Severity::Warning => ("▲", "bar warning", "name warning"),
            Severity::Info => ("●", "bar info", "name info"),
        };
        svg::text(html, name, 0.0, y + 14.0, mark);
        svg::text(html, "name", 18.0, y + 14.0, label(episode));
        let (begin, end) = (x(words.wall.wall_ns(episode.opened_ns)), x(words.wall.wall_ns(episode.seen_ns)));
        let end = if episode.is_over { end } else { x(to_ns) };
        rect(html, bar, [begin, y + 3.0, (end - begin).max(3.0), ROW - 10.0]);
        if !episode.is_over {
            svg::text(html, "open", WIDTH - 10.0, y + 14.5, "▸");
        }
    }
    svg::end(html);
}
