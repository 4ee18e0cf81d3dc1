//! Reads structs of the kernel: sockets, packets and tasks.

pub(crate) mod clock;
pub(crate) mod iter;
pub(crate) mod ptr;
pub(crate) mod sock;
pub(crate) mod task;
pub(crate) mod tuple;
