//! Which rights a run still needs once its programs are attached: the one place where that is decided. `sys/sandbox` gives
//! up the rest.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::anyhow;

use crate::{
    cli::outputs::OutputSpec,
    commands::settings::Settings,
    listing::netns,
    model::netns_choice::NetnsChoice,
    outputs::messages::warn,
    sys::{
        capabilities::Capabilities,
        files,
        run_as::User,
        sandbox::{self, Needs, seccomp::Calls, writes::Writable},
    },
};

/// What a trace does after it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Work {
    /// It reads processes: their names, holders of sockets, and namespaces.
    reads_processes: bool,
    /// It enters network namespaces other than its own.
    enters: bool,
    /// It looks for namespaces that only a socket keeps alive.
    finds_by_sockets: bool,
    /// It writes files that belong to others.
    writes_foreign: bool,
}

impl Work {
    fn of(settings: &Settings, has_iterators: bool, paths: &[PathBuf]) -> Self {
        let own = || netns::find(Some(&NetnsChoice::Own)).ok()?.0.first().map(|own| own.inode);
        let is_own = settings.chosen.as_ref().is_some_and(|chosen| Some(chosen.inode) == own());
        // It counts in the kernel and lists nothing; but it notices when the chosen namespace is gone.
        let counts = settings.probes.aggregate.is_some();
        let everywhere = settings.chosen.is_none();
        Self {
            reads_processes: !counts || !(everywhere || is_own),
            enters: !(is_own || counts && everywhere),
            finds_by_sockets: everywhere && has_iterators && !counts,
            writes_foreign: paths.iter().any(|path| is_foreign(path)),
        }
    }

    /// The capabilities that this takes, for a process that has `has`.
    fn capabilities(self, has: Capabilities) -> Capabilities {
        use Capabilities as C;
        let two = Capabilities::of(&[C::BPF, C::PERFMON]);
        let is_enough = has.has(C::BPF) && has.has(C::PERFMON);
        let parts: [(bool, &[u32]); 4] = [
            // CAP_SYS_ADMIN stands for the two where they are missing.
            (self.enters || !is_enough, &[C::SYS_ADMIN]),
            (self.reads_processes, &[C::SYS_PTRACE, C::DAC_READ_SEARCH]),
            (self.finds_by_sockets, &[C::NET_ADMIN]),
            (self.writes_foreign, &[C::DAC_OVERRIDE, C::CHOWN, C::FOWNER]),
        ];
        parts.iter().filter(|(is_needed, _)| *is_needed).fold(two, |all, (_, part)| all.and(Capabilities::of(part)))
    }
}

/// Gives up what the run does not need any more. Only the thread of the log may run besides this one.
pub(crate) fn enter(settings: &Settings, has_iterators: bool) {
    if settings.sandbox {
        let paths = written(settings);
        give_up(Work::of(settings, has_iterators, &paths), Some(writable(&paths)));
    }
}

/// The same for a command that lists sockets without a trace, in these namespaces. Its main thread reads processes and writes
/// files.
pub(crate) fn enter_to_list(outputs: &[OutputSpec], netns: Option<&NetnsChoice>) {
    let paths: Vec<_> = outputs.iter().filter_map(|output| output.target.path()).map(Path::to_owned).collect();
    let work = Work {
        reads_processes: true,
        enters: netns != Some(&NetnsChoice::Own),
        finds_by_sockets: netns.is_none(),
        writes_foreign: paths.iter().any(|path| is_foreign(path)),
    };
    give_up(work, None);
}

fn give_up(work: Work, writable: Option<Writable>) {
    let capabilities = work.capabilities(Capabilities::own().unwrap_or(Capabilities::of(&[])));
    let calls = Calls { setns: work.enters, pidfd_getfd: work.finds_by_sockets };
    sandbox::enter(&Needs { capabilities, calls, writable }).into_iter().for_each(warn);
}

/// Becomes the user that the settings name, if any, with the capabilities that a start takes.
///
/// # Errors
/// If there is no such user, or this process may not become it.
pub(crate) fn become_user(name: Option<&str>) -> anyhow::Result<()> {
    use Capabilities as C;
    const TO_START: [u32; 8] = [
        C::BPF,
        C::PERFMON,
        C::SYS_ADMIN,
        C::SYS_PTRACE,
        C::DAC_READ_SEARCH,
        C::NET_ADMIN,
        C::NET_BIND_SERVICE,
        C::SETPCAP, // to empty the bounding set
    ];
    let Some(name) = name else { return Ok(()) };
    let user = User::find(name).map_err(|error| anyhow!("--run-as {name}: {error}"))?;
    let become_it = user.become_it(Capabilities::of(&TO_START));
    become_it.map_err(|error| anyhow!("--run-as {name}: cannot become this user: {error}; start tcptrace as root"))
}

/// The files that a run makes and writes.
fn written(settings: &Settings) -> Vec<PathBuf> {
    let outputs = settings.outputs.iter().filter_map(|output| output.target.path());
    let recording = settings.recording.as_ref().map(|recording| recording.path.as_path());
    outputs.chain(recording).chain(settings.ready_file.as_deref()).map(Path::to_owned).collect()
}

/// Where these files are written. New ones come into being beside them: after a rotation, or a full recording.
fn writable(paths: &[PathBuf]) -> Writable {
    const ALWAYS: [&str; 5] = ["/dev/null", "/dev/tty", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"];
    let mut writable = Writable { folders: Vec::new(), files: ALWAYS.map(PathBuf::from).into() };
    for path in paths {
        let is_made = fs::symlink_metadata(path).map_or(true, |known| known.is_file()) && !files::is_descriptor(path);
        if is_made { writable.folders.push(folder(path)) } else { writable.files.push(path.clone()) }
    }
    writable
}

fn folder(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// True if the file, or a folder on the way to it, belongs to others, so that writing it there takes rights of root.
fn is_foreign(path: &Path) -> bool {
    if files::is_descriptor(path) {
        return false;
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let may = |known: &Metadata, wanted: u32| {
        let shift = if known.uid() == uid {
            6
        } else if known.gid() == gid {
            3
        } else {
            0
        };
        known.mode() >> shift & wanted == wanted
    };
    // A file that is rotated keeps its owner and its group.
    let is_others = |known: Metadata| {
        let keeps = known.is_file() && (known.uid(), known.gid()) != (uid, gid);
        keeps || !may(&known, WRITE)
    };
    let folder = fs::canonicalize(folder(path)).unwrap_or_default();
    let on_the_way = |part: &Path| {
        let wanted = if part == folder { WRITE | SEARCH } else { SEARCH };
        fs::metadata(part).is_ok_and(|known| may(&known, wanted))
    };
    fs::metadata(path).is_ok_and(is_others) || !folder.ancestors().all(on_the_way)
}

/// Permission bits.
const WRITE: u32 = 2;
const SEARCH: u32 = 1;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ALL: Capabilities = Capabilities::of(&[Capabilities::BPF, Capabilities::PERFMON]);

    #[test]
    fn a_run_keeps_what_its_work_takes() {
        use Capabilities as C;
        let nothing = Work { reads_processes: false, enters: false, finds_by_sockets: false, writes_foreign: false };
        assert_eq!(nothing.capabilities(ALL), C::of(&[C::BPF, C::PERFMON]));
        let only_admin = C::of(&[C::SYS_ADMIN]);
        assert!(nothing.capabilities(only_admin).has(C::SYS_ADMIN), "it stands for the two");
        let own = Work { reads_processes: true, ..nothing };
        assert_eq!(own.capabilities(ALL), C::of(&[C::BPF, C::PERFMON, C::SYS_PTRACE, C::DAC_READ_SEARCH]));
        let all = Work { reads_processes: true, enters: true, finds_by_sockets: true, writes_foreign: false };
        let kept = all.capabilities(ALL);
        assert!(kept.has(C::SYS_ADMIN) && kept.has(C::NET_ADMIN) && !kept.has(C::DAC_OVERRIDE));
        let foreign = Work { writes_foreign: true, ..nothing };
        assert_eq!(foreign.capabilities(ALL), C::of(&[C::BPF, C::PERFMON, C::DAC_OVERRIDE, C::CHOWN, C::FOWNER]));
    }

    #[test]
    fn files_and_folders_of_others_are_known() {
        let parent = std::env::temp_dir().join(format!("tcptrace-foreign-{}", std::process::id()));
        let file = parent.join("out");
        fs::create_dir(&parent).unwrap();
        assert!(!is_foreign(&file), "one's own folder");
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o500)).unwrap();
        assert!(is_foreign(&file), "a folder that its owner may not write");
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(&file, "").unwrap();
        assert!(!is_foreign(&file));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(is_foreign(&file));
        assert!(!is_foreign(Path::new("/dev/null")) && !is_foreign(Path::new("/dev/stdout")));
        fs::remove_dir_all(&parent).unwrap();
    }

    #[test]
    fn files_are_written_beside_what_was_named_and_devices_are_written_alone() {
        let writable = writable(&["/tmp/no/out.json".into(), "out".into(), "/dev/full".into(), "/dev/stdout".into()]);
        assert_eq!(writable.folders, [Path::new("/tmp/no"), Path::new(".")]);
        assert_eq!(writable.files[5..], [Path::new("/dev/full"), Path::new("/dev/stdout")]);
    }
}
