//! The events that the programs send, through one ring per CPU ([`tcptrace_common::ring`]) and a shared ring buffer.
//!
//! All rings are merged into one stream ordered by time, in which the events of each socket are in order: the kernel
//! changes a socket under its lock, so that a record is complete before the next record of the same socket takes its
//! timestamp. Records with timestamps up to the start of a reading are therefore already in the rings. The exception is
//! a record that interrupted the writing of another record, and stands behind it in the ring: while that write is
//! incomplete, records newer than the one before it are held back.

pub(super) mod cpus;
pub(super) mod sizes;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    io,
    mem::offset_of,
    os::fd::{AsFd as _, AsRawFd, RawFd},
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::{
    Ebpf,
    maps::{Map, MapData, RingBuf},
};
use rustix::param::page_size;
use tcptrace_common::{
    record::Header,
    ring::{MAX_RECORD, Slot, Wakeup},
};
use zerocopy::FromBytes as _;

use self::{cpus::Cpus, sizes::Sizes};
use crate::{
    bpf::{
        error::{Error, failed},
        maps::take_map,
    },
    sys::mmap::Mapping,
};

/// The rings and their read positions.
pub struct Rings {
    sources: Sources<RingBuf<MapData>>,
    /// Timestamp and source of the next record of each ring.
    fronts: BinaryHeap<Reverse<(u64, usize)>>,
}

struct Sources<S> {
    shared: S,
    /// The next record of the shared ring buffer; empty where none was found yet.
    aside: Vec<u8>,
    cpus: Cpus,
    slots: Mapping,
    /// Number of slots in the ring of each CPU.
    per_cpu: usize,
    /// Number of records read, by CPU.
    read: Vec<u64>,
    /// Timestamp of the last record, by CPU.
    last_ns: Vec<u64>,
}

impl Rings {
    /// Maps the rings of an object.
    ///
    /// # Errors
    /// If a map is missing, or the kernel refuses.
    pub(super) fn take(ebpf: &mut Ebpf, sizes: Sizes) -> Result<Self, Error> {
        const SLOTS: &str = "SLOTS";
        let shared = take_map(ebpf, "EVENTS")?;
        let Map::Array(slots) = ebpf.take_map(SLOTS).ok_or(Error::NotInObject(SLOTS))? else {
            return Err(failed(SLOTS, io::ErrorKind::InvalidInput.into()));
        };
        let cpus = Cpus::map(ebpf, sizes)?;
        let sources = Sources::new(shared, cpus, &slots.fd().as_fd(), sizes).map_err(|source| failed(SLOTS, source))?;
        Ok(Self { sources, fronts: BinaryHeap::new() })
    }

    /// Passes the records up to `until_ns` to `take`, oldest first, until it returns false; returns true if more
    /// records may be waiting.
    pub fn read(&mut self, until_ns: u64, take: impl FnMut(&[u8]) -> bool) -> bool {
        self.sources.read(&mut self.fronts, until_ns, take)
    }
}

impl AsRawFd for Rings {
    fn as_raw_fd(&self) -> RawFd {
        self.sources.shared.as_raw_fd()
    }
}

/// The ring buffer that all CPUs share.
trait Shared {
    /// Copies the next record; `None` where there is none.
    fn next(&mut self, to: &mut Vec<u8>) -> Option<()>;
}

impl Shared for RingBuf<MapData> {
    fn next(&mut self, to: &mut Vec<u8>) -> Option<()> {
        Self::next(self).map(|record| to.extend_from_slice(&record))
    }
}

impl<S: Shared> Sources<S> {
    fn new(shared: S, cpus: Cpus, slots: &impl AsRawFd, sizes: Sizes) -> io::Result<Self> {
        let per_cpu = sizes.slots as usize;
        let len = (cpus.len() * per_cpu).max(1) * size_of::<Slot>();
        let slots = Mapping::new(slots, 0, len.next_multiple_of(page_size()), libc::PROT_READ, libc::MAP_SHARED)?;
        let read: Vec<_> = (0..cpus.len()).map(|cpu| cpus.consumed(cpu).load(Ordering::Relaxed)).collect();
        let last_ns = vec![0; read.len()];
        Ok(Self { shared, aside: Vec::new(), cpus, slots, per_cpu, read, last_ns })
    }

    fn read(
        &mut self,
        fronts: &mut BinaryHeap<Reverse<(u64, usize)>>,
        mut until_ns: u64,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> bool {
        fronts.clear();
        for source in 0..=self.read.len() {
            fronts.extend(self.time_ns(source, &mut until_ns).map(|time_ns| Reverse((time_ns, source))));
        }
        let mut goes_on = true;
        while goes_on && let Some(mut first) = fronts.peek_mut() {
            let Reverse((time_ns, source)) = *first;
            if time_ns > until_ns {
                break;
            }
            let Some(record) = self.front(source) else {
                PeekMut::pop(first);
                continue;
            };
            goes_on = take(record);
            self.leave(source, time_ns);
            match self.time_ns(source, &mut until_ns) {
                Some(time_ns) => *first = Reverse((time_ns, source)),
                None => _ = PeekMut::pop(first),
            }
        }
        for (cpu, read) in self.read.iter().enumerate() {
            self.cpus.consumed(cpu).store(*read, Ordering::Release);
        }
        !goes_on
    }

    /// The next record of a CPU, or of the shared ring buffer.
    fn front(&mut self, source: usize) -> Option<&[u8]> {
        let Some(read) = self.read.get(source) else {
            while self.aside.is_empty() {
                self.shared.next(&mut self.aside)?;
                if self.aside.len() == size_of::<Wakeup>() {
                    self.aside.clear();
                }
            }
            return Some(&self.aside);
        };
        let place = *read as usize & self.per_cpu.checked_sub(1)?;
        // SAFETY: within the slots of this CPU. The record number is written last; after that the programs do not touch
        // the slot until user space has marked it as read.
        unsafe {
            let slot = self.slots.parts().0.add((source * self.per_cpu + place) * size_of::<Slot>());
            let number = &*slot.add(offset_of!(Slot, number)).cast::<AtomicU64>();
            if number.load(Ordering::Acquire) != read.wrapping_add(1) {
                return None;
            }
            let len = usize::from(slot.add(offset_of!(Header, len)).cast::<u16>().read());
            Some(slice::from_raw_parts(slot, len.min(MAX_RECORD)))
        }
    }

    /// Timestamp of the next record. If that record is incomplete, records newer than the one before it must not be
    /// read yet.
    fn time_ns(&mut self, source: usize, until_ns: &mut u64) -> Option<u64> {
        let time_ns =
            self.front(source).map(|record| Header::ref_from_prefix(record).map_or(0, |(header, _)| header.time_ns));
        if time_ns.is_none()
            && self.per_cpu != 0
            && self.read.get(source).is_some_and(|read| self.cpus.reserved(source) != *read)
        {
            *until_ns = (*until_ns).min(self.last_ns[source]);
        }
        time_ns
    }

    fn leave(&mut self, source: usize, time_ns: u64) {
        let (Some(read), Some(last_ns)) = (self.read.get_mut(source), self.last_ns.get_mut(source)) else {
            return self.aside.clear();
        };
        *last_ns = time_ns;
        *read = read.wrapping_add(1);
        if *read & (self.per_cpu as u64 / 8 - 1) == 0 {
            self.cpus.consumed(source).store(*read, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        fs::File,
        os::unix::fs::FileExt as _,
        sync::{Arc, Mutex},
        thread,
    };

    use tcptrace_common::ring::CpuRing;
    use zerocopy::IntoBytes as _;

    use super::*;
    use crate::sys::mmap::testing::file;

    /// Stands in for the programs as the writer.
    struct Fake {
        cpus: File,
        slots: File,
        aside: Aside,
        sizes: Sizes,
        written: [u64; 2],
    }

    /// Records of the ring buffer that all share.
    #[derive(Clone, Default)]
    struct Aside(Arc<Mutex<VecDeque<Vec<u8>>>>);

    impl Shared for Aside {
        fn next(&mut self, to: &mut Vec<u8>) -> Option<()> {
            self.0.lock().unwrap().pop_front().map(|record| to.extend(record))
        }
    }

    const SIZES: Sizes = Sizes { cpus: 2, slots: 8, shared: 4096 };

    impl Fake {
        fn new() -> (Self, Sources<Aside>) {
            let len = page_size() as u64;
            let (cpus, slots, aside) = (file(len), file(len), Aside::default());
            let sources = Sources::new(aside.clone(), Cpus::new(&cpus, SIZES).unwrap(), &slots, SIZES).unwrap();
            (Self { cpus, slots, aside, sizes: SIZES, written: [0; 2] }, sources)
        }

        fn record(time_ns: u64) -> Header {
            Header { time_ns, len: size_of::<Header>() as u16, ..Header::default() }
        }

        /// Writes a record to the ring of a CPU, and its number if `is_whole`.
        fn write(&mut self, cpu: usize, time_ns: u64, is_whole: bool) {
            let place = self.written[cpu] % u64::from(self.sizes.slots);
            let taken = (cpu * size_of::<CpuRing>() + offset_of!(CpuRing, reserved)) as u64;
            self.cpus.write_all_at((self.written[cpu] + 1).as_bytes(), taken).unwrap();
            let at = (cpu as u64 * u64::from(self.sizes.slots) + place) * size_of::<Slot>() as u64;
            self.slots.write_all_at(Self::record(time_ns).as_bytes(), at).unwrap();
            if is_whole {
                self.written[cpu] += 1;
                let number = at + offset_of!(Slot, number) as u64;
                self.slots.write_all_at(self.written[cpu].as_bytes(), number).unwrap();
            }
        }

        /// Writes to the shared ring buffer.
        fn write_aside(&mut self, bytes: &[u8]) {
            self.aside.0.lock().unwrap().push_back(bytes.to_vec());
        }

        /// Read position of a CPU, as its programs see it.
        fn read(&self, cpu: usize) -> u64 {
            let mut word = [0; 8];
            let at = cpu * size_of::<CpuRing>() + offset_of!(CpuRing, consumed);
            self.cpus.read_exact_at(&mut word, at as u64).unwrap();
            u64::from_ne_bytes(word)
        }
    }

    /// Timestamps of the records read, at most `most`, and whether there may be more.
    fn times(sources: &mut Sources<Aside>, until_ns: u64, most: usize) -> (Vec<u64>, bool) {
        let mut times = Vec::new();
        let more = sources.read(&mut BinaryHeap::new(), until_ns, |record| {
            times.push(Header::read_from_bytes(record).unwrap().time_ns);
            times.len() < most
        });
        (times, more)
    }

    #[test]
    fn records_of_all_cpus_come_in_the_order_of_their_times() {
        let (mut fake, mut sources) = Fake::new();
        assert_eq!(times(&mut sources, 100, 9), (vec![], false));
        for (cpu, time_ns) in [(0, 10), (0, 40), (1, 20), (1, 30), (1, 50)] {
            fake.write(cpu, time_ns, true);
        }
        fake.write_aside(Fake::record(35).as_bytes());
        assert_eq!(times(&mut sources, 100, 9), (vec![10, 20, 30, 35, 40, 50], false));
        assert_eq!((fake.read(0), fake.read(1)), (2, 3));
    }

    #[test]
    fn what_came_after_the_reading_began_waits_for_the_next_one() {
        let (mut fake, mut sources) = Fake::new();
        fake.write(0, 10, true);
        fake.write(0, 30, true);
        fake.write(1, 20, true);
        assert_eq!(times(&mut sources, 20, 9), (vec![10, 20], false));
        assert_eq!(fake.read(0), 1);
        fake.write(1, 25, true);
        assert_eq!(times(&mut sources, 30, 9), (vec![25, 30], false));
    }

    #[test]
    fn one_that_was_asked_to_wait_is_not_passed_over_and_the_rest_comes_later() {
        let (mut fake, mut sources) = Fake::new();
        for time_ns in 1..=5 {
            fake.write(0, time_ns, true);
        }
        assert_eq!(times(&mut sources, 9, 2), (vec![1, 2], true));
        assert_eq!(fake.read(0), 2);
        assert_eq!(times(&mut sources, 9, 9), (vec![3, 4, 5], false));
    }

    #[test]
    fn places_are_used_again_and_a_record_without_its_number_is_not_there_yet() {
        let (mut fake, mut sources) = Fake::new();
        for round in 0..50 {
            for time_ns in 0..7 {
                fake.write(1, round * 7 + time_ns, true);
            }
            fake.write(1, 9999, false);
            let want: Vec<_> = (round * 7..round * 7 + 7).collect();
            assert_eq!(times(&mut sources, 10_000, 9), (want, false));
            assert_eq!(fake.read(1), fake.written[1]);
        }
    }

    #[test]
    fn what_may_stand_behind_a_record_that_is_being_written_is_waited_for() {
        let (mut fake, mut sources) = Fake::new();
        fake.write(0, 10, true);
        fake.write(0, 20, false);
        fake.write(1, 5, true);
        fake.write(1, 10, true);
        fake.write(1, 30, true);
        assert_eq!(times(&mut sources, 100, 9), (vec![5, 10, 10], false), "one of 25 may be behind it");
        fake.write(0, 20, true);
        fake.write(0, 25, true);
        assert_eq!(times(&mut sources, 100, 9), (vec![20, 25, 30], false));
    }

    #[test]
    fn what_wakes_is_no_record_and_lengths_that_cannot_be_do_no_harm() {
        let (mut fake, mut sources) = Fake::new();
        fake.write_aside(&0_u64.to_ne_bytes());
        fake.write_aside(Fake::record(5).as_bytes());
        fake.write_aside(&0_u64.to_ne_bytes());
        fake.write_aside(b"not a header");
        fake.write(0, 7, true);
        fake.slots.write_all_at(&u16::MAX.to_ne_bytes(), offset_of!(Header, len) as u64).unwrap();
        let mut lengths = Vec::new();
        sources.read(&mut BinaryHeap::new(), 100, |record| {
            lengths.push(record.len());
            true
        });
        assert_eq!(lengths, [size_of::<Header>(), 12, MAX_RECORD]);
    }

    #[test]
    fn what_wakes_may_come_at_any_moment() {
        const WAKES: usize = 20_000;
        let (mut fake, mut sources) = Fake::new();
        thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut read = Vec::new();
                while read.len() < WAKES {
                    read.extend(times(&mut sources, u64::MAX, 1).0);
                }
                read
            });
            for time_ns in 0..WAKES as u64 {
                fake.write_aside(&0_u64.to_ne_bytes());
                fake.write_aside(Fake::record(time_ns).as_bytes());
            }
            assert!(reader.join().unwrap().into_iter().eq(0..WAKES as u64));
        });
        assert!(fake.aside.0.lock().unwrap().is_empty());
    }

    #[test]
    fn without_rings_all_comes_by_the_shared_ring_buffer() {
        let (mut fake, _) = Fake::new();
        let sizes = Sizes { slots: 0, ..SIZES };
        let cpus = Cpus::new(&fake.cpus, sizes).unwrap();
        let mut sources = Sources::new(fake.aside.clone(), cpus, &fake.slots, sizes).unwrap();
        fake.write(0, 1, true);
        fake.write_aside(Fake::record(2).as_bytes());
        assert_eq!(times(&mut sources, 9, 9), (vec![2], false));
    }
}
