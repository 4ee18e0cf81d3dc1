//! Columns stand where the heading says, in every line, whatever the events hold.

use tcptrace::render::text::{TextOptions, TimeStyle};

use crate::{
    stories,
    support::{
        records::Stream,
        replay::{plain, replay, settings, text},
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
    let chars: Vec<char> = line.chars().collect();
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
fn headings_come_anew_only_where_columns_widen() {
    let headings = |story: stories::Story| {
        let mut stream = Stream::new();
        story(&mut stream);
        let printed = replay(&stream, settings(), text(plain()));
        let of_line = |line: &str| line.starts_with("TIME ").then_some(line.len());
        events(&printed).map(of_line).collect::<Vec<_>>()
    };
    let story = |name: &str| stories::ALL.iter().find(|(other, _)| *other == name).unwrap().1;
    assert_eq!(headings(story("client_life")).iter().flatten().count(), 1);
    let ipv6 = headings(story("ipv6"));
    let widths: Vec<_> = ipv6.iter().flatten().collect();
    assert_eq!(widths.len(), 3, "IPv4's width, then wider, then widest: {ipv6:?}");
    assert!(widths.is_sorted_by(|a, b| a < b), "{widths:?}");
    assert_eq!(ipv6.iter().rposition(Option::is_some), Some(6), "short addresses after long ones need none: {ipv6:?}");
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
