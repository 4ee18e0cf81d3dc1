//! Makes and opens files to write to. Folders such as /tmp are open to other users, who may have put something else in a
//! file's place: a link to a file that only root may write, or a file of their own to read along. So no link is followed,
//! new files are created exclusively, with a mode that shuts others out, and each file has one writer.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::Path,
};

/// The mode of a new file, from which the umask may take more away.
const MODE: u32 = 0o640;
/// How often a file may vanish or appear between two looks at it.
const TRIES: u32 = 16;
/// Folders that all may write to have this bit, and those of them where only owners may remove files this one.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = libc::S_ISVTX;

/// What a new file takes over from the one whose place it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Access {
    /// That of a file.
    #[must_use]
    pub fn of(file: &Metadata) -> Self {
        Self { mode: file.mode() & 0o777, uid: file.uid(), gid: file.gid() }
    }

    /// Gives it to a new file. Who is in the old group must not be in the new one: where that cannot be kept its members
    /// are as others are.
    fn give(self, file: &File) -> io::Result<()> {
        let mut mode = self.mode;
        let is_kept = fchown(file, Some(self.uid), Some(self.gid)).or_else(|_| fchown(file, None, Some(self.gid)));
        if is_kept.is_err() {
            mode = mode & 0o707 | (mode & 0o007) << 3;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))
    }
}

/// Opens a file to append to, and creates it where there is none, with this access or the usual one. A regular file is locked
/// (flock(2)) as long as it is open. A pipe is not waited for: ENXIO says that it has no reader yet.
///
/// # Errors
/// Where it is a link, a block device, a socket, has several names, belongs to somebody else in a folder such as /tmp, or
/// is locked by another writer.
pub fn append(path: &Path, access: Option<Access>) -> io::Result<File> {
    if is_descriptor(path) {
        let known = fs::metadata(path)?;
        if known.file_type().is_socket() {
            return Err(io::Error::other("it is a socket, which cannot be opened by its name"));
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => match create(path, access) {
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
        // Another writer may have moved it away before it was locked.
        if is_at(&file, path) {
            return Ok(file);
        }
    }
    Err(io::Error::other("it is removed and made again all the time"))
}

/// The same, but what was in the file is not kept.
///
/// # Errors
/// As [`append`].
pub fn replace(path: &Path) -> io::Result<File> {
    let file = append(path, None)?;
    if file.metadata()?.is_file() {
        file.set_len(0)?;
    }
    Ok(file)
}

/// Creates a file that was not there before, with this access or the usual one.
///
/// # Errors
/// Where there is something already, be it a link to nowhere.
pub fn create(path: &Path, access: Option<Access>) -> io::Result<File> {
    let mode = if access.is_some() { 0o600 } else { MODE };
    let file = OpenOptions::new().read(true).append(true).create_new(true).mode(mode).open(path)?;
    if let Some(access) = access {
        access.give(&file)?;
    }
    Ok(file)
}

/// Opens a regular file to read, and nothing else.
///
/// # Errors
/// Where it is none.
pub fn read(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

/// Does the path name a descriptor of this process? What is behind it was opened by who started the process, and links to
/// it are the kernel's.
#[must_use]
pub fn is_descriptor(path: &Path) -> bool {
    ["/dev/fd", "/proc/self/fd"].iter().any(|folder| path.parent() == Some(Path::new(folder)))
        || ["/dev/stdin", "/dev/stdout", "/dev/stderr"].iter().any(|name| path == Path::new(name))
}

/// Removes the ready file of a run that was killed. One of a run that goes on is locked.
///
/// # Errors
/// Where something else has its place.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(known) if known.is_symlink() => return Err(link()),
        Ok(known) if !known.is_file() || known.len() > 0 => {
            return Err(io::Error::other("something else is there, which no tcptrace has made: give another path"));
        }
        Ok(_) => read(path)?,
    };
    lock(&file)?;
    fs::remove_file(path)
}

/// Is what is at the path this file?
#[must_use]
pub fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(id).ok() == fs::symlink_metadata(path).map(id).ok()
}

/// Locks a file as long as it is open. Where its file system knows no locks there is none.
///
/// # Errors
/// Where another one has it.
pub fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(io::Error::other(
            "another process has locked it, most likely another tcptrace that writes to it: give each its own",
        )),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn open(path: &Path, known: &Metadata) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let to_append = |read| OpenOptions::new().append(true).read(read).custom_flags(flags).open(path);
    // Read, too, to see how it ends; but who reads a pipe, too, never learns that nobody else does.
    if known.is_file() { to_append(true).or_else(|_| to_append(false)) } else { to_append(false) }
}

/// May it be written to?
fn check(path: &Path, known: &Metadata) -> io::Result<()> {
    let kind = known.file_type();
    let wrong = |reason: &str| Err(io::Error::other(reason));
    if kind.is_symlink() {
        return Err(link());
    }
    if kind.is_block_device() {
        return wrong("it is a block device, whose content would be overwritten");
    }
    if kind.is_socket() {
        return wrong("it is a socket, which takes no file's bytes");
    }
    if kind.is_file() && known.nlink() > 1 {
        return wrong("it has several names (hard links): what they stand for would be written to, too");
    }
    if (kind.is_file() || kind.is_fifo()) && is_planted(path, known) {
        return wrong("it belongs to another user, in a folder that all may write to: remove it, or give another path");
    }
    Ok(())
}

fn link() -> io::Error {
    io::Error::other("it is a symbolic link, and none is followed: give the path of the file itself")
}

/// Is it somebody else's in a folder such as /tmp? The kernel asks the same where `fs.protected_regular` is set
/// (`may_create_in_sticky` of `fs/namei.c`).
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

    /// A folder that goes with it.
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
        assert!(refusal(append(&path, None)).contains("symbolic link"));
        assert!(refusal(replace(&path)).contains("symbolic link"));
        assert!(refusal(remove_stale(&path)).contains("symbolic link"));
        assert!(refusal(read(&path)).contains("symbolic links"));
        assert_eq!(refusal(create(&path, None).map_err(|error| error.kind().into())), "entity already exists");
        assert!(path.is_symlink());

        fs::remove_file(&path).unwrap();
        symlink(folder.file("nowhere"), &path).unwrap();
        assert!(refusal(append(&path, None)).contains("symbolic link"));
        assert!(create(&path, None).is_err() && !folder.file("nowhere").exists(), "nothing is made where it points to");

        fs::remove_file(&path).unwrap();
        fs::hard_link(&secret, &path).unwrap();
        assert!(refusal(append(&path, None)).contains("hard links"));
        assert!(refusal(replace(&path)).contains("hard links"));
        assert!(refusal(remove_stale(&path)).contains("something else is there"));

        fs::remove_file(&path).unwrap();
        let _socket = UnixDatagram::bind(&path).unwrap();
        assert!(refusal(append(&path, None)).contains("it is a socket"));
        assert!(refusal(append(&folder.0, None)).contains("directory"));
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
    }

    #[test]
    fn a_file_has_one_writer() {
        let folder = Folder::new("writer");
        let (path, moved) = (folder.file("out"), folder.file("moved"));
        let first = append(&path, None).unwrap();
        assert!(refusal(append(&path, None)).contains("another tcptrace"));
        fs::rename(&path, &moved).unwrap();
        let second = append(&path, None).unwrap();
        assert!(is_at(&second, &path) && !is_at(&first, &path) && is_at(&first, &moved));
        drop(second);
        append(&path, None).unwrap().write_all(b"a").unwrap();
        replace(&path).unwrap().write_all(b"b").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"b");
    }

    #[test]
    fn a_new_file_is_for_those_who_could_read_the_old_one() {
        let folder = Folder::new("access");
        for mode in [0o600, 0o644, 0o660] {
            let path = folder.file(&format!("{mode:o}"));
            let access = Access { mode, ..Access::of(&fs::metadata(&folder.0).unwrap()) };
            let file = append(&path, Some(access)).unwrap();
            assert_eq!(Access::of(&file.metadata().unwrap()), access, "{mode:o}");
        }
        let usual = append(&folder.file("usual"), None).unwrap().metadata().unwrap().mode();
        assert_eq!(usual & 0o777 & !0o640, 0, "{usual:o}");
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
        assert!(append(Path::new("/dev/full"), None).is_ok() && append(Path::new("/dev/null"), None).is_ok());
    }
}
