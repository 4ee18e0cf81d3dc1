//! How wide text is on a terminal, and lines that fit.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr as _;

/// Width of text on a terminal, in columns: most East Asian characters take two, combining ones none.
pub(crate) fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.width() }
}

/// Fewest columns that are worth wrapping to.
pub(crate) const LEAST: usize = 20;

/// Breaks text at spaces, so that no line is wider than `columns` (`None`: not at all). Further lines are indented. A word
/// that is too long for a line stays whole.
pub(crate) fn wrapped(text: &str, indent: usize, columns: Option<usize>) -> Cow<'_, str> {
    let Some(columns) = columns.map(|columns| columns.max(indent + LEAST)).filter(|columns| width(text) > *columns)
    else {
        return Cow::Borrowed(text);
    };
    let mut to = String::with_capacity(text.len() + 64);
    let (mut used, mut has_word) = (0, false);
    for word in text.split_inclusive(' ') {
        let bare = word.trim_end_matches(' ');
        if has_word && used + width(bare) > columns {
            to.truncate(to.trim_end_matches(' ').len());
            to.push('\n');
            to.extend(std::iter::repeat_n(' ', indent));
            (used, has_word) = (indent, false);
        }
        to.push_str(word);
        used += width(word);
        has_word |= !bare.is_empty();
    }
    Cow::Owned(to)
}

/// Cuts text to `columns`, with `…` at the end if something is missing.
pub(crate) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut end = 0;
    for (at, c) in text.char_indices() {
        let next = at + c.len_utf8();
        if width(&text[..next]) >= columns {
            break;
        }
        end = next;
    }
    Cow::Owned(format!("{}…", &text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_words_and_are_indented() {
        let text = "   the first words of a sentence that goes on, and a-word-that-is-longer-than-a-line ends";
        assert_eq!(wrapped(text, 3, None), text);
        assert_eq!(wrapped(text, 3, Some(400)), text);
        let lines = "   the first words of a\n   sentence that goes\n   on, and\n   \
                     a-word-that-is-longer-than-a-line\n   ends";
        assert_eq!(wrapped(text, 3, Some(23)), lines);
        for columns in 0..100 {
            let broken = wrapped(text, 3, Some(columns)).into_owned();
            assert_eq!(
                broken.split_whitespace().collect::<Vec<_>>(),
                text.split_whitespace().collect::<Vec<_>>(),
                "{columns}: no word is lost or torn"
            );
            assert!(broken.lines().all(|line| line.starts_with("   ") && !line.ends_with(' ')), "{broken:?}");
        }
    }

    #[test]
    fn wide_characters_take_two_columns_and_combining_ones_none() {
        assert_eq!([width("ab"), width("日本"), width("e\u{301}"), width("≥1µs"), width("🦀")], [2, 4, 1, 4, 2]);
        assert_eq!(wrapped("日本語日本語 日本語日本語 x", 0, Some(20)), "日本語日本語\n日本語日本語 x");
    }

    #[test]
    fn text_is_cut_where_the_column_ends() {
        assert_eq!([cut("abc", 3), cut("abcd", 3), cut("日本語", 5), cut("日本語", 4)], ["abc", "ab…", "日本…", "日…"]);
        assert_eq!((cut("abc", 1), cut("abc", 0)), (Cow::from("…"), Cow::from("…")));
        for columns in 1..8 {
            assert!(width(&cut("日本語abc日本語", columns)) <= columns, "{columns}");
        }
    }
}
