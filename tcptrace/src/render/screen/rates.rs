//! Events per second over the last minutes.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    widgets::{Sparkline, Widget as _},
};

use super::{
    processes::count_words,
    scene::Scene,
    theme::{Emphasis, Theme},
};
use crate::analysis::overview::history::Second;

/// A line of numbers.
struct Series {
    name: &'static str,
    value: fn(&Second) -> u64,
    emphasis: Emphasis,
}

const fn series(name: &'static str, value: fn(&Second) -> u64, emphasis: Emphasis) -> Series {
    Series { name, value, emphasis }
}

const ALL: [Series; 8] = [
    series("opened", |second| second.opened, Emphasis::Good),
    series("came in", |second| second.came_in, Emphasis::Good),
    series("failed", |second| second.failed, Emphasis::Trouble),
    series("transitions", |second| second.activity.transitions, Emphasis::Plain),
    series("retransmits", |second| second.activity.retransmits, Emphasis::Attention),
    series("RST sent", |second| second.activity.resets_sent, Emphasis::Attention),
    series("RST received", |second| second.activity.resets_received, Emphasis::Attention),
    series("sockets", |second| second.sockets, Emphasis::Plain),
];
/// Columns of name, last and highest value.
const HEAD: u16 = 27;

pub(super) fn draw(scene: &Scene, theme: Theme, area: Rect, to: &mut Buffer) {
    let heading = format!("{:<12} {:>6} {:>6} ", "per second", "now", "max");
    to.set_stringn(area.x, area.y, heading, area.width.into(), theme.heading());
    let width = area.width.saturating_sub(HEAD).max(1);
    let shown = scene.seconds.len().min(width.into());
    let text = format!("last {shown} s");
    to.set_stringn(area.x + HEAD, area.y, text, width.into(), theme.heading());
    let height = (area.height.saturating_sub(1) / ALL.len() as u16).clamp(1, 6);
    let mut y = area.y + 1;
    for series in &ALL {
        if y + height > area.bottom() {
            break;
        }
        let values: Vec<u64> = scene.seconds.iter().rev().take(shown).rev().map(series.value).collect();
        let (last, highest) = (values.last().copied(), values.iter().max().copied().unwrap_or(0));
        let last = last.map_or_else(|| "-".to_owned(), count_words);
        let style = theme.of(if highest == 0 { Emphasis::Dim } else { series.emphasis });
        let text = format!("{:<12} {last:>6} {:>6}", series.name, count_words(highest));
        let base = y + height - 1;
        to.set_stringn(area.x, base, text, area.width.into(), style);
        let lines = Rect { x: area.x + HEAD, y, width, height: if height > 2 { height - 1 } else { height } };
        let lines = Rect { y: y + height - lines.height, ..lines };
        Sparkline::default().data(&values).max(highest.max(1)).style(style).render(lines, to);
        y += height;
    }
}
