//! Which network namespace a user selects.

use std::str::FromStr;

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
}

impl FromStr for NetnsChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = !text.is_empty() && !text.contains('/') && text != "." && text != "..";
        match text {
            "self" => Ok(Self::Own),
            _ if !is_name => Err(format!(
                "`{text}` is not a network namespace: give `self`, a name from `ip netns`, or an inode number"
            )),
            _ => Ok(digits(text).map_or_else(|| Self::Name(text.to_owned()), Self::Inode)),
        }
    }
}
