//! What happened, in at most ten sentences.

use super::{
    options::Page,
    words::{Words, count, process, thousands},
    writer::Html,
};
use crate::{
    analysis::{
        postmortem::{Postmortem, ResetOrigin},
        report::Report,
    },
    findings::Severity,
    model::{state::State, time::human},
    render::text::words::lost_words,
};

/// Most names in one sentence.
const NAMED: usize = 3;

/// Writes the section.
pub(super) fn write(html: &mut Html<'_>, all: &Postmortem, report: &Report, page: &Page, words: &Words) {
    html.section("summary", "What happened").raw("<ul class=\"facts\">\n");
    let rows = [
        ("When", when(report, page, words)),
        ("How much", how_much(all, report, page)),
        ("Findings", findings(all, words)),
        ("Ends", ends(report)),
        ("RSTs", resets(all, report)),
        ("Retransmits", retransmits(report)),
        ("Connecting", connecting(report)),
        ("Lost in the run", losses(all)),
        ("Recording", recording(all)),
        ("Not known", unknown(all, report)),
    ];
    for (name, text) in rows {
        html.raw("<li><strong>").raw(name).raw("</strong> <span>").text(text).raw("</span></li>\n");
    }
    html.raw("</ul></section>\n");
}

fn when(report: &Report, page: &Page, words: &Words) -> String {
    let start_ns = report.now_ns.saturating_sub(report.span_ns);
    let (from, to) = (words.date(start_ns), words.date(report.now_ns));
    let part = if page.is_part { ", a part of the recording" } else { "" };
    format!("{from} to {to} UTC: {}{part}.", human(report.span_ns))
}

fn how_much(all: &Postmortem, report: &Report, page: &Page) -> String {
    let filtered = if page.is_filtered { " Only what matches the filter is in this report." } else { "" };
    let alive: u64 = report.sockets.iter().flatten().map(|row| row.count).sum();
    let ended: u64 = report.endings.iter().map(|(_, count)| count).sum();
    format!(
        "{}, {} of them changes of state. {} began and {} ended; {} existed at the end.{filtered}",
        count(all.events, "event", "events"),
        thousands(report.activity.transitions),
        count(all.began, "connection", "connections"),
        thousands(ended),
        count(alive, "socket", "sockets"),
    )
}

fn findings(all: &Postmortem, words: &Words) -> String {
    let Some(seen) = &all.coverage else {
        return "Nobody looked for problems: it was recorded without findings.".to_owned();
    };
    let ranked = all.episodes.ranked();
    if ranked.is_empty() {
        return format!("None, of {} at the end.", count(seen.sockets as u64, "socket", "sockets"));
    }
    let by_severity = [
        (Severity::Critical, ["critical", "critical"]),
        (Severity::Warning, ["warning", "warnings"]),
        (Severity::Info, ["info", "info"]),
    ];
    let by_severity = by_severity.map(|(severity, [one, many])| {
        let found = all.episodes.count(severity) as u64;
        (found > 0).then(|| count(found, one, many))
    });
    let open = ranked.iter().filter(|episode| !episode.is_over).count();
    let worst: Vec<_> = ranked
        .iter()
        .filter(|episode| episode.merged_into.is_none())
        .take(NAMED)
        .map(|episode| format!("{}, {}", episode.detection.kind.id(), words.headline(&episode.detection)))
        .collect();
    let by_severity: Vec<_> = by_severity.into_iter().flatten().collect();
    let more = match all.episodes.forgotten {
        0 => String::new(),
        more => format!(", and {} less important ones", thousands(more)),
    };
    format!("{}{more}; {open} still there at the end. The worst: {}.", by_severity.join(", "), worst.join("; "))
}

fn ends(report: &Report) -> String {
    if report.endings.is_empty() {
        return "No connection ended.".to_owned();
    }
    let named =
        report.endings.iter().take(5).map(|(ending, count)| format!("{} {}", ending.words(), thousands(*count)));
    let rest: u64 = report.endings.iter().skip(5).map(|(_, count)| count).sum();
    let rest = (rest > 0).then(|| format!("others {}", thousands(rest)));
    format!("How connections ended: {}.", named.chain(rest).collect::<Vec<_>>().join(", "))
}

fn resets(all: &Postmortem, report: &Report) -> String {
    let (sent, received) = (report.activity.resets_sent, report.activity.resets_received);
    if sent + received == 0 {
        return "None seen.".to_owned();
    }
    let by = all.resets.most().into_iter().take(NAMED).map(|((origin, owner), count)| {
        let owner = process(owner);
        let who = match origin {
            ResetOrigin::Process => format!("by {owner} itself"),
            ResetOrigin::Socket => format!("by the kernel for a socket of {owner}"),
            ResetOrigin::Listener => format!("by the kernel for a listener of {owner}"),
            ResetOrigin::TimeWait => "by the kernel for closed sockets".to_owned(),
            ResetOrigin::NoSocket => "by the kernel because there was no socket".to_owned(),
        };
        format!("{} {who}", thousands(count))
    });
    let by: Vec<_> = by.collect();
    let by = if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) };
    format!("{} sent{by}, {} received.", thousands(sent), thousands(received))
}

fn retransmits(report: &Report) -> String {
    let retransmits = report.activity.retransmits;
    if retransmits == 0 {
        return "None seen.".to_owned();
    }
    let rows = || report.processes.iter().flatten();
    let most = rows().max_by_key(|row| (row.activity.retransmits, std::cmp::Reverse(row.process)));
    let most = most.filter(|row| row.activity.retransmits > 0).map_or_else(String::new, |row| {
        format!(", {} of them by sockets of {}", thousands(row.activity.retransmits), process(row.process))
    });
    format!("{} sent again{most}.", count(retransmits, "segment", "segments"))
}

fn connecting(report: &Report) -> String {
    let row = report.transitions.iter().find(|row| (row.old, row.new) == (State::SynSent, State::Established));
    let Some((row, times)) = row.and_then(|row| Some((row, row.times?))) else {
        return "No connection from here was established.".to_owned();
    };
    format!(
        "{} established from here; half of them within {}, 99 of 100 within {}.",
        count(row.count, "connection", "connections"),
        human(times.p50_ns),
        human(times.p99_ns)
    )
}

fn losses(all: &Postmortem) -> String {
    if !all.losses.any() {
        return "Nothing.".to_owned();
    }
    let gaps = match all.gaps.len() as u64 + all.more_gaps {
        0 => String::new(),
        gaps => format!(" There were {}, after which the sockets were listed again.", count(gaps, "gap", "gaps")),
    };
    format!("{}.{gaps}", capital(&lost_words(&all.losses)))
}

fn recording(all: &Postmortem) -> String {
    let ended = match all.reason.as_str() {
        "interrupted" | "terminated" => "The run was ended by a signal",
        "duration" => "The run ended after its time",
        "netns_gone" => "The run ended because its network namespace was gone",
        "failed" => "The run failed",
        "count" => "The run ended after its number of events",
        "once" => "The run ended after one look",
        _ => "How the run ended is not known",
    };
    match all.flaws.as_slice() {
        [] => format!("Complete. {ended}."),
        flaws => format!("Not complete: {}. {ended}.", flaws.join("; ")),
    }
}

fn unknown(all: &Postmortem, report: &Report) -> String {
    let alive = || report.sockets.iter().flatten();
    let unowned: u64 = alive().filter(|row| row.owner.is_none()).map(|row| row.count).sum();
    let unlisted = all.coverage.as_ref().map_or(0, |seen| seen.unlisted);
    let parts = [
        (all.unowned, "the owner of {} events"),
        (all.untimed, "the exact time before {} changes of state"),
        (unowned, "the owner of {} sockets at the end"),
        (unlisted, "up to {} namespaces or replies that could not be listed"),
        (all.episodes.forgotten, "the details of {} findings"),
    ];
    let known = |(count, words): (u64, &str)| (count > 0).then(|| words.replace("{}", &thousands(count)));
    let parts: Vec<_> = parts.into_iter().filter_map(known).collect();
    if parts.is_empty() {
        "Nothing that this report is about.".to_owned()
    } else {
        format!("{}.", capital(&parts.join(", ")))
    }
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map(|first| first.to_uppercase().chain(rest).collect()).unwrap_or_default()
}
