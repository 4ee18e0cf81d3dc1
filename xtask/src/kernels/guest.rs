//! Runs a virtual machine and reads its console.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use xtask::programs;

use super::{
    image::Disk,
    kernel::{Kernel, Variant},
    outcome::Outcome,
};
use crate::arch::Arch;

/// The suites of live tests that need nothing but a kernel.
pub(super) const SUITES: [&str; 14] = [
    "lives",
    "endings",
    "owners",
    "filters",
    "overload",
    "sockets",
    "holders",
    "namespaces",
    "polls",
    "facts",
    "aggregate",
    "recording",
    "story",
    "doctor",
];
/// What runs where something is missing.
pub(super) const SHORT: [&str; 2] = ["lives", "sockets"];

/// Boots the kernel and runs the tests.
pub(super) fn run(kernel: &Kernel, disk: &Disk, suites: &[&str], within: Duration) -> Result<Outcome> {
    let mut machine = machine(kernel);
    let lockdown = if kernel.variant == Variant::Lockdown { "lsm=lockdown lockdown=confidentiality" } else { "" };
    let console = if kernel.arch == Arch::Aarch64 { "ttyAMA0" } else { "ttyS0" };
    machine.args(["-m", "2500", "-nographic", "-no-reboot"]).arg("-kernel").arg(&disk.kernel);
    machine.arg("-initrd").arg(&disk.initrd);
    machine.arg("-drive").arg(format!("file={},if=virtio,format=raw,snapshot=on", disk.disk.display()));
    machine.arg("-append").arg(format!("console={console} quiet panic=-1 {lockdown} suites={}", suites.join(",")));
    machine.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut running = machine.spawn().with_context(|| format!("`{}` cannot be started", programs::line(&machine)))?;
    let console = running.stdout.take().context("no console")?;
    let (send, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        // A console may have any bytes.
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let _ = send.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    });
    let (mut outcome, mut console) = (Outcome::default(), Console::default());
    let deadline = Instant::now() + within;
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        console.read(&line, &mut outcome);
    }
    if !console.is_over {
        outcome.failed.push(format!("the machine did not come to its end: {}", console.last));
    }
    let _ = running.kill();
    running.wait().context("the machine")?;
    let _ = reader.join();
    Ok(outcome)
}

fn machine(kernel: &Kernel) -> Command {
    let mut machine = Command::new(match kernel.arch {
        Arch::X86_64 => "qemu-system-x86_64",
        Arch::Aarch64 => "qemu-system-aarch64",
    });
    // Hardware virtualization hangs inside some virtual machines; emulation works everywhere.
    machine.args(["-accel", "tcg,thread=multi"]);
    match kernel.arch {
        Arch::X86_64 => machine.args(["-cpu", "max", "-smp", if kernel.name == "5.10" { "1" } else { "2" }]),
        Arch::Aarch64 => machine.args(["-M", "virt", "-cpu", "cortex-a72", "-smp", "2"]),
    };
    if let Some(folder) = env::var_os("TMPDIR") {
        machine.env("TMPDIR", folder);
    }
    machine
}

/// What is being read.
#[derive(Default)]
struct Console {
    suite: String,
    in_doctor: bool,
    is_over: bool,
    last: String,
}

impl Console {
    fn read(&mut self, line: &str, outcome: &mut Outcome) {
        if let Some(said) = line.strip_prefix("guest: ") {
            self.in_doctor = said == "doctor";
            self.is_over = said == "end";
            if let Some(release) = said.strip_prefix("kernel ") {
                release.clone_into(&mut outcome.release);
            } else if let Some(suite) = said.strip_prefix("suite ") {
                println!("kernels:   {suite}");
                suite.clone_into(&mut self.suite);
            }
        } else if self.in_doctor {
            outcome.checks.extend(check(line));
        } else if let Some(name) = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED")) {
            outcome.failed.push(name.trim().to_owned());
        } else if let Some((_, counts)) = line.split_once("test result: ") {
            let count = |what: &str| {
                let part = counts.split(['.', ';']).find(|part| part.trim().ends_with(what));
                part.and_then(|part| part.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
            };
            outcome.suites.insert(self.suite.clone(), (count("passed"), count("ignored")));
        }
        if !line.trim().is_empty() {
            line.clone_into(&mut self.last);
        }
    }
}

/// A record of `tcptrace doctor --json`, unless it is about settings.
fn check(line: &str) -> Option<[String; 3]> {
    let record: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    ["machine", "hooks"].contains(&record["area"].as_str()?).then(|| [text("title"), text("status"), text("value")])
}
