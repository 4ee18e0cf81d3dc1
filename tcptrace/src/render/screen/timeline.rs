//! The line at the bottom of a replay: where it is, how fast it goes, and where findings opened.

use ratatui::{buffer::Buffer, layout::Rect};

use super::theme::{Emphasis, Theme};

/// Where a replay is. Times are CLOCK_MONOTONIC in ns.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// The first and the last time of the recording.
    pub span: (u64, u64),
    /// The time that is shown.
    pub now_ns: u64,
    /// How many times faster than it was.
    pub speed: f64,
    /// True if it stands still.
    pub is_paused: bool,
    /// Where findings have opened, as far as it was played.
    pub findings: Vec<u64>,
}

impl Timeline {
    /// The column of a time on a line of this width.
    fn column(&self, ns: u64, width: u16) -> u16 {
        let (first_ns, last_ns) = self.span;
        let (passed, all) = (ns.saturating_sub(first_ns), last_ns.saturating_sub(first_ns).max(1));
        let last = u64::from(width.saturating_sub(1));
        (u128::from(passed.min(all)) * u128::from(last) / u128::from(all)) as u16
    }
}

/// Draws the line; `now` and `end` are the times that it shows.
pub(super) fn draw(timeline: &Timeline, [now, end]: [String; 2], theme: Theme, area: Rect, to: &mut Buffer) {
    let state = if timeline.is_paused { "paused".to_owned() } else { format!("×{}", timeline.speed) };
    let left = format!("{now} {state:<6} ");
    let right = format!(" {end}");
    let (x, _) = to.set_stringn(area.x, area.y, &left, area.width.into(), theme.title());
    let right_width = right.len() as u16;
    let Some(width) = (area.right().saturating_sub(x)).checked_sub(right_width).filter(|width| *width >= 8) else {
        return;
    };
    let place = timeline.column(timeline.now_ns, width);
    for column in 0..width {
        let (symbol, style) = if column < place { ("━", theme.heading()) } else { ("─", theme.frame()) };
        to.set_stringn(x + column, area.y, symbol, 1, style);
    }
    for found in &timeline.findings {
        to.set_stringn(x + timeline.column(*found, width), area.y, "!", 1, theme.of(Emphasis::Trouble));
    }
    to.set_stringn(x + place, area.y, "●", 1, theme.title());
    to.set_stringn(x + width, area.y, &right, right_width.into(), theme.of(Emphasis::Plain));
}
