//! What the user has chosen.

use ratatui::layout::Rect;

use super::{
    command::{self, Place},
    findings::{Findings, list_height},
    page::Page,
    processes::{self, Processes},
    prompt::{FilterError, Prompt},
    scene::Scene,
    services::{self, Services},
    sockets::{self, Sockets},
    tab::Tab,
    table::TableState,
    theme::Theme,
};
use crate::{analysis::overview::SocketId, model::state::State as TcpState};

/// The state of the screen.
#[derive(Clone, Debug)]
pub struct State {
    /// What is shown.
    pub tab: Tab,
    /// The filter, as the user wrote it.
    pub filter: String,
    /// True if a live screen stands still.
    pub is_paused: bool,
    pub(super) page: Option<Page>,
    pub(super) prompt: Option<Prompt>,
    pub(super) findings: TableState,
    pub(super) sockets: TableState,
    pub(super) processes: TableState,
    pub(super) services: TableState,
    pub(super) tcp_state: TcpState,
    pub(super) area: Rect,
    pub(super) theme: Theme,
    place: Place,
}

impl State {
    /// The screen at its start.
    #[must_use]
    pub fn new(has_color: bool, filter: String, place: Place) -> Self {
        Self {
            tab: Tab::Findings,
            filter,
            is_paused: false,
            page: None,
            prompt: None,
            findings: TableState::unsorted(),
            sockets: TableState::new(sockets::AGE, true),
            processes: TableState::new(processes::SOCKETS, true),
            services: TableState::new(services::SOCKETS, true),
            tcp_state: TcpState::Established,
            area: Rect::ZERO,
            theme: Theme { has_color },
            place,
        }
    }

    /// Puts the rows of the visible table in order, for a screen of this size. To be called when the scene, the size or the
    /// choice has changed, before drawing.
    pub fn arrange(&mut self, scene: &Scene, area: Rect) {
        self.area = area;
        let height = scene.body(area).height;
        match self.tab {
            Tab::Findings => self.findings.arrange(&Findings(scene), list_height(scene, height)),
            Tab::Sockets => self.sockets.arrange(&Sockets(scene), height),
            Tab::Processes => self.processes.arrange(&Processes(scene), height),
            Tab::Services => self.services.arrange(&Services(scene), height),
            Tab::States | Tab::Rates => {}
        }
    }

    /// Opens a page.
    pub fn open(&mut self, page: Page) {
        self.page = Some(page);
    }

    /// The story that is open: its text changes while events come.
    pub fn story(&mut self) -> Option<(SocketId, &mut Page)> {
        let page = self.page.as_mut()?;
        Some((page.story?, page))
    }

    /// Takes in text that was pasted: only a line that is edited has a use for it.
    pub fn paste(&mut self, text: &str) {
        if let Some(prompt) = &mut self.prompt {
            prompt.insert(text);
        }
    }

    /// Shows why a filter cannot be read; it can be edited again.
    pub fn refuse_filter(&mut self, text: &str, error: FilterError) {
        self.prompt = Some(Prompt { error: Some(error), ..Prompt::new(text) });
    }

    /// Where the screen gets what it shows, which in a replay depends on the time.
    pub const fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    /// The chosen connection.
    pub(super) fn chosen_socket(&self, scene: &Scene) -> Option<SocketId> {
        match self.tab {
            Tab::Findings => scene.findings.get(self.findings.chosen()?)?.first,
            Tab::Sockets => scene.overview.sockets.get(self.sockets.chosen()?).map(SocketId::from),
            _ => None,
        }
    }

    /// What `e` explains.
    pub(super) fn topic(&self, scene: &Scene) -> String {
        let of_finding = || Some(scene.findings.get(self.findings.chosen()?)?.kind.to_owned());
        let of_socket = || Some(scene.overview.sockets.get(self.sockets.chosen()?)?.state.name().to_owned());
        let topic = match self.tab {
            Tab::Findings => of_finding(),
            Tab::Sockets => of_socket(),
            Tab::Processes => Some("owner_source".to_owned()),
            Tab::Services => Some(TcpState::Listen.name().to_owned()),
            Tab::States => Some(self.tcp_state.name().to_owned()),
            Tab::Rates => Some("retransmit".to_owned()),
        };
        topic.unwrap_or_else(|| TcpState::Established.name().to_owned())
    }

    /// The command line that shows the same.
    #[must_use]
    pub fn command(&self) -> String {
        if let Some(page) = &self.page {
            if let Some(id) = &page.story {
                return command::of_story(&self.place, id);
            }
            if let Some(topic) = &page.topic {
                return command::of_topic(topic);
            }
        }
        let sort = sockets::sort_flag(&self.sockets);
        command::of_tab(&self.place, self.tab, sort.as_deref(), &self.filter)
    }
}
