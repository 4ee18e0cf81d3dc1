//! The screen of `tcptrace top`: each tab at three sizes, what keys do, and that no size, colour or name breaks a line.

use std::time::Duration;

use jiff::tz::TimeZone;
use ratatui::{
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::Rect,
};
use tcptrace::{
    model::filter::Expr,
    render::screen::{Action, FilterError, Page, Place, Scene, State, Tab, TimeKey, Timeline},
};
use unicode_width::UnicodeWidthStr as _;

use crate::{
    compare::compare_in,
    findings::{Run, stuck},
    support::{records::START_NS, replay::json},
};

const SIZES: [(u16, u16); 3] = [(60, 20), (100, 30), (250, 80)];

/// A host on which much goes wrong.
fn host(filter: &str) -> Run {
    let mut run = Run::new(json());
    run.session.watch(Expr::parse(filter, &[]).unwrap_or(Expr::everything()), START_NS);
    stuck(&mut run);
    run.wait(Duration::ZERO);
    run.session.tick(run.stream.now_ns);
    run
}

fn scene(run: &mut Run) -> Scene {
    let mut scene = Scene::new(TimeZone::UTC);
    run.session.scene(&mut scene, run.stream.now_ns);
    scene
}

fn screen() -> State {
    let place = Place { flags: vec!["--netns=self".to_owned()], ..Place::default() };
    State::new(false, String::new(), place)
}

fn drawn(state: &mut State, scene: &Scene, (columns, rows): (u16, u16)) -> Buffer {
    let area = Rect::new(0, 0, columns, rows);
    state.arrange(scene, area);
    let mut buffer = Buffer::empty(area);
    state.draw(scene, &mut buffer);
    buffer
}

/// The characters as a terminal shows them.
fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let (mut line, mut x) = (String::new(), 0);
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line += symbol;
            x += symbol.width().max(1) as u16;
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn shown(state: &mut State, scene: &Scene, size: (u16, u16)) -> String {
    text(&drawn(state, scene, size))
}

fn press(state: &mut State, scene: &Scene, keys: &str) -> Action {
    let mut last = Action::Draw;
    for key in keys.split(' ') {
        let code = match key {
            "Enter" => KeyCode::Enter,
            "Esc" => KeyCode::Esc,
            "Tab" => KeyCode::Tab,
            "Down" => KeyCode::Down,
            "PgDn" => KeyCode::PageDown,
            "End" => KeyCode::End,
            "Left" => KeyCode::Left,
            "Right" => KeyCode::Right,
            "space" => KeyCode::Char(' '),
            key => {
                for c in key.chars() {
                    last = state.on_key(KeyEvent::from(KeyCode::Char(c)), scene);
                    state.arrange(scene, Rect::new(0, 0, 100, 30));
                }
                continue;
            }
        };
        last = state.on_key(KeyEvent::from(code), scene);
        state.arrange(scene, Rect::new(0, 0, 100, 30));
    }
    last
}

fn timeline(scene: &mut Scene, now_ns: u64) {
    scene.timeline = Some(Timeline {
        span: (START_NS, START_NS + 600_000_000_000),
        now_ns,
        speed: 10.0,
        is_paused: false,
        findings: vec![START_NS + 60_000_000_000, START_NS + 300_000_000_000],
    });
}

#[test]
fn each_tab_at_three_sizes() {
    let mut run = host("");
    let mut scene = scene(&mut run);
    let mut files = Vec::new();
    for tab in Tab::ALL {
        for (columns, rows) in SIZES {
            let mut state = screen();
            state.tab = tab;
            let name = tab.name().to_lowercase();
            files.push((format!("{name}_{columns}x{rows}.txt"), shown(&mut state, &scene, (columns, rows))));
        }
    }
    let mut state = screen();
    shown(&mut state, &scene, (60, 20));
    press(&mut state, &scene, "?");
    files.push(("help_60x20.txt".to_owned(), shown(&mut state, &scene, (60, 20))));
    timeline(&mut scene, run.stream.now_ns);
    let mut state = screen();
    files.push(("replay_60x20.txt".to_owned(), shown(&mut state, &scene, (60, 20))));
    files.push(("replay_100x30.txt".to_owned(), shown(&mut state, &scene, (100, 30))));
    compare_in("screen", &files);
}

#[test]
fn no_size_breaks_a_line_and_none_panics() {
    let mut run = host("");
    let mut scene = scene(&mut run);
    for with_time in [false, true] {
        if with_time {
            timeline(&mut scene, run.stream.now_ns);
        }
        for columns in [1, 2, 10, 59, 60, 61, 79, 80, 99, 120, 141, 250] {
            for rows in [1, 2, 3, 15, 16, 17, 24, 50, 80] {
                for tab in Tab::ALL {
                    let mut state = screen();
                    state.tab = tab;
                    let text = shown(&mut state, &scene, (columns, rows));
                    assert!(text.lines().all(|line| line.width() <= columns.into()), "{columns}x{rows}: {text}");
                    let is_large = columns >= 60 && rows >= 16;
                    assert_eq!(text.contains(&format!("{}]", tab.name())), is_large, "{text}");
                }
            }
        }
    }
    let small = shown(&mut screen(), &scene, (40, 8));
    assert!(small.contains("40×8") && small.contains("60×16"), "{small}");
}

#[test]
fn nothing_is_in_colour_alone() {
    let mut run = host("");
    let scene = scene(&mut run);
    for tab in Tab::ALL {
        let [mut plain, mut colored] =
            [false, true].map(|has_color| State::new(has_color, String::new(), Place::default()));
        (plain.tab, colored.tab) = (tab, tab);
        let plain = drawn(&mut plain, &scene, (100, 30));
        let colored = drawn(&mut colored, &scene, (100, 30));
        assert_eq!(text(&plain), text(&colored));
        assert!(plain.content.iter().all(|cell| cell.fg == ratatui::style::Color::Reset), "{}", tab.name());
        assert!(colored.content.iter().any(|cell| cell.fg != ratatui::style::Color::Reset), "{}", tab.name());
    }
}

#[test]
fn keys_move_sort_and_turn_pages() {
    let mut run = host("");
    let scene = scene(&mut run);
    let mut state = screen();
    shown(&mut state, &scene, (100, 30));
    let column = |text: &str, name: &str| -> Vec<String> {
        let lines: Vec<_> = text.lines().skip(2).collect();
        let at = lines[0].find(name).unwrap();
        let cell = |line: &&str| line.get(at..).unwrap_or_default().split_whitespace().next().map(str::to_owned);
        lines[1..].iter().filter_map(cell).collect()
    };
    press(&mut state, &scene, "2 S");
    let sorted = column(&shown(&mut state, &scene, (100, 30)), "State");
    press(&mut state, &scene, "S");
    let turned = column(&shown(&mut state, &scene, (100, 30)), "State");
    assert_ne!(sorted.first(), turned.first(), "pressed again, the other way round: {sorted:?} {turned:?}");
    assert!(shown(&mut state, &scene, (100, 30)).contains("State▼"));
    press(&mut state, &scene, "End");
    let all = scene.overview.sockets.len();
    assert!(shown(&mut state, &scene, (100, 30)).contains(&format!("{all}/{all}")));
    press(&mut state, &scene, "g");
    assert!(shown(&mut state, &scene, (100, 30)).contains(&format!(" 1/{all}")));
    press(&mut state, &scene, "Tab");
    assert!(shown(&mut state, &scene, (100, 30)).contains("[3 Processes]"));
    press(&mut state, &scene, "?");
    assert!(shown(&mut state, &scene, (100, 30)).contains("── Keys"));
    assert_eq!(press(&mut state, &scene, "q"), Action::Draw, "closes the page");
    assert_eq!(press(&mut state, &scene, "q"), Action::Quit);
    let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
    press(&mut state, &scene, "/ a");
    assert_eq!(state.on_key(control('c'), &scene), Action::Quit, "wherever it is");
    assert_eq!(state.on_key(control('z'), &scene), Action::Suspend);
}

#[test]
fn keys_ask_for_what_the_screen_does_not_know() {
    let mut run = host("");
    let mut scene = scene(&mut run);
    let mut state = screen();
    shown(&mut state, &scene, (100, 30));
    let worst = scene.findings[0].kind.to_owned();
    assert_eq!(press(&mut state, &scene, "e"), Action::Explain(worst.clone()));
    assert!(scene.findings[0].first.is_none());
    assert_eq!(press(&mut state, &scene, "Enter"), Action::Explain(worst), "none of its sockets is known");
    let (row, first) = scene.findings.iter().enumerate().find_map(|(row, line)| Some((row, line.first?))).unwrap();
    (0..row).for_each(|_| _ = press(&mut state, &scene, "j"));
    assert_eq!(press(&mut state, &scene, "Enter"), Action::Story(first));
    assert_eq!(press(&mut state, &scene, "/ port==80 Enter"), Action::Filter("port==80".to_owned()));
    state.filter = "port==80".to_owned();
    press(&mut state, &scene, "2 y");
    let page = shown(&mut state, &scene, (100, 30));
    assert!(page.contains("tcptrace sockets --netns=self --sort=-age --where port==80"), "{page}");
    press(&mut state, &scene, "Esc 3");
    let Action::Filter(filter) = press(&mut state, &scene, "Enter") else { panic!("of a process: its sockets") };
    assert!(filter.starts_with("pid == ") && state.tab == Tab::Sockets, "{filter}");
    press(&mut state, &scene, "space");
    assert!(shown(&mut state, &scene, (100, 30)).contains("PAUSED"));
    state.refuse_filter("port = 80", FilterError { message: "no `=` here".to_owned(), span: Some((5, 6)) });
    let refused = shown(&mut state, &scene, (100, 30));
    assert!(refused.ends_with("no `=` here\n      v\n/port = 80\n"), "{refused}");
    press(&mut state, &scene, "Esc");
    timeline(&mut scene, run.stream.now_ns);
    for (key, want) in [
        ("space", TimeKey::Pause),
        ("Right", TimeKey::Step(1)),
        ("Left", TimeKey::Step(-1)),
        ("]", TimeKey::Step(60)),
        (">", TimeKey::Faster),
        ("n", TimeKey::NextFinding),
        ("N", TimeKey::PreviousFinding),
    ] {
        assert_eq!(press(&mut state, &scene, key), Action::Time(want), "{key}");
    }
}

#[test]
fn a_filter_shows_what_it_selects_and_counts_the_rest() {
    let mut run = host("state == CLOSE_WAIT");
    let scene = scene(&mut run);
    let shown_sockets = scene.overview.sockets.len();
    assert!(shown_sockets > 0 && shown_sockets < scene.overview.all_sockets);
    assert!(scene.findings.iter().any(|finding| finding.kind == "close-wait-leak"));
    assert!(scene.hidden_findings > 0);
    let mut state = State::new(false, "state == CLOSE_WAIT".to_owned(), Place::default());
    let text = shown(&mut state, &scene, (100, 30));
    assert!(text.contains(&format!("{shown_sockets} of {} sockets", scene.overview.all_sockets)), "{text}");
    assert!(text.contains("filter: state == CLOSE_WAIT"), "{text}");
}

#[test]
fn the_story_of_a_socket_is_that_of_tcptrace_story() {
    let mut run = host("");
    let scene = scene(&mut run);
    let mut with_events = 0;
    for line in &scene.overview.sockets {
        let story = run.session.story_of(&line.into(), &TimeZone::UTC, run.stream.now_ns).unwrap();
        assert!(story.contains(" ⇄ ") || story.contains("no event since the start"), "{story}");
        with_events += usize::from(story.contains("-> "));
    }
    assert!(with_events > 0);
    let mut state = screen();
    let first = (&scene.overview.sockets[0]).into();
    let text = run.session.story_of(&first, &TimeZone::UTC, run.stream.now_ns).unwrap();
    state.open(Page::story(first, &text));
    assert!(shown(&mut state, &scene, (100, 30)).contains("── Story"));
}
