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

use crate::{model::place::Place, sys::mountinfo};

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

/// Path of a process's cgroup (cgroups(7), `/proc/PID/cgroup`); `None` if the process is gone.
///
/// This is the path in the v2 hierarchy. On hosts that still use v1 hierarchies that may be the root, or the service of a
/// container's runtime instead of the container: then it is the path of a hierarchy that names a container, else
/// systemd's path, else the longest.
#[must_use]
pub fn of_process(pid: u32) -> Option<String> {
    best_path(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cgroup")).ok()?)).map(str::to_owned)
}

fn best_path(text: &str) -> Option<&str> {
    let is_below_root = |path: &&str| *path != "/";
    let paths = || text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let v2 = || text.lines().find_map(|line| line.strip_prefix("0::")).filter(is_below_root);
    let systemd = || text.lines().find_map(|line| line.split_once(":name=systemd:")).map(|(_, path)| path);
    let has_container = |path: &&str| Place::from_cgroup(path).container.is_some();
    v2().filter(has_container)
        .or_else(|| paths().find(has_container))
        .or_else(v2)
        .or_else(|| systemd().filter(is_below_root))
        .or_else(|| paths().max_by_key(|path| path.len()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_with_the_most_to_tell_is_taken() {
        let cases = [
            ("0::/system.slice/ssh.service\n", Some("/system.slice/ssh.service")),
            ("4:memory:/longer/than/that\n1:name=systemd:/b\n0::/a\n", Some("/a")),
            ("4:memory:/longer\n1:name=systemd:/b:c\n0::/\n", Some("/b:c")),
            ("4:memory:/docker/1\n3:cpu:/\n1:name=systemd:/\n0::/\n", Some("/docker/1")),
            ("4:memory:/docker/1\n", Some("/docker/1")),
            ("1:name=systemd:/docker/ID\n0::/system.slice/containerd.service\n", Some("/docker/ID")),
            ("1:name=systemd:/docker/ID\n0::/system.slice/docker-ID.scope\n", Some("/system.slice/docker-ID.scope")),
            ("0::/\n", Some("/")),
            ("", None),
            ("no line of that kind\n", None),
        ];
        for (text, path) in cases {
            let with_id = |text: &str| text.replace("ID", &"0123456789abcdef".repeat(4));
            assert_eq!(best_path(&with_id(text)).map(str::to_owned), path.map(with_id), "{text}");
        }
    }
}
