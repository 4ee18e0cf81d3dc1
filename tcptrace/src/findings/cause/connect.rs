//! Why a connection was not established.

use super::Cause;
use crate::{
    findings::{incident::Incident, kind::Severity},
    model::close_reason::{Abort, CloseReason},
};

/// The cause of an attempt that the process gave up before anything answered.
pub(crate) fn of_given_up(incident: &Incident) -> Cause {
    /// `TCP_TIMEOUT_INIT` of `include/net/tcp.h`, 1 s, less a margin for early timers.
    const SENT_AGAIN_NS: u64 = 900_000_000;
    let is_early = incident.total_retrans == 0 && incident.in_state_ns.is_some_and(|ns| ns < SENT_AGAIN_NS);
    if is_early { Cause::GivenUpEarly } else { Cause::SynUnanswered }
}

/// The cause of a connect that failed or was given up.
pub(crate) fn of_connect(incident: &Incident) -> (Severity, Cause) {
    use Severity::{Critical, Info, Warning};
    match incident.ending {
        CloseReason::Refused if incident.own.reset_received_ns.is_none() => (Warning, Cause::RejectedByIcmp),
        CloseReason::Refused if incident.peer.listens_at.is_some() => (Warning, Cause::ListensElsewhere),
        CloseReason::Refused => (Warning, Cause::PortClosed),
        CloseReason::TimedOut => (Warning, Cause::ConnectTimedOut),
        CloseReason::Aborted(Abort::NeverSent) if incident.local.port() == 0 => (Critical, Cause::NoLocalPort),
        CloseReason::Aborted(Abort::NeverSent) if incident.is_pair_used => (Warning, Cause::PairInUse),
        CloseReason::Aborted(Abort::NeverSent) => (Warning, Cause::NotSent),
        CloseReason::Aborted(_) if incident.total_retrans == 0 => (Info, Cause::EndedAtOnce),
        CloseReason::Aborted(_) => (Warning, Cause::SynUnanswered),
        _ if incident.next_hop.and_then(|hop| hop.answers) == Some(false) => (Warning, Cause::NeighbourSilent),
        _ => (Warning, Cause::Unreachable),
    }
}
