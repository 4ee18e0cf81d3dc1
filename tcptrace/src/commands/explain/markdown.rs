//! Markdown for a terminal: wrapped at words, with bold and colour only where they are allowed.

use std::fmt::Write as _;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// Shortest line that text is wrapped to, in columns.
const NARROWEST: usize = 20;

/// Renders `text` in lines of at most `width` columns, except where a word or a line of code is longer.
pub(super) fn render(text: &str, width: usize, is_colored: bool) -> String {
    let mut page = Page { width: width.max(NARROWEST), is_colored, ..Page::default() };
    Parser::new_ext(text, Options::ENABLE_TABLES).for_each(|event| page.add(event));
    page.flush();
    page.to
}

/// An emphasis: what turns it on and off on a terminal.
type Style = (&'static str, &'static str);
const BOLD: Style = ("\x1b[1m", "\x1b[22m");
const CODE: Style = ("\x1b[36m", "\x1b[39m");

#[derive(Default)]
struct Page {
    /// What is rendered.
    to: String,
    /// The text of the paragraph, item or cell that is being read.
    block: String,
    width: usize,
    is_colored: bool,
    /// The number of the next item of each list that is open, or `None` for a list without numbers.
    lists: Vec<Option<u64>>,
    /// What stands before the first line of an item.
    bullet: String,
    /// The cells of the row that is being read.
    cells: Vec<String>,
    is_code: bool,
}

impl Page {
    fn add(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.is_code => text.lines().for_each(|line| _ = writeln!(self.to, "    {line}")),
            Event::Text(text) => self.block += &text,
            Event::Code(text) => {
                self.style(CODE.0);
                self.block += &text;
                self.style(CODE.1);
            }
            Event::SoftBreak => self.block.push(' '),
            Event::HardBreak => self.flush(),
            // Comments in the pages are for those who write them.
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } => {
                self.begin();
                self.style(BOLD.0);
            }
            Tag::Paragraph if self.lists.is_empty() => self.begin(),
            Tag::List(first) => {
                if self.lists.is_empty() {
                    self.begin();
                }
                self.flush();
                self.lists.push(first);
            }
            Tag::Item => {
                self.bullet = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "- ".to_owned(),
                };
            }
            Tag::CodeBlock(_) => {
                self.begin();
                self.is_code = true;
            }
            Tag::Table(_) => self.begin(),
            Tag::Strong => self.style(BOLD.0),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                self.style(BOLD.1);
                self.flush();
            }
            TagEnd::Paragraph | TagEnd::Item => self.flush(),
            TagEnd::List(_) => _ = self.lists.pop(),
            TagEnd::CodeBlock => self.is_code = false,
            TagEnd::Strong => self.style(BOLD.1),
            TagEnd::TableCell => self.cells.push(std::mem::take(&mut self.block)),
            // The rows say enough without it.
            TagEnd::TableHead => self.cells.clear(),
            TagEnd::TableRow => self.row(),
            _ => {}
        }
    }

    /// A row: its first cell, and the others below it. A table of sentences has no room beside each other.
    fn row(&mut self) {
        let cells = std::mem::take(&mut self.cells);
        let Some((first, rest)) = cells.split_first() else { return };
        let rest: Vec<_> = rest.iter().map(String::as_str).filter(|cell| !["", "–"].contains(cell)).collect();
        wrap(&mut self.to, first, self.width, "", "");
        wrap(&mut self.to, &rest.join(" · "), self.width, "    ", "    ");
    }

    /// Begins a block: an empty line stands between two.
    fn begin(&mut self) {
        self.flush();
        if !self.to.is_empty() {
            self.to.push('\n');
        }
    }

    fn flush(&mut self) {
        let block = std::mem::take(&mut self.block);
        if block.trim().is_empty() {
            return; // of an item, the text is still to come
        }
        let depth = self.lists.len().saturating_sub(1);
        let first = "  ".repeat(depth) + &std::mem::take(&mut self.bullet);
        let indent = if self.lists.is_empty() { 0 } else { first.len().max(2 * depth + 2) };
        wrap(&mut self.to, &block, self.width, &first, &" ".repeat(indent));
    }

    fn style(&mut self, code: &str) {
        if self.is_colored {
            self.block += code;
        }
    }
}

/// Appends `text` in lines of at most `width` columns; a longer word has a line of its own.
fn wrap(to: &mut String, text: &str, width: usize, first: &str, rest: &str) {
    let mut used = columns(first);
    *to += first;
    let mut begins = true;
    for word in text.split_whitespace() {
        let columns = columns(word);
        if !begins && used + 1 + columns > width {
            to.push('\n');
            *to += rest;
            (used, begins) = (rest.len(), true);
        }
        if !begins {
            to.push(' ');
            used += 1;
        }
        *to += word;
        used += columns;
        begins = false;
    }
    to.push('\n');
}

/// The columns that a word takes: its characters without codes. The pages have no wide ones.
fn columns(word: &str) -> usize {
    let mut is_code = false;
    word.chars()
        .filter(|c| {
            let counts = !is_code && *c != '\x1b';
            is_code = *c == '\x1b' || is_code && *c != 'm';
            counts
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_lists_tables_and_code_have_their_shape() {
        let text = "One `two` **three**\nfour [five](x.md#y) six.\n\n- a long item that goes on\n- b\n\n1. c\n\n\
                    <!-- tested: x -->\n```sh\ntcptrace  stuck --once --netns self\n```\n\n\
                    | name | unit | text |\n| --- | --- | --- |\n| `a_ns` | – | the age of it |\n";
        let want = "One two three four\nfive six.\n\n- a long item that\n  goes on\n- b\n\n1. c\n\n    \
                    tcptrace  stuck --once --netns self\n\na_ns\n    the age of it\n";
        assert_eq!(render(text, 20, false), want);
    }

    #[test]
    fn codes_take_no_columns() {
        let text = render("**What it is.** `a b` cd", 20, true);
        assert_eq!(text, "\x1b[1mWhat it is.\x1b[22m \x1b[36ma b\x1b[39m cd\n");
        assert_eq!(columns("\x1b[36mab\x1b[39m"), 2);
    }

    #[test]
    fn a_word_that_is_too_long_is_whole() {
        assert_eq!(render("a net.ipv4.tcp_max_syn_backlog b", 20, false), "a\nnet.ipv4.tcp_max_syn_backlog\nb\n");
    }
}
