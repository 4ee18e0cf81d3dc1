//! The head and the foot of the page.

use super::{options::Page, writer::Html};

/// The style sheet, which is part of the page.
pub(super) const STYLE: &str = include_str!("style.css");
/// SHA-256 of the style sheet: browsers apply no other one. A test compares it.
pub(super) const STYLE_HASH: &str = "2NLiTtgd9HAMT9aL40pt/2NVXbjh+bFgylQhYkLmi2g=";

/// Most findings that are explained one by one.
pub(super) const EXPLAINED: usize = 60;

/// The sections by id, for the contents.
const SECTIONS: [(&str, &str); 9] = [
    ("summary", "What happened"),
    ("timeline", "Findings over time"),
    ("findings", "Findings one by one"),
    ("machine", "State machine"),
    ("latency", "Latency over time"),
    ("ladders", "Connections"),
    ("processes", "Processes"),
    ("settings", "TCP settings"),
    ("about", "About this report"),
];

/// Writes everything before the first section.
pub(super) fn head(html: &mut Html<'_>) {
    html.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-")
        .raw(STYLE_HASH);
    html.raw("'; base-uri 'none'; form-action 'none'\">\n");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.raw("<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n");
    html.raw("<title>TCP incident report</title>\n<style>").raw(STYLE).raw("</style>\n</head>\n<body>\n");
    html.raw("<a class=\"skip\" href=\"#main\">Skip to the report</a>\n");
    html.raw("<header><h1>TCP incident report</h1>\n<nav aria-label=\"Contents\"><ul>");
    for (id, title) in SECTIONS {
        html.raw("<li><a href=\"#").raw(id).raw("\">").raw(title).raw("</a></li>");
    }
    html.raw("</ul></nav></header>\n<main id=\"main\" tabindex=\"-1\">\n");
}

/// Writes everything after the last section.
pub(super) fn foot(html: &mut Html<'_>, page: &Page) {
    html.section("about", "About this report");
    html.raw("<p>Made by tcptrace ").raw(env!("CARGO_PKG_VERSION")).raw(" from a recording");
    if !page.recorded_by.is_empty() {
        html.raw(" of tcptrace ").text(&page.recorded_by);
    }
    html.raw(". All times are in UTC. “≥” marks a lower bound, “~” a time known only as exactly as sockets are polled, “≤” an \
              upper bound. Percentiles are at most 2&nbsp;% too high, and 7&nbsp;% in the table of latency over time.</p>\n");
    if page.is_anonymous {
        html.raw("<p>Addresses and names were replaced, the same one always by the same word. Ports, states, times, numbers of \
                  processes, users and namespaces are as recorded.</p>\n");
    }
    html.raw("</section>\n</main>\n</body>\n</html>\n");
}
