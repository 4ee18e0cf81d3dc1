//! Each finding with its evidence, cause, remedy and examples.

use super::{
    ladders::Chosen,
    page::EXPLAINED,
    timeline::{ended, label, severity},
    words::{Words, owners, place_and_executable},
    writer::Html,
};
use crate::{
    analysis::postmortem::{Episode, Postmortem},
    findings::{Example, Value},
    model::{names::Names, time::human},
    render::{
        context::Context,
        text::{finding, words::age_words, words::netns_name},
    },
};

/// Writes the section.
pub(super) fn write(html: &mut Html<'_>, all: &Postmortem, ladders: &Chosen<'_>, words: &Words, context: &mut Context) {
    html.section("findings", "Findings one by one");
    let ranked = all.episodes.ranked();
    if ranked.is_empty() {
        html.raw("<p>There are none.</p>\n");
    } else if ranked.len() > EXPLAINED {
        html.raw("<p>The worst ").number(EXPLAINED as f64).raw(" of ").number(ranked.len() as f64).raw(".</p>\n");
    }
    for episode in ranked.into_iter().take(EXPLAINED) {
        explain(html, episode, ladders, words, &mut context.names);
    }
    html.raw("</section>\n");
}

fn explain(html: &mut Html<'_>, episode: &Episode, ladders: &Chosen<'_>, words: &Words, names: &mut Names) {
    let detection = &episode.detection;
    let number = episode.number as f64;
    html.raw("<article aria-labelledby=\"finding-")
        .number(number)
        .raw("\"><h3 id=\"finding-")
        .number(number)
        .raw("\">");
    severity(html, episode.severity);
    html.raw(" ").text(label(episode)).raw("</h3>\n<p class=\"lead\">").text(words.headline(detection)).raw("</p>\n");
    if !detection.cause.words().is_empty() {
        html.raw("<p>").text(capital(detection.cause.words())).raw(".</p>\n");
    }
    if !detection.cause.remedy().is_empty() {
        html.raw("<p class=\"remedy\"><strong>What to do:</strong> ").text(detection.cause.remedy());
        html.raw(". (<code>").text(detection.kind.docs()).raw("</code>)</p>\n");
    }
    html.raw("<dl>");
    let mut row = |name: &str, text: String| {
        if !text.is_empty() {
            html.raw("<div>").element("dt", name).element("dd", text).raw("</div>");
        }
    };
    row("From", words.time(episode.opened_ns));
    row("To", format!("{} ({})", ended(episode, words), human(episode.seen_ns.saturating_sub(episode.opened_ns))));
    row("Owner", owners(detection));
    let (place, executable) = place_and_executable(detection.owner.as_ref(), names);
    row("Runs in", place);
    row("Executable", executable);
    row("Network namespace", detection.netns.map(|netns| netns_name(netns, names)).unwrap_or_default());
    let known = detection.evidence.iter().filter(|(_, value)| *value != Value::Unknown);
    let evidence: Vec<_> = known.map(|(name, value)| finding::words(name, value)).collect();
    row("Evidence", evidence.join(", "));
    let unknown = detection.evidence.iter().filter(|(_, value)| *value == Value::Unknown);
    let unknown: Vec<_> = unknown.map(|(name, _)| name.replace('_', " ")).collect();
    row("Not known", unknown.join(", "));
    html.raw("</dl>\n");
    if !detection.examples.is_empty() {
        examples(html, episode, words);
    }
    let of_this: Vec<_> = ladders.of(episode.number).collect();
    if !of_this.is_empty() {
        html.raw("<p>What happened on the wire: ");
        for (place, number) in of_this.iter().enumerate() {
            html.raw(if place > 0 { ", " } else { "" }).raw("<a href=\"#ladder-").number(*number as f64).raw("\">");
            html.raw("connection ").number(*number as f64).raw("</a>");
        }
        html.raw("</p>\n");
    }
    html.raw("</article>\n");
}

fn examples(html: &mut Html<'_>, episode: &Episode, words: &Words) {
    let caption = format!("Sockets of {}, of which there were up to {}", label(episode), episode.detection.count);
    html.table(caption, &["Local", "Remote", "State", "#In it for", "Held by"]);
    for Example { local, remote, state, age, holders, peer, .. } in &episode.detection.examples {
        html.raw("<tr><th scope=\"row\">").text(words.end(*local)).raw("</th><td>").text(words.end(*remote));
        html.raw("</td><td>").text(state).raw("</td><td class=\"n\">");
        html.text(age.map_or_else(|| "ended".to_owned(), age_words)).raw("</td><td>");
        let held: Vec<_> = holders
            .iter()
            .map(|holder| format!("{}[{}] fd {}", holder.command.to_text(), holder.pid, holder.fd))
            .chain(peer.iter().map(|peer| format!("other end: {}", peer.owner)))
            .collect();
        html.text(held.join(", ")).raw("</td></tr>\n");
    }
    html.end_table();
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map(|first| first.to_uppercase().chain(rest).collect()).unwrap_or_default()
}
