//! What was lost, by place. Reported at the end of every run, even if all counts are zero.

use tcptrace_common::counters::Counters;

use crate::model::notice::Gap;

/// Counts of records that did not reach the outputs, or arrived incomplete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Events that the BPF programs wrote to the rings.
    pub sent: u64,
    /// Events that the filter dropped in the kernel.
    pub filtered: u64,
    /// Events that were read but filtered from the outputs; findings still use them.
    pub not_shown: u64,
    /// Events lost because a ring was full, by CPU.
    pub ring_by_cpu: Vec<u64>,
    /// Events that the kernel skipped because the same program was already running on that CPU.
    pub program_busy: u64,
    /// Sockets without durations or owners because the kernel-side table was full.
    pub kernel_table: u64,
    /// Listeners that the kernel-side table had no room for: their connections have no owner until a process uses them.
    pub listener_table: u64,
    /// RSTs sent in reply to packets that could not be parsed.
    pub unreadable_packets: u64,
    /// Events read from the rings.
    pub received: u64,
    /// Events that could not be decoded.
    pub undecodable: u64,
    /// Sockets evicted from the user-space table to make room.
    pub evicted: u64,
    /// Events of processes that did not fit in the summary.
    pub unnamed_process_events: u64,
    /// Events left out because their filter needs names of a process that were not known in time, or not at all.
    pub undecided: u64,
    /// Events counted under a common key because there was no room for a key of their own.
    pub other_keys: u64,
    /// Events not counted, or counted without their time, because the kernel-side count tables were full.
    pub count_table: u64,
    /// Upper bound on the namespaces and kernel replies that a listing could not read.
    pub unlisted: u64,
    /// Records lost by outputs: the queue was full, or the receiver refused them.
    pub outputs: u64,
}

impl Losses {
    /// Takes the counters of all CPUs, and how often the kernel skipped a program because it was already running.
    pub fn set_kernel(&mut self, by_cpu: &[Counters], passed_over: u64) {
        let sum = |field: fn(&Counters) -> u64| by_cpu.iter().map(field).fold(0u64, u64::wrapping_add);
        self.program_busy = passed_over.wrapping_add(sum(|cpu| cpu.interrupted));
        self.sent = sum(|cpu| cpu.sent);
        self.filtered = sum(|cpu| cpu.filtered);
        self.ring_by_cpu = by_cpu.iter().map(|cpu| cpu.ring_full).collect();
        self.kernel_table = sum(|cpu| cpu.table_full);
        self.listener_table = sum(|cpu| cpu.listeners_full);
        self.unreadable_packets = sum(|cpu| cpu.unreadable);
        self.other_keys = sum(|cpu| cpu.other_keys);
        self.count_table = sum(|cpu| cpu.counts_full);
    }

    /// Events dropped by the filter, in the kernel or in user space.
    #[must_use]
    pub const fn all_filtered(&self) -> u64 {
        self.filtered + self.not_shown
    }

    /// Events lost because a ring was full.
    #[must_use]
    pub fn ring(&self) -> u64 {
        self.ring_by_cpu.iter().sum()
    }

    /// What was lost since `before`, at `now_ns`; `None` if nothing was lost that would have produced an event.
    #[must_use]
    pub fn gap_since(&self, before: &Self, after_ns: u64, now_ns: u64) -> Option<Gap> {
        let earlier = |cpu: usize| before.ring_by_cpu.get(cpu).copied().unwrap_or(0);
        let gap = Gap {
            after_ns,
            noticed_ns: now_ns,
            ring_by_cpu: self
                .ring_by_cpu
                .iter()
                .enumerate()
                .map(|(cpu, lost)| lost.saturating_sub(earlier(cpu)))
                .collect(),
            program_busy: self.program_busy.saturating_sub(before.program_busy),
            healed: None,
        };
        (gap.lost() > 0).then_some(gap)
    }

    /// True if any count is not zero.
    #[must_use]
    pub fn any(&self) -> bool {
        self.fields().iter().any(|(_, count)| *count != 0)
    }

    /// Name and count of each place where something can be lost.
    #[must_use]
    pub fn fields(&self) -> [(&'static str, u64); 13] {
        [
            ("ring_buffer", self.ring()),
            ("program_busy", self.program_busy),
            ("kernel_table", self.kernel_table),
            ("listener_table", self.listener_table),
            ("unreadable_packets", self.unreadable_packets),
            ("undecodable", self.undecodable),
            ("evicted", self.evicted),
            ("unnamed_process_events", self.unnamed_process_events),
            ("undecided", self.undecided),
            ("other_keys", self.other_keys),
            ("count_table", self.count_table),
            ("unlisted", self.unlisted),
            ("outputs", self.outputs),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(number: u64) -> Counters {
        Counters {
            sent: number,
            interrupted: 9 * number,
            ring_full: 2 * number,
            filtered: 3 * number,
            table_full: 4 * number,
            listeners_full: 5 * number,
            unreadable: 6 * number,
            other_keys: 7 * number,
            counts_full: 8 * number,
        }
    }

    #[test]
    fn counters_of_all_cpus_are_added_up() {
        let mut losses = Losses { received: 9, undecodable: 8, ..Losses::default() };
        losses.set_kernel(&[counters(1), counters(0), counters(100)], 77);
        let want = Losses {
            sent: 101,
            filtered: 303,
            ring_by_cpu: vec![2, 0, 200],
            program_busy: 77 + 909,
            kernel_table: 404,
            listener_table: 505,
            unreadable_packets: 606,
            other_keys: 707,
            count_table: 808,
            received: 9,
            undecodable: 8,
            ..Losses::default()
        };
        assert_eq!(losses, want);
        assert_eq!(losses.ring(), 202);
        losses.set_kernel(&[counters(1)], 0);
        assert_eq!((losses.sent, losses.ring(), losses.received), (1, 2, 9), "counts are set, not added");
    }

    #[test]
    fn any_loss_is_a_loss_and_nothing_else_is() {
        let none = Losses { sent: 5, received: 5, filtered: 5, ring_by_cpu: vec![0, 0], ..Losses::default() };
        assert!(!none.any());
        let with = |change: fn(&mut Losses)| {
            let mut losses = none.clone();
            change(&mut losses);
            (losses.any(), losses.fields().map(|(_, count)| count))
        };
        let changes: [fn(&mut Losses); 13] = [
            |losses| losses.ring_by_cpu[1] = 1,
            |losses| losses.program_busy = 1,
            |losses| losses.kernel_table = 1,
            |losses| losses.listener_table = 1,
            |losses| losses.unreadable_packets = 1,
            |losses| losses.undecodable = 1,
            |losses| losses.evicted = 1,
            |losses| losses.unnamed_process_events = 1,
            |losses| losses.undecided = 1,
            |losses| losses.other_keys = 1,
            |losses| losses.count_table = 1,
            |losses| losses.unlisted = 1,
            |losses| losses.outputs = 1,
        ];
        for (place, change) in changes.into_iter().enumerate() {
            let mut want = [0; 13];
            want[place] = 1;
            assert_eq!(with(change), (true, want));
        }
    }

    #[test]
    fn a_gap_is_what_was_lost_since_the_last_look() {
        let at = |ring: &[u64], program_busy| Losses { ring_by_cpu: ring.to_vec(), program_busy, ..Losses::default() };
        let before = at(&[1, 2], 3);
        assert_eq!(before.gap_since(&before, 10, 20), None);
        let other = Losses { kernel_table: 9, undecodable: 9, unlisted: 9, ..before.clone() };
        assert_eq!(other.gap_since(&before, 10, 20), None, "no listing makes up for these");
        let gap = at(&[1, 5, 4], 4).gap_since(&before, 10, 20).unwrap();
        let want = Gap { after_ns: 10, noticed_ns: 20, ring_by_cpu: vec![0, 3, 4], program_busy: 1, healed: None };
        assert_eq!((&gap, gap.lost()), (&want, 8));
        assert_eq!(at(&[0], 3).gap_since(&before, 10, 20), None, "counters never go back");
    }

    #[test]
    fn gaps_that_come_before_a_listing_are_one() {
        let mut gap = Gap { after_ns: 10, noticed_ns: 20, ring_by_cpu: vec![1, 2], program_busy: 3, ..Gap::default() };
        let later = Gap { after_ns: 20, noticed_ns: 30, ring_by_cpu: vec![0, 1, 5], program_busy: 1, ..Gap::default() };
        gap.merge(&later);
        let want = Gap { after_ns: 10, noticed_ns: 30, ring_by_cpu: vec![1, 3, 5], program_busy: 4, ..Gap::default() };
        assert_eq!((&gap, gap.lost()), (&want, 13));
    }
}
