//! BPF programs as the kernel accounts for them, and an empty program to compare them with.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya::{
    Btf,
    programs::{ProgramInfo, loaded_programs},
    sys::{Stats, enable_stats},
};
use aya_obj::{btf::BtfKind, generated::bpf_prog_type};

/// What a program did since it was loaded, while statistics were kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Runs {
    /// How often it ran.
    pub(crate) count: u64,
    /// How long that took, in ns.
    pub(crate) ns: u64,
}

/// Runs of the programs that a process has open, by program ID.
pub(crate) fn runs_of(pid: u32) -> Result<BTreeMap<u32, Runs>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&folder).with_context(|| format!("{folder}: cannot be read"))?;
    // A descriptor may be closed at any time.
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    Ok(texts.filter_map(|text| fdinfo(&text)).collect())
}

/// Reads the ID and the runs of a program from its file in `/proc/PID/fdinfo` (`bpf_prog_show_fdinfo` in the kernel's
/// `kernel/bpf/syscall.c`); `None` if the descriptor is no program.
fn fdinfo(text: &str) -> Option<(u32, Runs)> {
    let line =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
    let runs = Runs { count: line("run_cnt")?, ns: line("run_time_ns")? };
    Some((u32::try_from(line("prog_id")?).ok()?, runs))
}

/// Makes the kernel count the runs of all programs until the descriptor is closed. Unlike the sysctl
/// `kernel.bpf_stats_enabled` this leaves nothing behind.
pub(crate) fn keep_statistics() -> Result<OwnedFd> {
    enable_stats(Stats::RunTime).context("the kernel keeps no statistics of BPF programs")
}

/// The kernel's description of a loaded program.
pub(crate) fn info(id: u32) -> Result<ProgramInfo> {
    let found = loaded_programs().flatten().find(|program| program.id() == id);
    found.with_context(|| format!("BPF program {id}: is not loaded any more"))
}

/// How many programs of all processes trace: at kprobes, tracepoints, raw tracepoints, and by BTF.
pub(crate) fn tracing_programs() -> usize {
    use bpf_prog_type::{
        BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_RAW_TRACEPOINT, BPF_PROG_TYPE_TRACEPOINT, BPF_PROG_TYPE_TRACING,
    };
    let traces = |program: &ProgramInfo| {
        matches!(
            program.program_type(),
            BPF_PROG_TYPE_KPROBE | BPF_PROG_TYPE_RAW_TRACEPOINT | BPF_PROG_TYPE_TRACEPOINT | BPF_PROG_TYPE_TRACING
        )
    };
    loaded_programs().flatten().filter(traces).count()
}

/// An empty program at the tracepoint `inet_sock_set_state`: the cost of any program there. Dropping it detaches it.
pub(crate) struct Empty {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    pub(crate) fn attach() -> Result<Self> {
        // From the kernel's `include/uapi/linux/bpf.h`: two commands, a program type, and an attach type.
        const PROG_LOAD: libc::c_int = 5;
        const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
        const TYPE_TRACING: u32 = 26;
        const TRACE_RAW_TP: u32 = 23;
        /// r0 = 0; exit
        const CODE: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
        let types = Btf::from_sys_fs().context("the kernel's BTF cannot be read")?;
        let tracepoint = types
            .id_by_type_name_kind("btf_trace_inet_sock_set_state", BtfKind::Typedef)
            .context("the kernel has no tracepoint inet_sock_set_state")?;
        let load = Attr::new()
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

    pub(crate) fn runs(&self) -> Result<Runs> {
        let file = format!("/proc/self/fdinfo/{}", self.program.as_raw_fd());
        let text = fs::read_to_string(&file).with_context(|| file.clone())?;
        Ok(fdinfo(&text).with_context(|| format!("{file}: describes no program"))?.1)
    }
}

/// The arguments of bpf(2), `union bpf_attr`: zero but for what is set.
struct Attr([u8; 128]);

impl Attr {
    fn new() -> Self {
        Self([0; 128])
    }

    fn with<const N: usize>(mut self, offset: usize, value: [u8; N]) -> Self {
        self.0[offset..offset + N].copy_from_slice(&value);
        self
    }

    /// Calls a command that returns a new descriptor.
    fn open(&self, command: libc::c_int) -> io::Result<OwnedFd> {
        // SAFETY: the kernel only reads as many bytes as the size says; addresses in them are those of constants.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_ptr(), self.0.len()) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made the descriptor, and nothing else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
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
