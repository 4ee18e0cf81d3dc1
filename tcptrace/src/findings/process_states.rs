//! What a process is doing while its connections wait: is it stopped, out of descriptors, busy, or waiting itself?

use rustc_hash::FxHashMap;

use crate::model::{
    holders::Holder,
    snapshot::{ProcessState, Snapshot},
};

/// Recently read processes, by PID.
#[derive(Debug, Default)]
pub struct ProcessStates(FxHashMap<u32, Read>);

#[derive(Debug)]
struct Read {
    /// An earlier reading, to see how much CPU time was used, and the one that replaces it when it is old enough.
    before: ProcessState,
    next: ProcessState,
    now: ProcessState,
}

/// How long a reading is valid, in ns.
const FRESH_NS: u64 = 10_000_000_000;
/// Shortest time between two readings from which CPU use is computed, in ns.
const APART_NS: u64 = 900_000_000;
/// Share of a CPU from which a process is busy.
const BUSY: f64 = 0.8;
/// The same if the process was running at both readings: others may compete for the CPU.
const BUSY_AMONG_OTHERS: f64 = 0.2;

/// What a process is doing instead of serving, the most certain obstacle first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Activity {
    /// Stopped by a signal or a debugger.
    Stopped,
    /// It has no descriptors left: `accept` fails with EMFILE.
    OutOfDescriptors,
    /// It used a CPU from one reading to the next.
    Busy,
    /// It was running or runnable when it was read; for how long is not known.
    Running,
    /// It sleeps.
    Waiting,
}

impl Activity {
    /// The name in all outputs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::OutOfDescriptors => "out_of_descriptors",
            Self::Busy => "busy",
            Self::Running => "running",
            Self::Waiting => "waiting",
        }
    }
}

/// What the processes that hold a socket are doing.
#[derive(Clone, Copy, Debug)]
pub(super) struct HoldersState<'a> {
    /// The most certain obstacle of any of them.
    pub(super) activity: Activity,
    /// One process with this obstacle.
    pub(super) state: &'a ProcessState,
    /// Number of processes with this obstacle.
    pub(super) count: u64,
}

impl ProcessStates {
    /// Takes the processes of a listing.
    pub fn listed(&mut self, snapshot: &Snapshot) {
        self.0.retain(|_, read| snapshot.ended_ns.saturating_sub(read.now.read_ns) < FRESH_NS);
        for state in &snapshot.processes {
            let first = || Read { before: state.clone(), next: state.clone(), now: state.clone() };
            let read = self.0.entry(state.pid).or_insert_with(first);
            if state.read_ns.saturating_sub(read.next.read_ns) >= APART_NS {
                read.before = std::mem::replace(&mut read.next, state.clone());
            }
            read.now = state.clone();
        }
    }

    /// What these holders are doing; `None` if none of them was read.
    pub(super) fn state_of(&self, holders: &[Holder]) -> Option<HoldersState<'_>> {
        let mut pids: Vec<_> = holders.iter().map(|holder| holder.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        let known: Vec<_> =
            pids.iter().filter_map(|pid| self.0.get(pid)).filter_map(|read| Some((read.activity()?, read))).collect();
        let (activity, read) = known.iter().min_by_key(|(activity, _)| *activity)?;
        let count = known.iter().filter(|(other, _)| other == activity).count() as u64;
        Some(HoldersState { activity: *activity, state: &read.now, count })
    }
}

impl Read {
    fn activity(&self) -> Option<Activity> {
        let Self { before, now, .. } = self;
        let is_full = now.descriptors.zip(now.max_descriptors).is_some_and(|(open, most)| open >= most);
        let passed_ns = now.read_ns.saturating_sub(before.read_ns);
        let share = now.cpu_ns.saturating_sub(before.cpu_ns) as f64 / passed_ns.max(1) as f64;
        let least = if before.letter == b'R' && now.letter == b'R' { BUSY_AMONG_OTHERS } else { BUSY };
        match now.letter {
            b'T' | b't' => Some(Activity::Stopped),
            _ if is_full => Some(Activity::OutOfDescriptors),
            _ if passed_ns >= APART_NS && share >= least => Some(Activity::Busy),
            b'R' => Some(Activity::Running),
            b'S' | b'D' | b'I' => Some(Activity::Waiting),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Command;

    const S: u64 = 1_000_000_000;

    fn state(pid: u32, read_ns: u64, letter: u8, cpu_ns: u64) -> ProcessState {
        let (descriptors, max_descriptors, waits_in) = (Some(10), Some(1024), None);
        ProcessState { pid, read_ns, letter, cpu_ns, descriptors, max_descriptors, waits_in }
    }

    fn holder(pid: u32) -> Holder {
        Holder { handle: 1, pid, ns_pid: pid, fd: 3, uid: 0, cgroup: None, command: Command::new([0; 16]), start: None }
    }

    fn activity(readings: &[&[ProcessState]], pids: &[u32]) -> Option<(Activity, u32, u64)> {
        let mut processes = ProcessStates::default();
        for reading in readings {
            let ended_ns = reading[0].read_ns;
            processes.listed(&Snapshot { ended_ns, processes: reading.to_vec(), ..Snapshot::default() });
        }
        let holders: Vec<_> = pids.iter().copied().map(holder).collect();
        processes.state_of(&holders).map(|state| (state.activity, state.state.pid, state.count))
    }

    #[test]
    fn a_stopped_worker_says_more_than_the_master_that_waits() {
        let reading = [state(1, S, b'S', 0), state(2, S, b'T', 0), state(3, S, b'T', 0)];
        assert_eq!(activity(&[&reading], &[1, 2, 3, 3]), Some((Activity::Stopped, 2, 2)));
        assert_eq!(activity(&[&reading], &[1]), Some((Activity::Waiting, 1, 1)));
        assert_eq!(activity(&[&reading], &[4]), None);
        assert_eq!(activity(&[&[state(1, S, b'Z', 0)]], &[1]), None);
    }

    #[test]
    fn descriptors_run_out_at_the_limit() {
        let full = ProcessState { descriptors: Some(1024), ..state(1, S, b'S', 0) };
        assert_eq!(activity(&[&[full]], &[1]), Some((Activity::OutOfDescriptors, 1, 1)));
        let unknown = ProcessState { descriptors: None, ..state(1, S, b'S', 0) };
        assert_eq!(activity(&[&[unknown]], &[1]), Some((Activity::Waiting, 1, 1)));
    }

    #[test]
    fn busy_is_who_used_the_cpu_between_two_readings() {
        let reading = |at_s: u64, cpu_ns| [state(1, at_s * S, b'R', cpu_ns)];
        assert_eq!(activity(&[&reading(1, 0)], &[1]), Some((Activity::Running, 1, 1)));
        assert_eq!(activity(&[&reading(1, 0), &reading(2, S)], &[1]), Some((Activity::Busy, 1, 1)));
        assert_eq!(activity(&[&reading(1, 0), &reading(2, S / 10)], &[1]), Some((Activity::Running, 1, 1)));
        assert_eq!(activity(&[&reading(1, 0), &reading(2, S), &reading(3, S)], &[1]), Some((Activity::Running, 1, 1)));
        // Read in between, too.
        let often: Vec<_> = (4..=12).map(|quarter| [state(1, quarter * S / 4, b'R', quarter * S / 4)]).collect();
        let often: Vec<_> = often.iter().map(|reading| &reading[..]).collect();
        assert_eq!(activity(&often, &[1]), Some((Activity::Busy, 1, 1)));
    }
}
