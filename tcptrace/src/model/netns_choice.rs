//! Which network namespace a user selects.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use crate::model::number::digits;

/// A selection of network namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetnsChoice {
    /// The namespace that tcptrace runs in.
    Own,
    /// The namespace with this name in `/run/netns`.
    Name(String),
    /// The namespace with this inode number.
    Inode(u32),
    /// The namespace of this file, such as `/proc/1/ns/net`.
    Path(PathBuf),
}

/// As the user wrote it, or as well.
impl fmt::Display for NetnsChoice {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => to.write_str("self"),
            Self::Name(name) => to.write_str(name),
            Self::Inode(inode) => inode.fmt(to),
            Self::Path(path) => path.display().fmt(to),
        }
    }
}

/// Where ip-netns(8) keeps named namespaces; `/var/run` is a link to `/run`.
const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// A namespace by the path of its file: in the directory of names, its name.
fn by_path(path: &Path) -> NetnsChoice {
    let name = NAMED.iter().find_map(|folder| path.strip_prefix(folder).ok());
    match name.map(|name| (name.components().collect::<Vec<_>>(), name)) {
        Some((parts, name)) if matches!(parts.as_slice(), [Component::Normal(_)]) && name.to_str().is_some() => {
            NetnsChoice::Name(name.display().to_string())
        }
        _ => NetnsChoice::Path(path.to_owned()),
    }
}

impl FromStr for NetnsChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a network namespace: give `self`, a name from `ip netns`, an inode number, a file such as \
                 /proc/PID/ns/net, or pid:PID"
            )
        };
        let number = digits(text).map(Self::Inode);
        match text {
            "self" => Ok(Self::Own),
            "" | "." | ".." => Err(wrong()),
            _ if text.starts_with('/') => Ok(by_path(Path::new(text))),
            _ if text.contains('/') => Err(wrong()),
            _ => match text.strip_prefix("pid:") {
                Some(pid) => digits::<u32>(pid)
                    .filter(|pid| *pid != 0)
                    .map(|pid| Self::Path(format!("/proc/{pid}/ns/net").into()))
                    .ok_or_else(wrong),
                // `net:[4026531840]` is what readlink and lsns print.
                None => match text.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']')) {
                    Some(inode) => digits(inode).map(Self::Inode).ok_or_else(wrong),
                    None => Ok(number.unwrap_or_else(|| Self::Name(text.to_owned()))),
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_anywhere_can_be_pasted() {
        let parsed = |text: &str| text.parse::<NetnsChoice>();
        assert_eq!(parsed("self"), Ok(NetnsChoice::Own));
        assert_eq!(parsed("4026531840"), Ok(NetnsChoice::Inode(4_026_531_840)));
        assert_eq!(parsed("net:[4026531840]"), Ok(NetnsChoice::Inode(4_026_531_840)));
        for name in ["blue", "/run/netns/blue", "/var/run/netns/blue"] {
            assert_eq!(parsed(name), Ok(NetnsChoice::Name("blue".to_owned())), "{name}");
        }
        assert_eq!(parsed("/proc/1/ns/net"), Ok(NetnsChoice::Path("/proc/1/ns/net".into())));
        assert_eq!(parsed("pid:1234"), Ok(NetnsChoice::Path("/proc/1234/ns/net".into())));
        assert_eq!(parsed("/run/netns/.."), Ok(NetnsChoice::Path("/run/netns/..".into())));
        for bad in ["", ".", "..", "a/b", "pid:", "pid:x", "pid:0", "pid:+1", "net:[x]"] {
            assert!(parsed(bad).unwrap_err().contains("pid:PID"), "{bad}");
        }
    }
}
