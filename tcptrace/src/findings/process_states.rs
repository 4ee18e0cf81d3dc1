//! What the processes do that connections wait for.

use rustc_hash::FxHashMap;

use crate::model::{
    holders::Holder,
    snapshot::{ProcessState, Snapshot},
};

/// The processes that were read lately, by PID.
#[derive(Debug, Default)]
pub struct ProcessStates(FxHashMap<u32, Read>);

#[derive(Debug)]
struct Read {
    /// An earlier one, to see how much CPU time is used; and one that takes its place when it is old enough.
    before: ProcessState,
    next: ProcessState,
    now: ProcessState,
}

/// What is read of a process counts for this long, in ns.
const FRESH_NS: u64 = 10_000_000_000;
/// Two readings that tell how busy it is are this far apart at least, in ns.
const APART_NS: u64 = 900_000_000;
/// Share of a CPU from which on a process is busy.
const BUSY: f64 = 0.8;
/// The same for one that was found running both times: others may want the CPU too.
const BUSY_AMONG_OTHERS: f64 = 0.2;

/// What keeps a process from serving, the surest reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doing {
    /// By a signal or a debugger.
    Stopped,
    /// `accept` fails with EMFILE.
    OutOfDescriptors,
    /// It computes.
    Busy,
    /// It runs or waits for a CPU; for how long is not known.
    Running,
    /// It waits for something.
    Waiting,
}

impl Doing {
    /// Name in all outputs.
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

/// What the processes that hold a socket do.
#[derive(Clone, Copy, Debug)]
pub(super) struct HoldersState<'a> {
    /// The surest reason of any of them.
    pub(super) doing: Doing,
    /// One that does this.
    pub(super) state: &'a ProcessState,
    /// How many do this.
    pub(super) count: u64,
}

impl ProcessStates {
    /// Takes in what a listing tells of them.
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

    /// What these do; `None` where nothing is known of any.
    pub(super) fn state_of(&self, holders: &[Holder]) -> Option<HoldersState<'_>> {
        let mut pids: Vec<_> = holders.iter().map(|holder| holder.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        let known: Vec<_> =
            pids.iter().filter_map(|pid| self.0.get(pid)).filter_map(|read| Some((read.doing()?, read))).collect();
        let (doing, read) = known.iter().min_by_key(|(doing, _)| *doing)?;
        let count = known.iter().filter(|(other, _)| other == doing).count() as u64;
        Some(HoldersState { doing: *doing, state: &read.now, count })
    }
}

impl Read {
    fn doing(&self) -> Option<Doing> {
        let Self { before, now, .. } = self;
        let is_full = now.descriptors.zip(now.max_descriptors).is_some_and(|(open, most)| open >= most);
        let passed_ns = now.read_ns.saturating_sub(before.read_ns);
        let share = now.cpu_ns.saturating_sub(before.cpu_ns) as f64 / passed_ns.max(1) as f64;
        let least = if before.letter == b'R' && now.letter == b'R' { BUSY_AMONG_OTHERS } else { BUSY };
        match now.letter {
            b'T' | b't' => Some(Doing::Stopped),
            _ if is_full => Some(Doing::OutOfDescriptors),
            _ if passed_ns >= APART_NS && share >= least => Some(Doing::Busy),
            b'R' => Some(Doing::Running),
            b'S' | b'D' | b'I' => Some(Doing::Waiting),
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

    fn doing(readings: &[&[ProcessState]], pids: &[u32]) -> Option<(Doing, u32, u64)> {
        let mut processes = ProcessStates::default();
        for reading in readings {
            let ended_ns = reading[0].read_ns;
            processes.listed(&Snapshot { ended_ns, processes: reading.to_vec(), ..Snapshot::default() });
        }
        let holders: Vec<_> = pids.iter().copied().map(holder).collect();
        processes.state_of(&holders).map(|state| (state.doing, state.state.pid, state.count))
    }

    #[test]
    fn a_stopped_worker_says_more_than_the_master_that_waits() {
        let reading = [state(1, S, b'S', 0), state(2, S, b'T', 0), state(3, S, b'T', 0)];
        assert_eq!(doing(&[&reading], &[1, 2, 3, 3]), Some((Doing::Stopped, 2, 2)));
        assert_eq!(doing(&[&reading], &[1]), Some((Doing::Waiting, 1, 1)));
        assert_eq!(doing(&[&reading], &[4]), None);
        assert_eq!(doing(&[&[state(1, S, b'Z', 0)]], &[1]), None);
    }

    #[test]
    fn descriptors_run_out_at_the_limit() {
        let full = ProcessState { descriptors: Some(1024), ..state(1, S, b'S', 0) };
        assert_eq!(doing(&[&[full]], &[1]), Some((Doing::OutOfDescriptors, 1, 1)));
        let unknown = ProcessState { descriptors: None, ..state(1, S, b'S', 0) };
        assert_eq!(doing(&[&[unknown]], &[1]), Some((Doing::Waiting, 1, 1)));
    }

    #[test]
    fn busy_is_who_used_the_cpu_between_two_readings() {
        let reading = |at_s: u64, cpu_ns| [state(1, at_s * S, b'R', cpu_ns)];
        assert_eq!(doing(&[&reading(1, 0)], &[1]), Some((Doing::Running, 1, 1)));
        assert_eq!(doing(&[&reading(1, 0), &reading(2, S)], &[1]), Some((Doing::Busy, 1, 1)));
        assert_eq!(doing(&[&reading(1, 0), &reading(2, S / 10)], &[1]), Some((Doing::Running, 1, 1)));
        assert_eq!(doing(&[&reading(1, 0), &reading(2, S), &reading(3, S)], &[1]), Some((Doing::Running, 1, 1)));
        // Read in between, too.
        let often: Vec<_> = (4..=12).map(|quarter| [state(1, quarter * S / 4, b'R', quarter * S / 4)]).collect();
        let often: Vec<_> = often.iter().map(|reading| &reading[..]).collect();
        assert_eq!(doing(&often, &[1]), Some((Doing::Busy, 1, 1)));
    }
}
