//! The process that watches over a container, containerd's shim or conmon: it is the parent of the container's first
//! process, and shows where the runtime keeps its files, wherever that is configured, and in which mount namespace: the
//! nodes of a cluster of `kind` are containers themselves.

use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use super::root::Root;
use crate::{model::place::Place, sys::cgroup};

/// Ancestors that are visited.
const MAX_ANCESTORS: usize = 64;
/// Bytes of a command line that are read.
const MAX_ARGUMENTS: u64 = 64 << 10;

/// What the monitor shows.
#[derive(Debug)]
pub(super) struct Monitor {
    /// The files that it sees.
    pub(super) root: Root,
    /// The folder of a task, if it is containerd's shim.
    pub(super) task: Option<String>,
    /// `…/DRIVER-containers`, if it is conmon.
    pub(super) storage: Option<String>,
}

/// The monitor of the container in which `pid` runs: its nearest ancestor outside that is one, else the nearest one
/// outside, whose files are the runtime's at least. While a command starts, the OCI runtime stands in between. A process
/// inside, which chooses its own name and files, is never taken for a monitor.
pub(super) fn find(pid: u32, place: &Place) -> Option<Monitor> {
    let is_inside = |path: &str| match place.container_id() {
        Some(id) => Place::from_cgroup(path).container_id() == Some(id),
        None => Path::new(path).starts_with(&*place.cgroup),
    };
    let ancestors = std::iter::successors(parent(pid), |pid| parent(*pid)).take(MAX_ANCESTORS);
    let mut outside = ancestors.skip_while(|pid| cgroup::of_process(*pid).is_none_or(|path| is_inside(&path)));
    let first = look(outside.next()?, place.container_id())?;
    if first.is_one() {
        Some(first)
    } else {
        outside.find_map(|pid| look(pid, place.container_id()).filter(Monitor::is_one)).or(Some(first))
    }
}

impl Monitor {
    const fn is_one(&self) -> bool {
        self.task.is_some() || self.storage.is_some()
    }
}

fn look(pid: u32, id: Option<&str>) -> Option<Monitor> {
    let root = Root::open(Path::new(&format!("/proc/{pid}/root"))).ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let (mut task, mut storage) = (None, None);
    // The kernel keeps 15 bytes of a name.
    if name.starts_with("containerd-shim") {
        let folder = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        task = folder.to_str().map(str::to_owned);
    } else if name.trim_end() == "conmon" {
        let mut arguments = Vec::new();
        File::open(format!("/proc/{pid}/cmdline")).ok()?.take(MAX_ARGUMENTS).read_to_end(&mut arguments).ok()?;
        storage = id.and_then(|id| storage_of(&arguments, id));
    }
    Some(Monitor { root, task, storage })
}

/// `FOLDER` in conmon's arguments `-c ID … -b FOLDER/ID/userdata`; what is executed in a running container has a folder
/// below that.
fn storage_of(arguments: &[u8], id: &str) -> Option<String> {
    let arguments = || arguments.split(|byte| *byte == 0);
    let value = |flag: &[u8]| std::str::from_utf8(arguments().skip_while(|argument| *argument != flag).nth(1)?).ok();
    let bundle = value(b"-b").filter(|_| value(b"-c") == Some(id))?;
    bundle.split_once(&format!("/{id}/userdata")).map(|(folder, _)| folder.to_owned())
}

/// Field 4 of `/proc/PID/stat`; field 2, the command in parentheses, may contain any bytes. `None` for a process without
/// a parent.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = stat.get(stat.iter().rposition(|byte| *byte == b')')? + 1..)?;
    let parent = std::str::from_utf8(after).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    (parent != 0).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conmon_names_the_folder_of_its_container() {
        let line = |text: &str| text.replace(' ', "\0").into_bytes();
        let all = "/usr/bin/conmon --api-version 1 -c 0123 -u 0123 -r /usr/bin/crun -b /a/overlay-containers/0123/userdata -p x";
        assert_eq!(storage_of(&line(all), "0123").as_deref(), Some("/a/overlay-containers"));
        let executed = "conmon -c 0123 -u 89ab -b /a/vfs-containers/0123/userdata/89ab -e";
        assert_eq!(storage_of(&line(executed), "0123").as_deref(), Some("/a/vfs-containers"));
        assert_eq!(storage_of(&line(all), "4567"), None, "another container's");
        for broken in [
            "",
            "conmon",
            "conmon -c 0123 -b",
            "conmon -c 0123 -b /0123",
            "conmon -b /a/0123/userdata -c",
            "conmon -c 0123 -b /a/0123",
        ] {
            assert_eq!(storage_of(&line(broken), "0123"), None, "{broken}");
        }
        assert_eq!(storage_of(b"-c\0\xff\0-b\0\xff\xff", "0123"), None);
    }

    #[test]
    fn a_process_has_a_parent() {
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
        assert_eq!(parent(1), None);
        assert_eq!(parent(u32::MAX), None);
    }
}
