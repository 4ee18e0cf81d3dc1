//! Cgroups by path and by id. The id of a v2 cgroup is the inode number of its directory.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use thiserror::Error;

use crate::sys::mountinfo;

pub mod names;

/// A cgroup of the v2 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its id, the inode number of its directory.
    pub id: u64,
    /// Its depth below the root of the hierarchy; the root has 0.
    pub level: u32,
    /// Its path below the root of the hierarchy; the root has `/`.
    pub path: String,
}

/// Why a cgroup was not found.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CgroupError {
    #[error("no cgroup v2 hierarchy is mounted here")]
    NoHierarchy,
    #[error("no such cgroup below {}: {source}; give a path as in /proc/PID/cgroup", mount.display())]
    NotFound { mount: PathBuf, source: io::Error },
    #[error("it is not a directory below {}; give a path as in /proc/PID/cgroup", .0.display())]
    NotBelow(PathBuf),
}

/// Mount point of the v2 hierarchy. Cached once it has been found: a host may have so many mounts that searching them
/// takes time.
fn mount_point() -> Option<&'static Path> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    if FOUND.get().is_none() {
        let mountinfo = mountinfo::read().ok()?;
        let found = mountinfo::mounts(&mountinfo).find(|mount| mount.kind == b"cgroup2")?.point;
        let _ = FOUND.set(found); // another thread found the same
    }
    FOUND.get().map(PathBuf::as_path)
}

/// Finds a cgroup by its directory, or by its path in the hierarchy as in `/proc/PID/cgroup`.
///
/// # Errors
/// If there is no such cgroup.
pub fn find(path: &Path) -> Result<Cgroup, CgroupError> {
    let mount = mount_point().ok_or(CgroupError::NoHierarchy)?;
    let directory =
        if path.starts_with(mount) { path.to_owned() } else { mount.join(path.strip_prefix("/").unwrap_or(path)) };
    let canonical = directory
        .canonicalize()
        .and_then(|directory| Ok((directory.metadata()?, directory)))
        .map_err(|source| CgroupError::NotFound { mount: mount.to_owned(), source });
    let (metadata, directory) = canonical?;
    match directory.strip_prefix(mount) {
        Ok(below) if metadata.is_dir() => Ok(Cgroup {
            id: metadata.ino(),
            level: below.components().count() as u32,
            path: format!("/{}", below.display()),
        }),
        _ => Err(CgroupError::NotBelow(mount.to_owned())),
    }
}

/// Path of a process's cgroup in the v2 hierarchy (cgroups(7), `/proc/PID/cgroup`); `None` if the process is gone or
/// has no v2 cgroup.
#[must_use]
pub fn of_process(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// Minimum time between two walks through the hierarchy.
const WALK_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of cgroups that a walk visits.
const MAX_WALK: usize = 50_000;

/// Returns a lookup from cgroup id to path. It walks the hierarchy only for ids that it has not seen before.
pub fn lookup() -> impl FnMut(u64) -> Option<String> {
    let mut paths: HashMap<u64, String> = HashMap::new();
    let mut last_walk: Option<Instant> = None;
    move |id| {
        let is_due = last_walk.is_none_or(|last| last.elapsed() >= WALK_INTERVAL);
        if !paths.contains_key(&id) && is_due {
            last_walk = Some(Instant::now());
            paths = walk();
        }
        paths.get(&id).cloned()
    }
}

fn walk() -> HashMap<u64, String> {
    let mut paths = HashMap::new();
    let Some(mount) = mount_point() else {
        return paths;
    };
    let mut waiting = vec![mount.to_owned()];
    while let Some(directory) = waiting.pop() {
        if paths.len() >= MAX_WALK {
            break;
        }
        // Cgroups may disappear at any time: skip those that cannot be read.
        let Ok(metadata) = directory.metadata() else {
            continue;
        };
        let below = directory.strip_prefix(mount).unwrap_or(&directory);
        paths.insert(metadata.ino(), format!("/{}", below.display()));
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let room = MAX_WALK.saturating_sub(paths.len() + waiting.len());
        waiting.extend(entries.flatten().filter(is_directory).map(|entry| entry.path()).take(room));
    }
    paths
}
