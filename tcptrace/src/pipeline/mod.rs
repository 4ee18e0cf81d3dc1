//! The pure pipeline as one value: records go in, and what each output gets comes out.

pub mod listeners;
pub mod records;
pub mod route;
pub mod session;
pub mod settings;
pub(crate) mod shown;
