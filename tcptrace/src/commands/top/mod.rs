//! The screen of `tcptrace top` on a terminal: takes keys, and draws what a session shows. A live run and a replay use the
//! same one.
//!
//! What is on the screen and what keys mean is decided in `render/screen`; here are the terminal and the answers that need
//! more than the screen knows: filters, explanations, stories.

mod frames;
mod keys;

use std::{io, ops::ControlFlow, time::Duration};

use clap::{CommandFactory as _, Error, error::ErrorKind};
use jiff::tz::TimeZone;
use ratatui::{crossterm::event::Event, layout::Rect};

use self::{frames::Frames, keys::Keys};
use crate::{
    cli::{args::Args, terminal::understands_codes},
    commands::{explain, filters},
    model::filter::Expr,
    outputs::messages,
    pipeline::session::Session,
    render::screen::{Action, Page, Place, Scene, State, TimeKey},
    sys::terminal::{self, Cover, screen},
};

/// What the screen is started with.
#[derive(Clone, Debug)]
pub struct ScreenSettings {
    /// Time between two refreshes.
    pub every: Duration,
    /// Whether there is colour.
    pub has_color: bool,
    /// The filter at the start, and how the user reads it.
    pub filter: (Expr, String),
    /// Where the screen gets what it shows.
    pub place: Place,
    /// True if names of users and cgroups are those of this machine.
    pub is_live: bool,
}

/// Whether there is a terminal to draw on.
///
/// # Errors
/// A usage error that names other ways to see the same.
pub(crate) fn check_terminal(instead: &str) -> Result<(), Error> {
    if understands_codes() && terminal::is_input() {
        return Ok(());
    }
    let message =
        format!("top draws on a terminal: stdin and stdout must be one, and TERM its kind. Elsewhere use {instead}");
    Err(Args::command().error(ErrorKind::ArgumentConflict, message))
}

/// The screen, from its start until it is dropped, which gives the terminal back.
pub(crate) struct Screen {
    state: State,
    pub(crate) scene: Scene,
    frames: Frames,
    cover: Cover,
    keys: Keys,
    settings: ScreenSettings,
    /// Messages that were shown.
    seen: usize,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// If it cannot be set up.
    pub(crate) fn start(settings: ScreenSettings, session: &mut Session, now_ns: u64) -> io::Result<Self> {
        let frames = Frames::start()?;
        messages::hold();
        let taken = Cover::take().and_then(|cover| Ok((cover, Keys::start()?)));
        let (cover, keys) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                messages::release();
                return Err(error);
            }
        };
        session.watch(settings.filter.0.clone(), now_ns);
        let state = State::new(settings.has_color, settings.filter.1.clone(), settings.place.clone());
        let scene = Scene::new(TimeZone::system());
        Ok(Self { state, scene, frames, cover, keys, settings, seen: 0 })
    }

    /// Collects for the screen what another session shows, from its start.
    pub(crate) fn watch(&self, session: &mut Session, now_ns: u64) {
        session.watch(self.settings.filter.0.clone(), now_ns);
    }

    /// Waits until a key was pressed or the terminal has changed.
    pub(crate) async fn woken(&mut self) {
        tokio::select! {
            () = self.cover.changed() => {}
            () = self.keys.came() => {}
        }
    }

    /// Time between two refreshes.
    pub(crate) const fn every(&self) -> Duration {
        self.settings.every
    }

    /// Where the screen gets what it shows.
    pub(crate) const fn place(&mut self) -> &mut Place {
        self.state.place()
    }

    /// Takes keys that were pressed, and draws; breaks when the user wants to end. `on_time` moves in a recording.
    pub(crate) fn take_keys(
        &mut self,
        session: &mut Session,
        now_ns: u64,
        on_time: &mut dyn FnMut(TimeKey),
    ) -> ControlFlow<()> {
        if self.cover.was_continued() {
            self.resume();
        }
        while let Some(event) = self.keys.take() {
            match event {
                Event::Key(key) => {
                    let action = self.state.on_key(key, &self.scene);
                    if matches!(action, Action::Quit) {
                        return ControlFlow::Break(());
                    }
                    self.act(action, session, now_ns, on_time);
                }
                Event::Paste(text) => self.state.paste(&text),
                _ => {}
            }
            // The next key may mean the row that is chosen now.
            self.state.arrange(&self.scene, area());
        }
        if self.keys.is_over() {
            return ControlFlow::Break(()); // the terminal is gone
        }
        self.draw();
        ControlFlow::Continue(())
    }

    /// Waits for keys until `timeout` has passed.
    pub(crate) fn wait_for_keys(&mut self, timeout: Duration) {
        self.keys.wait(timeout);
    }

    fn act(&mut self, action: Action, session: &mut Session, now_ns: u64, on_time: &mut dyn FnMut(TimeKey)) {
        match action {
            Action::Draw | Action::Quit => {}
            Action::Suspend => self.suspend(),
            Action::Filter(text) => self.filter(text, session, now_ns),
            Action::Story(id) => {
                let text = session.story_of(&id, self.scene.zone(), now_ns);
                let text = text.unwrap_or_else(|| "Nothing is known of it any more.".to_owned());
                self.state.open(Page::story(id, &text));
            }
            Action::Explain(topic) => {
                let width = usize::from(area().width);
                let text = explain::text(&topic, width);
                let text = text.unwrap_or_else(|| format!("The documentation says nothing about {topic}."));
                self.state.open(Page::explanation(&topic, &text));
            }
            Action::Time(key) => on_time(key),
        }
    }

    fn filter(&mut self, text: String, session: &mut Session, now_ns: u64) {
        match filters::watched(&text, self.settings.is_live) {
            Ok(expr) => {
                self.settings.filter = (expr.clone(), text.clone());
                session.set_watched(expr, now_ns);
                self.state.filter = text;
                self.refresh_always(session, now_ns);
            }
            Err(error) => self.state.refuse_filter(&text, error),
        }
    }

    /// Takes in the moment `now_ns`, unless the screen stands still, and draws.
    pub(crate) fn refresh(&mut self, session: &mut Session, now_ns: u64) {
        if !self.state.is_paused {
            self.refresh_always(session, now_ns);
        }
        self.draw();
    }

    fn refresh_always(&mut self, session: &mut Session, now_ns: u64) {
        session.scene(&mut self.scene, now_ns);
        if let Some((id, page)) = self.state.story()
            && let Some(text) = session.story_of(&id, self.scene.zone(), now_ns)
        {
            page.set_text(&text);
        }
        let (count, last) = messages::held();
        // A message stays for one refresh after the one that shows it first, and longer while nothing else is to be said.
        self.scene.message = if count == self.seen { None } else { last };
        self.seen = count;
    }

    /// Draws, unless the terminal still takes in the screen before.
    pub(crate) fn draw(&mut self) {
        let area = area();
        self.state.arrange(&self.scene, area);
        self.frames.draw(area, |buffer| self.state.draw(&self.scene, buffer));
    }

    /// Stops this process, as Ctrl-Z does without a screen.
    fn suspend(&mut self) {
        self.frames.wait();
        terminal::restore();
        terminal::stop_process();
        self.resume();
    }

    fn resume(&mut self) {
        if self.cover.take_again() {
            self.frames.forget();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.frames.wait();
        terminal::restore();
        messages::release();
    }
}

/// The size of the terminal.
fn area() -> Rect {
    let clamp = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).min(1000);
    screen().map_or(Rect::new(0, 0, 80, 24), |screen| Rect::new(0, 0, clamp(screen.columns), clamp(screen.rows)))
}

/// Those of these flags that the command line has, each with its value: another command needs them to show the same.
pub(crate) fn repeated(words: impl IntoIterator<Item = String>, wanted: &[&str]) -> Vec<String> {
    let mut words = words.into_iter().take_while(|word| word != "--");
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        if wanted.contains(&name) {
            let value = value.map(str::to_owned).or_else(|| words.next());
            found.extend(value.map(|value| format!("{name}={value}")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_repeated_with_their_values() {
        let words = "tcptrace top --netns self --stuck-after=CLOSE_WAIT=1s --port 80 --ignore half-open -- --netns x";
        let found = repeated(words.split(' ').map(str::to_owned), &["--netns", "--stuck-after", "--ignore"]);
        assert_eq!(found, ["--netns=self", "--stuck-after=CLOSE_WAIT=1s", "--ignore=half-open"]);
    }
}
