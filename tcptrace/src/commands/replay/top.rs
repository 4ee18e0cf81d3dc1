//! A recording on a screen: its time can be stopped, moved and sped up.
//!
//! A session cannot go back. To go back in time the recording is read again from its beginning, as fast as possible.

use std::{
    cell::RefCell,
    ops::ControlFlow,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    files::Recording,
    player::{Player, Window},
};
use crate::{
    cli::args::TopArgs,
    commands::{
        settings::Settings,
        top::{Screen, ScreenSettings},
    },
    pipeline::session::Session,
    render::screen::{Place, TimeKey, Timeline},
    sys::signals::is_shutting_down,
};

/// How much faster a recording can go.
const SPEEDS: [f64; 7] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
/// Time between two refreshes while it goes on, and while it is read up to a wanted time.
const REFRESH: Duration = Duration::from_millis(100);
/// How long keys are waited for before signals are looked at.
const GLANCE: Duration = Duration::from_millis(100);
const SECOND_NS: u64 = 1_000_000_000;
/// Most findings that are remembered for the time line.
const MAX_FINDINGS: usize = 10_000;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    /// Go on as the clock does.
    Go,
    /// Go on as fast as possible, up to this time in ns.
    To(u64),
    /// Go on as fast as possible until another finding opens.
    ToFinding,
    /// Begin again, and go to this time in ns.
    Back(u64),
    End,
}

/// The screen with the clock of the recording.
struct Show {
    screen: Screen,
    timeline: Timeline,
    speed: usize,
    /// When the clock was last set, and the time of the recording then, in ns.
    set: (Instant, u64),
    drawn: Instant,
    next: Next,
    /// Findings that had opened at the last look.
    opened: u64,
    file: String,
}

/// Shows a recording until the user ends it.
pub(super) fn show(
    args: &TopArgs,
    mut settings: impl FnMut() -> anyhow::Result<Settings>,
    filter: (crate::model::filter::Expr, String),
    has_color: bool,
    file: &Path,
    recording: &Rc<Recording>,
    window: Window,
) -> anyhow::Result<()> {
    let span = recording.span();
    let first_ns = window.from_ns.unwrap_or(span.0);
    let mut player = Player::start(settings()?, Rc::clone(recording), Window::default())?;
    let screen = ScreenSettings { every: args.interval, has_color, filter, place: Place::default(), is_live: false };
    let screen = Screen::start(screen, &mut player.session, span.0)?;
    let speed = SPEEDS.iter().rposition(|speed| window.speed.is_some_and(|wanted| wanted >= *speed)).unwrap_or(0);
    // --at is the time that is shown first.
    let is_paused = window.to_ns.is_some();
    let timeline = Timeline { span, now_ns: span.0, speed: SPEEDS[speed], is_paused, findings: Vec::new() };
    let show = Rc::new(RefCell::new(Show {
        screen,
        timeline,
        speed,
        set: (Instant::now(), span.0),
        drawn: Instant::now(),
        next: Next::To(window.to_ns.unwrap_or(first_ns)),
        opened: 0,
        file: file.display().to_string(),
    }));
    loop {
        let pacer = Rc::clone(&show);
        player.pacer = Some(Box::new(move |session, now_ns| pacer.borrow_mut().turn(session, now_ns)));
        player.read()?;
        player.pacer = None;
        let now_ns = player.now_ns;
        let mut ended = show.borrow_mut();
        if !matches!(ended.next, Next::Back(_) | Next::End) {
            ended.at_the_end(&mut player.session, now_ns);
        }
        let Next::Back(to_ns) = ended.next else { return Ok(()) };
        drop(player);
        player = Player::start(settings()?, Rc::clone(recording), Window::default())?;
        ended.screen.watch(&mut player.session, span.0);
        (ended.next, ended.opened) = (Next::To(to_ns), 0);
    }
}

impl Show {
    /// Looks at the clock, the keys and the screen before the session goes on from `now_ns`; breaks to stop reading.
    fn turn(&mut self, session: &mut Session, now_ns: u64) -> ControlFlow<()> {
        self.timeline.now_ns = now_ns;
        self.note_findings(session, now_ns);
        loop {
            if is_shutting_down() {
                self.next = Next::End;
            }
            match self.next {
                Next::Back(_) | Next::End => return ControlFlow::Break(()),
                Next::To(to_ns) if now_ns >= to_ns => {
                    self.next = Next::Go;
                    self.set_clock();
                    self.refresh(session);
                }
                Next::To(_) | Next::ToFinding => {
                    if self.drawn.elapsed() >= REFRESH {
                        self.refresh(session);
                        self.take_keys(session);
                        continue;
                    }
                    return ControlFlow::Continue(());
                }
                Next::Go => {
                    let left = self.left();
                    if left == Some(Duration::ZERO) {
                        if self.drawn.elapsed() >= REFRESH {
                            self.refresh(session);
                            self.take_keys(session);
                            continue;
                        }
                        return ControlFlow::Continue(());
                    }
                    self.screen.wait_for_keys(left.unwrap_or(GLANCE).min(GLANCE));
                    self.take_keys(session);
                }
            }
        }
    }

    /// Waits for keys after the last input.
    fn at_the_end(&mut self, session: &mut Session, now_ns: u64) {
        self.timeline.now_ns = now_ns;
        self.note_findings(session, now_ns);
        (self.next, self.timeline.is_paused) = (Next::Go, true);
        self.set_clock();
        self.refresh(session);
        while !matches!(self.next, Next::Back(_) | Next::End) {
            self.screen.wait_for_keys(GLANCE);
            self.take_keys(session);
            if is_shutting_down() {
                self.next = Next::End;
            }
            // There is nothing after it.
            if matches!(self.next, Next::To(_) | Next::ToFinding) {
                self.next = Next::Go;
            }
            self.timeline.is_paused = true;
        }
    }

    /// How long until the recording's time has come; `None` if it stands still.
    fn left(&self) -> Option<Duration> {
        let (set, set_ns) = self.set;
        let due = Duration::from_nanos(self.timeline.now_ns.saturating_sub(set_ns)).div_f64(self.timeline.speed);
        (!self.timeline.is_paused).then(|| due.saturating_sub(set.elapsed()))
    }

    fn set_clock(&mut self) {
        self.set = (Instant::now(), self.timeline.now_ns);
    }

    fn note_findings(&mut self, session: &Session, now_ns: u64) {
        let opened = session.findings_opened();
        if opened == self.opened {
            return;
        }
        self.opened = opened;
        let known = &mut self.timeline.findings;
        if let Err(place) = known.binary_search(&now_ns)
            && known.len() < MAX_FINDINGS
        {
            known.insert(place, now_ns);
        }
        if self.next == Next::ToFinding {
            (self.next, self.timeline.is_paused) = (Next::To(now_ns), true);
        }
    }

    fn refresh(&mut self, session: &mut Session) {
        self.screen.scene.timeline = Some(self.timeline.clone());
        let at = self.timeline.now_ns.saturating_sub(self.timeline.span.0);
        let at = format!("+{}ms", at / 1_000_000);
        self.screen.place().before = vec!["replay".to_owned(), self.file.clone(), "--to".to_owned(), at];
        self.screen.refresh(session, self.timeline.now_ns);
        self.drawn = Instant::now();
    }

    fn take_keys(&mut self, session: &mut Session) {
        let mut keys = Vec::new();
        if self.screen.take_keys(session, self.timeline.now_ns, &mut |key| keys.push(key)).is_break() {
            self.next = Next::End;
        }
        if keys.is_empty() {
            return;
        }
        keys.into_iter().for_each(|key| self.on_time_key(key));
        self.refresh(session);
    }

    fn on_time_key(&mut self, key: TimeKey) {
        let now_ns = self.timeline.now_ns;
        match key {
            TimeKey::Pause => self.timeline.is_paused = !self.timeline.is_paused,
            TimeKey::Faster => self.set_speed(self.speed + 1),
            TimeKey::Slower => self.set_speed(self.speed.saturating_sub(1)),
            TimeKey::Step(seconds) => {
                // Keys that came together add up.
                let from_ns = if let Next::To(to_ns) | Next::Back(to_ns) = self.next { to_ns } else { now_ns };
                let step_ns = seconds.unsigned_abs().saturating_mul(SECOND_NS);
                let (first_ns, last_ns) = self.timeline.span;
                let to_ns = if seconds < 0 { from_ns.saturating_sub(step_ns) } else { from_ns.saturating_add(step_ns) };
                self.go_to(to_ns.clamp(first_ns, last_ns));
            }
            TimeKey::NextFinding => {
                let known = self.timeline.findings.iter().find(|found| **found > now_ns);
                self.next = known.map_or(Next::ToFinding, |found| Next::To(*found));
                self.timeline.is_paused = true;
            }
            TimeKey::PreviousFinding => {
                if let Some(&found) = self.timeline.findings.iter().rev().find(|found| **found < now_ns) {
                    self.go_to(found);
                    self.timeline.is_paused = true;
                }
            }
        }
        self.set_clock();
    }

    fn go_to(&mut self, to_ns: u64) {
        self.next = if to_ns < self.timeline.now_ns { Next::Back(to_ns) } else { Next::To(to_ns) };
    }

    fn set_speed(&mut self, speed: usize) {
        self.speed = speed.min(SPEEDS.len() - 1);
        self.timeline.speed = SPEEDS[self.speed];
    }
}
