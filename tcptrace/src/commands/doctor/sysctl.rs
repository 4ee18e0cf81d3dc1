//! The kernel's settings as text, by name.

use std::collections::BTreeMap;

/// Settings of `net.ipv4` that apply to the whole host and are visible only in the initial network namespace
/// (`net/ipv4/sysctl_net_ipv4.c`, `ipv4_table`).
pub(super) const HOST_WIDE: [&str; 4] = ["tcp_available_ulp", "tcp_low_latency", "tcp_max_orphans", "tcp_mem"];

/// The settings in force, and facts that are needed to interpret them.
#[derive(Clone, Debug, Default)]
pub struct Sysctls {
    /// Content of each readable file below `/proc/sys`, by its name with dots.
    pub values: BTreeMap<String, String>,
    /// Size of a page in bytes.
    pub page_bytes: u64,
    /// Memory of the machine in bytes, if known.
    pub memory_bytes: Option<u64>,
}

/// The full name; a name without a dot is below `net.ipv4`.
pub(super) fn whole(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("net.ipv4.{name}") }
}

impl Sysctls {
    /// The value, with single spaces between its words.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        let text = self.values.get(&whole(name))?;
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// The value as a number that is not negative.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// The value as exactly `N` numbers.
    #[must_use]
    pub fn numbers<const N: usize>(&self, name: &str) -> Option<[u64; N]> {
        let text = self.text(name)?;
        let numbers: Option<Vec<_>> = text.split(' ').map(|word| word.parse().ok()).collect();
        numbers?.try_into().ok()
    }

    /// True if the kernel has this setting.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(&whole(name))
    }

    /// A copy in which this setting is `value`.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.values.insert(whole(name), value.to_owned());
        other
    }

    /// Number of buckets of the TCP socket table, from which the kernel computes default limits (`net/ipv4/tcp_ipv4.c`,
    /// `tcp_set_hashinfo`; `net/ipv4/tcp.c`, `tcp_init`). Visible since 6.1, as a negative number if namespaces share it.
    #[must_use]
    pub fn table_buckets(&self) -> Option<u64> {
        self.text("tcp_ehash_entries")?.parse().ok().map(i64::unsigned_abs)
    }
}

#[cfg(test)]
impl Sysctls {
    /// From names and values.
    pub(super) fn of(values: &[(&str, &str)]) -> Self {
        let values = values.iter().map(|(name, value)| (whole(name), (*value).to_owned())).collect();
        Self { values, page_bytes: 4096, memory_bytes: Some(8 << 30) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_what_they_are() {
        let sysctls = Sysctls::of(&[
            ("tcp_mem", "1\t2\t3\n"),
            ("net.core.somaxconn", "4096\n"),
            ("tcp_sack", "-1"),
            ("tcp_x", ""),
            ("tcp_ehash_entries", "-1024\n"),
        ]);
        assert_eq!(sysctls.text("tcp_mem").unwrap(), "1 2 3");
        assert_eq!(sysctls.numbers("tcp_mem"), Some([1, 2, 3]));
        assert_eq!(sysctls.numbers::<2>("tcp_mem"), None);
        assert_eq!(sysctls.number("net.core.somaxconn"), Some(4096));
        assert_eq!(sysctls.table_buckets(), Some(1024));
        for none in ["tcp_mem", "tcp_sack", "tcp_x", "tcp_missing"] {
            assert_eq!(sysctls.number(none), None, "{none}");
        }
        assert_eq!(sysctls.with("tcp_sack", "1").number("tcp_sack"), Some(1));
    }
}
