//! Which characters of foreign text may be printed. Processes, cgroups and network namespaces choose their names, users
//! type flags, and servers reply as they like: no such text may control a terminal, hide part of itself or reorder a
//! line. The output formats differ only in how they write unprintable characters: JSON has its own escapes
//! ([`crate::render`]), text output uses [`Printable`], and formats without escapes use [`escaped`].

use std::{
    borrow::Cow,
    fmt::{self, Display, Formatter, Write as _},
};

/// True if the character is visible or an ordinary space. All others are control characters, change the text direction,
/// have zero width, look like a space, or have no agreed meaning (Unicode's `Default_Ignorable_Code_Point`, categories
/// Cc, Zl, Zp, Zs, Co, noncharacters).
#[must_use]
pub const fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\0'..='\u{a0}' | '\u{ad}' => false,
        // Grapheme joiner; Arabic letter mark (changes direction); Hangul fillers; Khmer vowels without a glyph;
        // Mongolian selectors.
        '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => false,
        // Spaces; zero width, direction marks; line and paragraph separators, embeddings and overrides; isolates, word
        // joiner.
        '\u{1680}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' => false,
        // Braille pattern blank, ideographic space, Hangul filler, private use area.
        '\u{2800}' | '\u{3000}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}' => false,
        // Noncharacters; variation selectors; byte order mark; Hangul filler; reserved and interlinear annotations.
        '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' => false,
        // Shorthand and musical controls; tags and further variation selectors; private use planes.
        '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' | '\u{f0000}'.. => false,
        other => other as u32 & 0xfffe != 0xfffe,
    }
}

/// True if the text is printable ASCII only, the common case, which needs no decoding.
pub(crate) fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~')) // without a branch for each byte
}

/// Splits text into runs of printable characters, each with the unprintable character that follows it.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = (&str, Option<char>)> {
    text.split_inclusive(|c| !is_printable(c)).map(|piece| match piece.chars().next_back() {
        Some(last) if !is_printable(last) => (piece.strip_suffix(last).unwrap_or_default(), Some(last)),
        _ => (piece, None),
    })
}

/// Text for people: each unprintable character becomes `?`, so that columns stay aligned.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl Display for Printable<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) {
            return f.write_str(self.0);
        }
        pieces(self.0).try_for_each(|(plain, other)| {
            f.write_str(plain)?;
            other.map_or(Ok(()), |_| f.write_char('?'))
        })
    }
}

/// [`Printable`] as a string.
#[must_use]
pub fn printable(text: &str) -> String {
    Printable(text).to_string()
}

/// Text for programs in formats without escapes of their own: ESC becomes `\u{1b}`, so that different names remain
/// different.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if is_plain(text) || text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut to = String::with_capacity(text.len() + 8);
    for (plain, other) in pieces(text) {
        to.push_str(plain);
        to.extend(other.into_iter().flat_map(char::escape_unicode));
    }
    Cow::Owned(to)
}

/// One of tcptrace's own messages, which may quote foreign text. Line breaks are kept only if the next line is indented
/// by two spaces, as in our own messages, so that a line break in a quoted name cannot imitate another message.
#[must_use]
pub fn message(text: &str) -> String {
    text.split("\n  ").map(printable).collect::<Vec<_>>().join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_hides_or_reorders_is_not_printed() {
        let foreign = [
            0x00, 0x07, 0x09, 0x0a, 0x0d, 0x1b, 0x7f, 0x80, 0x85, 0x9b, 0x9f, 0xa0, 0xad, 0x34f, 0x61c, 0x180e, 0x2003,
            0x200b, 0x200c, 0x200d, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202e, 0x2060, 0x2066, 0x2069, 0x206f,
            0x2800, 0x3164, 0xe000, 0xf8ff, 0xfdd0, 0xfe0f, 0xfeff, 0xfff9, 0xfffe, 0xffff, 0x1_d173, 0x1_fffe,
            0xe_0001, 0xe_0041, 0xe_007f, 0xe_0100, 0xf_0000, 0x10_ffff,
        ];
        for c in foreign.map(|c| char::from_u32(c).unwrap()) {
            let text = format!("a{c}b");
            assert_eq!(printable(&text), "a?b", "{:?}", c.escape_unicode());
            assert_eq!(escaped(&text), format!("a{}b", c.escape_unicode()));
        }
    }

    #[test]
    fn letters_of_all_scripts_are_printed() {
        for text in
            ["", " ", "web-1_~", "наїв🦀", "é", "e\u{301}", "日本語", "हिन्दी", "עברית", "\u{fffd}", "ไทย", "ﬁ", "𝒳"]
        {
            assert_eq!(printable(text), text);
            assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn no_character_prints_that_the_standard_library_escapes_as_a_control() {
        for c in (char::MIN..=char::MAX).filter(|c| c.is_control() || c.is_whitespace() && *c != ' ') {
            assert!(!is_printable(c), "{:?}", c.escape_unicode());
        }
    }

    #[test]
    fn a_quoted_line_break_begins_no_message() {
        let text = "cannot open /tmp/a\n\u{1b}[31mtcptrace: all is well\nonce:\n  sudo it";
        assert_eq!(message(text), "cannot open /tmp/a??[31mtcptrace: all is well?once:\n  sudo it");
    }

    #[test]
    fn pieces_are_all_of_the_text() {
        let text = "\u{202e}ab\u{1b}\u{1b}c";
        let all: String = pieces(text).flat_map(|(plain, other)| plain.chars().chain(other)).collect();
        assert_eq!(all, text);
        assert_eq!(pieces(text).count(), 4);
    }
}
