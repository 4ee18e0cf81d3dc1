//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    findings::Findings,
    help,
    page::Page,
    processes::Processes,
    prompt::{Edited, Prompt},
    scene::Scene,
    services::Services,
    sockets::Sockets,
    state::State,
    tab::Tab,
    table::Rows,
};
use crate::{analysis::overview::SocketId, model::state::State as TcpState};

/// What a key asks of the program.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing but to draw again.
    Draw,
    /// To end.
    Quit,
    /// To stop, as Ctrl-Z does.
    Suspend,
    /// To use this filter from now on.
    Filter(String),
    /// To open the story of this connection.
    Story(SocketId),
    /// To open the explanation of this topic.
    Explain(String),
    /// To move in a recording.
    Time(TimeKey),
}

/// How to move in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeKey {
    /// Stand still, or go on.
    Pause,
    /// By so many seconds.
    Step(i64),
    /// Go faster.
    Faster,
    /// Go slower.
    Slower,
    /// To the next finding that opens.
    NextFinding,
    /// To the last finding that opened before.
    PreviousFinding,
}

impl State {
    /// Takes a key.
    pub fn on_key(&mut self, key: KeyEvent, scene: &Scene) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::Draw;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => return Action::Quit,
                KeyCode::Char('z') => return Action::Suspend,
                _ => {}
            }
        }
        if let Some(prompt) = &mut self.prompt {
            let edited = prompt.on_key(key);
            return self.edited(edited);
        }
        if self.page.is_some() {
            return self.on_page_key(key, scene);
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Action::Quit,
            KeyCode::Char(c @ '1'..='6') => self.tab = Tab::ALL[c as usize - '1' as usize],
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(Tab::ALL.len() - 1),
            KeyCode::Char('/') => self.prompt = Some(Prompt::new(&self.filter)),
            KeyCode::Char('?') => self.page = Some(Page::new("Keys", help::TEXT)),
            KeyCode::Char('y') => self.open_command(),
            KeyCode::Char('e') => return Action::Explain(self.topic(scene)),
            KeyCode::Enter => return self.enter(scene),
            code => {
                if let Some(time) = time_key(code, scene.timeline.is_some()) {
                    if scene.timeline.is_some() {
                        return Action::Time(time);
                    }
                    self.is_paused = !self.is_paused;
                } else {
                    self.on_table_key(code, scene);
                }
            }
        }
        Action::Draw
    }

    fn turn(&mut self, by: usize) {
        self.tab = Tab::ALL[(self.tab as usize + by) % Tab::ALL.len()];
    }

    fn edited(&mut self, edited: Edited) -> Action {
        match edited {
            Edited::Changed => {}
            Edited::Cancelled => self.prompt = None,
            Edited::Done => {
                let text = self.prompt.take().map(|prompt| prompt.text.trim().to_owned()).unwrap_or_default();
                return Action::Filter(text);
            }
        }
        Action::Draw
    }

    fn open_command(&mut self) {
        let command = self.command();
        self.page = Some(Page::command(&command, self.area.width));
    }

    fn on_page_key(&mut self, key: KeyEvent, scene: &Scene) -> Action {
        let height = self.page_area().height.saturating_sub(1);
        let page_rows = isize::try_from(height).unwrap_or(1);
        let mut scroll = |down, right| {
            if let Some(page) = &mut self.page {
                page.scroll(down, right, height);
            }
        };
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter => self.page = None,
            KeyCode::Up | KeyCode::Char('k') => scroll(-1, 0),
            KeyCode::Down | KeyCode::Char('j') => scroll(1, 0),
            KeyCode::PageUp => scroll(-page_rows, 0),
            KeyCode::PageDown => scroll(page_rows, 0),
            KeyCode::Left => scroll(0, -8),
            KeyCode::Right => scroll(0, 8),
            KeyCode::Home | KeyCode::Char('g') => scroll(isize::MIN, isize::MIN),
            KeyCode::End | KeyCode::Char('G') => scroll(isize::MAX, 0),
            KeyCode::Char('y') => self.open_command(),
            KeyCode::Char('?') => self.page = Some(Page::new("Keys", help::TEXT)),
            KeyCode::Char(' ' | 'p') if scene.timeline.is_some() => return Action::Time(TimeKey::Pause),
            KeyCode::Char(' ' | 'p') => self.is_paused = !self.is_paused,
            _ => {}
        }
        Action::Draw
    }

    fn enter(&mut self, scene: &Scene) -> Action {
        if let Some(id) = self.chosen_socket(scene) {
            return Action::Story(id);
        }
        if self.tab == Tab::Findings {
            return Action::Explain(self.topic(scene)); // none of its sockets is known
        }
        let overview = &scene.overview;
        let filter = match self.tab {
            Tab::Processes => self
                .processes
                .chosen()
                .and_then(|row| overview.processes.get(row))
                .map(|line| format!("pid == {}", line.pid)),
            Tab::Services => self
                .services
                .chosen()
                .and_then(|row| overview.services.get(row))
                .map(|line| format!("lport == {}", line.port)),
            Tab::States => Some(format!("state == {}", self.tcp_state.name())),
            _ => None,
        };
        let Some(filter) = filter else { return Action::Draw };
        self.tab = Tab::Sockets;
        Action::Filter(filter)
    }

    fn on_table_key(&mut self, code: KeyCode, scene: &Scene) {
        let page = |rows: usize| isize::try_from(rows).unwrap_or(isize::MAX);
        let rows = match self.tab {
            Tab::Findings => self.findings.page(),
            Tab::Sockets => self.sockets.page(),
            Tab::Processes => self.processes.page(),
            Tab::Services => self.services.page(),
            Tab::States | Tab::Rates => 1,
        };
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.step(scene, -1),
            KeyCode::Down | KeyCode::Char('j') => self.step(scene, 1),
            KeyCode::PageUp => self.step(scene, -page(rows)),
            KeyCode::PageDown => self.step(scene, page(rows)),
            KeyCode::Home | KeyCode::Char('g') => self.step(scene, isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(scene, isize::MAX),
            KeyCode::Char('s') => self.sort(None),
            KeyCode::Char('r') => self.reverse(),
            KeyCode::Char(c) if c.is_ascii_uppercase() => self.sort(Some(c)),
            _ => {}
        }
    }

    fn step(&mut self, scene: &Scene, by: isize) {
        match self.tab {
            Tab::Findings => self.findings.step(&Findings(scene), by),
            Tab::Sockets => self.sockets.step(&Sockets(scene), by),
            Tab::Processes => self.processes.step(&Processes(scene), by),
            Tab::Services => self.services.step(&Services(scene), by),
            Tab::States => {
                let last = TcpState::ALL.len() - 1;
                let index = self.tcp_state.index().saturating_add_signed(by).min(last);
                self.tcp_state = TcpState::ALL[index];
            }
            Tab::Rates => {}
        }
    }

    /// Sorts by the column of a key, or by the next one.
    fn sort(&mut self, key: Option<char>) {
        fn of<R: Rows>(table: &mut super::table::TableState, key: Option<char>) {
            match key {
                Some(key) => _ = table.sort_by_key::<R>(key),
                None => table.sort_by_next::<R>(),
            }
        }
        match self.tab {
            Tab::Sockets => of::<Sockets<'_>>(&mut self.sockets, key),
            Tab::Processes => of::<Processes<'_>>(&mut self.processes, key),
            Tab::Services => of::<Services<'_>>(&mut self.services, key),
            // Findings are worst first.
            Tab::Findings | Tab::States | Tab::Rates => {}
        }
    }

    fn reverse(&mut self) {
        let table = match self.tab {
            Tab::Sockets => &mut self.sockets,
            Tab::Processes => &mut self.processes,
            Tab::Services => &mut self.services,
            Tab::Findings | Tab::States | Tab::Rates => return,
        };
        table.descends = !table.descends;
    }
}

/// What a key does to time. On a live screen only standing still has a meaning.
const fn time_key(code: KeyCode, is_replay: bool) -> Option<TimeKey> {
    Some(match code {
        KeyCode::Char(' ' | 'p') => TimeKey::Pause,
        KeyCode::Right if is_replay => TimeKey::Step(1),
        KeyCode::Left if is_replay => TimeKey::Step(-1),
        KeyCode::Char(']') if is_replay => TimeKey::Step(60),
        KeyCode::Char('[') if is_replay => TimeKey::Step(-60),
        KeyCode::Char('>') if is_replay => TimeKey::Faster,
        KeyCode::Char('<') if is_replay => TimeKey::Slower,
        KeyCode::Char('n') if is_replay => TimeKey::NextFinding,
        KeyCode::Char('N') if is_replay => TimeKey::PreviousFinding,
        _ => return None,
    })
}
