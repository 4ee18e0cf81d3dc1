//! The beginning of a recording: where and how it was made.

use std::io::Read;

use serde::{Deserialize, Serialize};
use tcptrace_common::record::WIRE_VERSION;

use super::{Error, FORMAT_VERSION, MAGIC};
use crate::model::time::WallOffset;

/// Longest header that is read, in bytes.
const MAX_HEADER: usize = 1 << 20;

/// Where and how a recording was made. Fields are only added at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the tcptrace that wrote it.
    pub tcptrace: String,
    /// `/proc/sys/kernel/random/boot_id`: times of another boot cannot be compared.
    pub boot_id: String,
    /// Version of the records (`tcptrace_common::record`).
    pub wire: u8,
    /// CLOCK_MONOTONIC in ns at which the run began; the same in all segments of a run.
    pub run_ns: u64,
    /// CLOCK_MONOTONIC in ns at which this file begins.
    pub start_ns: u64,
    /// How far the wall clock was ahead of it.
    pub wall: WallOffset,
    /// Number of this segment in its run, from 0.
    pub segment: u32,
    /// Inode number of tcptrace's own network namespace.
    pub own_netns: Option<u32>,
    /// The kernel's names of RST reasons.
    pub reset_reasons: Vec<(u32, String)>,
    /// True if the BPF programs passed events whose owner they did not know.
    pub owner_unchecked: bool,
    /// How records identify the selected network namespace: the number in them, and the inode number.
    pub netns_alias: Option<(u32, u32)>,
    /// True if sockets without events were polled.
    pub polls: bool,
    /// Maximum number of sockets in the table of the run.
    pub max_sockets: u64,
    /// True if the run looked for findings, and so filtered nothing in the kernel.
    pub findings: bool,
    /// Time between two summaries of the run, in ns.
    pub interval_ns: Option<u64>,
    /// TCP settings of the run's own network namespace when it began, by name. They stand behind all other fields, and not in
    /// files of version 1.
    #[serde(skip)]
    pub settings: Vec<(String, String)>,
}

impl Header {
    /// The bytes with which a file begins.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = postcard::to_stdvec(self).unwrap_or_default(); // memory takes all
        body.extend(postcard::to_stdvec(&self.settings).unwrap_or_default());
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads the beginning of a file; returns the header and its length in bytes.
    ///
    /// # Errors
    /// If it is no recording, one of another version, or damaged.
    pub fn read(from: &mut impl Read) -> Result<(Self, u64), Error> {
        let mut fixed = [0; 18];
        from.read_exact(&mut fixed).map_err(|_| Error::NoRecording)?;
        let (magic, rest) = fixed.split_at(8);
        if magic != MAGIC {
            return Err(Error::NoRecording);
        }
        let [v0, v1, l0, l1, l2, l3, c0, c1, c2, c3] = <[u8; 10]>::try_from(rest).map_err(|_| Error::Header)?;
        let version = u16::from_le_bytes([v0, v1]);
        if !(1..=FORMAT_VERSION).contains(&version) {
            return Err(Error::Version(version));
        }
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if len > MAX_HEADER {
            return Err(Error::Header);
        }
        let mut body = vec![0; len];
        from.read_exact(&mut body).map_err(|_| Error::Header)?;
        if crc32c::crc32c(&body) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(Error::Header);
        }
        let (mut header, rest) = postcard::take_from_bytes::<Self>(&body).map_err(|_| Error::Header)?;
        if version > 1 {
            header.settings = postcard::from_bytes(rest).map_err(|_| Error::Header)?;
        }
        if header.wire != WIRE_VERSION {
            return Err(Error::WireVersion(header.wire));
        }
        Ok((header, (fixed.len() + len) as u64))
    }
}
