//! What the kernel tells of BPF programs, and an empty one of our own: system calls and files in /proc alone.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};

use super::btf;

/// What a program did since it was loaded, while statistics were kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Runs {
    /// How often it ran.
    pub(super) count: u64,
    /// How long that took, in ns.
    pub(super) ns: u64,
}

/// What the programs that a process has open did, by their PROG_ID.
pub(super) fn runs_of(pid: u32) -> Result<BTreeMap<u32, Runs>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&folder).with_context(|| format!("{folder}: cannot be read"))?;
    // A descriptor may be closed at any time.
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    Ok(texts.filter_map(|text| fdinfo(&text)).collect())
}

/// What a file in `/proc/PID/fdinfo` tells of a program (`bpf_prog_show_fdinfo` in the kernel's
/// `kernel/bpf/syscall.c`); `None` where it is about something else.
fn fdinfo(text: &str) -> Option<(u32, Runs)> {
    let line =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
    let runs = Runs { count: line("run_cnt")?, ns: line("run_time_ns")? };
    Some((u32::try_from(line("prog_id")?).ok()?, runs))
}

/// `enum bpf_cmd` and others of the kernel's `include/uapi/linux/bpf.h`.
const PROG_LOAD: libc::c_int = 5;
const PROG_GET_NEXT_ID: libc::c_int = 11;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const ENABLE_STATS: libc::c_int = 32;
const TYPE_TRACING: u32 = 26;
/// Kinds of programs that trace: at kprobes, tracepoints, raw tracepoints, and by BTF.
const TRACING_TYPES: [u32; 4] = [2, 5, 17, TYPE_TRACING];
const TRACE_RAW_TP: u32 = 23;

/// The arguments of a call of bpf(2), `union bpf_attr`, or what it gives: zero but for what is set.
struct Attr([u8; 256]);

impl Attr {
    fn new() -> Self {
        Self([0; 256])
    }

    fn with<const N: usize>(mut self, offset: usize, value: [u8; N]) -> Self {
        self.0[offset..offset + N].copy_from_slice(&value);
        self
    }

    fn call(&mut self, command: libc::c_int) -> io::Result<libc::c_int> {
        // SAFETY: the kernel reads and writes as many bytes as the size says. What addresses in them name lives through the
        // call, and is as large as the lengths beside them say: the functions below see to that.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            libc::c_int::try_from(result).map_err(io::Error::other)
        }
    }

    /// For commands that answer with a number at `offset`.
    fn call_and_read(&mut self, command: libc::c_int, offset: usize) -> io::Result<u32> {
        self.call(command)?;
        let mut number = [0; 4];
        number.copy_from_slice(&self.0[offset..offset + 4]);
        Ok(u32::from_ne_bytes(number))
    }

    fn open(&mut self, command: libc::c_int) -> io::Result<OwnedFd> {
        let fd = self.call(command)?;
        // SAFETY: these commands return a new descriptor, which nobody else knows.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Has the kernel keep statistics of all programs' runs until the descriptor is closed. Unlike the sysctl
/// `kernel.bpf_stats_enabled` it is nobody else's, and leaves nothing behind.
pub(super) fn keep_statistics() -> Result<OwnedFd> {
    // All zeroes is BPF_STATS_RUN_TIME.
    Attr::new().open(ENABLE_STATS).context("the kernel keeps no statistics of BPF programs")
}

/// A program, as the kernel knows it.
pub(super) struct Loaded {
    /// Its name's first 15 bytes.
    pub(super) name: String,
    /// When it was loaded, in ns since the machine was booted (CLOCK_BOOTTIME).
    pub(super) at_ns: u64,
    /// `enum bpf_prog_type`.
    kind: u32,
}

/// Asks for a program by its PROG_ID.
pub(super) fn loaded(id: u32) -> Result<Loaded> {
    ask_for(id).with_context(|| format!("BPF program {id}: cannot be asked for"))
}

/// Reads `struct bpf_prog_info`.
fn ask_for(id: u32) -> io::Result<Loaded> {
    const LOAD_TIME: usize = 40;
    const NAME: usize = 64;
    const LENGTH: u32 = 80;
    let program = Attr::new().with(0, id.to_ne_bytes()).open(PROG_GET_FD_BY_ID)?;
    let mut info = [0_u8; LENGTH as usize];
    let ask = Attr::new().with(0, program.as_raw_fd().to_ne_bytes()).with(4, LENGTH.to_ne_bytes());
    ask.with(8, (info.as_mut_ptr() as u64).to_ne_bytes()).call(OBJ_GET_INFO_BY_FD)?;
    let name: Vec<_> = info[NAME..].iter().copied().take_while(|&byte| byte != 0).collect();
    let (mut at, mut kind) = ([0; 8], [0; 4]);
    at.copy_from_slice(&info[LOAD_TIME..LOAD_TIME + 8]);
    kind.copy_from_slice(&info[..4]);
    let name = String::from_utf8_lossy(&name).into_owned();
    Ok(Loaded { name, at_ns: u64::from_ne_bytes(at), kind: u32::from_ne_bytes(kind) })
}

/// How many programs of all processes trace.
pub(super) fn tracing_programs() -> io::Result<usize> {
    let (mut id, mut count) = (0_u32, 0);
    loop {
        let mut ask = Attr::new().with(0, id.to_ne_bytes());
        match ask.call_and_read(PROG_GET_NEXT_ID, 4) {
            // There is none behind it.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(count),
            next => id = next?,
        }
        // One that has gone by now does not count.
        count += usize::from(ask_for(id).is_ok_and(|program| TRACING_TYPES.contains(&program.kind)));
    }
}

/// An empty program at the tracepoint `inet_sock_set_state`: what any program there costs. It goes with this.
pub(super) struct Empty {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    pub(super) fn attach() -> Result<Self> {
        /// r0 = 0; exit
        const CODE: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
        const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
        let types = fs::read(VMLINUX).context(VMLINUX)?;
        let Some(tracepoint) = btf::id_of_typedef(&types, "btf_trace_inet_sock_set_state") else {
            bail!("{VMLINUX}: has no tracepoint inet_sock_set_state");
        };
        let mut load = Attr::new()
            .with(0, TYPE_TRACING.to_ne_bytes())
            .with(4, 2_u32.to_ne_bytes()) // instructions
            .with(8, (CODE.as_ptr() as u64).to_ne_bytes())
            .with(16, (c"GPL".as_ptr() as u64).to_ne_bytes())
            .with(48, *b"empty")
            .with(68, TRACE_RAW_TP.to_ne_bytes())
            .with(108, tracepoint.to_ne_bytes());
        let program = load.open(PROG_LOAD).context("an empty BPF program cannot be loaded")?;
        let link = Attr::new().with(8, program.as_raw_fd().to_ne_bytes()).open(RAW_TRACEPOINT_OPEN);
        Ok(Self { program, _link: link.context("an empty BPF program cannot be attached")? })
    }

    pub(super) fn runs(&self) -> Result<Runs> {
        let file = format!("/proc/self/fdinfo/{}", self.program.as_raw_fd());
        let text = fs::read_to_string(&file).with_context(|| file.clone())?;
        Ok(fdinfo(&text).with_context(|| format!("{file}: tells of no program"))?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_of_a_program_is_read() {
        let text = "pos:\t0\nflags:\t02000002\nmnt_id:\t16\nino:\t62\nprog_type:\t26\nprog_jited:\t1\n\
            prog_tag:\t277d36141b65f1eb\nmemlock:\t8192\nprog_id:\t79871\nrun_time_ns:\t5300\nrun_cnt:\t100\n\
            recursion_misses:\t0\nverified_insns:\t1234\n";
        assert_eq!(fdinfo(text), Some((79871, Runs { count: 100, ns: 5300 })));
    }

    #[test]
    fn fdinfo_of_anything_else_is_not() {
        for text in [
            "",
            "pos:\t0\n",
            "link_type:\traw_tracepoint\nprog_id:\t7\n",
            "prog_id:\tx\nrun_time_ns:\t1\nrun_cnt:\t1\n",
        ] {
            assert_eq!(fdinfo(text), None, "{text}");
        }
    }
}
