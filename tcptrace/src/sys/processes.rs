//! Reads processes from `/proc` (proc(5)).

use std::{
    fs::{self, File},
    io::Read as _,
};

use crate::{
    model::{
        event::{Command, ProcessId, StartTicks},
        processes::ProcessNames,
        secrets,
    },
    sys::pids,
};

/// `/proc/PID/stat`: the fields that tcptrace needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Command name of the main thread.
    pub command: Command,
    /// State letter: `R` running, `S` and `D` sleeping, `T` and `t` stopped, `Z` zombie.
    pub letter: u8,
    /// PID of the parent; 0 if it has none, or if that is outside of the PID namespace.
    pub parent: u32,
    /// CPU time of all its threads, in ticks of `/proc` (USER_HZ).
    pub cpu_ticks: u64,
    /// When it started.
    pub start: Option<StartTicks>,
}

impl Stat {
    /// Reads a process; `None` if it is gone or may not be read.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses the line. Field 2, the command in parentheses, may contain any bytes.
    #[must_use]
    pub fn parse(stat: &[u8]) -> Option<Self> {
        let open = stat.iter().position(|byte| *byte == b'(')?;
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let command = command(stat.get(open + 1..close)?);
        let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
        // Field 3 is the state, 4 the parent, 14 and 15 the CPU time, 22 the start.
        let words: Vec<_> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| words.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            command,
            letter: *words.first()?.as_bytes().first()?,
            parent: number(4)? as u32,
            cpu_ticks: number(14)?.saturating_add(number(15)?),
            start: StartTicks::new(number(22)? as u32),
        })
    }
}

/// Command name from its bytes; the kernel keeps 15.
#[must_use]
pub fn command(name: &[u8]) -> Command {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.iter().take(15)) {
        *to = *from;
    }
    Command::new(bytes)
}

/// Most bytes and arguments of a command line that are kept.
const MAX_ARGS_BYTES: usize = 2048;
const MAX_ARGS: usize = 64;
/// The last argument if some are missing.
const MORE: &str = "…";

/// Reads a process; its arguments only with `with_args`, and without secrets. `None` if it is gone or may not be read, or if
/// another one has its PID; the same holds for what `also` reads of it.
#[must_use]
pub fn read<T>((pid, start): ProcessId, with_args: bool, also: impl FnOnce(u32) -> T) -> Option<(ProcessNames, T)> {
    if !pids::match_proc() {
        return None; // each PID namespace has its own numbers
    }
    let is_it = |stat: &Stat| start.is_some() && stat.start == start && !matches!(stat.letter, b'Z' | b'X');
    let before = Stat::read(pid).filter(is_it)?;
    let executable = fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| path.to_string_lossy().into_owned());
    let args = if with_args { args(pid) } else { None };
    let ns_pid = fs::read(format!("/proc/{pid}/status")).ok();
    let ns_pid = ns_pid.and_then(|status| parse_status(&String::from_utf8_lossy(&status)).1);
    let also = also(pid);
    let parent = Stat::read(before.parent).map(|stat| (before.parent, stat.command));
    // Read last. Another process with the PID would have started later; one that has run another program meanwhile has
    // another name; and while it has this parent, that one lives (`kernel/exit.c`, `forget_original_parent`).
    let after = Stat::read(pid).filter(|after| is_it(after) && after.command == before.command)?;
    let parent = parent.filter(|_| after.parent == before.parent);
    Some((ProcessNames { command: before.command, executable, args, ns_pid, parent }, also))
}

/// The arguments; `None` if they cannot be read, or there are none: kernel threads and zombies.
fn args(pid: u32) -> Option<Box<[String]>> {
    let mut bytes = Vec::new();
    let limit = MAX_ARGS_BYTES as u64 + 1;
    File::open(format!("/proc/{pid}/cmdline")).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    let args = parse_args(&bytes);
    (!args.is_empty()).then(|| args.into())
}

/// Splits `/proc/PID/cmdline` into arguments, and hides secrets in them.
fn parse_args(bytes: &[u8]) -> Vec<String> {
    let kept = &bytes[..bytes.len().min(MAX_ARGS_BYTES)];
    // A process may have overwritten it with a title, padded with NULs.
    let end = kept.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut args: Vec<_> = kept[..end].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    if end == 0 {
        args.clear();
    }
    let is_cut = kept.len() < bytes.len() || args.len() > MAX_ARGS;
    args.truncate(MAX_ARGS);
    let mut args: Vec<_> = args.into_iter().map(std::borrow::Cow::into_owned).collect();
    secrets::mask(&mut args);
    if is_cut {
        args.push(MORE.to_owned());
    }
    args
}

/// Real UID and innermost PID in `/proc/PID/status`.
#[must_use]
pub fn parse_status(status: &str) -> (Option<u32>, Option<u32>) {
    let words = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::split_ascii_whitespace);
    let uid = words("Uid:").and_then(|mut uids| uids.next()?.parse().ok());
    let ns_pid = words("NSpid:").and_then(|pids| pids.last()?.parse().ok());
    (uid, ns_pid)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt as _,
        process::{self, Child},
        thread,
        time::Duration,
    };

    use super::*;

    fn read(id: ProcessId, with_args: bool) -> Option<ProcessNames> {
        super::read(id, with_args, |_| ()).map(|(names, ())| names)
    }

    #[test]
    fn a_process_is_the_one_that_started_then() {
        let pid = process::id();
        let start = Stat::read(pid).unwrap().start;
        let own = read((pid, start), true).unwrap();
        let executable = std::env::current_exe().unwrap().to_string_lossy().into_owned();
        assert_eq!(own.executable(own.command), Some(executable.as_str()));
        let first = std::env::args().next();
        assert_eq!(own.args.as_ref().and_then(|args| args.first()), first.as_ref());
        let parent = std::os::unix::process::parent_id();
        assert_eq!(own.parent.map(|(pid, _)| pid), Some(parent).filter(|pid| *pid > 0));
        assert!(own.ns_pid.is_some());
        assert_eq!(read((pid, start), false).unwrap().args, None, "nobody asked");
        let later = start.and_then(|ticks| ticks.checked_add(1));
        assert_eq!(read((pid, later), true), None, "the PID was another process's");
        assert_eq!(read((pid, None), true), None, "not known which process it was");
        assert_eq!(read((u32::MAX, start), true), None);
    }

    fn child(args: &[&str]) -> Child {
        let child = process::Command::new("/bin/sleep").arg0("app").arg("60").args(args).spawn().unwrap();
        while fs::read(format!("/proc/{}/cmdline", child.id())).is_ok_and(|line| !line.starts_with(b"app\0")) {
            thread::sleep(Duration::from_millis(1)); // before exec
        }
        child
    }

    #[test]
    fn secrets_in_arguments_are_masked() {
        let mut child = process::Command::new("/bin/sh")
            .args(["-c", "echo; read line", "app", "--password=hunter2", "-p", "x"])
            .stdin(process::Stdio::piped())
            .stdout(process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        let args = args(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(args.unwrap_or_default().join("|"), "/bin/sh|-c|echo; read line|app|--password=***|-p|x");
    }

    #[test]
    fn one_that_has_ended_is_not_read() {
        let mut child = child(&[]);
        let id = (child.id(), Stat::read(child.id()).unwrap().start);
        let names = read(id, true).unwrap();
        assert_eq!(names.command.to_text(), "sleep");
        assert_eq!(names.args.as_deref().unwrap_or_default(), ["app", "60"]);
        assert_eq!(names.parent.map(|(pid, _)| pid), Some(process::id()));
        child.kill().unwrap();
        while Stat::read(child.id()).unwrap().letter != b'Z' {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(read(id, true), None);
        child.wait().unwrap();
        assert_eq!(read(id, true), None);
    }

    #[test]
    fn a_command_line_is_bounded() {
        let args = |bytes: &[u8]| parse_args(bytes).join("|");
        assert_eq!(args(b"a\0--token=x\0\0b\0"), "a|--token=***||b");
        assert_eq!(args(b"nginx: worker process\0\0\0\0"), "nginx: worker process");
        assert_eq!((args(b""), args(b"\0\0")), (String::new(), String::new()));
        assert_eq!(args(b"a\xff"), "a\u{fffd}");
        let many = args(&b"x\0".repeat(500));
        assert_eq!((many.matches('x').count(), many.ends_with("|…")), (MAX_ARGS, true));
        let long = args(&[b'x'; 5000]);
        assert_eq!((long.matches('x').count(), long.ends_with("|…")), (MAX_ARGS_BYTES, true));
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = Stat::parse(b"7 (a) R (b) T 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 4294967301 9").unwrap();
        assert_eq!((stat.letter, stat.parent, stat.cpu_ticks), (b'T', 1, 42));
        assert_eq!(stat.start, StartTicks::new(5), "modulo 2^32");
        assert_eq!(stat.command.to_text(), "a) R (b");
        for broken in [&b""[..], b"7 (a", b"7 )a(", b"7 (a) ", b"7 (a) T 1 2", b"7 (a) T \xff"] {
            assert!(Stat::parse(broken).is_none(), "{broken:?}");
        }
    }

    #[test]
    fn status_is_parsed() {
        let status = "Name:\tUid: 7\nUid:\t1000\t0\t0\t0\nNSpid:\t4711\t33\t1\nThreads:\t1\n";
        assert_eq!(parse_status(status), (Some(1000), Some(1)));
        assert_eq!(parse_status("Uid:\t0\t0\t0\t0\n"), (Some(0), None));
        assert_eq!(parse_status("Uid:\nNSpid:\n"), (None, None));
        assert_eq!(parse_status("Uid:\tx\nNSpid:\t-1\n"), (None, None));
    }
}
