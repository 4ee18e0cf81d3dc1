//! Parts of pictures.

use std::fmt::Display;

use super::writer::Html;

/// Begins a picture of this size, with a title and a description for those who do not see it. `id` is unique on the page.
pub(super) fn begin(
    html: &mut Html<'_>,
    id: &'static str,
    (width, height): (f64, f64),
    title: impl Display,
    description: impl Display,
) {
    html.raw("<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"").text(title.to_string());
    html.raw("\"><svg role=\"img\" aria-labelledby=\"").raw(id).raw("-title ").raw(id).raw("-text\" viewBox=\"0 0 ");
    html.number(width).raw(" ").number(height).raw("\" xmlns=\"http://www.w3.org/2000/svg\"><title id=\"").raw(id);
    html.raw("-title\">").text(title).raw("</title><desc id=\"").raw(id).raw("-text\">").text(description);
    html.raw("</desc>\n");
}

/// Ends a picture.
pub(super) fn end(html: &mut Html<'_>) {
    html.raw("</svg></div>\n");
}

/// Writes a rectangle.
pub(super) fn rect(html: &mut Html<'_>, class: &'static str, [x, y, width, height]: [f64; 4]) {
    html.raw("<rect class=\"").raw(class).raw("\" x=\"").number(x).raw("\" y=\"").number(y);
    html.raw("\" width=\"").number(width).raw("\" height=\"").number(height).raw("\"/>");
}

/// Writes a line.
pub(super) fn line(html: &mut Html<'_>, class: &'static str, [x1, y1, x2, y2]: [f64; 4]) {
    html.raw("<line class=\"").raw(class).raw("\" x1=\"").number(x1).raw("\" y1=\"").number(y1);
    html.raw("\" x2=\"").number(x2).raw("\" y2=\"").number(y2).raw("\"/>");
}

/// Writes a line of text; `class` also says where it is anchored (`end`, `mid`).
pub(super) fn text(html: &mut Html<'_>, class: &'static str, x: f64, y: f64, text: impl Display) {
    html.raw("<text class=\"").raw(class).raw("\" x=\"").number(x).raw("\" y=\"").number(y).raw("\">");
    html.text(text).raw("</text>");
}

/// About `most` times between two others, at round distances: each in ns.
pub(super) fn ticks(from_ns: i64, to_ns: i64, most: i64) -> Vec<i64> {
    const STEPS: [i64; 9] = [1, 2, 5, 10, 15, 30, 60, 120, 300];
    const S: i64 = 1_000_000_000;
    let span = to_ns.saturating_sub(from_ns).max(1);
    let fine = (0..9).flat_map(|power| [1, 2, 5].map(|step| step * 10_i64.pow(power)));
    let seconds = STEPS.iter().map(|step| step * S);
    let coarse = [600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400].map(|step| step * S);
    let days = (1..400).map(|days| days * 86_400 * S);
    let step = fine.chain(seconds).chain(coarse).chain(days).find(|step| span / step <= most).unwrap_or(span);
    let first = from_ns + (step - from_ns.rem_euclid(step)) % step;
    (0..=most)
        .map(|number| first.saturating_add(number.saturating_mul(step)))
        .take_while(|time| *time <= to_ns)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        const S: i64 = 1_000_000_000;
        assert_eq!(ticks(3 * S, 63 * S, 8), [10, 20, 30, 40, 50, 60].map(|second| second * S));
        assert_eq!(ticks(0, 0, 8).len(), 1);
        assert_eq!(ticks(1, 86_400 * S, 8).len(), 6, "every four hours");
        for span in [1, 999, 1_000_001, 59 * S, 3601 * S, 86_400 * 365 * S] {
            let ticks = ticks(17, 17 + span, 8);
            assert!((1..=9).contains(&ticks.len()) || span < 2, "{span}: {ticks:?}");
        }
    }
}
