//! The outputs that a user wants, as data: from `--output KIND:TARGET,KEY=VALUE,…`, or from a table `[[output]]` of the
//! config file.

use std::{fmt::Display, iter, path::PathBuf, str::FromStr};

use super::{
    nearest,
    parse::{Where, choice},
};
use crate::{
    cli::{args::values::Format, parse::severity},
    findings::Kind,
    model::{
        filter::{self, End, EventName, Expr, Term, Test},
        number::size,
    },
    outputs::{
        FileSettings, Stdout, kinds,
        target::{Content, Target},
    },
    pipeline::record_filter::{RecordFilter, RecordKind},
};

/// An output that a user wants.
#[derive(Clone, Debug)]
pub struct OutputSpec {
    /// Kind and target as the user wrote them.
    pub name: String,
    /// Where records go.
    pub target: Box<dyn Target>,
    /// The format, if given for this output.
    pub format: Option<Format>,
    /// Which records it gets.
    pub wants: RecordFilter,
    /// Bound of its queue in bytes; beyond it the oldest records are dropped.
    pub queue_bytes: usize,
}

/// Default of `queue`.
const QUEUE_BYTES: usize = 8 << 20;
/// Bounds of `queue`.
const QUEUE_BOUNDS: (u64, u64) = (64 << 10, 1 << 30);

/// The keys of all outputs but Prometheus.
const COMMON: &[&str] = &[
    "records",
    "state",
    "port",
    "local-port",
    "remote-port",
    "address",
    "local-address",
    "remote-address",
    "where",
    "finding",
    "severity",
    "queue",
];

impl FromStr for OutputSpec {
    type Err = String;

    /// Parses `KIND:TARGET,KEY=VALUE,…`, where `+` separates several values of a key. Parts without `=` before the first
    /// pair belong to the target. A backslash makes the next comma, plus or backslash an ordinary character.
    fn from_str(text: &str) -> Result<Self, String> {
        let (to, pairs) = to_and_pairs(text)?;
        let mut spec = Self::new(&to)?;
        for (index, (key, values)) in pairs.iter().enumerate() {
            if pairs.iter().take(index).any(|(earlier, _)| earlier == key) {
                return Err(format!("{key} is given twice: join values with +"));
            }
            spec.set(key, values)?;
        }
        Ok(spec)
    }
}

impl OutputSpec {
    /// The output of `-o FILE`: a file that is replaced.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        let name = path.display().to_string();
        let target = Box::new(FileSettings { path, replace: true, ..FileSettings::default() });
        Self { name, target, format: None, wants: RecordFilter::default(), queue_bytes: QUEUE_BYTES }
    }

    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self { name: "stdout".into(), target: Box::new(Stdout), ..Self::file(PathBuf::new()) }
    }

    /// The output `to` with the default of each key.
    ///
    /// # Errors
    /// If there is no such kind of output.
    pub fn new(to: &str) -> Result<Self, String> {
        let target = kinds::parse(to)?;
        let is_hook = target.is_for_findings();
        let records = if is_hook { vec![RecordKind::Findings] } else { Vec::new() };
        let wants = RecordFilter { records, without_coverage: is_hook, ..RecordFilter::default() };
        Ok(Self { name: to.to_owned(), target, format: None, wants, queue_bytes: QUEUE_BYTES })
    }

    /// Sets a key of this output.
    ///
    /// # Errors
    /// If the output has no such key, or the value is wrong; the message names the key and the values it takes.
    pub fn set(&mut self, key: &str, values: &[String]) -> Result<(), String> {
        let common = if let Content::Scraped(_) = self.target.content() { &[] } else { COMMON };
        let known = || common.iter().chain(self.target.keys()).copied();
        if !known().any(|name| name == key) {
            return Err(format!("the output {} has no key `{key}`{}", self.name, nearest(key, known())));
        }
        self.set_known(key, values).map_err(|reason| format!("{key}: {reason}"))
    }

    /// The format that the name of its file says.
    pub(super) fn format_by_name(&self) -> Option<Format> {
        match self.target.extension()? {
            "json" | "jsonl" => Some(Format::Json),
            "csv" => Some(Format::Csv),
            "txt" => Some(Format::Text),
            _ => None,
        }
    }

    /// Splits an OTLP output in two, one for logs and one for metrics, which go to different URLs. Other outputs stay as
    /// they are.
    #[must_use]
    pub fn parts(self) -> Vec<Self> {
        let Some([(logs, to_logs), (metrics, to_metrics)]) = self.target.signals() else { return vec![self] };
        let part = |signal: &str, target, wants| Self {
            name: format!("{} {signal}", self.name),
            target,
            wants,
            ..self.clone()
        };
        let is_metrics = |kind: &RecordKind| *kind == RecordKind::Metrics;
        let records = &self.wants.records;
        let mut parts = Vec::new();
        if !records.iter().all(is_metrics) || records.is_empty() {
            parts.push(part(logs, to_logs, self.wants.clone()));
        }
        if records.iter().any(is_metrics) || records.is_empty() {
            let wants = RecordFilter { records: vec![RecordKind::Metrics], ..RecordFilter::default() };
            parts.push(part(metrics, to_metrics, wants));
        }
        parts
    }

    fn set_known(&mut self, key: &str, values: &[String]) -> Result<(), String> {
        let one = || match values {
            [one] => Ok(one.as_str()),
            _ => Err(format!("takes one value, not {}", values.len())),
        };
        let wants = &mut self.wants;
        match key {
            "records" => {
                wants.records = kinds(values)?;
                if wants.records.contains(&RecordKind::Metrics) && self.target.signals().is_none() {
                    return Err("only otlp:URL and prometheus:ADDRESS take metrics".into());
                }
                if self.target.takes_only_findings() && wants.records != [RecordKind::Findings] {
                    return Err("this output takes only findings".into());
                }
            }
            // Findings have no states of their own.
            "state" => wants.add(Expr::any([
                Expr::Test(Test::Event(vec![EventName::Finding])),
                filter::states(&values_of(values)?),
            ])),
            "port" => wants.add(filter::ports(End::Either, &values_of(values)?)),
            "local-port" => wants.add(filter::ports(End::Local, &values_of(values)?)),
            "remote-port" => wants.add(filter::ports(End::Remote, &values_of(values)?)),
            "address" => wants.add(filter::places(End::Either, &values_of(values)?)),
            "local-address" => wants.add(filter::places(End::Local, &values_of(values)?)),
            "remote-address" => wants.add(filter::places(End::Remote, &values_of(values)?)),
            // A list would be joined by +, which an expression does not contain outside of texts.
            "where" => wants.add(values.join("+").parse::<Where>()?.0),
            "finding" => wants.findings = all::<Kind>(values)?,
            "severity" => wants.severity = Some(severity(one()?)?),
            "queue" => {
                let bytes = size(one()?)?;
                let (least, most) = QUEUE_BOUNDS;
                let fits =
                    (least..=most).contains(&bytes).then_some(bytes).and_then(|bytes| usize::try_from(bytes).ok());
                self.queue_bytes = fits.ok_or("takes 64KiB to 1GiB")?;
            }
            "format" => self.format = Some(choice(one()?)?),
            _ if self.target.takes_several(key) => {
                values.iter().try_for_each(|value| self.target.set(key, value))?;
            }
            _ => self.target.set(key, one()?)?,
        }
        Ok(())
    }
}

/// A key of an output, and its values.
pub(crate) type Pair = (String, Vec<String>);

/// Splits `KIND:TARGET,KEY=VALUE+VALUE,…` into the target and its keys with their values.
///
/// # Errors
/// If a part is no pair.
pub(crate) fn to_and_pairs(text: &str) -> Result<(String, Vec<Pair>), String> {
    let mut to = String::new();
    let mut pairs: Vec<Pair> = Vec::new();
    for (index, part) in parts(text, ',').enumerate() {
        match part.split_once('=').filter(|_| index > 0) {
            Some((key, values)) => pairs.push((key.to_owned(), parts(values, '+').map(unescaped).collect())),
            None if pairs.is_empty() => {
                to += if index > 0 { "," } else { "" };
                to += &unescaped(part);
            }
            None => return Err(format!("`{part}` is not KEY=VALUE")),
        }
    }
    Ok((to, pairs))
}

/// The text with a backslash before each character that would separate it.
pub(super) fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| [Some('\\').filter(|_| [',', '+', '\\'].contains(&c)), Some(c)]).flatten().collect()
}

/// Splits at each separator that does not follow a backslash.
fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_escaped = false;
    text.split(move |c| {
        let separates = c == separator && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        separates
    })
}

/// Removes the backslashes that escape the next character.
fn unescaped(part: &str) -> String {
    let mut chars = part.chars();
    iter::from_fn(|| chars.next().and_then(|c| if c == '\\' { chars.next() } else { Some(c) })).collect()
}

fn all<T: FromStr>(values: &[String]) -> Result<Vec<T>, String>
where
    T::Err: ToString,
{
    values.iter().map(|value| value.parse().map_err(|error: T::Err| error.to_string())).collect()
}

/// Values that may be negated; a value may be a list with commas.
fn values_of<T: FromStr<Err: Display>>(values: &[String]) -> Result<Vec<Term<T>>, String> {
    values.iter().flat_map(|value| value.split(',')).map(str::parse).collect()
}

fn kinds(values: &[String]) -> Result<Vec<RecordKind>, String> {
    let mut kinds = Vec::new();
    for value in values {
        match RecordKind::ALL.into_iter().find(|kind| kind.name() == value) {
            Some(kind) => kinds.push(kind),
            None if value == "events" => kinds.extend(RecordKind::EVENTS),
            None => {
                let names = RecordKind::ALL.map(RecordKind::name).join(", ");
                return Err(format!("unknown kind of record `{value}`; known: events, {names}"));
            }
        }
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use crate::{findings::Severity, outputs::Compression};
    use std::time::Duration;

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
        assert_eq!(format!("{:?}", spec.target), format!("{want:?}"));
        assert_eq!((spec.format, spec.queue_bytes), (Some(Format::Json), 1 << 20));
        assert_eq!(spec.wants.records.len(), 5);
        assert_eq!(spec.wants.only.as_ref().unwrap().to_string(), "port in {80, 90-99}");
        assert_eq!(spec.wants.severity, Some(Severity::Warning));
        for path in ["out.json", "./out", "/tmp/a,b", "/tmp/a:b"] {
            let want = FileSettings { path: path.into(), replace: true, ..FileSettings::default() };
            assert_eq!(format!("{:?}", path.parse::<OutputSpec>().unwrap().target), format!("{want:?}"));
        }
        for (text, parts) in [
            ("stdout", &["stdout"][..]),
            ("-", &["-"]),
            ("journald,records=findings", &["journald"]),
            ("syslog:tcp:[::1]:6514", &["syslog:tcp:[::1]:6514"]),
            ("prometheus:9437", &["prometheus:9437"]),
            ("otlp:http://h:4318,timeout=3s", &["otlp:http://h:4318 logs", "otlp:http://h:4318 metrics"]),
            ("otlp:http://h:4318,records=metrics", &["otlp:http://h:4318 metrics"]),
            ("otlp:http://h:4318,records=findings", &["otlp:http://h:4318 logs"]),
            ("otlp:http://h:4318,records=findings+metrics", &["otlp:http://h:4318 logs", "otlp:http://h:4318 metrics"]),
        ] {
            let spec: OutputSpec = text.parse().unwrap();
            assert_eq!(spec.parts().iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), parts, "{text}");
        }
    }

    #[test]
    fn hooks_get_findings_unless_others_are_asked_for() {
        let records = |text: &str| text.parse::<OutputSpec>().unwrap().wants.records;
        for text in [
            "exec:/bin/true,arg=-x+a b,at-once=2,timeout=3s",
            "webhook:https://h/path?a=b,rate=off",
            "alertmanager:http://h:9093/am,label=a:b+c:d",
        ] {
            assert_eq!(records(text), [RecordKind::Findings], "{text}");
        }
        assert_eq!(records("exec:/bin/true,records=findings+resets"), [RecordKind::Findings, RecordKind::Resets]);
        let spec: OutputSpec = r"exec:/bin/true,arg=-x+a\+b\,c".parse().unwrap();
        assert!(format!("{spec:?}").contains(r#"arguments: ["-x", "a+b,c"]"#), "{spec:?}");
    }

    #[test]
    fn a_backslash_takes_the_next_character_for_itself() {
        let spec: OutputSpec = r"otlp:http://h/a\,b=c,ca=/x\+y\,z\\,port=1+2".parse().unwrap();
        assert_eq!(spec.name, "otlp:http://h/a,b=c");
        assert_eq!(spec.wants.only.as_ref().unwrap().to_string(), "port in {1, 2}");
        assert!(format!("{spec:?}").contains(r#"ca: Some("/x+y,z\\")"#), "{spec:?}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("nowhere", &["nowhere", "stdout", "file:PATH", "./nowhere"][..]),
            ("json", &["format", "--format json", "./json"]),
            ("http://127.0.0.1:4318", &["URL", "otlp:http://127.0.0.1:4318"]),
            ("file:", &["path"]),
            ("stdout,rotate-size=1", &["stdout has no key `rotate-size`"]),
            ("prometheus:9437,records=findings", &["no key `records`"]),
            ("prometheus:all", &["all"]),
            ("otlp:ftp://x", &["http://"]),
            ("otlp:http://x,compress=zstd", &["zstd", "gzip"]),
            ("syslog:nfs:x", &["nfs", "udp:HOST"]),
            ("file:/x,records=metrics", &["metrics", "otlp:URL"]),
            ("file:/x,rotat-size=1", &["rotat-size", "did you mean `rotate-size`"]),
            ("file:/x,records=event", &["records", "event", "transitions"]),
            ("file:/x,format=xml", &["format", "xml", "text, json, csv"]),
            ("file:/x,severity=bad", &["bad", "critical"]),
            ("file:/x,queue=1", &["queue", "64KiB"]),
            ("file:/x,keep=1+2", &["keep", "one value"]),
            ("file:/x,compress=rar", &["rar", "zstd"]),
            ("file:/x,rotate-every=1ms", &["rotate-every", "second"]),
            ("file:/x,finding=leak", &["leak", "close-wait-leak"]),
            ("file:/x,port=0-x", &["port"]),
            ("file:/x,keep=1,oops", &["oops", "KEY=VALUE"]),
            ("file:/x,keep=1,keep=2", &["keep", "twice"]),
            ("file:/x,keep=-1", &["keep", "number of files"]),
            ("exec:true", &["exec", "/"]),
            ("exec:/bin/true,rate=10/w", &["rate", "10/m"]),
            ("exec:/bin/true,at-once=0", &["at-once", "1 to 64"]),
            ("webhook:ftp://x", &["webhook", "http://"]),
            ("webhook:http://u:secret@x", &["put credentials in a header"]),
            ("alertmanager:localhost:9093", &["alertmanager", "http://localhost:9093"]),
            ("alertmanager:http://x,records=events", &["records", "only findings"]),
            ("alertmanager:http://x,label=a b:c", &["label", "letters, digits and _"]),
            ("alertmanager:http://x,generator-url=x", &["generator-url", "http://"]),
            ("file:/x,state=!LISTENN", &["state", "LISTENN", "the states are"]),
            ("file:/x,where=stat == LISTEN", &["where", "no field `stat`", "did you mean `state`"]),
        ] {
            let error = text.parse::<OutputSpec>().unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
    }
}
