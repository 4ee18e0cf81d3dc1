//! Programs that run.

use std::{
    env,
    io::{self, Read as _, Write as _},
    os::{
        fd::AsFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    process::{Pid, Signal, kill_process_group},
};

use serde::{Deserialize, Serialize};

use crate::{
    model::printable::printable,
    sys::{host_proc, workers},
};

/// Records by their places, which a program is to be run for.
pub(super) type Batch = Vec<(usize, Vec<u8>)>;

/// What became of records, by their places, and what the programs said.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) outcomes: Vec<(usize, Outcome)>,
    pub(super) said: Vec<String>,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// The program took it.
    Done,
    /// There are too many.
    Suppressed,
    /// The program will take it later.
    Later(String),
    /// The program does not take it.
    Failed(String),
}

/// `EX_TEMPFAIL` of sysexits.h.
const TRY_AGAIN: i32 = 75;
/// Variables that the program gets, if tcptrace has them. Others may hold secrets.
pub(super) const VARIABLES: [&str; 7] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR"];
/// Most bytes of its standard error that are kept, most lines of it that are passed on, and most characters of a line.
const MOST_STDERR: usize = 4096;
const MOST_LINES: usize = 10;
const LONGEST_LINE: usize = 200;
/// Longest time until the end of a program is noticed.
const CHECK_EVERY: Duration = Duration::from_millis(20);

/// A program, and how it is run.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) timeout: Duration,
}

impl Programs {
    /// Runs it for each of these records at the same time, and waits for all runs.
    pub(super) fn run(&self, batch: &Batch) -> Answer {
        let mut children = Children { running: Vec::new(), timeout: self.timeout, answer: Answer::default() };
        for (index, record) in batch {
            if let Err(error) = children.start(*index, &self.program, &self.arguments, record) {
                // The system has no room for another process, or the program is being replaced.
                let outcome = Outcome::Later(format!("cannot be started: {error}"));
                children.answer.outcomes.push((*index, outcome));
            }
        }
        children.wait()
    }
}

/// The programs that run for some records.
struct Children {
    running: Vec<Running>,
    timeout: Duration,
    answer: Answer,
}

/// A program that runs.
struct Running {
    /// Which record it got.
    index: usize,
    name: String,
    child: Child,
    /// Its input, and the part that it did not take yet.
    stdin: Option<(ChildStdin, Vec<u8>)>,
    stderr: Option<ChildStderr>,
    /// The beginning of what it said.
    said: Vec<u8>,
    until: Instant,
}

impl Children {
    /// Starts the program for a record.
    fn start(&mut self, index: usize, program: &Path, arguments: &[String], record: &[u8]) -> io::Result<()> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/").env_clear().process_group(0);
        command.envs(VARIABLES.iter().filter_map(|name| Some((name, env::var_os(name)?))));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // SAFETY: `isolate` makes only system calls, which are async-signal-safe.
        unsafe { command.pre_exec(isolate) };
        let mut child = command.spawn()?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let set_up = stdin.as_ref().map_or(Ok(()), nonblocking).and(stderr.as_ref().map_or(Ok(()), nonblocking));
        let name = printable(&program.to_string_lossy());
        let stdin = stdin.map(|stdin| (stdin, record.to_vec()));
        let until = Instant::now() + self.timeout;
        self.running.push(Running { index, name, child, stdin, stderr, said: Vec::new(), until });
        set_up
    }

    /// Waits for all of them; returns what became of each record.
    fn wait(mut self) -> Answer {
        while !self.running.is_empty() {
            workers::alive();
            self.wait_for_pipes();
            let (timeout, answer) = (self.timeout, &mut self.answer);
            self.running.retain_mut(|running| {
                running.exchange();
                match running.outcome(timeout) {
                    Some(outcome) => {
                        answer.said.extend(running.passed_on());
                        answer.outcomes.push((running.index, outcome));
                        false
                    }
                    None => true,
                }
            });
        }
        self.answer
    }

    /// Waits until a program reads, writes or has had time to end.
    fn wait_for_pipes(&self) {
        let of_stdin =
            |running: &Running| Some((running.stdin.as_ref()?.0.as_fd().try_clone_to_owned().ok()?, PollFlags::OUT));
        let of_stderr =
            |running: &Running| Some((running.stderr.as_ref()?.as_fd().try_clone_to_owned().ok()?, PollFlags::IN));
        let pipes: Vec<_> =
            self.running.iter().flat_map(|running| [of_stdin(running), of_stderr(running)]).flatten().collect();
        let mut pipes: Vec<_> = pipes.iter().map(|(pipe, flags)| PollFd::new(pipe, *flags)).collect();
        let limit = Timespec { tv_sec: 0, tv_nsec: CHECK_EVERY.subsec_nanos().into() };
        // Whatever it says, the pipes are tried.
        let _ = poll(&mut pipes, Some(&limit));
    }
}

impl Drop for Running {
    /// Leaves nothing behind, whatever happened.
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Writes and reads what is possible now.
    fn exchange(&mut self) {
        if let Some((stdin, rest)) = &mut self.stdin {
            match stdin.write(rest) {
                Ok(count) => _ = rest.drain(..count),
                Err(error) if is_later(&error) => {}
                Err(_) => rest.clear(), // it does not want to read: its exit code says whether that is fine
            }
        }
        if self.stdin.as_ref().is_some_and(|(_, rest)| rest.is_empty()) {
            self.stdin = None;
        }
        let mut buffer = [0; MOST_STDERR];
        while let Some(stderr) = &mut self.stderr {
            match stderr.read(&mut buffer) {
                Ok(0) => self.stderr = None,
                Ok(count) => {
                    let room = MOST_STDERR.saturating_sub(self.said.len());
                    self.said.extend(buffer.iter().take(count.min(room)));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_later(&error) => break,
                Err(_) => self.stderr = None,
            }
        }
    }

    /// What became of the record, once the program has ended or its time is over.
    fn outcome(&mut self, timeout: Duration) -> Option<Outcome> {
        match self.child.try_wait() {
            Ok(None) if Instant::now() < self.until => None,
            Ok(None) => Some(Outcome::Failed(format!("{} did not end within {timeout:?}, and was killed", self.name))),
            Ok(Some(status)) => {
                self.exchange(); // what it said last
                Some(self.outcome_of(status))
            }
            Err(error) => Some(Outcome::Failed(format!("{}: {error}", self.name))),
        }
    }

    fn outcome_of(&self, status: ExitStatus) -> Outcome {
        let last = self.lines().last().map(|line| format!(": {line}")).unwrap_or_default();
        match (status.code(), status.signal()) {
            (Some(0), _) => Outcome::Done,
            (Some(TRY_AGAIN), _) => Outcome::Later(format!("{} ended with exit code {TRY_AGAIN}{last}", self.name)),
            (Some(code), _) => Outcome::Failed(format!("{} ended with exit code {code}{last}", self.name)),
            (None, signal) => {
                Outcome::Failed(format!("{} was killed by signal {}{last}", self.name, signal.unwrap_or(0)))
            }
        }
    }

    /// What it said, by lines.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.said);
        let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
        lines.take(MOST_LINES).map(|line| printable(line).chars().take(LONGEST_LINE).collect()).collect()
    }

    /// What it said, for tcptrace's messages.
    fn passed_on(&self) -> impl Iterator<Item = String> {
        self.lines().into_iter().map(|line| format!("{} says: {line}", self.name))
    }

    /// Kills it and what it started.
    fn kill(&self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL); // it may have ended
        }
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn nonblocking(pipe: &impl AsFd) -> io::Result<()> {
    Ok(fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?)
}

/// In the new process, before the program starts: it ends with tcptrace, and has neither its descriptors nor its ambient
/// capabilities.
pub(super) fn isolate() -> io::Result<()> {
    const FIRST: u32 = 3;
    const MOST: i32 = 1 << 16;
    host_proc::leave();
    // SAFETY: all of these take only numbers. Descriptors are closed when the program starts: std needs one until then.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
            // Before Linux 5.11.
            (FIRST as i32..MOST).for_each(|fd| _ = libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC));
        }
    }
    Ok(())
}
