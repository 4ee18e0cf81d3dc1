//! Creates and opens output files safely. In folders such as /tmp other users may have planted something under the
//! file's name: a link to a file that only root may write, or a file of their own so that they can read along.
//! Therefore no link is followed, new files are created exclusively with a mode that excludes others, and each file has
//! a single writer.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use crate::sys::sandbox::explained;

/// Mode of a new file, before the umask, unless another one was asked for.
const MODE: u32 = 0o600;
/// How often a file may disappear or reappear between checking and opening it.
const TRIES: u32 = 16;
/// Mode bits of a folder: writable by the group or by others, and sticky, so that only owners may remove their files.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = libc::S_ISVTX;

/// Permissions that a new file inherits from the file that it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Access {
    /// The permissions of an existing file.
    #[must_use]
    pub fn of(file: &Metadata) -> Self {
        Self { mode: file.mode() & 0o777, uid: file.uid(), gid: file.gid() }
    }

    /// For nobody but the user who runs this process.
    #[must_use]
    pub fn private() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { mode: 0o600, uid, gid }
    }

    /// Applies them to a new file. If its group cannot be set, the group gets the permissions of others, since its
    /// members may not have been in the old group.
    fn apply(self, file: &File) -> io::Result<()> {
        let mut mode = self.mode;
        let is_kept = fchown(file, Some(self.uid), Some(self.gid)).or_else(|_| fchown(file, None, Some(self.gid)));
        if is_kept.is_err() {
            mode = mode & 0o707 | (mode & 0o007) << 3;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))
    }
}

/// Opens a file for appending, and creates it if needed, with these permissions, or this mode before the umask. A regular
/// file stays locked (flock(2)) while it is open. Opening a pipe does not block: ENXIO means that it has no reader yet.
///
/// # Errors
/// If it is a link, a block device or a socket, has several names, belongs to another user in a folder such as /tmp, or
/// is locked by another writer.
pub fn append(path: &Path, access: Option<Access>, mode: Option<u32>) -> io::Result<File> {
    append_checked(path, access, mode, check).map_err(|error| explained(error, path))
}

fn append_checked(
    path: &Path,
    access: Option<Access>,
    mode: Option<u32>,
    check: fn(&Path, &Metadata) -> io::Result<()>,
) -> io::Result<File> {
    if is_descriptor(path) {
        let known = fs::metadata(path)?;
        if known.file_type().is_socket() {
            return Err(io::Error::other("it is a socket, which cannot be opened as a file"));
        }
        return OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    }
    for _ in 0..TRIES {
        let file = match fs::symlink_metadata(path) {
            Ok(known) => {
                check(path, &known)?;
                match open(path, &known) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    file => file?,
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match create_with(path, access, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            },
            Err(error) => return Err(error),
        };
        let known = file.metadata()?;
        check(path, &known)?;
        if !known.is_file() {
            return Ok(file);
        }
        lock(&file)?;
        // Another writer may have renamed it before it was locked.
        if is_at(&file, path) {
            return Ok(file);
        }
    }
    Err(io::Error::other("it keeps being removed and recreated"))
}

/// As [`append`], but discards the previous content.
///
/// # Errors
/// See [`append`].
pub fn replace(path: &Path) -> io::Result<File> {
    let file = append(path, None, None)?;
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    Ok(file)
}

/// Creates a new file with these permissions or the default mode.
///
/// # Errors
/// If anything exists at the path, even a dangling link.
pub fn create(path: &Path, access: Option<Access>) -> io::Result<File> {
    create_with(path, access, None).map_err(|error| explained(error, path))
}

fn create_with(path: &Path, access: Option<Access>, mode: Option<u32>) -> io::Result<File> {
    let mode = mode.filter(|_| access.is_none()).unwrap_or(MODE);
    let file = OpenOptions::new().read(true).append(true).create_new(true).mode(mode).open(path)?;
    if let Some(access) = access {
        access.apply(&file)?;
    }
    Ok(file)
}

/// Creates a file for nobody but the user who runs this process, in the place of an older one. It stays locked while it is
/// open.
///
/// # Errors
/// See [`append`]; also if something else than a regular file is there. An older file may have several names: it keeps the
/// others.
pub fn create_private(path: &Path) -> io::Result<File> {
    let access = Some(Access::private());
    let file = append_checked(path, access, None, check_regular).map_err(|error| explained(error, path))?;
    check_regular(path, &file.metadata()?)?;
    if is_descriptor(path) {
        return Err(irregular());
    }
    // Others may have the older file open, and would read along.
    fs::remove_file(path)?;
    let file = create(path, access)?;
    lock(&file)?;
    Ok(file)
}

/// Opens a regular file for reading.
///
/// # Errors
/// If it is not a regular file.
pub fn read(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular()) }
}

/// Whether the path names a descriptor of this process. The user who started the process opened what is behind it, and
/// the links to it are the kernel's.
#[must_use]
pub fn is_descriptor(path: &Path) -> bool {
    ["/dev/fd", "/proc/self/fd"].iter().any(|folder| path.parent() == Some(Path::new(folder)))
        || ["/dev/stdin", "/dev/stdout", "/dev/stderr"].iter().any(|name| path == Path::new(name))
}

/// Removes the ready file that a killed run left behind. The ready file of a live run is locked.
///
/// # Errors
/// If the path holds something else.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(known) if known.is_symlink() => return Err(link()),
        Ok(known) if !known.is_file() || known.len() > 0 => {
            return Err(io::Error::other("something else is there that tcptrace did not create: give another path"));
        }
        Ok(_) => read(path)?,
    };
    lock(&file)?;
    fs::remove_file(path)
}

/// Whether the path still refers to this file.
#[must_use]
pub fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(id).ok() == fs::symlink_metadata(path).map(id).ok()
}

/// Locks a file while it is open. Does nothing on file systems without locks.
///
/// # Errors
/// If another process holds the lock.
pub fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(io::Error::other(
            "another process has locked it, probably another tcptrace that writes to it: give each its own file",
        )),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn open(path: &Path, known: &Metadata) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let to_append = |read| OpenOptions::new().append(true).read(read).custom_flags(flags).open(path);
    // Open for reading as well, to see how the file ends; but not a pipe, whose writer would then never learn that its
    // last reader has gone.
    if known.is_file() { to_append(true).or_else(|_| to_append(false)) } else { to_append(false) }
}

/// Refuses files that must not be written to.
fn check(path: &Path, known: &Metadata) -> io::Result<()> {
    check_kind(path, known)?;
    if known.is_file() && known.nlink() > 1 {
        return Err(io::Error::other("it has several names (hard links), which would all be overwritten"));
    }
    Ok(())
}

fn check_regular(path: &Path, known: &Metadata) -> io::Result<()> {
    check_kind(path, known)?;
    if known.is_file() { Ok(()) } else { Err(irregular()) }
}

fn irregular() -> io::Error {
    io::Error::other("it is not a regular file")
}

/// Refuses files that must not be opened.
fn check_kind(path: &Path, known: &Metadata) -> io::Result<()> {
    let kind = known.file_type();
    let wrong = |reason: &str| Err(io::Error::other(reason));
    if kind.is_symlink() {
        return Err(link());
    }
    if kind.is_block_device() {
        return wrong("it is a block device, whose content would be overwritten");
    }
    if kind.is_socket() {
        return wrong("it is a socket, not a file");
    }
    if (kind.is_file() || kind.is_fifo()) && is_planted(path, known) {
        return wrong(
            "it belongs to another user, in a folder that others can write to: remove it, or give another path",
        );
    }
    Ok(())
}

fn link() -> io::Error {
    io::Error::other("it is a symbolic link, which is not followed: give the path of the file itself")
}

/// Whether the file belongs to another user in a folder such as /tmp. The kernel applies the same rule if
/// `fs.protected_regular` is set (`may_create_in_sticky` of `fs/namei.c`).
fn is_planted(path: &Path, known: &Metadata) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(folder) = fs::metadata(folder) else { return false };
    let own = rustix::process::geteuid().as_raw();
    let is_open = folder.mode() & STICKY != 0 && folder.mode() & WRITABLE_BY_OTHERS != 0;
    is_open && known.uid() != own && known.uid() != folder.uid()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{
        io::Write as _,
        os::unix::{fs::symlink, net::UnixDatagram},
        path::PathBuf,
    };

    use super::*;

    /// A folder that is removed on drop.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tcptrace-files-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn refusal<T>(result: io::Result<T>) -> String {
        result.err().map_or_else(|| "nothing".to_owned(), |error| error.to_string())
    }

    #[test]
    fn what_is_in_a_files_place_is_left_as_it_was() {
        let folder = Folder::new("place");
        let (secret, path) = (folder.file("secret"), folder.file("out"));
        fs::write(&secret, "secret").unwrap();
        symlink(&secret, &path).unwrap();
        assert!(refusal(append(&path, None, None)).contains("symbolic link"));
        assert!(refusal(replace(&path)).contains("symbolic link"));
        assert!(refusal(remove_stale(&path)).contains("symbolic link"));
        assert!(refusal(read(&path)).contains("symbolic links"));
        assert_eq!(refusal(create(&path, None).map_err(|error| error.kind().into())), "entity already exists");
        assert!(path.is_symlink());

        fs::remove_file(&path).unwrap();
        symlink(folder.file("nowhere"), &path).unwrap();
        assert!(refusal(append(&path, None, None)).contains("symbolic link"));
        assert!(create(&path, None).is_err() && !folder.file("nowhere").exists(), "nothing is made where it points to");

        fs::remove_file(&path).unwrap();
        fs::hard_link(&secret, &path).unwrap();
        assert!(refusal(append(&path, None, None)).contains("hard links"));
        assert!(refusal(replace(&path)).contains("hard links"));
        assert!(refusal(remove_stale(&path)).contains("something else is there"));

        fs::remove_file(&path).unwrap();
        let _socket = UnixDatagram::bind(&path).unwrap();
        assert!(refusal(append(&path, None, None)).contains("it is a socket"));
        assert!(refusal(append(&folder.0, None, None)).contains("directory"));
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
    }

    #[test]
    fn a_file_has_one_writer() {
        let folder = Folder::new("writer");
        let (path, moved) = (folder.file("out"), folder.file("moved"));
        let first = append(&path, None, None).unwrap();
        assert!(refusal(append(&path, None, None)).contains("another tcptrace"));
        fs::rename(&path, &moved).unwrap();
        let second = append(&path, None, None).unwrap();
        assert!(is_at(&second, &path) && !is_at(&first, &path) && is_at(&first, &moved));
        drop(second);
        append(&path, None, None).unwrap().write_all(b"a").unwrap();
        replace(&path).unwrap().write_all(b"b").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"b");
    }

    #[test]
    fn a_new_file_is_for_those_who_could_read_the_old_one() {
        let folder = Folder::new("access");
        for mode in [0o600, 0o644, 0o660] {
            let path = folder.file(&format!("{mode:o}"));
            let access = Access { mode, ..Access::of(&fs::metadata(&folder.0).unwrap()) };
            let file = append(&path, Some(access), None).unwrap();
            assert_eq!(Access::of(&file.metadata().unwrap()), access, "{mode:o}");
        }
        let usual = append(&folder.file("usual"), None, None).unwrap().metadata().unwrap().mode();
        assert_eq!(usual & 0o777 & !0o600, 0, "{usual:o}");
    }

    #[test]
    fn a_private_file_takes_the_place_of_one_name() {
        let folder = Folder::new("private");
        let (path, other) = (folder.file("out"), folder.file("other"));
        fs::write(&path, "old").unwrap();
        fs::hard_link(&path, &other).unwrap();
        let file = create_private(&path).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(refusal(create_private(&path)).contains("another tcptrace"));
        assert_eq!((fs::read(&other).unwrap(), fs::read(&path).unwrap()), (b"old".to_vec(), Vec::new()));
    }

    #[test]
    fn only_a_ready_file_is_removed() {
        let folder = Folder::new("stale");
        let path = folder.file("ready");
        remove_stale(&path).unwrap();
        let held = create(&path, None).unwrap();
        lock(&held).unwrap();
        assert!(refusal(remove_stale(&path)).contains("another tcptrace") && path.exists());
        drop(held);
        remove_stale(&path).unwrap();
        assert!(!path.exists());
        fs::write(&path, "something").unwrap();
        assert!(refusal(remove_stale(&path)).contains("something else is there") && path.exists());
    }

    #[test]
    fn descriptors_are_no_links() {
        for path in ["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/fd/2"] {
            assert!(is_descriptor(Path::new(path)), "{path}");
        }
        for path in ["/dev/shm/fd", "/dev/null", "/proc/1/fd/1", "/tmp/dev/stdout", "stdout"] {
            assert!(!is_descriptor(Path::new(path)), "{path}");
        }
        assert!(
            append(Path::new("/dev/full"), None, None).is_ok() && append(Path::new("/dev/null"), None, None).is_ok()
        );
    }
}
