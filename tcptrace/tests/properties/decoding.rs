//! The decoder takes any bytes, and makes an event of them only where they are a record.

use std::mem::offset_of;

use proptest::{collection::vec, prelude::*, sample::Index};
use tcptrace::model::decode::{DecodeError, decode, split};
use tcptrace_common::record::{
    Header, KIND_TRANSITION, Owner, OwnerChange, Reset, Retransmit, Socket, Transition, WIRE_VERSION, owner_source,
};

use crate::any_record::{LARGEST, any_record};

const STATE: usize = offset_of!(Transition, socket) + offset_of!(Socket, state);
const SOURCE: usize = offset_of!(Transition, owner) + offset_of!(Owner, source);

/// Sizes of the records of each kind.
fn size(kind: u8) -> Option<usize> {
    match kind {
        1 => Some(size_of::<Transition>()),
        2 | 3 => Some(size_of::<Retransmit>()),
        4 | 5 => Some(size_of::<Reset>()),
        6 => Some(size_of::<OwnerChange>()),
        _ => None,
    }
}

/// Bytes that are no record of this version with a length and a kind that fit each other.
fn is_malformed(bytes: &[u8]) -> bool {
    bytes.len() < size_of::<Header>()
        || bytes[1] != WIRE_VERSION
        || usize::from(u16::from_ne_bytes([bytes[2], bytes[3]])) != bytes.len()
        || size(bytes[0]) != Some(bytes.len())
}

proptest! {
    #[test]
    fn records_are_decoded(record in any_record()) {
        prop_assert!(decode(&record).is_ok(), "{:?}", decode(&record));
    }

    #[test]
    fn random_bytes_are_refused(bytes in vec(any::<u8>(), 0..300)) {
        // That random bytes are a record is not to be waited for.
        prop_assert!(is_malformed(&bytes) && decode(&bytes).is_err());
    }

    #[test]
    fn a_header_does_not_make_a_record(mut bytes in vec(any::<u8>(), 32..300), kind in 0u8..9) {
        let len = u16::try_from(bytes.len()).unwrap().to_ne_bytes();
        bytes[..4].copy_from_slice(&[kind, WIRE_VERSION, len[0], len[1]]);
        prop_assert!(!is_malformed(&bytes) || decode(&bytes).is_err());
    }

    #[test]
    fn truncated_and_oversized_records_are_refused(
        record in any_record(), cut in any::<Index>(), more in vec(any::<u8>(), 1..64), fix_length: bool,
    ) {
        let truncated = record[..cut.index(record.len())].to_vec();
        let oversized = [record.as_slice(), &more].concat();
        for mut bytes in [truncated, oversized] {
            if fix_length && bytes.len() >= 4 {
                let len = u16::try_from(bytes.len()).unwrap().to_ne_bytes();
                bytes[2..4].copy_from_slice(&len);
            }
            prop_assert!(matches!(decode(&bytes), Err(DecodeError::Length { .. })), "{:?}", decode(&bytes));
        }
    }

    #[test]
    fn values_that_do_not_exist_are_refused_by_name(
        record in any_record(), version in 2u8.., kind in 7u8.., state in 13u8.., source in owner_source::SHARED + 1..,
    ) {
        let with = |at: usize, value: u8| {
            let mut bytes = record.clone();
            bytes[at] = value;
            decode(&bytes)
        };
        prop_assert_eq!(with(offset_of!(Header, version), version), Err(DecodeError::Version(version)));
        prop_assert_eq!(with(offset_of!(Header, version), 0), Err(DecodeError::Version(0)));
        prop_assert_eq!(with(offset_of!(Header, kind), kind), Err(DecodeError::Kind(kind)));
        prop_assert_eq!(with(offset_of!(Header, kind), 0), Err(DecodeError::Kind(0)));
        for state in [state, 0] {
            prop_assert_eq!(with(STATE, state), Err(DecodeError::State(state)));
        }
        prop_assert_eq!(with(SOURCE, source), Err(DecodeError::OwnerSource(source)));
        if record[offset_of!(Header, kind)] == KIND_TRANSITION {
            for at in [offset_of!(Transition, old), offset_of!(Transition, new)] {
                prop_assert_eq!(with(at, state), Err(DecodeError::State(state)));
            }
        }
    }

    #[test]
    fn bits_may_flip(mut record in any_record(), flips in vec((any::<Index>(), 0u8..8), 1..8)) {
        for (at, bit) in flips {
            let at = at.index(record.len());
            record[at] ^= 1 << bit;
        }
        prop_assert!(!is_malformed(&record) || decode(&record).is_err());
    }

    #[test]
    fn streams_are_split_into_their_records(records in vec(any_record(), 0..12)) {
        let stream = records.concat();
        let found: Vec<_> = split(&stream).map(Result::unwrap).map(<[u8]>::to_vec).collect();
        prop_assert_eq!(found, records);
    }

    #[test]
    fn damaged_streams_are_split_as_far_as_they_can_be(
        records in vec(any_record(), 1..12), damage in vec((any::<Index>(), any::<u8>()), 0..4), cut in any::<Index>(),
    ) {
        let mut stream = records.concat();
        for (at, value) in damage {
            let at = at.index(stream.len());
            stream[at] = value;
        }
        stream.truncate(cut.index(stream.len()) + 1);
        let pieces: Vec<_> = split(&stream).collect();
        let good: Vec<_> = pieces.iter().map_while(|piece| piece.ok()).collect();
        prop_assert!(pieces.len() - good.len() <= 1, "nothing comes after what cannot be followed");
        let whole = good.concat();
        prop_assert!(stream.starts_with(&whole));
        prop_assert_eq!(whole.len() == stream.len(), pieces.len() == good.len(), "what is left over is told");
        for piece in good {
            prop_assert!(piece.len() >= size_of::<Header>());
            let _ = decode(piece); // whatever it gives, no panic
        }
    }

    #[test]
    fn random_streams_end(stream in vec(any::<u8>(), 0..600)) {
        prop_assert!(split(&stream).count() <= stream.len() / size_of::<Header>() + 1);
    }
}

#[test]
fn a_record_of_no_length_ends_a_stream() {
    let stream = [0u8; 4 * LARGEST];
    assert_eq!(split(&stream).count(), 1);
    assert!(split(&stream).all(|piece| piece.is_err()));
    assert_eq!(split(&[]).count(), 0);
}
