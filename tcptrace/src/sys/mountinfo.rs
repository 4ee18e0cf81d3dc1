//! The mounts of this process (`/proc/thread-self/mountinfo`, proc_pid_mountinfo(5)). Any user who mounts something
//! chooses the bytes of its path: they need not be UTF-8, and the kernel escapes some as `\040` (`mangle_path` of
//! `fs/seq_file.c`).

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _},
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
};

/// Read limit, enough for more mounts than a namespace may have by default (`fs.mount-max`, 100,000).
const MAX_BYTES: u64 = 64 << 20;

/// One mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// Path of its mount point.
    pub point: PathBuf,
    /// File system type, for example `cgroup2`.
    pub kind: &'a [u8],
    /// Superblock options, separated by commas.
    pub options: &'a [u8],
}

/// Reads the file.
///
/// # Errors
/// If it cannot be read.
pub fn read() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open("/proc/thread-self/mountinfo")?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Parses the mounts, in order. Malformed lines are skipped.
pub fn mounts(mountinfo: &[u8]) -> impl DoubleEndedIterator<Item = Mount<'_>> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(mount)
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [OPTIONAL FIELD]... - TYPE SOURCE OPTIONS`; fields contain no spaces.
fn mount(line: &[u8]) -> Option<Mount<'_>> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = fields.nth(4)?;
    let mut after = fields.skip_while(|field| *field != b"-").skip(1);
    let (kind, _, options) = (after.next()?, after.next()?, after.next()?);
    Some(Mount { point: OsString::from_vec(decoded(point)).into(), kind, options })
}

/// Decodes three-digit octal escapes such as `\040`.
fn decoded(mut field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    while let Some((&byte, rest)) = field.split_first() {
        match (byte, rest) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                field = rest;
            }
            _ => {
                bytes.push(byte);
                field = rest;
            }
        }
    }
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

    use super::*;

    #[test]
    fn any_bytes_are_a_path() {
        let text = b"22 1 0:21 / /sys/fs/cgroup rw,nosuid shared:5 master:1 - cgroup2 cgroup2 rw,nsdelegate\n\
            23 1 0:22 / /mnt/a\\040b\\011\\012\\134\\0401\\04 rw - tmpfs a\\040b rw,size=1\n\
            24 1 0:23 /r\xff /mnt/\xff\xfe\x1b[2J rw - fuse.x \xff rw\n\
            25 1 0:24 / /mnt/- rw - ext4 /dev/sda1 rw\n\
            no mount\n\n26 1 0:25 / /cut rw - ext4";
        let found: Vec<_> = mounts(text).collect();
        let points: Vec<_> = found.iter().map(|mount| mount.point.as_os_str().as_bytes()).collect();
        let want: [&[u8]; 4] = [b"/sys/fs/cgroup", b"/mnt/a b\t\n\\ 1\\04", b"/mnt/\xff\xfe\x1b[2J", b"/mnt/-"];
        assert_eq!(points, want);
        assert_eq!((found[0].kind, found[0].options), (&b"cgroup2"[..], &b"rw,nsdelegate"[..]));
        assert_eq!((found[1].kind, found[1].options), (&b"tmpfs"[..], &b"rw,size=1"[..]));
        assert_eq!(mounts(text).next_back().unwrap().point, Path::new(OsStr::new("/mnt/-")));
    }

    #[test]
    fn the_real_one_has_proc() {
        let bytes = read().unwrap();
        assert!(mounts(&bytes).any(|mount| mount.point == Path::new("/proc") && mount.kind == b"proc"));
    }
}
