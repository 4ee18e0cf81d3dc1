//! A text that takes the place of the one before on a terminal, like the screen of `top`.

use bytes::{BufMut as _, BytesMut};

use super::wrap::width;
use crate::model::screen::Screen;

// `CUP`, `EL` and `ED` of ECMA-48: to the first line; clear the rest of the line; clear all below.
const HOME: &[u8] = b"\x1b[H";
const CLEAR_LINE: &[u8] = b"\x1b[K";
const CLEAR_BELOW: &[u8] = b"\x1b[J";

/// Lines that text takes on the screen.
fn height(text: &str, screen: Screen) -> usize {
    text.lines().map(|line| rows(line, screen)).sum()
}

/// Lines of the screen for text; the last one is the cursor's.
fn room(screen: Screen) -> usize {
    screen.rows.saturating_sub(1).max(1)
}

fn rows(line: &str, screen: Screen) -> usize {
    visible(line).div_ceil(screen.columns).max(1)
}

/// Width of a line without its colours.
fn visible(line: &str) -> usize {
    let mut pieces = line.split("\x1b[");
    let before = pieces.next().map_or(0, width);
    before + pieces.map(|piece| piece.split_once('m').map_or(0, |(_, text)| width(text))).sum::<usize>()
}

/// Draws text over what is on the screen, in one piece so that nothing flickers. What does not fit is left out at the end,
/// and `more` says so, with the number of these lines.
pub(crate) fn draw(to: &mut BytesMut, text: &str, screen: Screen, more: impl FnOnce(usize) -> String) {
    to.put_slice(HOME);
    let line = |to: &mut BytesMut, text: &str| {
        to.put_slice(text.as_bytes());
        to.put_slice(CLEAR_LINE);
        to.put_u8(b'\n');
    };
    if height(text, screen) <= room(screen) {
        text.lines().for_each(|text| line(to, text));
    } else {
        let mut left = room(screen).saturating_sub(1);
        let fits = |text: &&str| {
            let rows = rows(text, screen);
            let fits = rows <= left;
            left = left.saturating_sub(rows);
            fits
        };
        let shown = text.lines().take_while(fits).count();
        text.lines().take(shown).for_each(|text| line(to, text));
        line(to, &more(text.lines().count() - shown));
    }
    to.put_slice(CLEAR_BELOW);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, columns: usize, rows: usize) -> String {
        let mut to = BytesMut::new();
        draw(&mut to, text, Screen { columns, rows }, |lines| format!("{lines} more"));
        let text = String::from_utf8(to.to_vec()).unwrap();
        assert!(text.starts_with("\x1b[H") && text.ends_with("\x1b[J"));
        text.replace("\x1b[K", "").trim_start_matches("\x1b[H").trim_end_matches("\x1b[J").to_owned()
    }

    #[test]
    fn what_does_not_fit_is_left_out_at_the_end_and_counted() {
        assert_eq!(drawn("a\nb\nc\n", 80, 4), "a\nb\nc\n");
        assert_eq!(drawn("a\nb\nc\n", 80, 3), "a\n2 more\n", "the last line is the cursor's");
        assert_eq!(drawn("a\nb\nc\n", 80, 1), "3 more\n");
        assert_eq!(drawn("", 80, 3), "");
    }

    #[test]
    fn wide_lines_take_more_than_one_and_colours_none() {
        assert_eq!(drawn("aaaa\nb\n", 2, 4), "aaaa\nb\n");
        assert_eq!(drawn("aaaa\nb\nc\n", 2, 4), "aaaa\n2 more\n");
        assert_eq!(drawn("\x1b[1maa\x1b[0m\nb\nc\n", 2, 4), "\x1b[1maa\x1b[0m\nb\nc\n");
    }
}
