//! Records with any content.

use proptest::{array::uniform21, prelude::*};
use tcptrace_common::{
    record::{
        Header, KIND_OWNER, KIND_RESET_RECEIVED, KIND_RESET_SENT, KIND_RETRANSMIT, KIND_SYNACK_RETRANSMIT,
        KIND_TRANSITION, Owner, OwnerChange, Reset, Retransmit, Socket, Transition, WIRE_VERSION, owner_source,
        socket_flag,
    },
    state::NEW_SYN_RECV,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Size of the largest record.
pub(crate) const LARGEST: usize = size_of::<Transition>();

/// Bytes of a record that can be decoded, and holds anything that its fields can hold.
pub(crate) fn any_record() -> impl Strategy<Value = Vec<u8>> {
    let states = (1..=NEW_SYN_RECV, 1..=NEW_SYN_RECV, 1..=NEW_SYN_RECV);
    let words = uniform21(any::<u64>());
    // Few sockets, so that lives go on, and few errors, so that each comes up.
    let common = (0u64..6, prop_oneof![0..1i32, 0..135i32, any::<i32>()], any::<bool>());
    (1u8..=6, states, owner_source::UNKNOWN..=owner_source::SHARED, words, common).prop_map(
        |(kind, states, source, words, common)| {
            let parts = Parts { kind, states, source, bytes: words.as_bytes().to_vec(), common };
            match kind {
                KIND_TRANSITION => parts.transition(),
                KIND_RETRANSMIT | KIND_SYNACK_RETRANSMIT => parts.retransmit(),
                KIND_RESET_SENT | KIND_RESET_RECEIVED => parts.reset(),
                KIND_OWNER => parts.owner_change(),
                other => panic!("no record is of kind {other}"),
            }
        },
    )
}

/// What names of processes may be made of to harm those who read them.
pub(crate) const LETTERS: [&str; 31] = [
    "\"",
    "\\",
    ",",
    ";",
    "\n",
    "\r",
    "\t",
    "\x01",
    "\x1b",
    "\x7f",
    " ",
    "a",
    "b",
    "=",
    "+",
    "-",
    "@",
    "]",
    "1",
    "é",
    "\u{9b}",
    "\u{ad}",
    "\u{61c}",
    "\u{200b}",
    "\u{200f}",
    "\u{2028}",
    "\u{202e}",
    "\u{2066}",
    "\u{feff}",
    "\u{e000}",
    "\u{e0041}",
];

/// A name of these letters, as long as the kernel keeps one.
pub(crate) fn foreign_name(choice: [u8; 16]) -> [u8; 16] {
    let mut name = [0; 16];
    let letters = choice.iter().map(|byte| LETTERS[usize::from(*byte) % LETTERS.len()]);
    let bytes = letters.flat_map(str::bytes);
    name[..15].iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    name
}

struct Parts {
    kind: u8,
    states: (u8, u8, u8),
    source: u8,
    bytes: Vec<u8>,
    common: (u64, i32, bool),
}

impl Parts {
    /// A record of these bytes with the values that a record must have.
    fn record<T: FromBytes + KnownLayout>(&self) -> (T, Header, Socket, Owner) {
        let anything = |at: usize, len: usize| &self.bytes[at..at + len];
        let (sk, _, is_text) = self.common;
        let header = Header {
            kind: self.kind,
            version: WIRE_VERSION,
            len: u16::try_from(size_of::<T>()).unwrap(),
            sk,
            ..Header::read_from_bytes(anything(0, size_of::<Header>())).unwrap()
        };
        let mut socket = Socket {
            state: self.states.0,
            ..Socket::read_from_bytes(anything(size_of::<Header>(), size_of::<Socket>())).unwrap()
        };
        socket.flags &= !socket_flag::OWNER_LEFT; // such an event is for the table alone, not for the outputs
        let mut owner = Owner {
            source: self.source,
            ..Owner::read_from_bytes(anything(LARGEST - size_of::<Owner>(), size_of::<Owner>())).unwrap()
        };
        if is_text {
            // Mostly what quoting is about, instead of what is no UTF-8.
            owner.comm = foreign_name(owner.comm);
        }
        (T::read_from_bytes(anything(0, size_of::<T>())).unwrap(), header, socket, owner)
    }

    fn transition(&self) -> Vec<u8> {
        let (record, header, socket, owner) = self.record::<Transition>();
        let (old, new) = (self.states.1, self.states.2);
        bytes(&Transition { header, socket, owner, old, new, err: self.common.1, ..record })
    }

    fn retransmit(&self) -> Vec<u8> {
        let (record, header, socket, owner) = self.record::<Retransmit>();
        bytes(&Retransmit { header, socket, owner, err: self.common.1.saturating_neg(), ..record })
    }

    fn reset(&self) -> Vec<u8> {
        let (record, header, socket, owner) = self.record::<Reset>();
        bytes(&Reset {
            header,
            socket,
            owner,
            has_reason: record.has_reason % 2,
            has_facts: record.has_facts % 2,
            ..record
        })
    }

    fn owner_change(&self) -> Vec<u8> {
        let (_, header, socket, owner) = self.record::<OwnerChange>();
        bytes(&OwnerChange { header, socket, owner })
    }
}

fn bytes(record: &(impl IntoBytes + Immutable)) -> Vec<u8> {
    record.as_bytes().to_vec()
}
