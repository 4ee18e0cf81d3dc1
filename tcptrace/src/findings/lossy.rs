//! Retransmissions by service or destination, which shows loss that is spread over many short connections.

use crate::{
    findings::{detection::Subject, services::Services},
    model::{
        event::{Event, EventKind, Owner},
        keyed::KeyedMap,
        state::State,
    },
    table::Retransmits,
};

/// Most services and destinations; entries without recent loss make room.
const MAX_SUBJECTS: usize = 1024;
/// With this many timeouts in a row the peer is silent, which is not loss. (Retransmissions without any timeout are not
/// counted either: tail loss probes, RFC 8985 section 7, are often needless when the peer only acknowledges late.)
const SILENT: u8 = 3;
const SLOTS: usize = 3;

/// Counts by slots of [`Retransmits::SLOT_NS`], from the first retransmission on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    slot: u64,
    connections: [u32; SLOTS],
    retransmits: [u32; SLOTS],
    /// The process that retransmitted last.
    pub(super) owner: Option<Owner>,
    /// True if the filter shows any of the connections.
    pub(super) is_shown: bool,
}

/// Services and destinations with loss, by network namespace.
#[derive(Debug, Default)]
pub(super) struct Lossy(KeyedMap<(Option<u32>, Subject), Loss>);

impl Lossy {
    /// Counts retransmissions, and connections once there is loss.
    pub(super) fn ingest(&mut self, event: &Event, services: &Services, is_shown: bool) {
        match &event.what {
            // Connections are counted only for subjects with loss.
            EventKind::Transition(transition) if !self.0.is_empty() && transition.new == State::Established => {
                if let Some(loss) = self.0.get_mut(&subject(event, services)) {
                    loss.move_to(event.time_ns);
                    loss.connections[0] += 1;
                }
            }
            EventKind::Retransmit(retransmit)
                if (1..SILENT).contains(&retransmit.timeouts) && retransmit.failed.is_none() =>
            {
                self.add(event, services, is_shown);
            }
            EventKind::SynAckRetransmit { .. } => self.add(event, services, is_shown),
            _ => {}
        }
    }

    fn add(&mut self, event: &Event, services: &Services, is_shown: bool) {
        let key = subject(event, services);
        let slot = event.time_ns / Retransmits::SLOT_NS;
        if self.0.len() >= MAX_SUBJECTS && !self.0.contains_key(&key) {
            self.0.retain(|_, loss| loss.slot + SLOTS as u64 > slot);
            if self.0.len() >= MAX_SUBJECTS {
                return;
            }
        }
        let empty = Loss { slot, connections: [0; SLOTS], retransmits: [0; SLOTS], owner: None, is_shown };
        let loss = self.0.entry(key).or_insert(empty);
        loss.move_to(event.time_ns);
        loss.retransmits[0] += 1;
        loss.is_shown |= is_shown;
        loss.owner = event.owner.or(loss.owner);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<u32>, Subject, Loss)> {
        self.0.iter().map(|((netns, subject), loss)| (*netns, *subject, *loss))
    }

    /// Drops subjects without recent loss.
    pub(super) fn forget(&mut self, now_ns: u64) {
        self.0.retain(|_, loss| loss.recent(now_ns).0 > 0);
    }
}

/// Network namespace and subject of an event's connection.
fn subject(event: &Event, services: &Services) -> (Option<u32>, Subject) {
    let socket = &event.socket;
    let service = services.of(socket.netns, socket.local);
    (socket.netns, service.map_or(Subject::Remote(socket.remote), Subject::Local))
}

impl Loss {
    fn move_to(&mut self, time_ns: u64) {
        let slot = time_ns / Retransmits::SLOT_NS;
        let passed = slot.saturating_sub(self.slot).min(SLOTS as u64) as usize;
        for counts in [&mut self.connections, &mut self.retransmits] {
            counts.rotate_right(passed);
            counts[..passed].fill(0);
        }
        self.slot = self.slot.max(slot);
    }

    /// Retransmissions and newly established connections within the last 10 to 15 s.
    pub(super) fn recent(mut self, now_ns: u64) -> (u64, u64) {
        self.move_to(now_ns);
        let sum = |counts: [u32; SLOTS]| counts.iter().map(|count| u64::from(*count)).sum();
        (sum(self.retransmits), sum(self.connections))
    }
}
