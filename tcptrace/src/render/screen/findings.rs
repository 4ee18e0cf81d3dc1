//! Findings, worst first, and everything about the chosen one.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    page::wrap_into,
    scene::{FindingLine, Scene},
    table::{Column, Rows, TableState},
    theme::{Emphasis, Theme},
};
use crate::findings::Severity;

pub(super) struct Findings<'a>(pub &'a Scene);

/// Height of the list in a body of this height: at most half of it, so that the explanation has room.
pub(super) fn list_height(scene: &Scene, height: u16) -> u16 {
    let wanted = u16::try_from(scene.findings.len()).unwrap_or(u16::MAX).saturating_add(1).max(2);
    wanted.min((height / 2).max(2)).min(height)
}

impl Rows for Findings<'_> {
    const COLUMNS: &'static [Column] = &[
        Column { title: "Severity", key: 'S', width: (9, 9), is_number: false, rank: 0, descends: false },
        Column { title: "Finding", key: 'F', width: (19, 19), is_number: false, rank: 0, descends: false },
        Column { title: "Nr", key: 'N', width: (4, 4), is_number: true, rank: 2, descends: false },
        Column { title: "Where", key: 'W', width: (26, 400), is_number: false, rank: 0, descends: false },
    ];

    fn len(&self) -> usize {
        self.0.findings.len()
    }

    fn id(&self, row: usize) -> u64 {
        self.0.findings[row].number
    }

    /// They come worst first, and stay so.
    fn key(&self, row: usize, _: usize) -> Option<u128> {
        Some(row as u128)
    }

    fn cell(&self, row: usize, column: usize, to: &mut String) -> Emphasis {
        let line = &self.0.findings[row];
        match column {
            0 => {
                *to += line.severity.name();
                return match line.severity {
                    Severity::Info => Emphasis::Plain,
                    Severity::Warning => Emphasis::Attention,
                    Severity::Critical => Emphasis::Trouble,
                };
            }
            1 => *to += line.kind,
            2 => *to += &line.number.to_string(),
            _ => *to += &line.head,
        }
        Emphasis::Plain
    }
}

/// Draws the list, and below it the chosen finding.
pub(super) fn draw(scene: &Scene, table: &TableState, theme: Theme, area: Rect, to: &mut Buffer) {
    if scene.findings.is_empty() {
        return draw_none(scene, theme, area, to);
    }
    let height = list_height(scene, area.height);
    let list = Rect { height, ..area };
    table.draw(&Findings(scene), theme, list, to);
    let rest = Rect { y: area.y + height, height: area.height - height, ..area };
    if let Some(finding) = table.chosen().and_then(|row| scene.findings.get(row)) {
        draw_one(finding, scene, theme, rest, to);
    }
}

fn draw_none(scene: &Scene, theme: Theme, area: Rect, to: &mut Buffer) {
    let title = if scene.hidden_findings > 0 { "No finding that the filter shows." } else { "No finding." };
    let mut lines = vec![(title.to_owned(), theme.title()), (String::new(), Style::new())];
    if scene.hidden_findings > 0 {
        lines.push((format!("{} are hidden by the filter: / changes it", scene.hidden_findings), Style::new()));
    }
    wrap_into(&mut lines, &scene.checked, area.width, 2, theme.of(Emphasis::Dim));
    put(&lines, area, to);
}

fn draw_one(finding: &FindingLine, scene: &Scene, theme: Theme, area: Rect, to: &mut Buffer) {
    let mut lines = Vec::new();
    let head = format!("{} {} #{}  {}", finding.severity.name(), finding.kind, finding.number, finding.head);
    to.set_stringn(area.x, area.y, "─".repeat(area.width.into()), area.width.into(), theme.frame());
    wrap_into(&mut lines, &head, area.width, 3, theme.severity(finding.severity));
    wrap_into(&mut lines, finding.cause, area.width, 0, theme.title());
    wrap_into(&mut lines, &format!("→ {}", finding.remedy), area.width, 2, Style::new());
    wrap_into(&mut lines, &format!("Evidence: {}", finding.evidence), area.width, 2, Style::new());
    for example in &finding.examples {
        wrap_into(&mut lines, example, area.width, 2, theme.of(Emphasis::Dim));
    }
    wrap_into(&mut lines, &scene.checked, area.width, 2, theme.of(Emphasis::Dim));
    put(&lines, Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area }, to);
}

/// Writes lines; what has no room is left out, and a mark says so.
fn put(lines: &[(String, Style)], area: Rect, to: &mut Buffer) {
    for (line, (text, style)) in lines.iter().take(area.height.into()).enumerate() {
        to.set_stringn(area.x, area.y + line as u16, text, area.width.into(), *style);
    }
    if lines.len() > usize::from(area.height) && area.height > 0 && area.width > 1 {
        to.set_stringn(area.right() - 2, area.bottom() - 1, " …", 2, Style::new());
    }
}
