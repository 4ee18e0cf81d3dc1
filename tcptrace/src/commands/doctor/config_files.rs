//! The files that set TCP settings at boot (sysctl.d(5), sysctl.conf(5)): lines without effect, and harmful ones.

use std::collections::BTreeMap;

use super::{
    settings,
    sysctl::{HOST_WIDE, Sysctls},
};
use crate::{
    cli::args::Area,
    commands::doctor::check::{Check, Subject, Verdict},
};

/// A file with sysctl settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// The file's path.
    pub path: String,
    /// The content; `None` if it could not be read.
    pub text: Option<String>,
}

/// Settings that still exist but have no effect, and since which kernel (Documentation/networking/ip-sysctl.rst;
/// `net/ipv4/sysctl_net_ipv4.c`).
const WITHOUT_EFFECT: [(&str, &str); 2] = [("tcp_low_latency", "4.14"), ("tcp_fack", "4.15")];

const MEANING: &str = "a line that sets a TCP setting at boot";
const SOURCE: &str = "sysctl.d(5), sysctl.conf(5)";

/// A line that sets a value.
struct Line<'a> {
    place: String,
    /// Without `net.ipv4.`.
    name: String,
    value: &'a str,
}

/// Checks the lines of files that are read in this order; of several lines for one setting the last one counts.
pub(super) fn checks(files: &[ConfigFile], sysctls: &Sysctls) -> Vec<Check> {
    let lines: Vec<_> = files.iter().flat_map(lines).collect();
    let last: BTreeMap<_, _> = lines.iter().enumerate().map(|(at, line)| (line.name.as_str(), at)).collect();
    let mut checks: Vec<_> = files.iter().filter(|file| file.text.is_none()).map(unread).collect();
    for (at, line) in lines.iter().enumerate() {
        let value = Some(format!("{} = {}", line.name, line.value));
        if let Some((id, verdict)) = useless(line, sysctls) {
            checks.push(subject(id).check(&line.place, value, verdict));
        } else if last.get(line.name.as_str()) == Some(&at)
            && let Some(harm) = settings::harm(sysctls, &line.name, line.value)
        {
            let verdict = Verdict { status: harm.status, consequence: harm.consequence, remedy: harm.remedy };
            checks.push(subject("sysctl_harmful").check(&line.place, value, verdict));
        }
    }
    if checks.is_empty() {
        let value = format!("{} lines in {} files", lines.len(), files.len());
        let verdict = Verdict::ok("no TCP setting is harmful or without effect");
        checks.push(subject("sysctl_files").check("sysctl files", Some(value), verdict));
    }
    checks
}

const fn subject(id: &'static str) -> Subject {
    Subject { id, area: Area::Files, meaning: MEANING, source: SOURCE }
}

fn unread(file: &ConfigFile) -> Check {
    subject("sysctl_unread").check(&file.path, None, Verdict::unknown("cannot be read"))
}

/// The problem with a line whose setting does not exist or has no effect.
fn useless(line: &Line<'_>, sysctls: &Sysctls) -> Option<(&'static str, Verdict)> {
    let name = line.name.as_str();
    if let Some((_, since)) = WITHOUT_EFFECT.iter().find(|(other, _)| *other == name) {
        let verdict = Verdict::warning(format!("no effect since Linux {since}"), "remove the line");
        return Some(("sysctl_without_effect", verdict));
    }
    // If no setting can be read, it is not known which settings exist.
    if sysctls.has(name) || HOST_WIDE.contains(&name) || sysctls.values.is_empty() {
        return None;
    }
    let verdict = if name == "tcp_tw_recycle" {
        Verdict::warning(
            "no longer exists: Linux 4.12 removed it because it locked out clients behind a NAT",
            "remove the line; to reduce TIME_WAIT keep connections open, or set net.ipv4.tcp_tw_reuse=1",
        )
    } else {
        Verdict::warning("this kernel has no such setting", "remove the line, or check the name for typos")
    };
    Some(("sysctl_missing", verdict))
}

/// The lines of a file that set a TCP setting. Names may have dots or slashes, and a `-` before them; patterns are ignored.
fn lines(file: &ConfigFile) -> impl Iterator<Item = Line<'_>> {
    let numbered = file.text.as_deref().unwrap_or_default().lines().zip(1_u64..);
    numbered.filter_map(|(line, number)| {
        let (name, value) = line.split_once('=')?;
        let name = name.trim().trim_start_matches('-').trim().replace('/', ".");
        let name = match name.strip_prefix("net.ipv4.") {
            Some(name) if name.starts_with("tcp_") || name.starts_with("ip_local_") => name.to_owned(),
            _ if name == "net.core.somaxconn" => name,
            _ => return None,
        };
        let is_pattern = name.contains(['*', '?', '[']);
        (!is_pattern).then(|| Line { place: format!("{}:{number}", file.path), name, value: value.trim() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::check::Status;

    fn file(path: &str, text: &str) -> ConfigFile {
        ConfigFile { path: path.to_owned(), text: Some(text.to_owned()) }
    }

    fn told(files: &[ConfigFile]) -> Vec<(&'static str, String)> {
        let sysctls = Sysctls::of(&[("tcp_syncookies", "1"), ("tcp_fack", "0"), ("net.core.somaxconn", "4096")]);
        checks(files, &sysctls).into_iter().map(|check| (check.id, check.title)).collect()
    }

    #[test]
    fn lines_without_effect_are_named() {
        let text = "# net.ipv4.tcp_tw_recycle=1\n;net.ipv4.tcp_a=1\n\nnet.ipv4.tcp_tw_recycle = 1\n-net/ipv4/tcp_b=2\n\
                    net.ipv4.tcp_fack=1\nnet.ipv4.tcp_mem = 1 2 3\nnet.ipv4.conf.all.forwarding=1\nvm.swappiness=1\n\
                    net.ipv4.tcp_*=1\nnet.ipv4.tcp_syncookies\n=\n";
        assert_eq!(
            told(&[file("/a", text)]),
            [
                ("sysctl_missing", "/a:4".to_owned()),
                ("sysctl_missing", "/a:5".to_owned()),
                ("sysctl_without_effect", "/a:6".to_owned())
            ]
        );
    }

    #[test]
    fn of_harmful_lines_the_last_counts() {
        let harmful = "net.ipv4.tcp_syncookies=0\nnet.core.somaxconn=128\n";
        assert_eq!(
            told(&[file("/a", harmful)]),
            [("sysctl_harmful", "/a:1".to_owned()), ("sysctl_harmful", "/a:2".to_owned())]
        );
        let better = file("/b", "net/ipv4/tcp_syncookies = 1");
        assert_eq!(told(&[file("/a", harmful), better.clone()]), [("sysctl_harmful", "/a:2".to_owned())]);
        assert_eq!(told(&[better, file("/a", harmful)]).len(), 2);
    }

    #[test]
    fn nothing_found_is_one_line() {
        assert_eq!(told(&[]), [("sysctl_files", "sysctl files".to_owned())]);
        let unread = ConfigFile { path: "/etc/sysctl.d/x.conf".to_owned(), text: None };
        let checks = checks(&[unread], &Sysctls::default());
        assert_eq!((checks.len(), checks[0].status, &*checks[0].title), (1, Status::Unknown, "/etc/sysctl.d/x.conf"));
        let missing = file("/a", "net.ipv4.tcp_no_such=1");
        assert_eq!(super::checks(&[missing], &Sysctls::default())[0].status, Status::Ok, "nothing tells what there is");
    }
}
