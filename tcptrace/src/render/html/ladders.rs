//! The stories of the connections that findings name, as tables: one side on the left, the other on the right, and segments
//! between them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    page::EXPLAINED,
    timeline::label,
    words::{Words, count},
    writer::Html,
};
use crate::{
    analysis::{
        postmortem::{Postmortem, Witness},
        story::connection::{Side, Story},
    },
    findings::causes_of,
    model::{
        event::{Event, EventKind},
        time::human,
    },
    render::{
        context::Context,
        text::ladder::{Shown, cell, closed_first, end_of_side, owner_and_source, reset_words, segment_of},
    },
};

/// Most stories on the page.
const MOST: usize = 20;
/// Most rows at the beginning and at the end of a story; those between them are left out.
const ROWS: (usize, usize) = (45, 20);

/// The stories on the page, the worst findings first. Their numbers begin at 1.
pub(super) struct Chosen<'a> {
    stories: Vec<&'a Witness>,
    /// The findings that are on the page, so that a link leads to them.
    explained: BTreeSet<u64>,
    left_out: u64,
}

impl Chosen<'_> {
    /// The numbers of the stories of a finding.
    pub(super) fn of(&self, finding: u64) -> impl Iterator<Item = usize> {
        let of_it = self.stories.iter().enumerate().filter(move |(_, witness)| witness.findings.contains(&finding));
        of_it.map(|(place, _)| place + 1)
    }
}

/// Chooses the stories: of each finding one, then a second one, until the page is full.
pub(super) fn choose(all: &Postmortem) -> Chosen<'_> {
    let kept = all.witnesses.kept();
    let ranked = all.episodes.ranked();
    let mut chosen = BTreeMap::new();
    for nth in 0..3 {
        for (rank, episode) in ranked.iter().enumerate() {
            let mut of_it = kept.iter().enumerate().filter(|(_, witness)| witness.findings.contains(&episode.number));
            if let Some((place, _)) = of_it.nth(nth).filter(|_| chosen.len() < MOST) {
                chosen.entry(place).or_insert((rank, nth));
            }
        }
    }
    let mut places: Vec<_> = chosen.into_iter().map(|(place, rank)| (rank, place)).collect();
    places.sort_unstable();
    let stories: Vec<_> = places.into_iter().filter_map(|(_, place)| kept.get(place)).collect();
    let found: u64 = stories.iter().map(|witness| witness.findings.len() as u64).sum();
    let explained = ranked.iter().take(EXPLAINED).map(|episode| episode.number).collect();
    Chosen { explained, left_out: all.witnesses.wanted_count().saturating_sub(found), stories }
}

/// Writes the section.
pub(super) fn write(html: &mut Html<'_>, all: &Postmortem, chosen: &Chosen<'_>, words: &Words, context: &Context) {
    html.section("ladders", "Connections");
    if all.episodes.all().next().is_none() {
        html.raw("<p>Connections are shown where a finding names them.</p></section>\n");
        return;
    }
    html.raw("<p>");
    html.text(count(chosen.stories.len() as u64, "connection", "connections"))
        .raw(" of the findings, the worst first; ");
    html.text(count(chosen.left_out, "other socket", "other sockets")).raw(
        " that findings named are left out, or had no event. Solid arrows are segments that the kernel reported, dashed ones follow from a change of \
         state.</p>\n",
    );
    for number in 1..=chosen.stories.len() {
        one(html, number, all, chosen, words, context);
    }
    html.raw("</section>\n");
}

fn one(html: &mut Html<'_>, number: usize, all: &Postmortem, chosen: &Chosen<'_>, words: &Words, context: &Context) {
    let Some(witness) = number.checked_sub(1).and_then(|place| chosen.stories.get(place)) else { return };
    let story = &witness.story;
    let events = story.events();
    let Some(start_ns) = events.first().map(|(_, event)| event.time_ns) else { return };
    let [left, right] = story.ends().map(|end| words.end(end));
    let id = number as f64;
    html.raw("<article aria-labelledby=\"ladder-")
        .number(id)
        .raw("\"><h3 id=\"ladder-")
        .number(id)
        .raw("\">Connection ");
    html.number(id).raw(": ").text(&left).raw(" ⇄ ").text(&right).raw("</h3>\n<p>From ").text(words.date(start_ns));
    for (place, episode) in witness.findings.iter().filter_map(|number| all.episodes.get(*number)).enumerate() {
        html.raw(if place == 0 { ", of " } else { " and " });
        if chosen.explained.contains(&episode.number) {
            html.raw("<a href=\"#finding-").number(episode.number as f64).raw("\">").text(label(episode)).raw("</a>");
        } else {
            html.text(label(episode));
        }
    }
    html.raw("</p>\n");
    let caption = format!("Connection {number}, event by event");
    html.raw("<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"").text(&caption);
    html.raw("\"><table class=\"ladder\"><caption class=\"hidden\">").text(&caption);
    html.raw("</caption><thead><tr><th scope=\"col\" class=\"n\">Time</th>");
    let [left_side, right_side] = [0, 1].map(|place| describe(story, place));
    html.raw("<th scope=\"col\">")
        .text(left)
        .raw("<small>")
        .text(left_side)
        .raw("</small></th><th scope=\"col\">Segment</th>");
    html.raw("<th scope=\"col\">")
        .text(right)
        .raw("<small>")
        .text(right_side)
        .raw("</small></th></tr></thead><tbody>\n");
    let mut shown = [Shown::default(), Shown::default()];
    for (place, side) in story.seen() {
        shown[place].pid = side.first_owner().map(|owner| owner.pid);
    }
    let end = events.len().saturating_sub(ROWS.1).max(ROWS.0);
    for (row, (place, event)) in events.iter().enumerate() {
        let Some(side) = &story.sides[*place] else { continue };
        let parts = cell(event, side, &mut shown[*place], &context.names);
        if row == ROWS.0 && end > ROWS.0 {
            html.raw("<tr><td></td><td colspan=\"3\">… ")
                .number((end - ROWS.0) as f64)
                .raw(" events left out …</td></tr>\n");
        }
        if row < ROWS.0 || row >= end {
            let after = human(event.time_ns.saturating_sub(start_ns));
            html.raw("<tr").raw(tone(event)).raw("><th scope=\"row\" class=\"n\">+").text(after).raw("</th>");
            let text = parts.join(", ");
            html.raw("<td>").text(if *place == 0 { &text } else { "" }).raw("</td>");
            arrow(html, *place, event, side, story);
            html.raw("<td>").text(if *place == 1 { &text } else { "" }).raw("</td></tr>\n");
        }
    }
    let of_end = |place: usize| {
        let side: Option<&Side> = story.sides[place].as_ref();
        side.map(|side| end_of_side(side, story.until_ns).join(", ")).unwrap_or_default()
    };
    html.raw("<tr class=\"last\"><th scope=\"row\" class=\"n\">end</th><td>").text(of_end(0)).raw("</td><td></td><td>");
    html.text(of_end(1)).raw("</td></tr>\n</tbody></table></div>\n<ul>");
    if let Some(text) = closed_first(story) {
        html.raw("<li>Closed: ").text(text).raw("</li>");
    }
    let resets = story.resets();
    if resets.is_empty() {
        html.raw("<li>RST: none seen</li>");
    }
    for reset in &resets {
        html.raw("<li>RST: ").text(reset_words(story, reset, start_ns, &context.names).join(", ")).raw("</li>");
    }
    for cause in causes_of(story.events().into_iter().map(|(_, event)| event)) {
        html.raw("<li>Why: ").text(cause.words()).raw("</li>");
    }
    html.raw("</ul></article>\n");
}

fn describe(story: &Story, place: usize) -> String {
    match &story.sides[place] {
        Some(side) => {
            let owner = side.first_owner().map_or_else(|| "owner unknown".to_owned(), owner_and_source);
            if side.sk.is_some() { owner } else { format!("{owner}, no socket of its own") }
        }
        None if story.is_with_itself() => "the same socket".to_owned(),
        None => "not seen on this host".to_owned(),
    }
}

fn tone(event: &Event) -> &'static str {
    match event.what {
        EventKind::ResetSent { .. } | EventKind::ResetReceived(_) => " class=\"trouble\"",
        EventKind::Retransmit(_) | EventKind::SynAckRetransmit { .. } => " class=\"attention\"",
        _ => "",
    }
}

/// Writes the segment of an event: who sent it is said in words for screen readers, and by an arrow for others.
fn arrow(html: &mut Html<'_>, place: usize, event: &Event, side: &Side, story: &Story) {
    let Some((segment, is_reported)) = segment_of(event, side).filter(|_| !story.is_with_itself()) else {
        html.raw("<td></td>");
        return;
    };
    let to_right = segment.is_sent == (place == 0);
    html.raw(match (to_right, is_reported) {
        (true, true) => "<td class=\"arrow right\"><span>",
        (true, false) => "<td class=\"arrow right inferred\"><span>",
        (false, true) => "<td class=\"arrow left\"><span>",
        (false, false) => "<td class=\"arrow left inferred\"><span>",
    });
    html.text(segment.name).raw(if to_right { " <b>→</b>" } else { " <b>←</b>" }).raw("</span></td>");
}
