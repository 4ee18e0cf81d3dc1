//! Wording that several parts of text output share: notes of events, ages, errors and namespaces.

use std::fmt::Arguments;

use super::style::Style;
use crate::model::{
    age::Age,
    close_reason::CloseReason,
    errno,
    event::{Event, EventKind, Process, ResetFacts, StateSource, TimeSource, Transition},
    losses::Losses,
    names::Names,
    notice::{Gap, Reconciled},
    printable::printable,
    state::State,
    time::{Human, human, write_human},
};

/// The losses that are not zero, by place.
pub(crate) fn lost_words(losses: &Losses) -> String {
    let lost = losses.fields().into_iter().filter(|(_, count)| *count > 0);
    lost.map(|(place, count)| format!("{} {count}", place.replace('_', " "))).collect::<Vec<_>>().join(", ")
}

/// An age with its mark: `≥` for a lower bound, `~` if it was derived from a timer.
pub(crate) fn age_words(age: Age) -> String {
    format!("{}{}", age.source.mark(), human(age.ns))
}

pub(crate) fn gap_words(gap: &Gap) -> String {
    let by_cpu = gap.ring_by_cpu.iter().enumerate().filter(|(_, lost)| **lost > 0);
    let mut places: Vec<_> = by_cpu.map(|(cpu, lost)| format!("CPU {cpu}: {lost}")).collect();
    if gap.program_busy > 0 {
        places.push(format!("program busy: {}", gap.program_busy));
    }
    let healed = gap.healed.map_or_else(
        || "the sockets were not listed again".to_owned(),
        |(healed_ns, Reconciled { added, removed, changed })| {
            let after = human(healed_ns.saturating_sub(gap.noticed_ns));
            format!("healed {after} later by a listing: {added} sockets added, {removed} removed, {changed} changed")
        },
    );
    let span = human(gap.noticed_ns.saturating_sub(gap.after_ns));
    format!("-- gap: {} events lost within {span} ({}); {healed}", gap.lost(), places.join(", "))
}

/// The NEW STATE column: `-> ` and the new state, or the event.
pub(crate) fn headline(event: &Event) -> ([&'static str; 2], Style) {
    let EventKind::Transition(transition) = event.what else {
        let row = event.what.row();
        return (["   ", row.label], row.tone.into());
    };
    let style = match transition.ending {
        Some(CloseReason::Normal) | None if transition.new == State::CloseWait => Style::Attention,
        Some(CloseReason::Normal) | None => Style::Plain,
        Some(_) => Style::Trouble,
    };
    (["-> ", transition.new.name()], style)
}

pub(crate) fn time_in_old(to: &mut String, event: &Event) {
    let EventKind::Transition(transition) = event.what else { return };
    let Some(time) = transition.time_in_old else { return to.push('-') };
    to.push_str(match time.source {
        TimeSource::Observed | TimeSource::Handshake | TimeSource::Timer => "",
        TimeSource::HandshakeLowerBound | TimeSource::LowerBound => "≥",
        TimeSource::Polled => "~",
        TimeSource::HandshakeUnreliable => "?",
    });
    write_human(to, time.ns);
}

/// Passes each part of an event's note to `part`.
pub(crate) fn note(event: &Event, names: &Names, mut part: impl FnMut(Arguments<'_>)) {
    note_parts(event, names, &mut part);
    let elsewhere = event.socket.netns.filter(|netns| names.own_netns.is_some_and(|own| own != *netns));
    if let Some(netns) = elsewhere {
        part(format_args!("netns {}", netns_name(netns, names)));
    }
}

/// A network namespace's name, else its inode number.
pub(crate) fn netns_name(inode: u32, names: &Names) -> String {
    names.netns.get(&inode).map_or_else(|| inode.to_string(), |name| printable(name))
}

/// Like [`note`], without the network namespace.
pub(crate) fn note_parts(event: &Event, names: &Names, write: &mut dyn FnMut(Arguments<'_>)) {
    let mut is_empty = true;
    let mut part = |words: Arguments<'_>| {
        is_empty = false;
        write(words);
    };
    match event.what {
        EventKind::Transition(transition) => transition_note(&transition, &mut part),
        EventKind::Retransmit(retransmit) => {
            part(format_args!("{} so far", retransmit.total_retrans));
            if retransmit.timeouts > 0 {
                part(format_args!("timeouts in a row: {}", retransmit.timeouts));
            }
            if let Some(srtt_us) = retransmit.srtt_us {
                part(format_args!("srtt {}", Human(u64::from(srtt_us) * 1000)));
            }
            if let Some(errno) = retransmit.failed {
                part(format_args!("not sent: {}", errno_words(errno)));
            }
        }
        EventKind::SynAckRetransmit { count } => part(format_args!("{count} so far")),
        EventKind::ResetSent { reason, facts } => {
            if let Some(code) = reason {
                part(format_args!("reason: {}", reset_reason(code, names)));
            }
            reset_note(facts, &mut part);
        }
        EventKind::ResetReceived(facts) => reset_note(facts, &mut part),
        EventKind::OwnerChanged => {}
    }
    if let Some(candidates) = &event.candidates {
        part(format_args!("one of {}", processes(candidates)));
    }
    if event.after_gap {
        part(format_args!("events before this were lost"));
    }
    if event.socket.sk.is_none() && is_empty {
        write(format_args!("no socket"));
    }
}

/// Processes by command: `nginx[8154, 8156], sh[9]`.
pub(crate) fn processes(processes: &[Process]) -> String {
    let by_command = processes.chunk_by(|one, other| one.command == other.command);
    let words = by_command.map(|of_one| {
        let pids: Vec<_> = of_one.iter().map(|process| process.pid.to_string()).collect();
        format!("{}[{}]", printable(&of_one[0].command.to_text()), pids.join(", "))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Shortest silence before a RST that is mentioned, in ns.
pub(crate) const SILENCE_NS: u64 = 1_000_000_000;

pub(crate) fn reset_note(facts: Option<ResetFacts>, part: &mut dyn FnMut(Arguments<'_>)) {
    let facts = facts.unwrap_or_default();
    if facts.silence_ns() >= SILENCE_NS {
        part(format_args!("peer silent for {}", Human(facts.silence_ns())));
    }
    for (count, words) in [(facts.receive_queue, "not read"), (facts.send_queue, "not acknowledged")] {
        if count > 0 {
            part(format_args!("{count} bytes {words}"));
        }
    }
}

pub(crate) fn reset_reason(code: u32, names: &Names) -> String {
    names.reset_reason(code).map_or_else(|| code.to_string(), str::to_owned)
}

pub(crate) fn transition_note(transition: &Transition, part: &mut dyn FnMut(Arguments<'_>)) {
    if let Some(ending) = transition.ending {
        part(format_args!("{}", ending.words()));
        if let Some(errno) = ending.errno() {
            part(format_args!("{}", errno_words(errno)));
        }
    } else if transition.new == State::FinWait2 && transition.source == StateSource::Inferred {
        part(format_args!("orphan, the peer has not closed"));
    }
    if let Some(exit) = transition.exit.filter(|exit| exit.is_killed()) {
        part(format_args!("process killed by {}", exit.name()));
    }
    if transition.source != StateSource::Observed {
        part(format_args!("{}", transition.source.name()));
    }
    // The rest of TIME_WAIT is of interest only if its start was not seen.
    if let Some(ns) = transition.expires_in_ns.filter(|_| transition.source == StateSource::Polled) {
        part(format_args!("ends in {}", Human(ns)));
    }
    if let Some(ns) = transition.handshake_rtt_ns {
        part(format_args!("handshake rtt {}", Human(ns)));
    }
    if transition.ending.is_some() && transition.total_retrans > 0 {
        part(format_args!("retransmits: {}", transition.total_retrans));
    }
}

/// Where the owner runs, and the process at the other end.
pub(crate) fn names_note(event: &Event, names: &mut Names, mut part: impl FnMut(Arguments<'_>)) {
    if let Some(place) = event.owner.as_ref().and_then(|owner| names.of(owner).1)
        && &*place.cgroup != "/"
    {
        part(format_args!("{}", printable(&short(&place.to_string()))));
    }
    if let Some(peer) = &event.peer {
        part(format_args!("peer {}", printable(&peer.owner.to_string())));
    }
}

/// Most characters of the name of a place.
const MAX_PLACE: usize = 64;

/// The end of a name that is too long for a line.
fn short(name: &str) -> std::borrow::Cow<'_, str> {
    match name.char_indices().rev().nth(MAX_PLACE - 1) {
        Some((at, _)) if at > 0 => format!("…{}", name.get(at..).unwrap_or_default()).into(),
        _ => name.into(),
    }
}

pub(crate) fn errno_words(errno: i32) -> String {
    errno::name(errno).map_or_else(|| format!("errno {errno}"), str::to_owned)
}
