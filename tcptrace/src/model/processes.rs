//! What is known about processes besides what the kernel reports with a socket: executable, arguments, parent. Reading
//! `/proc` takes a while, so it is done elsewhere ([`crate::sys::processes`]); here is what was read, and who asks.

use std::{rc::Rc, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{
    event::{Command, Owner, ProcessId},
    generations::Generations,
    place::Place,
};

/// A process as `/proc` showed it (proc(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessNames {
    /// Command name when it was read.
    pub command: Command,
    /// Path of the executable, in the mount namespace of the process. `None` for kernel threads, and without permission.
    pub executable: Option<String>,
    /// Arguments without secrets, the program first; `None` if they were not read.
    pub args: Option<Box<[String]>>,
    /// PID in its own PID namespace: the PID inside its container.
    pub ns_pid: Option<u32>,
    /// PID and command name of its parent; `None` if it has none, or a parent outside of the PID namespace of `/proc`.
    pub parent: Option<(u32, Command)>,
}

/// A process to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessQuestion {
    /// The process.
    pub id: ProcessId,
    /// Id of its cgroup in the v2 hierarchy, in case that it has ended; 0 if unknown.
    pub cgroup: u64,
}

/// What was found about a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessAnswer {
    /// The process itself; `None` if it was gone, or another one has its PID.
    pub names: Option<ProcessNames>,
    /// Where it runs, or where the processes of its cgroup do.
    #[serde(with = "shared")]
    pub place: Option<Arc<Place>>,
}

/// A shared value as a value of its own.
mod shared {
    use super::{Arc, Deserialize, Deserializer, Place, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(place: &Option<Arc<Place>>, to: S) -> Result<S::Ok, S::Error> {
        place.as_deref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Arc<Place>>, D::Error> {
        Ok(Option::<Place>::deserialize(from)?.map(Arc::new))
    }
}

/// How processes are read.
#[derive(Default)]
pub enum ProcessSource {
    /// Not at all.
    #[default]
    None,
    /// At once, by this function.
    Now(Box<dyn FnMut(ProcessQuestion) -> ProcessAnswer>),
    /// By another thread, whose answers go to [`Processes::learn`]. The function passes a question on, and returns false if
    /// that is not possible now.
    Later(Box<dyn FnMut(ProcessQuestion) -> bool>),
}

/// What is known about a process.
#[derive(Clone, Debug, Default)]
pub struct KnownProcess {
    /// The process itself.
    pub names: Option<Rc<ProcessNames>>,
    /// Where it runs.
    pub place: Option<Arc<Place>>,
}

impl KnownProcess {
    fn learn(&mut self, answer: ProcessAnswer) {
        // What was read while it lived stays.
        self.names = answer.names.map(Rc::new).or(self.names.take());
        self.place = answer.place.or(self.place.take());
    }

    /// The executable, unless the process may have run another one when it had this command name.
    #[must_use]
    pub fn executable(&self, command: Command) -> Option<&str> {
        self.names.as_ref()?.executable(command)
    }
}

/// Maximum number of processes that are remembered.
const MAX_PROCESSES: usize = 8192;
/// Maximum number of times that a process is read: again if it has changed its name, and so perhaps its program.
const MAX_READINGS: u8 = 8;

/// The processes that were read or are being read. One that has ended is remembered as long as something refers to it: the
/// processes that nothing has referred to for the longest time make room ([`Generations`]).
pub struct Processes {
    known: Generations<ProcessId, Entry>,
    source: ProcessSource,
    /// Number of questions without an answer.
    asked: usize,
}

#[derive(Debug)]
struct Entry {
    known: KnownProcess,
    is_asked: bool,
    readings: u8,
    /// The command name of the event for which it was last read.
    asked_for: Command,
}

impl Default for Processes {
    fn default() -> Self {
        Self::new(ProcessSource::None)
    }
}

impl Processes {
    /// No processes yet; they are read from this source.
    #[must_use]
    pub fn new(source: ProcessSource) -> Self {
        Self { known: Generations::new(MAX_PROCESSES), source, asked: 0 }
    }

    /// Replaces the source. Questions without an answer are forgotten.
    pub fn set_source(&mut self, source: ProcessSource) {
        self.source = source;
        self.asked = 0;
        self.known.retain(|entry| !std::mem::take(&mut entry.is_asked) || entry.known.names.is_some());
    }

    /// What is known about a process. If it was not read yet, it is from now on asked for.
    pub fn of(&mut self, owner: &Owner) -> Option<&KnownProcess> {
        self.of_process(owner.question(), owner.command)
    }

    /// The same for a process that is no owner.
    pub fn of_process(&mut self, question: ProcessQuestion, command: Command) -> Option<&KnownProcess> {
        self.entry(question, command).map(|entry| &entry.known)
    }

    /// True if nothing more will be known about a process soon; otherwise it is being read.
    pub fn is_settled(&mut self, owner: &Owner) -> bool {
        self.entry(owner.question(), owner.command).is_none_or(|entry| !entry.is_asked)
    }

    /// True if it was asked for, and there is no answer yet.
    pub fn is_being_read(&mut self, id: ProcessId) -> bool {
        self.known.get(&id).is_some_and(|entry| entry.is_asked)
    }

    fn entry(&mut self, question: ProcessQuestion, command: Command) -> Option<&Entry> {
        let id = question.id;
        // Without a start time nobody knows which process had the PID.
        if matches!(self.source, ProcessSource::None) || id.1.is_none() {
            return None;
        }
        let new = || Entry { known: KnownProcess::default(), is_asked: false, readings: 0, asked_for: command };
        let entry = self.known.get_or_insert_with(id, new);
        let is_current = entry.readings > 0
            && (entry.asked_for == command || entry.known.names.as_ref().is_none_or(|names| names.command == command));
        if entry.is_asked || is_current || entry.readings >= MAX_READINGS {
            return Some(entry);
        }
        match &mut self.source {
            ProcessSource::None => {}
            ProcessSource::Now(read) => {
                entry.known.learn(read(question));
                (entry.asked_for, entry.readings) = (command, entry.readings + 1);
            }
            ProcessSource::Later(ask) => {
                if ask(question) {
                    (entry.asked_for, entry.readings) = (command, entry.readings + 1);
                    entry.is_asked = true;
                    self.asked += 1;
                }
            }
        }
        Some(entry)
    }

    /// Takes an answer.
    pub fn learn(&mut self, id: ProcessId, answer: ProcessAnswer) {
        let Some(entry) = self.known.get(&id).filter(|entry| entry.is_asked) else { return };
        entry.is_asked = false;
        self.asked = self.asked.saturating_sub(1);
        entry.known.learn(answer);
    }

    /// True if questions have no answer yet.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.asked > 0
    }

    /// Number of processes that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True if none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Owner {
    /// What to ask for this process.
    pub(crate) const fn question(&self) -> ProcessQuestion {
        ProcessQuestion { id: self.id(), cgroup: self.cgroup }
    }
}

impl ProcessNames {
    /// The executable, unless the process may have run another one when it had this command name.
    #[must_use]
    pub fn executable(&self, command: Command) -> Option<&str> {
        self.executable.as_deref().filter(|_| self.command == command)
    }

    /// The arguments, with the same condition.
    #[must_use]
    pub fn args(&self, command: Command) -> Option<&[String]> {
        self.args.as_deref().filter(|_| self.command == command)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::model::event::{OwnerSource, StartTicks};

    fn command(name: &str) -> Command {
        let mut bytes = [0; 16];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Command::new(bytes)
    }

    fn owner(pid: u32, start: u32, name: &str) -> Owner {
        let start = StartTicks::new(start);
        Owner { pid, uid: 0, cgroup: 0, start, command: command(name), source: OwnerSource::Connect }
    }

    fn found(name: &str, executable: &str) -> ProcessAnswer {
        let executable = Some(executable.to_owned());
        let names = ProcessNames { command: command(name), executable, args: None, ns_pid: None, parent: None };
        ProcessAnswer { names: Some(names), place: Some(Arc::new(Place::from_cgroup("/a.service"))) }
    }

    fn executable(processes: &mut Processes, owner: &Owner) -> Option<String> {
        processes.of(owner)?.executable(owner.command).map(str::to_owned)
    }

    fn asking(room: usize) -> (Processes, Rc<RefCell<Vec<ProcessQuestion>>>) {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let to = Rc::clone(&asked);
        let ask = move |question| {
            let has_room = to.borrow().len() < room;
            if has_room {
                to.borrow_mut().push(question);
            }
            has_room
        };
        (Processes::new(ProcessSource::Later(Box::new(ask))), asked)
    }

    #[test]
    fn a_process_is_read_once_and_keeps_its_names() {
        let (mut processes, asked) = asking(9);
        let curl = owner(7, 100, "curl");
        assert!(!processes.is_settled(&curl) && !processes.is_settled(&curl) && processes.is_waiting());
        assert_eq!(executable(&mut processes, &curl), None, "not yet");
        processes.learn(curl.id(), found("curl", "/usr/bin/curl"));
        assert!(processes.is_settled(&curl) && !processes.is_waiting());
        assert_eq!(executable(&mut processes, &curl).as_deref(), Some("/usr/bin/curl"));
        assert_eq!(*asked.borrow(), [ProcessQuestion { id: curl.id(), cgroup: 0 }]);
        let reused = owner(7, 200, "curl");
        assert_eq!(executable(&mut processes, &reused), None, "another process has the PID");
        assert!(!processes.is_settled(&reused));
        processes.learn(reused.id(), ProcessAnswer::default());
        assert!(processes.is_settled(&reused) && executable(&mut processes, &reused).is_none(), "it was gone");
        assert!(processes.is_settled(&owner(7, 0, "curl")), "not known which one");
    }

    #[test]
    fn a_process_that_runs_another_program_is_read_again() {
        let (mut processes, asked) = asking(99);
        let (shell, curl) = (owner(7, 100, "sh"), owner(7, 100, "curl"));
        assert!(!processes.is_settled(&shell));
        processes.learn(shell.id(), found("sh", "/bin/sh"));
        assert!(!processes.is_settled(&curl), "it has changed its name");
        assert_eq!(executable(&mut processes, &curl).as_deref(), None, "never that of the other program");
        processes.learn(curl.id(), found("curl", "/usr/bin/curl"));
        assert!(processes.is_settled(&curl));
        assert_eq!(executable(&mut processes, &shell), None);
        processes.is_settled(&shell);
        processes.learn(shell.id(), ProcessAnswer::default());
        assert_eq!(executable(&mut processes, &curl).as_deref(), Some("/usr/bin/curl"), "it has ended");
        assert_eq!(processes.of(&curl).unwrap().place.as_ref().unwrap().unit_name(), Some("a.service"));
        for number in 0..50 {
            let renamed = owner(7, 100, &number.to_string());
            processes.is_settled(&renamed);
            processes.learn(renamed.id(), found("other", "/x"));
        }
        assert_eq!(asked.borrow().len(), usize::from(MAX_READINGS), "not for ever");
    }

    #[test]
    fn nobody_waits_for_what_cannot_be_asked() {
        assert!(Processes::default().is_settled(&owner(7, 100, "curl")));
        let (mut processes, _) = asking(1);
        assert!(!processes.is_settled(&owner(7, 1, "a")));
        assert!(processes.is_settled(&owner(7, 2, "a")) && processes.is_waiting());
        processes.set_source(ProcessSource::Later(Box::new(|_| true)));
        assert!(!processes.is_waiting() && !processes.is_settled(&owner(7, 1, "a")), "asked again");
        processes.learn((8, None), ProcessAnswer::default()); // nobody asked
        let read =
            |question: ProcessQuestion| if question.id.0 == 7 { found("a", "/a") } else { ProcessAnswer::default() };
        let mut now = Processes::new(ProcessSource::Now(Box::new(read)));
        assert_eq!(executable(&mut now, &owner(7, 1, "a")).as_deref(), Some("/a"));
        assert!(now.is_settled(&owner(7, 1, "a")) && executable(&mut now, &owner(8, 1, "a")).is_none());
    }
}
