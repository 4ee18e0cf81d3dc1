//! The edge that lists what is there: sockets, their holders and namespaces. It makes a [`crate::snapshot::Snapshot`],
//! by BPF iterators where the kernel has them, else by sock_diag and `/proc`. No policy.

mod inet_diag;
pub mod netns;
pub mod proc;
mod procfs;
pub mod sock_diag;
