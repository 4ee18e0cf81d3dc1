//! Draws what a terminal shows as SVG.

use std::fmt::Write as _;

/// Size of a character cell and of the border, in pixels.
const CELL: (f32, f32) = (7.25, 17.0);
const BORDER: f32 = 14.0;
/// Columns of the terminal: longer lines go on in the next one, as in a real one.
const COLUMNS: usize = 166;

const STYLE: &str = "text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace;\
                     fill:#d0d7de;white-space:pre}.p{fill:#7ee787;font-weight:bold}.b{font-weight:bold;fill:#fff}\
                     .y{fill:#e3b341}.r{fill:#ff7b72}.g{fill:#56d364}.c{fill:#79c0ff}.d{fill:#8b949e}";

/// A character and the class of its style, empty for plain text.
type Cell = (char, &'static str);

/// The picture of a terminal in which tcptrace was called with the arguments `line` and printed `lines`.
pub(super) fn draw(line: &str, lines: &[&str]) -> String {
    let prompt = ('$', "p");
    let typed = format!(" tcptrace {line}");
    let mut rows: Vec<Vec<Cell>> =
        vec![[prompt].into_iter().chain(typed.chars().map(|letter| (letter, "b"))).collect()];
    for printed in lines {
        let cells = cells(printed);
        rows.extend(cells.chunks(COLUMNS).map(<[Cell]>::to_vec));
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = size(columns).mul_add(CELL.0, 2.0 * BORDER);
    let height = size(rows.len()).mul_add(CELL.1, 2.0 * BORDER);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\">\n<title>tcptrace {}</title>\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#161b22\"/>\n",
        escaped(line)
    );
    for (row, number) in rows.iter().zip(0..) {
        let baseline = size(number).mul_add(CELL.1, BORDER) + 12.0;
        let _ = write!(svg, "<text y=\"{baseline:.1}\">");
        runs(row).for_each(|(column, run)| span(&mut svg, column, run));
        svg.push_str("</text>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

#[expect(clippy::cast_precision_loss, reason = "no terminal has so many rows or columns")]
const fn size(cells: usize) -> f32 {
    cells as f32
}

/// Words that stand apart by two spaces or more, or differ in style. Each is placed by itself, so that columns are
/// straight in any font.
fn runs(row: &[Cell]) -> impl Iterator<Item = (usize, &[Cell])> {
    let is_gap = |at: usize| row[at].0 == ' ' && row.get(at + 1).is_none_or(|next| next.0 == ' ');
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < row.len() && row[at].0 == ' ' {
            at += 1;
        }
        let (start, class) = (at, row.get(at)?.1);
        while at < row.len() && row[at].1 == class && !is_gap(at) {
            at += 1;
        }
        Some((start, &row[start..at]))
    })
}

fn span(svg: &mut String, column: usize, run: &[Cell]) {
    let x = size(column).mul_add(CELL.0, BORDER);
    let length = size(run.len()) * CELL.0;
    let class = run.first().map_or("", |cell| cell.1);
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let text: String = run.iter().map(|cell| cell.0).collect();
    let _ = write!(svg, "<tspan x=\"{x:.1}\" textLength=\"{length:.1}\"{class}>{}</tspan>", escaped(&text));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The characters of a line, with the styles that its escape sequences set.
fn cells(line: &str) -> Vec<Cell> {
    let (mut cells, mut style) = (Vec::new(), Style::default());
    let mut rest = line;
    while let Some(letter) = rest.chars().next() {
        if let Some((codes, behind)) = rest.strip_prefix("\x1b[").and_then(|behind| behind.split_once('m')) {
            codes.split(';').for_each(|code| style.set(code));
            rest = behind;
        } else {
            cells.push((letter, style.class()));
            rest = &rest[letter.len_utf8()..];
        }
    }
    cells
}

/// What escape sequences have set (SGR of ECMA-48).
#[derive(Default)]
struct Style {
    is_bold: bool,
    is_dim: bool,
    /// Chosen: exchanged with the background.
    is_reversed: bool,
    color: &'static str,
}

impl Style {
    fn set(&mut self, code: &str) {
        match code {
            "" | "0" => *self = Self::default(),
            "1" => self.is_bold = true,
            "2" => self.is_dim = true,
            "7" => self.is_reversed = true,
            "22" => (self.is_bold, self.is_dim) = (false, false),
            "27" => self.is_reversed = false,
            "31" => self.color = "r",
            "32" => self.color = "g",
            "33" => self.color = "y",
            "36" => self.color = "c",
            "90" => self.color = "d",
            "39" => self.color = "",
            _ => {}
        }
    }

    const fn class(&self) -> &'static str {
        match (self.color.is_empty(), self.is_reversed || self.is_bold, self.is_dim) {
            (false, ..) => self.color,
            (true, true, _) => "b",
            (true, false, true) => "d",
            (true, false, false) => "",
        }
    }
}

/// A line without escape sequences.
pub(super) fn plain(line: &str) -> String {
    cells(line).into_iter().map(|cell| cell.0).collect()
}

#[cfg(test)]
mod tests {
    use super::{draw, plain};

    #[test]
    fn escape_sequences_become_classes() {
        let svg = draw("stuck --port 1", &["\x1b[1mA    B\x1b[0m", "\x1b[33m-> x\x1b[0m  <&"]);
        assert!(svg.contains("class=\"b\">A</tspan>") && svg.contains("class=\"b\">B</tspan>"), "{svg}");
        assert!(svg.contains("class=\"y\">-&gt; x</tspan>") && svg.contains(">&lt;&amp;</tspan>"), "{svg}");
        assert!(!svg.contains('\x1b'), "{svg}");
        let svg = draw("top", &["\x1b[1m\x1b[36mhead\x1b[39m\x1b[22m  \x1b[7mchosen\x1b[0m  \x1b[2;32mgood"]);
        for (class, text) in [("c", "head"), ("b", "chosen"), ("g", "good")] {
            assert!(svg.contains(&format!("class=\"{class}\">{text}</tspan>")), "{svg}");
        }
        assert_eq!(plain("\x1b[31mred\x1b[0m, \x1b not closed"), "red, \x1b not closed");
    }

    #[test]
    fn a_long_line_goes_on_in_the_next_row() {
        let svg = draw("stuck", &[&"x".repeat(167)]);
        assert_eq!(svg.matches("<text ").count(), 3, "the command line, and two rows");
    }
}
