//! The parts of the operating system that tcptrace needs besides TCP and BPF: clocks, signals, threads, files, cgroups,
//! PID namespaces, capabilities and limits. It knows nothing about sockets.
//!
//! This room does what the pure rooms must not do: it reads `/proc` and the clocks, and makes system calls. For
//! example, [`clock::now_ns`] is the only source of the `now_ns` that the other rooms take as an argument, on the same
//! clock as the kernel's `bpf_ktime_get_ns`, so that times of both can be subtracted.

pub mod capabilities;
pub mod cgroup;
pub mod clock;
pub mod descriptors;
pub mod files;
pub mod heap;
pub mod host_proc;
pub mod hosts;
pub mod kernel;
pub mod lookups;
#[cfg(all(target_arch = "x86_64", any(target_env = "musl", test)))]
mod memmove;
pub(crate) mod mmap;
pub mod mountinfo;
pub mod pids;
pub mod places;
pub mod process;
pub mod processes;
pub mod run_as;
pub mod sandbox;
pub mod services;
pub mod signals;
pub mod systemd;
pub mod terminal;
pub(crate) mod threads;
pub mod users;
pub mod workers;
