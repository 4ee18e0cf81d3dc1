//! All that the programs send: the rings of the CPUs ([`tcptrace_common::cpu`]), and the ring buffer that they share.
//!
//! They are read as one stream in the order of the records' times. What one socket does is in order then: the kernel
//! changes a socket under its lock, so that a record is written before the next one of the same socket takes its time.
//! Where that time is not after the moment at which reading began, both were there to be read, unless the first stands
//! behind a record that it interrupted, which is not written yet: what is younger than the record before that waits.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    io,
    mem::offset_of,
    os::fd::{AsFd as _, AsRawFd, RawFd},
    path::Path,
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError},
};
use tcptrace_common::{
    cpu::{Bell, Cpu, MAX_RECORD, Slot},
    record::Header,
};
use zerocopy::FromBytes as _;

use super::{
    mapping::{Mapping, page_len},
    object::Error,
    ring::Ring,
};

/// How large the rings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// CPUs that there may be.
    pub(super) cpus: u32,
    /// Places in the ring of each of them, a power of two; 0: they have none.
    pub(super) slots: u32,
    /// Bytes of the shared ring buffer.
    pub(super) shared: u32,
}

impl Sizes {
    /// Smallest ring of a CPU, in places.
    const MIN_SLOTS: u32 = 8;
    /// Where CPUs have rings it has only what wakes user space.
    const SHARED: u32 = 1 << 16;

    /// For rings of about `bytes` together, a power of two of pages at least; CPUs have none with `is_shared`, or where they
    /// cannot.
    pub(super) fn of(bytes: u32, is_shared: bool) -> Self {
        /// NR_CPUS is no more (`arch/x86/Kconfig`).
        const MOST_CPUS: usize = 8192;
        Self::for_cpus(
            bytes,
            aya::util::nr_cpus().unwrap_or(MOST_CPUS).min(MOST_CPUS) as u32,
            !is_shared && are_ordered(),
        )
    }

    fn for_cpus(bytes: u32, cpus: u32, has_rings: bool) -> Self {
        if !has_rings {
            return Self { cpus, slots: 0, shared: bytes };
        }
        let slots = (bytes / size_of::<Slot>() as u32 / cpus.max(1)).max(Self::MIN_SLOTS);
        Self { cpus, slots: 1 << slots.ilog2(), shared: bytes.min(Self::SHARED) }
    }

    /// Records of a CPU between two looks at how full the shared ring buffer is, a power of two, less one: all CPUs
    /// together look after an eighth of the bytes at which user space is woken, at least.
    pub(super) fn wake_mask(self) -> u32 {
        let records = (self.shared / 32 / MAX_RECORD as u32 / self.cpus.max(1)).clamp(1, 64);
        (1 << records.ilog2()) - 1
    }
}

/// May a CPU have a ring without a lock? Its stores must come in order (x86 does so by itself, and BPF has no word for it
/// on older kernels), and its programs must not be preempted by other tasks, as they may be with PREEMPT_RT
/// (`kernel/ksysfs.c`, `realtime`).
fn are_ordered() -> bool {
    cfg!(target_arch = "x86_64") && !Path::new("/sys/kernel/realtime").exists()
}

/// The rings, and how far they were read.
pub struct Rings {
    /// Keeps the descriptor that becomes readable when user space is woken.
    events: MapData,
    sources: Sources,
    /// Times of the records that come next, and where they are.
    fronts: BinaryHeap<Reverse<(u64, usize)>>,
}

struct Sources {
    shared: Ring,
    cpus: Cpus,
    slots: Mapping,
    /// Places in the ring of each CPU.
    per_cpu: usize,
    /// Of each CPU, how many records were read.
    read: Vec<u64>,
    /// Of each CPU, the time of the last one.
    last_ns: Vec<u64>,
}

impl Rings {
    /// Maps the rings of an object.
    ///
    /// # Errors
    /// Where a map is missing, or the kernel refuses.
    pub(super) fn take(ebpf: &mut Ebpf, sizes: Sizes) -> Result<Self, Error> {
        let events = take(ebpf, "EVENTS")?;
        let shared =
            Ring::new(&events.fd().as_fd(), sizes.shared as usize).map_err(|source| failed("EVENTS", source))?;
        let slots = take(ebpf, "SLOTS")?;
        let cpus = Cpus::map(ebpf, sizes)?;
        let sources =
            Sources::new(shared, cpus, &slots.fd().as_fd(), sizes).map_err(|source| failed("SLOTS", source))?;
        Ok(Self { events, sources, fronts: BinaryHeap::new() })
    }

    /// Hands over the records up to this time, the oldest first, until `take` wants no more; tells whether more may be
    /// waiting.
    pub fn read(&mut self, until_ns: u64, take: impl FnMut(&[u8]) -> bool) -> bool {
        self.sources.read(&mut self.fronts, until_ns, take)
    }
}

impl AsRawFd for Rings {
    fn as_raw_fd(&self) -> RawFd {
        self.events.fd().as_fd().as_raw_fd()
    }
}

impl Sources {
    fn new(shared: Ring, cpus: Cpus, slots: &impl AsRawFd, sizes: Sizes) -> io::Result<Self> {
        let per_cpu = sizes.slots as usize;
        let len = (cpus.len() * per_cpu).max(1) * size_of::<Slot>();
        let slots = Mapping::new(slots, 0, len.next_multiple_of(page_len()), libc::PROT_READ, libc::MAP_SHARED)?;
        let read: Vec<_> = (0..cpus.len()).map(|cpu| cpus.read(cpu).load(Ordering::Relaxed)).collect();
        let last_ns = vec![0; read.len()];
        Ok(Self { shared, cpus, slots, per_cpu, read, last_ns })
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
            goes_on = self.front(source).is_none_or(&mut take);
            self.leave(source, time_ns);
            match self.time_ns(source, &mut until_ns) {
                Some(time_ns) => *first = Reverse((time_ns, source)),
                None => drop(PeekMut::pop(first)),
            }
        }
        for (cpu, read) in self.read.iter().enumerate() {
            self.cpus.read(cpu).store(*read, Ordering::Release);
        }
        !goes_on
    }

    /// The next record of a CPU, or of the ring buffer that they share.
    fn front(&mut self, source: usize) -> Option<&[u8]> {
        let Some(read) = self.read.get(source) else {
            while self.shared.front().is_some_and(|record| record.len() == size_of::<Bell>()) {
                self.shared.leave();
            }
            return self.shared.front();
        };
        let place = *read as usize & self.per_cpu.checked_sub(1)?;
        // SAFETY: within the places of this CPU. The number comes last, after which the programs do not touch the place
        // until user space has told that it was read.
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

    /// Time of the next record. Where one is being written, what is younger than the one before it is not to be read yet.
    fn time_ns(&mut self, source: usize, until_ns: &mut u64) -> Option<u64> {
        let time_ns =
            self.front(source).map(|record| Header::ref_from_prefix(record).map_or(0, |(header, _)| header.time_ns));
        if time_ns.is_none()
            && self.per_cpu != 0
            && self.read.get(source).is_some_and(|read| self.cpus.taken(source) != *read)
        {
            *until_ns = (*until_ns).min(self.last_ns[source]);
        }
        time_ns
    }

    fn leave(&mut self, source: usize, time_ns: u64) {
        let (Some(read), Some(last_ns)) = (self.read.get_mut(source), self.last_ns.get_mut(source)) else {
            return self.shared.leave();
        };
        *last_ns = time_ns;
        *read = read.wrapping_add(1);
        if *read & (self.per_cpu as u64 / 8 - 1) == 0 {
            self.cpus.read(source).store(*read, Ordering::Release);
        }
    }
}

/// How far the ring of each CPU is written and read, in the order of their numbers.
pub(super) struct Cpus(Mapping);

impl Cpus {
    /// Maps it; the object keeps the map.
    ///
    /// # Errors
    /// Where the map is missing, or the kernel refuses.
    pub(super) fn map(ebpf: &Ebpf, sizes: Sizes) -> Result<Self, Error> {
        const NAME: &str = "CPUS";
        match ebpf.map(NAME).ok_or(Error::NotInObject(NAME))? {
            Map::Array(data) => Self::new(&data.fd().as_fd(), sizes).map_err(|source| failed(NAME, source)),
            _ => Err(failed(NAME, io::ErrorKind::InvalidInput.into())),
        }
    }

    fn new(file: &impl AsRawFd, sizes: Sizes) -> io::Result<Self> {
        let len = sizes.cpus as usize * size_of::<Cpu>();
        Mapping::new(file, 0, len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED).map(Self)
    }

    pub(super) fn len(&self) -> usize {
        self.0.parts().1 / size_of::<Cpu>()
    }

    fn at(&self, cpu: usize) -> *const Cpu {
        assert!(cpu < self.len());
        // SAFETY: within what is mapped.
        unsafe { self.0.parts().0.cast::<Cpu>().add(cpu) }
    }

    /// [`Cpu::taken`]; 0 for a CPU that there is not.
    pub(super) fn taken(&self, cpu: usize) -> u64 {
        // SAFETY: an integer; programs write it meanwhile.
        if cpu < self.len() { unsafe { (&raw const (*self.at(cpu)).taken).read_volatile() } } else { 0 }
    }

    /// [`Cpu::read`], which user space alone writes.
    fn read(&self, cpu: usize) -> &AtomicU64 {
        // SAFETY: mapped to be written, and read by programs as a whole.
        unsafe { &*(&raw const (*self.at(cpu)).read).cast() }
    }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, Error> {
    match ebpf.take_map(name).ok_or(Error::NotInObject(name))? {
        Map::RingBuf(data) | Map::Array(data) => Ok(data),
        _ => Err(failed(name, io::ErrorKind::InvalidInput.into())),
    }
}

fn failed(name: &'static str, source: io::Error) -> Error {
    Error::Map { name, source: MapError::IoError(source) }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt as _};

    use zerocopy::IntoBytes as _;

    use super::{super::mapping::testing::file, *};

    /// What the programs would write.
    struct Fake {
        cpus: File,
        slots: File,
        events: File,
        sizes: Sizes,
        written: [u64; 2],
        aside: u64,
    }

    const SIZES: Sizes = Sizes { cpus: 2, slots: 8, shared: 4096 };

    impl Fake {
        fn new() -> (Self, Sources) {
            let len = page_len() as u64;
            let (cpus, slots, events) = (file(len), file(len), file(3 * len));
            let shared = Ring::new(&events, SIZES.shared as usize).unwrap();
            let sources = Sources::new(shared, Cpus::new(&cpus, SIZES).unwrap(), &slots, SIZES).unwrap();
            (Self { cpus, slots, events, sizes: SIZES, written: [0; 2], aside: 0 }, sources)
        }

        fn record(time_ns: u64) -> Header {
            Header { time_ns, len: size_of::<Header>() as u16, ..Header::default() }
        }

        /// Writes a record to the ring of a CPU, and its number where it is said to be whole.
        fn write(&mut self, cpu: usize, time_ns: u64, is_whole: bool) {
            let place = self.written[cpu] % u64::from(self.sizes.slots);
            let taken = (cpu * size_of::<Cpu>() + offset_of!(Cpu, taken)) as u64;
            self.cpus.write_all_at((self.written[cpu] + 1).as_bytes(), taken).unwrap();
            let at = (cpu as u64 * u64::from(self.sizes.slots) + place) * size_of::<Slot>() as u64;
            self.slots.write_all_at(Self::record(time_ns).as_bytes(), at).unwrap();
            if is_whole {
                self.written[cpu] += 1;
                let number = at + offset_of!(Slot, number) as u64;
                self.slots.write_all_at(self.written[cpu].as_bytes(), number).unwrap();
            }
        }

        /// Writes to the ring buffer that all share.
        fn write_aside(&mut self, bytes: &[u8]) {
            let len = page_len() as u64;
            let header = [(bytes.len() as u32).to_ne_bytes(), [0; 4]].concat();
            self.events.write_all_at(&[&header, bytes].concat(), 2 * len + self.aside).unwrap();
            self.aside += (8 + bytes.len() as u64).next_multiple_of(8);
            self.events.write_all_at(self.aside.as_bytes(), len).unwrap();
        }

        /// How many records of a CPU were read, as its programs see it.
        fn read(&self, cpu: usize) -> u64 {
            let mut word = [0; 8];
            let at = cpu * size_of::<Cpu>() + offset_of!(Cpu, read);
            self.cpus.read_exact_at(&mut word, at as u64).unwrap();
            u64::from_ne_bytes(word)
        }
    }

    /// Times of what is handed over, at most `most` records, and whether there may be more.
    fn times(sources: &mut Sources, until_ns: u64, most: usize) -> (Vec<u64>, bool) {
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
    fn rings_share_what_was_asked_for() {
        let of = |bytes, cpus| Sizes::for_cpus(bytes, cpus, true);
        assert_eq!(of(8 << 20, 2), Sizes { cpus: 2, slots: 16384, shared: 65536 });
        assert_eq!(of(8 << 20, 128), Sizes { cpus: 128, slots: 256, shared: 65536 });
        assert_eq!(of(4096, 2), Sizes { cpus: 2, slots: 8, shared: 4096 });
        assert_eq!(of(4096, 512).slots, 8, "never too small to be used");
        assert_eq!(Sizes::for_cpus(8 << 20, 2, false), Sizes { cpus: 2, slots: 0, shared: 8 << 20 });
        assert_eq!((of(4096, 2).wake_mask(), of(8 << 20, 2).wake_mask()), (0, 3));
    }

    #[test]
    fn without_rings_all_comes_by_the_shared_ring_buffer() {
        let (mut fake, _) = Fake::new();
        let sizes = Sizes { slots: 0, ..SIZES };
        let shared = Ring::new(&fake.events, sizes.shared as usize).unwrap();
        let mut sources = Sources::new(shared, Cpus::new(&fake.cpus, sizes).unwrap(), &fake.slots, sizes).unwrap();
        fake.write(0, 1, true);
        fake.write_aside(Fake::record(2).as_bytes());
        assert_eq!(times(&mut sources, 9, 9), (vec![2], false));
    }
}
