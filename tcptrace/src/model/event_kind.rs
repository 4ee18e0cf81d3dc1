//! What the other rooms need to know about each kind of event, in one table: its name, what counts it, and its words.
//!
//! A new kind takes a variant of [`EventKind`], a row here, and its own fields in `render/fields.rs` and its note in
//! `render/text/words.rs`, if it has any.

use crate::model::event::EventKind;

/// What is known about a kind of event before its details are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindRow {
    /// Name in machine-readable outputs, for example `reset_sent`.
    pub name: &'static str,
    /// The group that an output can select.
    pub group: EventGroup,
    /// The counter that it adds to.
    pub counter: Option<Counter>,
    /// Words in text; empty for transitions, which show the new state.
    pub label: &'static str,
    /// How much attention it deserves.
    pub tone: Tone,
    /// The segment that was sent or received; `None` if it depends on the details, or there is none.
    pub segment: Option<Segment>,
}

/// Groups of events that outputs select and summaries count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventGroup {
    /// Changes of state.
    Transitions,
    /// Retransmitted segments and SYN-ACKs.
    Retransmits,
    /// RSTs sent and received.
    Resets,
    /// Owners that became known.
    Owners,
}

/// What summaries and metrics count separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Changes of state.
    Transitions,
    /// Retransmitted segments.
    Retransmits,
    /// Retransmitted SYN-ACKs.
    SynAckRetransmits,
    /// RSTs sent.
    ResetsSent,
    /// RSTs received.
    ResetsReceived,
}

/// How much attention an event deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It is normal.
    Plain,
    /// It may be a sign of trouble.
    Attention,
    /// It is trouble.
    Trouble,
}

/// A segment on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// True if this host sent it.
    pub is_sent: bool,
    /// Name, for example `RST`.
    pub name: &'static str,
}

impl EventKind {
    /// The kind's row: the only place that names all kinds.
    #[must_use]
    pub const fn row(&self) -> &'static KindRow {
        use Tone::{Attention, Plain, Trouble};
        const SYN_ACK: Segment = Segment { is_sent: true, name: "SYN-ACK" };
        const RST_SENT: Segment = Segment { is_sent: true, name: "RST" };
        const RST_RECEIVED: Segment = Segment { is_sent: false, name: "RST" };
        const SEGMENT: Segment = Segment { is_sent: true, name: "segment" };
        match self {
            Self::Transition(_) => &KindRow {
                name: "transition",
                group: EventGroup::Transitions,
                counter: Some(Counter::Transitions),
                label: "",
                tone: Plain,
                segment: None,
            },
            Self::Retransmit(_) => &KindRow {
                name: "retransmit",
                group: EventGroup::Retransmits,
                counter: Some(Counter::Retransmits),
                label: "retransmit",
                tone: Attention,
                segment: Some(SEGMENT),
            },
            Self::SynAckRetransmit { .. } => &KindRow {
                name: "synack_retransmit",
                group: EventGroup::Retransmits,
                counter: Some(Counter::SynAckRetransmits),
                label: "SYN-ACK again",
                tone: Attention,
                segment: Some(SYN_ACK),
            },
            Self::ResetSent { .. } => &KindRow {
                name: "reset_sent",
                group: EventGroup::Resets,
                counter: Some(Counter::ResetsSent),
                label: "RST sent",
                tone: Trouble,
                segment: Some(RST_SENT),
            },
            Self::ResetReceived(_) => &KindRow {
                name: "reset_received",
                group: EventGroup::Resets,
                counter: Some(Counter::ResetsReceived),
                label: "RST received",
                tone: Trouble,
                segment: Some(RST_RECEIVED),
            },
            Self::OwnerChanged => &KindRow {
                name: "owner",
                group: EventGroup::Owners,
                counter: None,
                label: "owner",
                tone: Plain,
                segment: None,
            },
        }
    }

    /// The counter that this event adds to; `None` also for a segment that could not be sent.
    #[must_use]
    pub const fn counter(&self) -> Option<Counter> {
        match self {
            Self::Retransmit(retransmit) if retransmit.failed.is_some() => None,
            _ => self.row().counter,
        }
    }
}
