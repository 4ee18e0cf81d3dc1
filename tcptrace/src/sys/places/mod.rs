//! Where processes run: names of containers and pods, from the files that runtimes and the kubelet keep on the node.
//! No API is asked and no credentials are needed. `docs/names.md` lists the files.
//!
//! [`Places`] reads files and may wait for a disk: it belongs on a thread of its own, which asks when a process or
//! cgroup is first seen.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{indexes::Indexes, kubelet::Logged, monitor::Monitor, root::Root, storage::Listed};
use crate::{
    model::place::{Manager, Place, Runtime},
    sys::{cgroup, pids},
};

mod containerd;
mod docker;
mod facts;
mod indexes;
mod kubelet;
mod monitor;
pub(in crate::sys) mod root;
mod storage;

/// Places that are remembered. One takes about 1 KB.
const MAX_PLACES: usize = 10_000;
/// How long what was found stays: a container may be renamed.
const KEPT: Duration = Duration::from_secs(300);
/// After how long missing names are looked for again, the first time and at most: a runtime may write its files late.
const RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(60);
/// Largest `/etc/passwd` that is read.
const MAX_PASSWD: usize = 1 << 20;

/// Where processes run, by the path of their cgroup.
#[derive(Debug)]
pub struct Places {
    /// The host's files; `None` if they cannot be reached.
    root: Option<Root>,
    known: HashMap<Box<str>, Known>,
    max: usize,
    lists: Indexes<Listed>,
    logs: Indexes<Logged>,
    /// Counts lookups: the order in which places were last used.
    clock: u64,
    counts: Counts,
}

/// What [`Places`] did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times that files were read for a place.
    pub searches: u64,
    /// Places that were forgotten to make room.
    pub evicted: u64,
}

#[derive(Debug)]
struct Known {
    place: Arc<Place>,
    used: u64,
    /// When to look again; `None` for a place that has no names in files.
    due: Option<Instant>,
    pause: Duration,
}

impl Places {
    /// Uses the files of the host, whose root folder is `host_root`: see [`host_root`].
    #[must_use]
    pub fn new(host_root: &Path) -> Self {
        Self::with_room(host_root, MAX_PLACES)
    }

    fn with_room(root: &Path, max: usize) -> Self {
        Self {
            root: Root::open(root).ok(),
            known: HashMap::new(),
            max,
            lists: Indexes::default(),
            logs: Indexes::default(),
            clock: 0,
            counts: Counts::default(),
        }
    }

    /// Where the process runs; `None` if it is gone or `/proc` does not show it. The caller makes sure that the PID is
    /// still that process's.
    pub fn of_process(&mut self, pid: u32) -> Option<Arc<Place>> {
        if !pids::match_proc() {
            return None;
        }
        let path = cgroup::of_process(pid)?;
        Some(self.of_cgroup(&path, Some(pid)))
    }

    /// Where the processes of a cgroup run, by its path as in `/proc/PID/cgroup`. A process of it, if one is known, leads
    /// to the files of runtimes that are configured unusually, and of nested ones.
    pub fn of_cgroup(&mut self, path: &str, pid: Option<u32>) -> Arc<Place> {
        self.clock += 1;
        let now = Instant::now();
        if let Some(known) = self.known.get_mut(path) {
            known.used = self.clock;
            if known.due.is_none_or(|due| now < due) {
                return Arc::clone(&known.place);
            }
        }
        let mut place = Place::from_cgroup(path);
        let has_files = place.container.is_some() || place.pod.is_some() || place.unit.is_none();
        if has_files {
            self.counts.searches += 1;
            self.search(&mut place, pid);
        }
        let earlier = self.known.get(path);
        if let Some(earlier) = earlier {
            facts::keep(&mut place, &earlier.place);
        }
        let pause = match earlier {
            _ if facts::is_complete(&place) => KEPT,
            None => RETRY,
            Some(earlier) => earlier.pause.saturating_mul(2).min(MAX_RETRY),
        };
        if earlier.is_none() && self.known.len() >= self.max {
            self.evict();
        }
        let place = Arc::new(place);
        let due = has_files.then(|| now + pause);
        self.known.insert(path.into(), Known { place: Arc::clone(&place), used: self.clock, due, pause });
        place
    }

    /// Number of places that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What was done so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Forgets the eighth that was not used for longest.
    fn evict(&mut self) {
        let mut used: Vec<_> = self.known.values().map(|known| known.used).collect();
        let eighth = used.len() / 8;
        let (_, &mut last, _) = used.select_nth_unstable(eighth);
        let before = self.known.len();
        self.known.retain(|_, known| known.used > last);
        self.counts.evicted += (before - self.known.len()) as u64;
    }

    /// Adds names: from where the container's monitor leads, then from the usual folders of the host.
    fn search(&mut self, place: &mut Place, pid: Option<u32>) {
        let monitor = pid.and_then(|pid| monitor::find(pid, place));
        let is_nested = place.outer_container().is_some();
        if let Some(Monitor { root, task, storage }) = &monitor {
            self.search_in(root, task.as_deref(), storage.as_deref(), place);
        }
        let is_found = place.container.is_some() || place.pod.is_some();
        // The files of the host say nothing about the containers of a container's own runtime.
        if is_nested || is_found && facts::is_complete(place) {
            return;
        }
        if let Some(root) = self.root.take() {
            self.search_in(&root, None, None, place);
            self.root = Some(root);
        }
    }

    fn search_in(&mut self, root: &Root, task: Option<&str>, storage: Option<&str>, place: &mut Place) {
        let Some(id) = place.container_id().map(str::to_owned) else {
            if place.container.is_none() && place.pod.is_none() {
                containerd::add_by_cgroup(root, task, place);
            }
            return kubelet::add(root, &mut self.logs, place);
        };
        let home = match place.unit.as_ref().map(|unit| unit.manager) {
            Some(Manager::User(uid)) => home(root, uid),
            _ => None,
        };
        let home = home.as_deref();
        let tasks = task.and_then(|folder| folder.rsplit_once('/')).map(|(tasks, _)| tasks);
        let may_be = |place: &Place, runtimes: &[Runtime]| {
            let known = place.container.as_ref().and_then(|container| container.runtime);
            known.is_none_or(|known| runtimes.contains(&known.value))
        };
        if may_be(place, &[Runtime::Docker]) {
            docker::add(root, &id, home, place);
        }
        if may_be(place, &[Runtime::Podman, Runtime::CriO]) {
            storage::add(root, &id, storage, home, &mut self.lists, place);
        }
        // The last one: dockerd's containers are tasks of containerd, too, which does not know their names.
        if may_be(place, &[Runtime::Containerd]) {
            containerd::add(root, &id, tasks, place);
        }
        if !facts::is_complete(place) {
            kubelet::add(root, &mut self.logs, place);
        }
    }
}

/// Home folder of a user in `/etc/passwd` (passwd(5)).
fn home(root: &Root, uid: u32) -> Option<String> {
    let bytes = root.read("/etc/passwd", MAX_PASSWD).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut of_user = fields.filter(|fields| fields.get(2).and_then(|uid| uid.parse().ok()) == Some(uid));
    of_user.next()?.get(5).filter(|home| home.starts_with('/')).map(|home| (*home).to_owned())
}

/// Where the host's files are: `given`, if that is known; `/proc/1/root` in a container that has the host's `/proc`, if it
/// may be read (`hostPID: true` with CAP_SYS_PTRACE); else `/`.
#[must_use]
pub fn host_root(given: Option<&Path>) -> PathBuf {
    let namespace = |process: &str| fs::metadata(format!("/proc/{process}/ns/mnt")).map(|file| file.ino());
    let differs = || -> io::Result<bool> { Ok(namespace("1")? != namespace("self")?) };
    let of_first = Path::new("/proc/1/root");
    let is_host = || pids::match_proc() && differs().unwrap_or(false) && of_first.metadata().is_ok();
    let found = || if is_host() { of_first } else { Path::new("/") };
    given.unwrap_or_else(found).to_owned()
}

#[cfg(test)]
mod tests;
