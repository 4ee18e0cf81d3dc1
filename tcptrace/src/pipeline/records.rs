//! Rendered records on their way out.

use bytes::{Bytes, BytesMut};

/// Records in the order of their making, rendered one after another. A record is never cut: what is delivered, refused or
/// dropped is a number of whole ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    bytes: Bytes,
    /// Where each record ends, counted from the first byte of the first record that was ever in.
    ends: Vec<usize>,
    /// Records that are taken off already.
    taken: usize,
}

impl Records {
    /// How many records are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len() - self.taken
    }

    /// Is none left?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that are left, as one piece.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start()..).unwrap_or_default()
    }

    /// The records that are left, each with its line's end if its form has lines.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = self.start();
        self.ends[self.taken..].iter().map(move |&end| {
            let record = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            record
        })
    }

    /// Takes the first `count` records off.
    pub fn take(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.ends.len());
    }

    /// How many whole records the first `bytes` of [`Records::bytes`] hold.
    #[must_use]
    pub fn within(&self, bytes: usize) -> usize {
        let start = self.start();
        self.ends[self.taken..].partition_point(|end| end - start <= bytes)
    }

    fn start(&self) -> usize {
        self.taken.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0)
    }
}

/// Records that are being collected.
#[derive(Debug, Default)]
pub struct RecordsBuilder {
    bytes: BytesMut,
    ends: Vec<usize>,
}

impl RecordsBuilder {
    /// Adds what `render` writes as one record; tells whether it wrote anything.
    pub fn add(&mut self, render: impl FnOnce(&mut BytesMut)) -> bool {
        let before = self.bytes.len();
        render(&mut self.bytes);
        let wrote = self.bytes.len() > before;
        if wrote {
            self.ends.push(self.bytes.len());
        }
        wrote
    }

    /// Bytes that were collected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Is there nothing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Takes all that was collected.
    pub fn take(&mut self) -> Records {
        Records { bytes: self.bytes.split().freeze(), ends: std::mem::take(&mut self.ends), taken: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(texts: &[&str]) -> Records {
        let mut collecting = RecordsBuilder::default();
        for text in texts {
            assert!(collecting.add(|to| to.extend_from_slice(text.as_bytes())));
        }
        assert!(!collecting.add(|_| ()), "nothing is no record");
        collecting.take()
    }

    #[test]
    fn records_are_taken_off_whole() {
        let mut some = records(&["a\n", "bc\n", "d\n"]);
        assert_eq!((some.len(), some.bytes()), (3, &b"a\nbc\nd\n"[..]));
        assert_eq!([0, 1, 2, 4, 5, 7, 99].map(|bytes| some.within(bytes)), [0, 0, 1, 1, 2, 3, 3]);
        some.take(1);
        assert_eq!(some.iter().collect::<Vec<_>>(), [&b"bc\n"[..], b"d\n"]);
        assert_eq!([2, 3, 5].map(|bytes| some.within(bytes)), [0, 1, 2]);
        some.take(9);
        assert!(some.is_empty() && some.bytes().is_empty());
        assert!(Records::default().is_empty());
    }
}
