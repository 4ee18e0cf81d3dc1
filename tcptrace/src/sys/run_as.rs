//! Becomes another user, and keeps some capabilities (capabilities(7), `SECBIT_KEEP_CAPS`).

use std::{ffi::CString, fs, io, path::Path};

use rustix::{
    process::{DumpableBehavior, set_dumpable_behavior},
    thread::set_keep_capabilities,
};

use crate::sys::capabilities::Capabilities;

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl User {
    /// The user of `/etc/passwd` with this name or UID.
    ///
    /// # Errors
    /// If there is none, or it is root.
    pub fn find(name_or_uid: &str) -> io::Result<Self> {
        let passwd = fs::read(Path::new("/etc/passwd"))?;
        Self::find_in(&String::from_utf8_lossy(&passwd), name_or_uid)
    }

    fn find_in(passwd: &str, name_or_uid: &str) -> io::Result<Self> {
        let users = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, uid, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            Some(Self { name: name.to_owned(), uid, gid })
        });
        let users: Vec<_> = users.collect();
        let named = users.iter().find(|user| user.name == name_or_uid);
        let found = named.or_else(|| users.iter().find(|user| user.uid.to_string() == name_or_uid));
        match found {
            None => Err(io::Error::new(io::ErrorKind::NotFound, "/etc/passwd has no such user")),
            Some(user) if user.uid == 0 => Err(io::Error::other("it is root: name a user without rights of its own")),
            Some(user) => Ok(user.clone()),
        }
    }

    /// Makes this process one of the user and its groups, for good, and keeps these capabilities as far as they are there.
    /// Call it before other threads start.
    ///
    /// # Errors
    /// If the kernel refuses: that takes CAP_SETUID and CAP_SETGID.
    pub fn become_it(&self, kept: Capabilities) -> io::Result<()> {
        if rustix::process::geteuid().as_raw() == self.uid {
            return Ok(());
        }
        let name = CString::new(self.name.as_str())?;
        let done = |result: i32| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        set_keep_capabilities(true)?;
        // SAFETY: a string that lives as long as the call, which only reads it; the others take numbers.
        unsafe {
            done(libc::initgroups(name.as_ptr(), self.gid as _))?;
            done(libc::setresgid(self.gid, self.gid, self.gid))?;
            done(libc::setresuid(self.uid, self.uid, self.uid))?;
        }
        kept.raise()?;
        // Otherwise its own files in /proc belong to root.
        Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_uid() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\n33:x:7:8::/:\nweb:x:33:34:a,b:/:/x\n";
        let found = |name| User::find_in(passwd, name);
        assert_eq!(found("web").unwrap(), User { name: "web".to_owned(), uid: 33, gid: 34 });
        assert_eq!(found("33").unwrap().uid, 7, "a name comes first");
        assert_eq!(found("7").unwrap().gid, 8);
        assert!(found("nobody").unwrap_err().to_string().contains("no such user"));
        assert!(found("0").unwrap_err().to_string().contains("it is root"));
    }
}
