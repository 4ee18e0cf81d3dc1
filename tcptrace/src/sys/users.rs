//! Users by name.

use std::fs;

/// UID of the user with this name in `/etc/passwd`; other sources of nsswitch.conf(5) are not asked.
#[must_use]
pub fn uid(name: &str) -> Option<u32> {
    uid_in(&fs::read("/etc/passwd").ok()?, name)
}

/// The third field of the line that begins with the name (passwd(5)).
fn uid_in(passwd: &[u8], name: &str) -> Option<u32> {
    let text = String::from_utf8_lossy(passwd);
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_names() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:\nbad:x\n:x:5:5\n";
        assert_eq!((uid_in(passwd, "root"), uid_in(passwd, "www-data")), (Some(0), Some(33)));
        for none in ["www", "bad", "ROOT"] {
            assert_eq!(uid_in(passwd, none), None, "{none}");
        }
    }
}
