//! Reads the kernel's structs.

pub(crate) mod sock;
