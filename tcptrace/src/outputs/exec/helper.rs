//! Starts the programs in a process of its own, which has the rights that tcptrace was started with. So tcptrace itself can
//! give up all that it does not need, executing included, and programs run as if it had not.
//!
//! The process is tcptrace again, called with `WORD`, and takes records on its standard input. Which program it runs, with
//! which arguments, is set at its start: whoever takes over tcptrace can run that one with another record, and nothing else.

use std::{
    env,
    ffi::OsString,
    io::{self, Read, Write},
    os::unix::{ffi::OsStringExt as _, process::CommandExt as _},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Serialize, de::DeserializeOwned};

use super::child::{Answer, Batch, Outcome, Programs, VARIABLES, isolate};
use crate::{outputs::messages::info, sys::workers};

/// The first argument of the process.
const WORD: &str = "run-programs-of-an-output";
/// Largest message, in bytes: a queue holds less.
const MOST_BYTES: usize = 2 << 30;
/// How often a sign of life is given while programs run.
const ALIVE_EVERY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The process, from tcptrace's side.
pub(super) struct Helper {
    child: Child,
    to: Option<ChildStdin>,
    from: ChildStdout,
}

impl Helper {
    /// Starts it. It ends when this is dropped, or when tcptrace ends.
    pub(super) fn start(programs: &Programs) -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("tcptrace").arg(WORD).arg(programs.timeout.as_millis().to_string()).arg(&programs.program);
        command.args(&programs.arguments).current_dir("/").env_clear().process_group(0);
        command.envs(VARIABLES.iter().filter_map(|name| Some((name, env::var_os(name)?))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // SAFETY: `isolate` makes only system calls, which are async-signal-safe.
        unsafe { command.pre_exec(isolate) };
        let mut child = command.spawn()?;
        let (to, from) = (child.stdin.take(), child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
        Ok(Self { child, to, from })
    }

    /// Runs the program for these records, and passes on what it said.
    pub(super) fn run(&mut self, batch: &Batch) -> Vec<(usize, Outcome)> {
        match self.ask(batch) {
            Ok(answer) => {
                answer.said.iter().for_each(info);
                answer.outcomes
            }
            Err(error) => {
                let failed = Outcome::Failed(format!("the process that starts programs has ended: {error}"));
                batch.iter().map(|(index, _)| (*index, failed.clone())).collect()
            }
        }
    }

    fn ask(&mut self, batch: &Batch) -> io::Result<Answer> {
        send(self.to.as_mut().ok_or(io::ErrorKind::BrokenPipe)?, batch)?;
        workers::alive();
        while poll(&mut [PollFd::new(&self.from, PollFlags::IN)], Some(&ALIVE_EVERY))? == 0 {
            workers::alive();
        }
        receive(&mut self.from)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.to = None; // which ends it
        let _ = self.child.wait();
    }
}

/// Runs programs until tcptrace ends, if this process was started for that: see `Helper::start`.
#[must_use]
pub fn serve(words: &[OsString]) -> Option<ExitCode> {
    let [_, word, timeout, program, arguments @ ..] = words else { return None };
    if word != WORD {
        return None;
    }
    let timeout = timeout.to_str().and_then(|text| text.parse().ok()).map(Duration::from_millis)?;
    let text = |word: &OsString| String::from_utf8_lossy(&word.clone().into_vec()).into_owned();
    let arguments = arguments.iter().map(text).collect();
    let programs = Programs { program: program.into(), arguments, timeout };
    let (mut from, mut to) = (io::stdin().lock(), io::stdout().lock());
    while let Ok(Some(batch)) = receive::<Batch>(&mut from) {
        if send(&mut to, &programs.run(&batch)).is_err() {
            break;
        }
    }
    Some(ExitCode::SUCCESS)
}

/// Writes a message: its length in four bytes, and the message.
fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(&bytes)?;
    to.flush()
}

/// Reads a message; `None` at the end.
fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut len = [0; 4];
    match from.read_exact(&mut len) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let len = u32::from_le_bytes(len) as usize;
    if len > MOST_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    if from.take(len as u64).read_to_end(&mut bytes)? < len {
        return Ok(None);
    }
    postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written_and_what_is_none_is_no_panic() {
        let batch: Batch = vec![(0, b"{}\n".to_vec()), (7, vec![b'x'; 100_000])];
        let answer = Answer {
            outcomes: vec![(0, Outcome::Done), (7, Outcome::Later("why".to_owned()))],
            said: vec!["hook says: line".to_owned()],
        };
        let mut bytes = Vec::new();
        send(&mut bytes, &batch).unwrap();
        send(&mut bytes, &answer).unwrap();
        let mut from = &bytes[..];
        assert_eq!(receive::<Batch>(&mut from).unwrap().unwrap(), batch);
        assert_eq!(receive::<Answer>(&mut from).unwrap().unwrap(), answer);
        assert!(receive::<Batch>(&mut from).unwrap().is_none());
        for end in 0..bytes.len().min(64) {
            assert!(!matches!(receive::<Answer>(&mut &bytes[..end]), Ok(Some(_))), "{end}");
        }
        assert!(receive::<Batch>(&mut &[0xff; 200][..]).is_err(), "too long");
        assert!(receive::<Answer>(&mut &[4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..]).is_err());
    }

    #[test]
    fn only_its_own_word_makes_a_helper() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for line in ["tcptrace", "tcptrace sockets --port 1", "tcptrace run-programs-of-an-output x /bin/true"] {
            assert!(serve(&words(line)).is_none(), "{line}");
        }
    }
}
