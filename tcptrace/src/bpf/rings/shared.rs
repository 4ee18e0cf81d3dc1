//! Reads a BPF ring buffer from user space (`kernel/bpf/ringbuf.c`): a page with the read position, a page with the
//! write position, and the data.
//!
//! The kernel offers the data area twice in a row, so that every record is contiguous. Here it is mapped once, since
//! mapped pages count as memory of the process; the few records that wrap around are copied.

use std::{
    io,
    os::fd::AsRawFd,
    slice,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use crate::sys::mmap::{Mapping, page_len};

/// Each record is preceded by its length with the bits below, and by the kernel's page offset (`struct
/// bpf_ringbuf_hdr`).
const HEADER_LEN: usize = 8;
/// The record is still being written (`BPF_RINGBUF_BUSY_BIT`).
const BUSY: u32 = 1 << 31;
/// The program discarded the record (`BPF_RINGBUF_DISCARD_BIT`).
const DISCARDED: u32 = 1 << 30;

/// A ring buffer and its read position.
pub(super) struct Ring {
    consumer: Mapping,
    /// The write position; the data begins a page later.
    producer: Mapping,
    page_len: usize,
    /// Length of the data, a power of two, minus one.
    mask: usize,
    position: usize,
    /// Write position as of the last check.
    written: usize,
    /// Buffer for a record that wraps around.
    joined: Vec<u8>,
}

impl Ring {
    /// Maps the ring buffer of a descriptor with `data_len` bytes of data.
    ///
    /// # Errors
    /// If the kernel refuses, or the length is not valid for a ring buffer.
    pub(super) fn new(file: &impl AsRawFd, data_len: usize) -> io::Result<Self> {
        let page_len = page_len();
        if !data_len.is_power_of_two() || data_len < page_len {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let consumer = Mapping::new(file, 0, page_len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED)?;
        let producer = Mapping::new(file, page_len, page_len + data_len, libc::PROT_READ, libc::MAP_SHARED)?;
        let mut this =
            Self { consumer, producer, page_len, mask: data_len - 1, position: 0, written: 0, joined: Vec::new() };
        this.position = this.consumed().load(Ordering::Acquire);
        this.written = this.position;
        Ok(this)
    }

    fn consumed(&self) -> &AtomicUsize {
        // SAFETY: the position is the first word of the page, which is mapped writable.
        unsafe { &*self.consumer.parts().0.cast() }
    }

    fn produced(&self) -> &AtomicUsize {
        // SAFETY: the position is the first word of the page, and only read.
        unsafe { &*self.producer.parts().0.cast() }
    }

    /// The next record; the same one until it is [consumed](Self::leave).
    pub(super) fn front(&mut self) -> Option<&[u8]> {
        loop {
            if self.is_at_end() {
                self.written = self.produced().load(Ordering::Acquire);
                if self.is_at_end() {
                    return None;
                }
            }
            let header = self.header().load(Ordering::Acquire);
            if header & BUSY != 0 {
                return None;
            }
            if header & DISCARDED == 0 {
                return Some(self.record(header as usize));
            }
            self.go_on((header & !DISCARDED) as usize);
        }
    }

    /// Consumes the [next record](Self::front), whose space may then be overwritten. Call it only if there is one.
    pub(super) fn leave(&mut self) {
        let header = self.header().load(Ordering::Relaxed);
        self.go_on((header & !DISCARDED) as usize);
    }

    fn is_at_end(&self) -> bool {
        self.written.wrapping_sub(self.position) as isize <= 0
    }

    fn header(&self) -> &AtomicU32 {
        // SAFETY: records are aligned to 8 bytes, so that a header is contiguous and within the data.
        unsafe { &*self.producer.parts().0.add(self.page_len + (self.position & self.mask)).cast() }
    }

    /// The next record, of `len` bytes.
    fn record(&mut self, len: usize) -> &[u8] {
        let Self { producer, page_len, mask, position, joined, .. } = self;
        let (start, len) = ((*position + HEADER_LEN) & *mask, len.min(*mask));
        // SAFETY: within the data; the kernel does not touch a completed record until it has been consumed.
        let data = |start, len| unsafe { slice::from_raw_parts(producer.parts().0.add(*page_len + start), len) };
        let to_end = *mask + 1 - start;
        if len <= to_end {
            return data(start, len);
        }
        joined.clear();
        joined.extend_from_slice(data(start, to_end));
        joined.extend_from_slice(data(0, len - to_end));
        joined
    }

    fn go_on(&mut self, len: usize) {
        self.position = self.position.wrapping_add((HEADER_LEN + len).next_multiple_of(8));
        self.consumed().store(self.position, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt as _};

    use super::*;
    use crate::sys::mmap::testing::file;

    /// Stands in for the kernel's ring buffer, in a file that the test writes as a program would.
    struct Fake {
        file: File,
        page_len: u64,
        data_len: u64,
        position: u64,
    }

    impl Fake {
        fn new() -> (Self, Ring) {
            let page_len = page_len() as u64;
            let file = file(3 * page_len);
            let ring = Ring::new(&file, page_len as usize).unwrap();
            (Self { file, page_len, data_len: page_len, position: 0 }, ring)
        }

        fn put(&self, at: u64, bytes: &[u8]) {
            for (index, byte) in (at..).zip(bytes) {
                self.file.write_all_at(&[*byte], 2 * self.page_len + index % self.data_len).unwrap();
            }
        }

        /// Writes a record with these header bits.
        fn write(&mut self, record: &[u8], bits: u32) {
            self.put(self.position, &(record.len() as u32 | bits).to_ne_bytes());
            self.put(self.position + 8, record);
            self.position += (8 + record.len() as u64).next_multiple_of(8);
            self.file.write_all_at(&self.position.to_ne_bytes(), self.page_len).unwrap();
        }

        fn consumed(&self) -> u64 {
            let mut word = [0; 8];
            self.file.read_exact_at(&mut word, 0).unwrap();
            u64::from_ne_bytes(word)
        }
    }

    fn next(ring: &mut Ring) -> Option<Vec<u8>> {
        let found = ring.front().map(<[u8]>::to_vec);
        if found.is_some() {
            ring.leave();
        }
        found
    }

    #[test]
    fn records_come_whole_and_in_order_also_where_they_wrap_around() {
        let (mut ring, mut reader) = Fake::new();
        assert_eq!(next(&mut reader), None);
        for number in 0..200_u32 {
            let records = [[number as u8; 100].to_vec(), vec![7; number as usize]];
            records.iter().for_each(|record| ring.write(record, 0));
            let read = [next(&mut reader).unwrap(), next(&mut reader).unwrap()];
            assert_eq!(read, records);
            assert_eq!((next(&mut reader), ring.consumed()), (None, ring.position));
        }
        assert!(ring.position > 5 * ring.data_len);
    }

    #[test]
    fn what_is_not_written_yet_is_waited_for_and_what_was_given_up_is_left_out() {
        let (mut ring, mut reader) = Fake::new();
        ring.write(b"given up", DISCARDED);
        ring.write(b"first", 0);
        let at = ring.position;
        ring.write(b"second", BUSY);
        ring.write(b"third", 0);
        assert_eq!(next(&mut reader).unwrap(), b"first");
        assert_eq!((next(&mut reader), ring.consumed()), (None, at));
        ring.put(at, &6_u32.to_ne_bytes());
        assert_eq!(next(&mut reader).unwrap(), b"second");
        assert_eq!(next(&mut reader).unwrap(), b"third");
        assert_eq!(next(&mut reader), None);
    }

    #[test]
    fn a_length_that_cannot_be_does_no_harm() {
        let (mut ring, mut reader) = Fake::new();
        ring.write(b"", 0x0fff_ffff);
        assert_eq!(next(&mut reader).unwrap().len() as u64, ring.data_len - 1);
    }
}
