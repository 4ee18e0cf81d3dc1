//! Recordings: the inputs of a session as bytes (docs/recording.md).
//!
//! A file is a header and chunks. Each chunk has a length, the time that it covers and a checksum, so that a file which was
//! cut off anywhere is read up to its last whole chunk. Here are the bytes; files and threads are in
//! [`crate::outputs::recorder`].

pub mod anonymize;
pub mod chunk;
pub mod encoder;
pub mod frames;
pub mod header;
pub mod index;
pub mod reader;

use tcptrace_common::record::WIRE_VERSION;
use thiserror::Error;

/// The first bytes of each file. The first one is no ASCII, so that nothing takes it for text.
pub const MAGIC: [u8; 8] = *b"\x89tcptr\r\n";
/// Version of the format that is written. Those before it are read, too: 1 has no samples of counters, and no settings.
pub const FORMAT_VERSION: u16 = 2;

/// Why a recording cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("it is no recording of tcptrace")]
    NoRecording,
    #[error(
        "it has version {0} of the format, and this tcptrace reads up to version {FORMAT_VERSION}: use a newer tcptrace"
    )]
    Version(u16),
    #[error("its header is damaged")]
    Header,
    #[error("its records have version {0}, and this tcptrace reads version {WIRE_VERSION}")]
    WireVersion(u8),
    #[error("damaged: {0}")]
    Damaged(&'static str),
    #[error("cannot read it: {0}")]
    Read(String),
}
