//! Drawing a screen: a title, the tabs, the body, the time line of a replay, and a line for keys and messages.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
};

use super::{
    findings, processes::Processes, rates, scene::Scene, services::Services, sockets::Sockets, state::State, states,
    tab::Tab, theme::Emphasis, timeline,
};
use crate::{
    findings::Severity,
    render::text::wrap::{cut, width},
};

/// The smallest screen that there is room on.
pub const LEAST_COLUMNS: u16 = 60;
/// Its height.
pub const LEAST_ROWS: u16 = 16;

impl State {
    /// The part that a page covers.
    pub(super) const fn page_area(&self) -> Rect {
        Rect { y: self.area.y + 2, height: self.area.height.saturating_sub(3), ..self.area }
    }

    /// Draws the screen, as [`State::arrange`] has prepared it.
    pub fn draw(&self, scene: &Scene, to: &mut Buffer) {
        let (area, theme) = (self.area, self.theme);
        if area.width < LEAST_COLUMNS || area.height < LEAST_ROWS {
            return too_small(area, to);
        }
        self.title(scene, to);
        self.tabs(to);
        let body = scene.body(area);
        match self.tab {
            Tab::Findings => findings::draw(scene, &self.findings, theme, body, to),
            Tab::Sockets => self.sockets.draw(&Sockets(scene), theme, body, to),
            Tab::Processes => self.processes.draw(&Processes(scene), theme, body, to),
            Tab::Services => self.services.draw(&Services(scene), theme, body, to),
            Tab::States => states::draw(scene, self.tcp_state, theme, body, to),
            Tab::Rates => rates::draw(scene, theme, body, to),
        }
        let last = Rect { y: area.bottom() - 1, height: 1, ..area };
        if let Some(line) = &scene.timeline {
            let times = [line.now_ns, line.span.1].map(|ns| scene.time_of(ns));
            timeline::draw(line, times, theme, Rect { y: last.y - 1, ..last }, to);
        }
        if let Some(page) = &self.page {
            page.draw(theme, self.page_area(), to);
        }
        match &self.prompt {
            Some(prompt) => prompt.draw(theme, last, to),
            None => self.status(scene, last, to),
        }
    }

    /// What is watched, and the worst that was found.
    fn title(&self, scene: &Scene, to: &mut Buffer) {
        let (area, theme) = (self.area, self.theme);
        let (shown, all) = (scene.overview.sockets.len(), scene.overview.all_sockets);
        let sockets = if shown == all { format!("{all} sockets") } else { format!("{shown} of {all} sockets") };
        let of = |severity: Severity| scene.findings.iter().filter(|finding| finding.severity == severity).count();
        let critical = of(Severity::Critical);
        let mut parts = vec![
            ("tcptrace".to_owned(), theme.title()),
            (scene.time.clone(), Style::new()),
            (sockets, Style::new()),
            (
                match scene.findings.len() {
                    1 => "1 finding".to_owned(),
                    count => format!("{count} findings"),
                },
                theme.of(if scene.findings.is_empty() { Emphasis::Good } else { Emphasis::Attention }),
            ),
        ];
        if critical > 0 {
            parts.push((format!("{critical} critical"), theme.of(Emphasis::Trouble)));
        }
        if self.is_paused {
            parts.push(("PAUSED".to_owned(), theme.chosen()));
        }
        let mut x = area.x;
        for (text, style) in &parts {
            let room = area.right().saturating_sub(x);
            (x, _) = to.set_stringn(x, area.y, text, room.into(), *style);
            x = (x + 2).min(area.right());
        }
        if !self.filter.is_empty() {
            let room = usize::from(area.right().saturating_sub(x));
            let text = format!("filter: {}", self.filter);
            if room > 10 {
                to.set_stringn(x, area.y, cut(&text, room), room, theme.heading());
            }
        }
    }

    fn tabs(&self, to: &mut Buffer) {
        let (area, theme) = (self.area, self.theme);
        let is_wide = area.width >= 80;
        let mut x = area.x;
        for (index, tab) in Tab::ALL.into_iter().enumerate() {
            let text = format!("{}{}{}", index + 1, if is_wide { " " } else { "" }, tab.name());
            let (text, style) = match (tab == self.tab, is_wide) {
                (true, _) => (format!("[{text}]"), theme.chosen()),
                (false, true) => (format!(" {text} "), Style::new()),
                (false, false) => (format!(" {text}"), Style::new()),
            };
            (x, _) = to.set_stringn(x, area.y + 1, text, area.right().saturating_sub(x).into(), style);
        }
    }

    /// A message, or the keys.
    fn status(&self, scene: &Scene, line: Rect, to: &mut Buffer) {
        let theme = self.theme;
        let message = scene.message.as_ref().or(scene.losses.as_ref());
        if let Some(message) = message.filter(|_| self.page.is_none()) {
            let text = cut(message, line.width.into());
            to.set_stringn(line.x, line.y, text, line.width.into(), theme.of(Emphasis::Attention));
            return;
        }
        let (chosen, all) = match self.tab {
            Tab::Findings => self.findings.place(),
            Tab::Sockets => self.sockets.place(),
            Tab::Processes => self.processes.place(),
            Tab::Services => self.services.place(),
            Tab::States | Tab::Rates => (0, 0),
        };
        let place = if all > 0 && self.page.is_none() { format!("{chosen}/{all}") } else { String::new() };
        let keys = if self.page.is_some() {
            "q back  ↑↓←→ move  y command line"
        } else if scene.timeline.is_some() {
            "? help  / filter  space pause  ←→ step  <> speed  n finding  q end"
        } else {
            "? help  / filter  Enter story  e explain  s sort  space pause  q end"
        };
        let room = usize::from(line.width).saturating_sub(width(&place) + 1);
        to.set_stringn(line.x, line.y, cut(keys, room), room, theme.of(Emphasis::Dim));
        let x = line.right() - width(&place) as u16;
        to.set_stringn(x, line.y, &place, width(&place), Style::new().add_modifier(Modifier::BOLD));
    }
}

fn too_small(area: Rect, to: &mut Buffer) {
    let text = format!(
        "This terminal has {}×{} characters; the screen needs {LEAST_COLUMNS}×{LEAST_ROWS}. Make it larger, or press q and \
         use tcptrace stuck --once.",
        area.width, area.height
    );
    let mut lines = Vec::new();
    super::page::wrap_into(&mut lines, &text, area.width, 0, Style::new());
    for (y, (line, style)) in (area.y..area.bottom()).zip(&lines) {
        to.set_stringn(area.x, y, line, area.width.into(), *style);
    }
}
