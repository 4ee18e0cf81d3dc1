//! Writes HTML: markup comes only from literals, and everything else is escaped.

use std::fmt::{self, Display, Write as _};

use bytes::{BufMut as _, BytesMut};

use crate::model::printable::is_printable;

/// A page that is being written.
pub(super) struct Html<'a> {
    to: &'a mut BytesMut,
}

impl<'a> Html<'a> {
    pub(super) const fn new(to: &'a mut BytesMut) -> Self {
        Self { to }
    }

    /// Writes markup. It lives as long as the program, so that no text from outside can get here.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.to.put_slice(markup.as_bytes());
        self
    }

    /// Writes text, also as the value of an attribute in quotation marks.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        let _ = write!(Escaped(self.to), "{text}"); // to memory
        self
    }

    /// Writes a number as it is.
    pub(super) fn number(&mut self, number: impl Into<f64>) -> &mut Self {
        let number: f64 = number.into();
        let tenths = (number * 10.0).round() / 10.0;
        let _ = write!(self.to, "{tenths}"); // to memory
        self
    }

    /// Writes an element that contains only text.
    pub(super) fn element(&mut self, tag: &'static str, text: impl Display) -> &mut Self {
        self.raw("<").raw(tag).raw(">").text(text).raw("</").raw(tag).raw(">")
    }

    /// Begins a section with a heading; `id` is also the target of links to it.
    pub(super) fn section(&mut self, id: &'static str, title: &'static str) -> &mut Self {
        self.raw("<section aria-labelledby=\"").raw(id).raw("\"><h2 id=\"").raw(id).raw("\">").raw(title).raw("</h2>\n")
    }

    /// Begins a table that scrolls sideways where the screen is narrow.
    pub(super) fn table(&mut self, caption: impl Display, columns: &[&'static str]) -> &mut Self {
        let caption = caption.to_string();
        self.raw("<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"")
            .text(&caption)
            .raw("\"><table><caption>");
        self.text(&caption).raw("</caption><thead><tr>");
        for column in columns {
            let (class, name) = column.strip_prefix('#').map_or(("", *column), |name| (" class=\"n\"", name));
            self.raw("<th scope=\"col\"").raw(class).raw(">").raw(name).raw("</th>");
        }
        self.raw("</tr></thead><tbody>\n")
    }

    /// Ends a table.
    pub(super) fn end_table(&mut self) -> &mut Self {
        self.raw("</tbody></table></div>\n")
    }
}

/// Text in HTML: what has a meaning there is escaped, and what cannot be seen, or changes how the rest looks, is replaced.
struct Escaped<'a>(&'a mut BytesMut);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.put_slice(b"&amp;"),
                '<' => self.0.put_slice(b"&lt;"),
                '>' => self.0.put_slice(b"&gt;"),
                '"' => self.0.put_slice(b"&quot;"),
                '\'' => self.0.put_slice(b"&#39;"),
                c if is_printable(c) => self.0.put_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => self.0.put_slice("\u{fffd}".as_bytes()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup_or_hide() {
        let mut to = BytesMut::new();
        Html::new(&mut to).text("</script><b a='1' c=\"2\">&\0\u{1b}[31m\u{202e}\u{200b}é字\n");
        let text = String::from_utf8(to.to_vec()).unwrap();
        assert_eq!(
            text,
            "&lt;/script&gt;&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;\u{fffd}\u{fffd}[31m\u{fffd}\u{fffd}é字\u{fffd}"
        );
    }

    #[test]
    fn numbers_are_short() {
        let mut to = BytesMut::new();
        Html::new(&mut to).number(1.0).raw(" ").number(2.25).raw(" ").number(-0.04);
        assert_eq!(to, "1 2.3 -0");
    }
}
