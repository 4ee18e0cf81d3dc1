//! Outputs as they are asked for: by `--output KIND:TARGET,KEY=VALUE,…`, or by a table `[[output]]` of the config file.

use std::{path::PathBuf, str::FromStr, time::Duration};

use super::{
    args::Format,
    nearest,
    parse::{PortList, Prefix, duration, size},
};
use crate::{
    findings::{Kind, Severity},
    outputs::{Compression, FileSettings},
    route::{RecordKind, Wants},
    select,
    state::State,
};

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file.
    File(FileSettings),
}

/// An output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// Its kind and target, as they were written.
    pub name: String,
    /// Where it goes.
    pub target: Target,
    /// Its form, where one was asked for.
    pub format: Option<Format>,
    /// What is wanted.
    pub wants: Wants,
    /// Bytes that wait for it at most.
    pub queue_bytes: usize,
}

/// Bytes of records that wait for an output at most, where nothing else is said.
const QUEUE_BYTES: usize = 8 << 20;
/// The least and the most that can be said.
const QUEUE_BOUNDS: (u64, u64) = (64 << 10, 1 << 30);

/// The keys that all outputs have, and those of files.
const COMMON: &[&str] = &[
    "to",
    "records",
    "state",
    "port",
    "local-port",
    "remote-port",
    "address",
    "local-address",
    "remote-address",
    "finding",
    "severity",
    "queue",
];
const OF_TEXT: &[&str] = &["format"];
const OF_FILES: &[&str] = &["format", "replace", "rotate-size", "rotate-every", "keep", "compress"];

impl FromStr for OutputSpec {
    type Err = String;

    /// `KIND:TARGET,KEY=VALUE,…`; several values of a key by `+`. A part without `=` belongs to the target.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut to = String::new();
        let mut pairs: Vec<(String, Vec<String>)> = Vec::new();
        for (index, part) in text.split(',').enumerate() {
            match part.split_once('=').filter(|_| index > 0) {
                Some((key, values)) => pairs.push((key.to_owned(), values.split('+').map(str::to_owned).collect())),
                None if pairs.is_empty() => {
                    to += if index > 0 { "," } else { "" };
                    to += part;
                }
                None => return Err(format!("`{part}` is no KEY=VALUE")),
            }
        }
        Self::new(&to, &pairs)
    }
}

impl OutputSpec {
    /// A file that is replaced, as `-o FILE` has it.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        let name = path.display().to_string();
        let target = Target::File(FileSettings { path, replace: true, ..FileSettings::default() });
        Self { name, target, format: None, wants: Wants::default(), queue_bytes: QUEUE_BYTES }
    }

    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self { name: "stdout".into(), target: Target::Stdout, ..Self::file(PathBuf::new()) }
    }

    /// The output `to` with these values of its keys.
    ///
    /// # Errors
    /// That name the key and what it takes.
    pub fn new(to: &str, pairs: &[(String, Vec<String>)]) -> Result<Self, String> {
        let (kind, target) = to.split_once(':').unwrap_or((to, ""));
        let (target, own) = match kind {
            "stdout" if target.is_empty() => (Target::Stdout, OF_TEXT),
            "file" if !target.is_empty() => {
                (Target::File(FileSettings { path: target.into(), ..FileSettings::default() }), OF_FILES)
            }
            "file" => return Err(format!("`{to}` lacks a path: file:PATH")),
            // A path, as all tools take it.
            _ if to.contains('/') || to.contains('.') && !to.contains(':') => (Self::file(to.into()).target, OF_FILES),
            _ => {
                let known = ["stdout", "file:PATH"];
                return Err(format!("`{to}` is no output: there are {}", known.join(", ")));
            }
        };
        let mut spec =
            Self { name: to.to_owned(), target, format: None, wants: Wants::default(), queue_bytes: QUEUE_BYTES };
        for (key, values) in pairs {
            let known = || COMMON.iter().chain(own).copied();
            if !known().any(|name| name == key) {
                return Err(format!("an output {kind} has no key `{key}`{}", nearest(key, known())));
            }
            spec.set(key, values).map_err(|reason| format!("{key}: {reason}"))?;
        }
        Ok(spec)
    }

    fn set(&mut self, key: &str, values: &[String]) -> Result<(), String> {
        let one = || match values {
            [one] => Ok(one.as_str()),
            _ => Err(format!("takes one value, not {}", values.len())),
        };
        let wants = &mut self.wants;
        match (key, &mut self.target) {
            ("records", _) => wants.records = kinds(values)?,
            ("state", _) => wants.states = all::<State>(values)?.into_iter().collect(),
            ("port", _) => wants.ports.any = ports(values)?,
            ("local-port", _) => wants.ports.local = ports(values)?,
            ("remote-port", _) => wants.ports.remote = ports(values)?,
            ("address", _) => wants.addresses.any = prefixes(values)?,
            ("local-address", _) => wants.addresses.local = prefixes(values)?,
            ("remote-address", _) => wants.addresses.remote = prefixes(values)?,
            ("finding", _) => wants.findings = all::<Kind>(values)?,
            ("severity", _) => wants.severity = Some(severity(one()?)?),
            ("queue", _) => {
                let bytes = size(one()?)?;
                let (least, most) = QUEUE_BOUNDS;
                let fits =
                    (least..=most).contains(&bytes).then_some(bytes).and_then(|bytes| usize::try_from(bytes).ok());
                self.queue_bytes = fits.ok_or("takes 64KiB to 1GiB")?;
            }
            ("format", _) => self.format = Some(<Format as clap::ValueEnum>::from_str(one()?, false)?),
            ("replace", Target::File(file)) => {
                file.replace = one()?.parse().map_err(|_| "takes true or false")?;
            }
            ("rotate-size", Target::File(file)) => file.rotate_bytes = size(one()?)?,
            ("rotate-every", Target::File(file)) => {
                file.rotate_every = Some(duration(one()?)?)
                    .filter(|time| *time >= Duration::from_secs(1))
                    .ok_or("takes a second or more")?;
            }
            ("keep", Target::File(file)) => file.keep = one()?.parse().map_err(|_| "takes a number of files")?,
            ("compress", Target::File(file)) => {
                file.compression = match one()? {
                    "none" => Compression::None,
                    "gzip" => Compression::Gzip,
                    "zstd" => Compression::Zstd,
                    other => return Err(format!("`{other}` is no compression: there are none, gzip, zstd")),
                };
            }
            _ => return Err("does not fit this output".into()),
        }
        Ok(())
    }
}

fn all<T: FromStr>(values: &[String]) -> Result<Vec<T>, String>
where
    T::Err: ToString,
{
    values.iter().map(|value| value.parse().map_err(|error: T::Err| error.to_string())).collect()
}

fn ports(values: &[String]) -> Result<Vec<(u16, u16)>, String> {
    Ok(all::<PortList>(values)?.into_iter().flat_map(|list| list.0).collect())
}

fn prefixes(values: &[String]) -> Result<Vec<select::Prefix>, String> {
    Ok(all::<Prefix>(values)?.into_iter().map(|prefix| select::Prefix::new(prefix.address, prefix.bits)).collect())
}

fn kinds(values: &[String]) -> Result<Vec<RecordKind>, String> {
    let mut kinds = Vec::new();
    for value in values {
        match RecordKind::ALL.into_iter().find(|kind| kind.name() == value) {
            Some(kind) => kinds.push(kind),
            None if value == "events" => kinds.extend(RecordKind::EVENTS),
            None => {
                let names = RecordKind::ALL.map(RecordKind::name).join(", ");
                return Err(format!("`{value}` is no kind of record: there are events, {names}"));
            }
        }
    }
    Ok(kinds)
}

fn severity(text: &str) -> Result<Severity, String> {
    let all = [Severity::Info, Severity::Warning, Severity::Critical];
    all.into_iter()
        .find(|severity| severity.name() == text)
        .ok_or_else(|| format!("`{text}` is no severity: there are {}", all.map(Severity::name).join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read() {
        let spec: OutputSpec = "file:/var/log/t.json,records=findings+events,severity=warning,rotate-size=1MiB,\
                                rotate-every=1d,keep=7,compress=zstd,format=json,port=80+90-99,queue=1MiB"
            .parse()
            .unwrap();
        assert_eq!(spec.name, "file:/var/log/t.json");
        let want = FileSettings {
            path: "/var/log/t.json".into(),
            rotate_bytes: 1 << 20,
            rotate_every: Duration::from_secs(86_400),
            keep: 7,
            compression: Compression::Zstd,
            ..FileSettings::default()
        };
        assert_eq!(spec.target, Target::File(want));
        assert_eq!((spec.format, spec.queue_bytes), (Some(Format::Json), 1 << 20));
        assert_eq!(spec.wants.records.len(), 5);
        assert_eq!(spec.wants.ports.any, [(80, 80), (90, 99)]);
        assert_eq!(spec.wants.severity, Some(Severity::Warning));
        for path in ["out.json", "./out", "/tmp/a,b", "/tmp/a:b"] {
            let Target::File(file) = path.parse::<OutputSpec>().unwrap().target else { panic!("{path}") };
            assert!(file.replace && file.path == PathBuf::from(path), "{path}");
        }
        assert_eq!("stdout".parse(), Ok(OutputSpec::stdout()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("nowhere", &["nowhere", "stdout", "file:PATH"][..]),
            ("file:", &["path"]),
            ("stdout,rotate-size=1", &["stdout has no key `rotate-size`"]),
            ("file:/x,rotat-size=1", &["rotat-size", "did you mean `rotate-size`"]),
            ("file:/x,records=event", &["records", "event", "transitions"]),
            ("file:/x,severity=bad", &["bad", "critical"]),
            ("file:/x,queue=1", &["queue", "64KiB"]),
            ("file:/x,keep=1+2", &["keep", "one value"]),
            ("file:/x,compress=rar", &["rar", "zstd"]),
            ("file:/x,rotate-every=1ms", &["rotate-every", "second"]),
            ("file:/x,finding=leak", &["leak", "close-wait-leak"]),
            ("file:/x,port=0-x", &["port"]),
            ("file:/x,keep=1,oops", &["oops", "KEY=VALUE"]),
        ] {
            let error = text.parse::<OutputSpec>().unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
    }
}
