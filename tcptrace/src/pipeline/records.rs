//! Buffers of rendered records on their way to an output.

use bytes::{Bytes, BytesMut};

/// Rendered records, one after another in the order in which they were made. A record is never split: deliveries,
/// refusals and losses are counted in whole records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    bytes: Bytes,
    /// End of each record, as an offset from the first byte of the first record that was ever in this buffer.
    ends: Vec<usize>,
    /// Number of records already removed.
    taken: usize,
}

impl Records {
    /// Number of records left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len() - self.taken
    }

    /// True if none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all records that are left.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start()..).unwrap_or_default()
    }

    /// Iterates over the records that are left, each including its line end if the format has lines.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = self.start();
        self.ends[self.taken..].iter().map(move |&end| {
            let record = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            record
        })
    }

    /// Removes the first `count` records.
    pub fn take(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.ends.len());
    }

    /// Number of complete records in the first `bytes` of [`Records::bytes`].
    #[must_use]
    pub fn within(&self, bytes: usize) -> usize {
        let start = self.start();
        self.ends[self.taken..].partition_point(|end| end - start <= bytes)
    }

    fn start(&self) -> usize {
        self.taken.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0)
    }
}

/// Collects rendered records until they are handed to an output.
#[derive(Debug, Default)]
pub struct RecordsBuilder {
    bytes: BytesMut,
    ends: Vec<usize>,
}

impl RecordsBuilder {
    /// Adds the output of `render` as one record; returns true if it wrote anything.
    pub fn add(&mut self, render: impl FnOnce(&mut BytesMut)) -> bool {
        let before = self.bytes.len();
        render(&mut self.bytes);
        let wrote = self.bytes.len() > before;
        if wrote {
            self.ends.push(self.bytes.len());
        }
        wrote
    }

    /// Number of bytes collected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if nothing was collected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns everything collected, and leaves this empty.
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
