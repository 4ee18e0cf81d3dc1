//! The TCP settings in force: what each is for, its effect on this host, and when it is harmful.
//!
//! Most facts come from the kernel's Documentation/networking/ip-sysctl.rst; each setting names the kernel function that uses
//! it. A warning means that a value is harmful on nearly every host, not that it differs from the default.

mod behaviour;
mod limits;
mod times;

use super::sysctl::{HOST_WIDE, Sysctls, whole};
use crate::{
    cli::args::Area,
    commands::doctor::check::{Check, Status, Subject, Verdict},
};

/// A setting, or several that belong together.
struct Setting {
    id: &'static str,
    /// The settings whose values are shown; names without a dot are below `net.ipv4`. The first one must exist.
    shown: &'static [&'static str],
    meaning: &'static str,
    source: &'static str,
    /// The effect of the values; `None` if one of them is missing or not a number.
    judge: fn(&Sysctls) -> Option<Verdict>,
}

impl Setting {
    fn subject(&self) -> Subject {
        Subject { id: self.id, area: Area::Settings, meaning: self.meaning, source: self.source }
    }

    /// A single value alone, several with the parts of their names that differ.
    fn value(&self, sysctls: &Sysctls) -> Option<String> {
        let [first, rest @ ..] = self.shown else { return None };
        if rest.is_empty() {
            return sysctls.text(first);
        }
        let named = |name: &&str| {
            let short = name.strip_prefix(self.id).unwrap_or(name).trim_start_matches('_');
            Some(format!("{short} {}", sysctls.text(name)?))
        };
        self.shown.iter().map(named).collect::<Option<Vec<_>>>().map(|values| values.join(", "))
    }

    fn check(&self, sysctls: &Sysctls) -> Check {
        let value = self.value(sysctls);
        let verdict = (self.judge)(sysctls).unwrap_or_else(|| match (&value, self.shown) {
            (Some(_), _) => Verdict::unknown("not understood"),
            (None, [name, ..]) if HOST_WIDE.contains(name) => {
                Verdict::unknown("applies to the whole host, and is visible only in the initial network namespace")
            }
            (None, _) => Verdict::unknown("cannot be read here"),
        });
        self.subject().check(self.id, value, verdict)
    }
}

fn all() -> impl Iterator<Item = &'static Setting> {
    times::SETTINGS.iter().chain(limits::SETTINGS).chain(behaviour::SETTINGS)
}

/// Checks the settings in force.
pub(super) fn checks(sysctls: &Sysctls) -> Vec<Check> {
    let gone = |setting: &&Setting| setting.id == behaviour::TW_RECYCLE && !sysctls.has(setting.id);
    all().filter(|setting| !gone(setting)).map(|setting| setting.check(sysctls)).collect()
}

/// Full names of the settings that are checked.
pub(super) fn names() -> impl Iterator<Item = String> {
    all().flat_map(|setting| setting.shown).map(|name| whole(name))
}

/// The checks of settings that were read earlier, by full names. The memory of that machine is not known.
pub(crate) fn of_recording(values: &[(String, String)]) -> Vec<Check> {
    let sysctls = Sysctls { values: values.iter().cloned().collect(), page_bytes: 4096, memory_bytes: None };
    checks(&sysctls).into_iter().filter(|check| check.value.is_some()).collect()
}

/// The check of setting `name` if it were set to `value`, if that is harmful.
pub(super) fn harm(sysctls: &Sysctls, name: &str, value: &str) -> Option<Check> {
    let setting = all().find(|setting| setting.shown.contains(&name))?;
    Some(setting.check(&sysctls.with(name, value))).filter(|check| check.status == Status::Warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All settings as Linux 6.18 has them with 16 GiB of memory.
    pub(super) const DEFAULTS: &[(&str, &str)] = &[
        ("tcp_keepalive_time", "7200"),
        ("tcp_keepalive_intvl", "75"),
        ("tcp_keepalive_probes", "9"),
        ("tcp_fin_timeout", "60"),
        ("tcp_retries1", "3"),
        ("tcp_retries2", "15"),
        ("tcp_rto_max_ms", "120000"),
        ("tcp_orphan_retries", "0"),
        ("tcp_syn_retries", "6"),
        ("tcp_syn_linear_timeouts", "4"),
        ("tcp_synack_retries", "5"),
        ("tcp_max_orphans", "65536"),
        ("tcp_ehash_entries", "131072"),
        ("tcp_syncookies", "1"),
        ("net.core.somaxconn", "4096"),
        ("tcp_max_syn_backlog", "1024"),
        ("tcp_abort_on_overflow", "0"),
        ("tcp_tw_reuse", "2"),
        ("tcp_tw_reuse_delay", "1000"),
        ("ip_local_port_range", "32768\t60999"),
        ("ip_local_reserved_ports", ""),
        ("tcp_max_tw_buckets", "65536"),
        ("tcp_rfc1337", "0"),
        ("tcp_timestamps", "1"),
        ("tcp_sack", "1"),
        ("tcp_window_scaling", "1"),
        ("tcp_slow_start_after_idle", "1"),
        ("tcp_no_metrics_save", "0"),
        ("tcp_moderate_rcvbuf", "1"),
        ("tcp_mem", "187851\t250470\t375702"),
        ("tcp_rmem", "4096\t131072\t33554432"),
        ("tcp_wmem", "4096\t16384\t4194304"),
        ("tcp_mtu_probing", "0"),
        ("tcp_congestion_control", "cubic"),
    ];

    /// How the setting comes out where some differ from the defaults.
    pub(super) fn judged(id: &str, values: &[(&str, &str)]) -> Check {
        let sysctls = values.iter().fold(Sysctls::of(DEFAULTS), |all, (name, value)| all.with(name, value));
        checks(&sysctls).into_iter().find(|check| check.id == id).unwrap()
    }

    /// Asserts that exactly the values in `bad` are warned of, each with a remedy.
    pub(super) fn assert_warns(name: &str, good: &[&str], bad: &[&str]) {
        for (values, status) in [(good, Status::Ok), (bad, Status::Warning)] {
            for value in values {
                let check = judged(name.trim_start_matches("net.core."), &[(name, value)]);
                assert_eq!(check.status, status, "{value}: {check:?}");
                assert_eq!(check.remedy.is_some(), status == Status::Warning, "{check:?}");
            }
        }
    }

    #[test]
    fn the_defaults_are_fit_and_all_explained() {
        let checks = checks(&Sysctls::of(DEFAULTS));
        for check in &checks {
            assert_eq!(check.status, Status::Ok, "{check:?}");
            assert!(check.value.as_ref().is_some_and(|value| !value.is_empty()), "{check:?}");
            assert!(!check.meaning.is_empty() && !check.consequence.is_empty() && !check.source.is_empty());
        }
        assert_eq!(checks.len() + 1, all().count(), "all but tcp_tw_recycle");
    }

    #[test]
    fn what_cannot_be_read_or_understood_is_unknown() {
        let unknown = |sysctls: &Sysctls| checks(sysctls).iter().all(|check| check.status == Status::Unknown);
        assert!(unknown(&Sysctls::default()));
        for text in ["", "x", "-1", "99999999999999999999", "1 2 3 4", "\u{1b}[2J"] {
            let odd: Vec<_> = DEFAULTS.iter().map(|(name, _)| (*name, text)).collect();
            let odd = checks(&Sysctls::of(&odd));
            let known = odd.iter().filter(|check| check.status != Status::Unknown).map(|check| check.id);
            assert_eq!(known.collect::<Vec<_>>(), ["tcp_congestion_control"], "{text:?}");
        }
        for largest in [u64::MAX.to_string(), u32::MAX.to_string()] {
            for count in 1..=3 {
                let text = vec![largest.as_str(); count].join(" ");
                let large: Vec<_> = DEFAULTS.iter().map(|(name, _)| (*name, text.as_str())).collect();
                assert!(!checks(&Sysctls::of(&large)).is_empty()); // and nothing overflows
            }
        }
    }

    #[test]
    fn host_wide_settings_are_unknown_elsewhere() {
        let elsewhere = Sysctls::of(&[]);
        for check in checks(&elsewhere).iter().filter(|check| HOST_WIDE.contains(&check.id)) {
            assert!(check.consequence.contains("whole host"), "{check:?}");
        }
    }

    #[test]
    fn a_value_that_is_not_in_force_can_be_judged() {
        let sysctls = Sysctls::of(DEFAULTS);
        assert_eq!(harm(&sysctls, "tcp_syncookies", "1"), None);
        assert_eq!(harm(&sysctls, "tcp_syncookies", "0").unwrap().id, "tcp_syncookies");
        assert_eq!(harm(&sysctls, "tcp_keepalive_probes", "1").unwrap().id, "tcp_keepalive");
        assert_eq!(harm(&sysctls, "tcp_no_such", "0"), None);
    }
}
