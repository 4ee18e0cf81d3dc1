//! The operating system, as far as tcptrace needs it apart from TCP and BPF: clocks, signals, threads, files, cgroups,
//! namespaces of processes, capabilities and limits. It knows nothing of sockets.

pub mod capabilities;
pub mod cgroup;
pub mod clock;
pub mod descriptors;
pub mod files;
pub mod heap;
pub mod kernel;
pub(crate) mod mmap;
pub mod mountinfo;
pub mod pids;
pub mod process;
pub mod signals;
pub mod systemd;
pub(crate) mod threads;
pub mod workers;
