//! Connections that a process accepted but does not read.

use crate::{
    findings::{
        cause::Cause,
        context::{RuleContext, SocketGroup},
        detection::Detection,
        kind::{Kind, Severity},
        process_states::Activity,
        rules::readers::{holders_state, is_being_read, is_closed_by, is_watched, process_evidence, unread_ns},
    },
    model::state::State,
    table::Connection,
};

/// A server accepted connections but does not read their data. If the window is closed, `zero-window` reports it; if the peer
/// has closed, `close-wait-leak` does.
pub(super) fn evaluate(context: &RuleContext<'_>) -> Vec<Detection> {
    let after_ns = context.thresholds.read_stalled_ns;
    let is_stalled = |known: &&Connection| {
        let stuck_reasons = known.stuck_reasons();
        stuck_reasons.unread > 0
            && !stuck_reasons.not_accepted
            && unread_ns(context, known) >= after_ns
            && !is_being_read(context, known, after_ns)
            && !is_closed_by(context, known)
            && context.listener_of(known.netns(), known.local()).is_some()
    };
    let stalled = context.in_state(State::Established).iter().copied().filter(is_stalled);
    let detection = |group: SocketGroup<'_>| {
        let holders = holders_state(context, &group.members);
        let unread_ns = group.members.iter().map(|known| unread_ns(context, known)).max();
        let mut evidence = vec![
            (
                "unread_bytes",
                group
                    .members
                    .iter()
                    .map(|known| u64::from(known.stuck_reasons().unread))
                    .reduce(u64::saturating_add)
                    .into(),
            ),
            ("unread_for_ns", unread_ns.into()),
        ];
        evidence.extend(process_evidence(holders.as_ref()));
        // A server that works on something else may read the data later; one that is stopped will not.
        let (severity, cause) = match holders.map(|holders| holders.activity) {
            Some(Activity::Stopped) => (Severity::Warning, Cause::ReaderStopped),
            _ => (Severity::Info, Cause::RequestsUnread),
        };
        let detection = group.detection(context, Kind::ReadStalled, severity, cause).with(evidence);
        Detection {
            is_settled: detection.is_settled && group.members.iter().all(|known| is_watched(known)),
            ..detection
        }
    };
    context.group(stalled, |known| context.subject_of(known)).into_iter().map(detection).collect()
}
