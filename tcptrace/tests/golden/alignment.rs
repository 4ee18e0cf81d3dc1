//! Columns stand where the heading says, in every line, whatever the events hold.

use tcptrace::{
    model::{decode::split, screen::Screen},
    render::text::{TextOptions, TimeStyle},
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::{
    stories,
    support::{
        records::Stream,
        replay::{output, plain, replay, session, settings, text},
    },
};

/// A column begins at its name's first character, or ends at its last.
enum Side {
    Begins,
    Ends,
}
use Side::{Begins, Ends};

/// The columns of events; those of the second part stand only where the owner's columns are asked for.
const COLUMNS: [(&str, Side); 9] = [
    ("TIME", Begins),
    ("PID", Ends),
    ("COMMAND", Begins),
    ("LOCAL", Begins),
    ("REMOTE", Begins),
    ("OLD STATE", Begins),
    ("NEW STATE", Begins),
    ("IN OLD", Ends),
    ("NOTE", Begins),
];
const OWNER_COLUMNS: [(&str, Side); 2] = [("BY", Begins), ("UID", Ends)];

/// Index of the first character of each of the heading's names.
fn places(heading: &str, owner_columns: bool) -> Vec<(&'static str, &'static Side, usize)> {
    let wanted = COLUMNS.iter().chain(OWNER_COLUMNS.iter().filter(|_| owner_columns));
    wanted
        .map(|(name, side)| {
            let start = heading.find(name).unwrap_or_else(|| panic!("no {name} in {heading:?}"));
            (*name, side, heading[..start].chars().count())
        })
        .collect()
}

fn check(heading: &str, line: &str, owner_columns: bool) {
    // A wide character takes two places.
    let places_of = |c: char| std::iter::once(c).chain((1..c.width().unwrap_or(0)).map(|_| '_'));
    let chars: Vec<char> = line.chars().flat_map(places_of).collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or(' ');
    let is_transition = line.contains(" -> ");
    for (name, side, start) in places(heading, owner_columns) {
        let may_be_empty = name == "NOTE" || (name == "IN OLD" && !is_transition) || is_blank(line, name);
        let (inside, outside) = match side {
            Begins => (start, start.checked_sub(1)),
            Ends => (start + name.len() - 1, Some(start + name.len())),
        };
        assert!(outside.is_none_or(|index| at(index) == ' '), "{name} leaves its column:\n{heading}\n{line}");
        assert!(may_be_empty || at(inside) != ' ', "{name} is not in its column:\n{heading}\n{line}");
    }
}

/// Two of the hostile command names are empty, or begin with a space.
fn is_blank(line: &str, column: &str) -> bool {
    column == "COMMAND" && line.contains("   5000  ")
}

/// Headings and lines of events, up to the summary.
fn events(printed: &str) -> impl Iterator<Item = &str> {
    printed.lines().take_while(|line| !line.is_empty())
}

#[test]
fn columns_stand_under_their_headings() {
    for owner_columns in [false, true] {
        for time in [plain().time, TimeStyle::Monotonic, TimeStyle::Delta] {
            let options = TextOptions { time, owner_columns, ..plain() };
            for story in stories::ALL.iter().map(|(_, story)| *story).chain([stories::all as stories::Story]) {
                let mut stream = Stream::new();
                story(&mut stream);
                let printed = replay(&stream, settings(), text(options.clone()));
                let mut heading = None;
                for line in events(&printed) {
                    match heading {
                        _ if line.starts_with("TIME ") => heading = Some(line),
                        Some(_) if is_wide(line) => {}
                        Some(heading) => check(heading, line, owner_columns),
                        None => panic!("a line before the first heading: {line}"),
                    }
                }
                assert!(heading.is_some());
            }
        }
    }
}

#[test]
fn the_heading_comes_once_and_wide_addresses_move_their_own_line_only() {
    let printed = |story: stories::Story| {
        let mut stream = Stream::new();
        story(&mut stream);
        replay(&stream, settings(), text(plain()))
    };
    for (name, story) in stories::ALL {
        let printed = printed(*story);
        assert_eq!(events(&printed).filter(|line| line.starts_with("TIME ")).count(), 1, "{name}: {printed}");
        assert!(events(&printed).all(|line| !line.ends_with(' ')), "{name}: {printed}");
    }
    let all = printed(stories::all);
    assert_eq!(events(&all).filter(|line| line.starts_with("TIME ")).count(), 1);
    assert!(events(&all).any(is_wide), "the streams have long IPv6 addresses");
}

/// True if an address of the line is wider than its column.
fn is_wide(line: &str) -> bool {
    line.split_whitespace().any(|word| word.starts_with('[') && word.len() > "255.255.255.255:65535".len())
}

#[test]
fn a_terminal_shows_what_has_room_and_wraps_notes() {
    let mut stream = Stream::new();
    stories::all(&mut stream);
    for columns in [60, 80, 120] {
        let mut session = session(settings(), text(TextOptions { fits: true, ..plain() }));
        session.context.screen = Some(Screen { columns, rows: 24 });
        split(&stream.bytes).for_each(|record| session.ingest(record.unwrap()));
        let printed = output(&mut session);
        let (missing, table) = printed.split_once('\n').unwrap();
        assert!(missing.starts_with(&format!("-- {columns} columns: without OLD STATE")), "{missing}");
        let heading = table.lines().next().unwrap();
        assert!(["REMOTE", "NEW STATE", "NOTE"].iter().all(|name| heading.contains(name)), "{heading}");
        for line in table.lines().filter(|line| line.width() > columns) {
            assert!(is_wide(line), "{columns}: {line}");
        }
    }
}

#[test]
fn chosen_columns_come_in_their_order() {
    let columns = ["remote", "cookie", "new-state", "in-old"].map(|name| name.parse().unwrap()).to_vec();
    let mut stream = Stream::new();
    stories::ALL.iter().find(|(name, _)| *name == "client_life").unwrap().1(&mut stream);
    let printed = replay(&stream, settings(), text(TextOptions { columns, ..plain() }));
    let mut lines = events(&printed);
    let heading = lines.next().unwrap();
    assert_eq!(heading.split_whitespace().collect::<Vec<_>>(), ["REMOTE", "cookie", "NEW", "STATE", "IN", "OLD"]);
    let line = lines.find(|line| line.contains("ESTABLISHED")).unwrap();
    assert!(line.split_whitespace().nth(1).unwrap().parse::<u64>().is_ok(), "{line}");
}

#[test]
fn colour_changes_nothing_else() {
    let mut stream = Stream::new();
    stories::all(&mut stream);
    for owner_columns in [false, true] {
        let print = |color| replay(&stream, settings(), text(TextOptions { color, owner_columns, ..plain() }));
        let (coloured, bare) = (print(true), print(false));
        assert!(!bare.contains('\x1b') && coloured.contains("\x1b[31m") && coloured.contains("\x1b[33m"));
        let mut stripped = coloured;
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[33m"] {
            stripped = stripped.replace(code, "");
        }
        // Blanks at the end of a line are dropped only where no colour ends after them.
        let lines = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(&stripped), lines(&bare));
    }
}
