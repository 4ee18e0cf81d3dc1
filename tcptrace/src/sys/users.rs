//! Names of users, from `/etc/passwd` (passwd(5)). Directory services (NSS) are not asked: they may block.

use std::{fs, path::Path, time::SystemTime};

use rustc_hash::FxHashMap;

/// Maximum number of users that are remembered, and the size in bytes up to which the file is read.
const MAX_USERS: usize = 65_536;
const MAX_BYTES: usize = 8 << 20;

/// Names by UID.
pub type Users = FxHashMap<u32, String>;

/// Reads the file again when it has changed.
pub struct UserFile {
    path: &'static Path,
    modified: Option<SystemTime>,
}

impl Default for UserFile {
    fn default() -> Self {
        Self { path: Path::new("/etc/passwd"), modified: None }
    }
}

impl UserFile {
    /// The users, if the file has changed since the last call.
    pub fn changed(&mut self) -> Option<Users> {
        let modified = fs::metadata(self.path).ok()?.modified().ok()?;
        if self.modified.replace(modified) == Some(modified) {
            return None;
        }
        let bytes = fs::read(self.path).ok()?;
        Some(parse(&String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BYTES)])))
    }
}

/// The first name of each UID.
fn parse(passwd: &str) -> Users {
    let mut users = Users::default();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next().unwrap_or_default(), fields.nth(1).and_then(|uid| uid.parse().ok()));
        if let Some(uid) = uid.filter(|_| !name.is_empty() && !name.starts_with(['+', '-']) && users.len() < MAX_USERS)
        {
            users.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    users
}

/// UID of the user with this name in `/etc/passwd`.
#[must_use]
pub fn uid(name: &str) -> Option<u32> {
    let users = UserFile::default().changed()?;
    users.into_iter().find(|(_, known)| known == name).map(|(uid, _)| uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_uid_counts() {
        let users = parse(
            "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\n\n+nis:x:7:7::/:\n:x:8:8\nweb:x:33:33:a,b:/:/x\nbad:x:y:1\nshort:x\n",
        );
        assert_eq!(users.get(&0).map(String::as_str), Some("root"));
        assert_eq!(users.get(&33).map(String::as_str), Some("web"));
        assert_eq!(users.len(), 2);
    }

    #[test]
    fn the_file_is_read_again_when_it_has_changed() {
        let path = std::env::temp_dir().join(format!("tcptrace-users-{}", std::process::id()));
        let mut file = UserFile { path: Box::leak(path.clone().into_boxed_path()), modified: None };
        assert_eq!(file.changed(), None, "there is none");
        fs::write(&path, "a:x:7:7::/:/x\n").unwrap();
        assert_eq!(file.changed().unwrap()[&7], "a");
        assert_eq!(file.changed(), None);
        fs::write(&path, "b:x:7:7::/:/x\n").unwrap();
        fs::File::open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(file.changed().unwrap()[&7], "b");
        fs::remove_file(&path).unwrap();
    }
}
