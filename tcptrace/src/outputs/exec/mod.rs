//! Runs a program for each record, which it gets as a line of JSON on its standard input.
//!
//! The program is started without a shell, with no descriptors but 0 to 2, a small environment, in `/`, and in a process
//! group of its own. It has a time limit. Its exit code says what became of the record: 0 delivered, 75 (`EX_TEMPFAIL` of
//! sysexits.h) try again later, anything else refused.

mod child;
pub mod helper;

use std::{
    collections::VecDeque,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use self::{
    child::{Batch, Outcome, Programs},
    helper::Helper,
};
use crate::{
    model::number::{digits, duration},
    outputs::{
        flat::parse,
        rate::{Limiter, Rate, rate},
        sink::{DeliveryError, Sink},
        target::{OutputKind, Target},
    },
    pipeline::records::Records,
};

/// The kind `exec`.
pub(super) const KIND: OutputKind = OutputKind {
    name: "exec",
    form: "exec:/PATH/TO/PROGRAM",
    parse: |path| {
        if !path.starts_with('/') {
            return Err(format!(
                "exec needs the whole path of a program, such as exec:/usr/local/bin/page: `{path}` does not begin with /"
            ));
        }
        Ok(Box::new(ExecTarget {
            program: path.into(),
            arguments: Vec::new(),
            timeout: Duration::from_secs(10),
            at_once: 4,
            rate: Some(Rate::DEFAULT),
        }))
    },
};

/// Most programs that may run at the same time.
const MOST_AT_ONCE: usize = 64;

/// A program with its options.
#[derive(Clone, Debug)]
struct ExecTarget {
    program: PathBuf,
    arguments: Vec<String>,
    timeout: Duration,
    at_once: usize,
    rate: Option<Rate>,
}

impl Target for ExecTarget {
    fn keys(&self) -> &'static [&'static str] {
        &["arg", "timeout", "at-once", "rate"]
    }

    fn takes_several(&self, key: &str) -> bool {
        key == "arg"
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "arg" => self.arguments.push(value.to_owned()),
            "timeout" => self.timeout = duration(value)?,
            "rate" => self.rate = rate(value)?,
            _ => {
                let at_once = digits::<usize>(value).filter(|count| (1..=MOST_AT_ONCE).contains(count));
                self.at_once = at_once.ok_or_else(|| format!("takes a number from 1 to {MOST_AT_ONCE}"))?;
            }
        }
        Ok(())
    }

    fn is_for_findings(&self) -> bool {
        true
    }

    fn open(&self) -> io::Result<Box<dyn Sink>> {
        self.check()?;
        let mut helper = Helper::start(&self.programs())?;
        Ok(Box::new(Exec::new(self, Box::new(move |batch| helper.run(batch)))))
    }

    fn boxed(&self) -> Box<dyn Target> {
        Box::new(self.clone())
    }
}

impl ExecTarget {
    fn programs(&self) -> Programs {
        Programs { program: self.program.clone(), arguments: self.arguments.clone(), timeout: self.timeout }
    }

    /// Refuses what is no program, or anybody's.
    fn check(&self) -> io::Result<()> {
        let about = fs::metadata(&self.program)?;
        let mode = about.permissions().mode();
        if !about.is_file() || mode & 0o111 == 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not an executable file"));
        }
        if mode & 0o002 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "everybody may change it: `chmod o-w` it"));
        }
        Ok(())
    }
}

/// Runs the program for some records.
type Run = Box<dyn FnMut(&Batch) -> Vec<(usize, Outcome)> + Send>;

/// Runs the program for several records at once.
struct Exec {
    run: Run,
    at_once: usize,
    limiter: Limiter,
    /// What became of the first records, as far as they were tried; `None` for one that is to be tried again.
    outcomes: VecDeque<Option<Outcome>>,
}

impl Sink for Exec {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        loop {
            while let Some(Some(outcome)) = self.outcomes.front() {
                match outcome.clone() {
                    Outcome::Later(reason) => {
                        self.outcomes[0] = None;
                        return Err(DeliveryError::Later(reason));
                    }
                    outcome => {
                        self.outcomes.pop_front();
                        match outcome {
                            Outcome::Suppressed => {
                                let reason = self.limiter.reason();
                                return Err(DeliveryError::Suppressed { records: 1, reason });
                            }
                            Outcome::Failed(reason) => return Err(DeliveryError::Refused { records: 1, reason }),
                            Outcome::Done | Outcome::Later(_) => records.take(1),
                        }
                    }
                }
            }
            if records.is_empty() {
                return Ok(());
            }
            self.run(records);
        }
    }
}

impl Exec {
    fn new(target: &ExecTarget, run: Run) -> Self {
        let limiter = Limiter::new(target.rate, Instant::now());
        Self { run, at_once: target.at_once, limiter, outcomes: VecDeque::new() }
    }

    /// Runs the program for the first records, and waits for all of these runs.
    fn run(&mut self, records: &Records) {
        let mut batch = Batch::new();
        for (index, record) in records.iter().enumerate() {
            if batch.len() >= self.at_once {
                break;
            }
            if index == self.outcomes.len() {
                let outcome = match parse(record) {
                    Ok(fields) if self.limiter.admits(&fields, Instant::now()) => None,
                    Ok(_) => Some(Outcome::Suppressed),
                    Err(reason) => Some(Outcome::Failed(reason)),
                };
                self.outcomes.push_back(outcome);
            }
            if let Some(None) = self.outcomes.get(index) {
                batch.push((index, record.to_vec()));
            }
        }
        for (index, outcome) in (self.run)(&batch) {
            if let Some(place) = self.outcomes.get_mut(index) {
                *place = Some(outcome);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::pipeline::records::RecordsBuilder;

    /// A folder that is removed on drop.
    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A shell script in a folder of its own, and an output that runs it with the folder as its argument.
    fn script(name: &str, text: &str) -> (Folder, ExecTarget) {
        let folder = Folder(std::env::temp_dir().join(format!("tcptrace-exec-{}-{name}", std::process::id())));
        fs::create_dir(&folder.0).unwrap();
        let program = folder.0.join("script");
        fs::write(&program, format!("#!/bin/sh\ncd \"$1\"\n{text}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let target = ExecTarget {
            arguments: vec![folder.0.display().to_string()],
            program,
            timeout: Duration::from_secs(30),
            at_once: 2,
            rate: None,
        };
        (folder, target)
    }

    /// The output, which runs the program in this process.
    fn opened(target: &ExecTarget) -> Box<dyn Sink> {
        let programs = target.programs();
        Box::new(Exec::new(target, Box::new(move |batch| programs.run(batch).outcomes)))
    }

    fn records(numbers: std::ops::Range<u64>) -> Records {
        let mut builder = RecordsBuilder::default();
        for number in numbers {
            let line = format!("{{\"event\":\"finding\",\"phase\":\"opened\",\"number\":{number}}}\n");
            builder.add(|to| to.extend_from_slice(line.as_bytes()));
        }
        builder.take()
    }

    #[test]
    fn each_record_is_the_input_of_a_run() {
        let (folder, target) = script("input", "cat > $$.json");
        let mut all = records(0..5);
        opened(&target).deliver(&mut all).unwrap();
        assert!(all.is_empty());
        let files = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().path());
        let texts = files.filter(|path| path.extension().is_some()).map(|path| fs::read_to_string(path).unwrap());
        let mut texts: Vec<_> = texts.collect();
        texts.sort_unstable();
        let want: Vec<_> = records(0..5).iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
        assert_eq!(texts, want);
    }

    #[test]
    fn an_exit_code_refuses_a_record_or_asks_for_another_attempt() {
        let (_folder, target) = script(
            "codes",
            "read line; case $line in *:1}) echo 'no such pager' >&2; exit 3;; *:2}) [ -e tried ] || { touch tried; exit 75; };; *:3}) kill -9 $$;; esac",
        );
        let mut sink = opened(&target);
        let mut all = records(0..5);
        let refused = |sink: &mut Box<dyn Sink>, all: &mut Records| match sink.deliver(all) {
            Err(DeliveryError::Refused { records: 1, reason }) => {
                all.take(1);
                reason
            }
            other => panic!("{other:?}"),
        };
        assert!(refused(&mut sink, &mut all).ends_with("script ended with exit code 3: no such pager"));
        assert_eq!(all.len(), 3);
        assert!(matches!(sink.deliver(&mut all), Err(DeliveryError::Later(reason)) if reason.contains("exit code 75")));
        assert_eq!(all.len(), 3, "it is tried again");
        assert!(refused(&mut sink, &mut all).ends_with("script was killed by signal 9"));
        sink.deliver(&mut all).unwrap();
        assert!(all.is_empty());
    }

    #[test]
    fn a_run_that_takes_too_long_is_killed_with_its_children() {
        let (folder, target) = script("slow", "sleep 100 & echo $! > child; wait");
        let target = ExecTarget { timeout: Duration::from_millis(300), ..target };
        let mut all = records(0..1);
        match opened(&target).deliver(&mut all) {
            Err(DeliveryError::Refused { records: 1, reason }) => {
                assert!(reason.contains("did not end within 300ms"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        let child = fs::read_to_string(folder.0.join("child")).unwrap();
        let state = || fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        let start = Instant::now();
        while !state().is_empty() && !state().contains(") Z ") {
            assert!(start.elapsed() < Duration::from_secs(30), "it lives on: {}", state());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_program_has_neither_descriptors_nor_secrets_of_tcptrace() {
        let (folder, target) = script("alone", "ls /proc/self/fd > fds; env > env; pwd > pwd");
        // As a descriptor that tcptrace inherited, which every program would have.
        let file = fs::File::open("/dev/null").unwrap();
        let inherited = rustix::io::fcntl_dupfd_cloexec(&file, 50).unwrap();
        rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
        let mut all = records(0..1);
        opened(&target).deliver(&mut all).unwrap();
        let fds = fs::read_to_string(folder.0.join("fds")).unwrap();
        // 3 is of `ls` itself.
        assert_eq!(fds.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
        let env = fs::read_to_string(folder.0.join("env")).unwrap();
        assert!(env.contains("PATH=") && !env.contains("CARGO"), "{env}");
    }

    #[test]
    fn much_input_that_nobody_reads_and_much_output_do_no_harm() {
        let (_folder, target) = script("much", "exec <&-; yes 'a long line of words' | head -c 1000000 >&2");
        let mut builder = RecordsBuilder::default();
        let line = format!("{{\"event\":\"finding\",\"text\":\"{}\"}}\n", "x".repeat(1 << 20));
        builder.add(|to| to.extend_from_slice(line.as_bytes()));
        let mut all = builder.take();
        opened(&target).deliver(&mut all).unwrap();
        assert!(all.is_empty());
    }

    #[test]
    fn what_exceeds_the_rate_runs_nothing() {
        let (folder, target) = script("rate", "echo x >> runs");
        let target = ExecTarget { rate: rate("2/d").unwrap(), at_once: 1, ..target };
        let mut sink = opened(&target);
        let mut all = records(0..4);
        for left in [1, 0] {
            let suppressed = sink.deliver(&mut all);
            assert!(
                matches!(&suppressed, Err(DeliveryError::Suppressed { records: 1, reason }) if reason == "more than 2 per day"),
                "{suppressed:?}"
            );
            all.take(1);
            assert_eq!(all.len(), left);
        }
        assert_eq!(fs::read_to_string(folder.0.join("runs")).unwrap(), "x\nx\n");
    }

    #[test]
    fn what_is_no_program_or_anybodys_is_refused_at_the_start() {
        let opened = |path: &str| {
            let (_, target) = (
                0,
                ExecTarget {
                    program: path.into(),
                    arguments: Vec::new(),
                    timeout: Duration::from_secs(1),
                    at_once: 1,
                    rate: None,
                },
            );
            target.open().err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(opened("/no/such").contains("No such file"));
        assert!(opened("/etc/passwd").contains("not an executable file"));
        assert!(opened("/tmp").contains("not an executable file"));
        let (_folder, target) = script("open", "");
        fs::set_permissions(&target.program, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(opened(target.program.to_str().unwrap()).contains("everybody may change it"));
    }
}
