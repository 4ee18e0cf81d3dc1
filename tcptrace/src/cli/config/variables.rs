//! Environment variables: `TCPTRACE_` and the name of a key in capitals.

use std::ffi::OsStr;

use serde::{Deserialize as _, de::value::MapDeserializer};

use super::{
    keys::Keys,
    layer::{Layer, Notice, Place, fields},
};

/// Prefix of all variables.
pub(super) const PREFIX: &str = "TCPTRACE_";

/// Variables that are read elsewhere.
pub(crate) const SECRETS: [&str; 5] = [
    "TCPTRACE_OTLP_HEADERS",
    "TCPTRACE_KAFKA_PASSWORD",
    "TCPTRACE_WEBHOOK_HEADERS",
    "TCPTRACE_WEBHOOK_URL",
    "TCPTRACE_ALERTMANAGER_HEADERS",
];

/// The settings of a variable; `None` if it is not one of ours.
pub(super) fn read(name: &str, value: &OsStr, notices: &mut Vec<Notice>) -> Result<Option<Layer>, String> {
    let is_it = |field: &&str| name.strip_prefix(PREFIX) == Some(&field.to_ascii_uppercase());
    let text = value.to_str();
    if SECRETS.contains(&name) || is_service_link(name, text.unwrap_or_default()) {
        return Ok(None);
    }
    let Some(field) = fields().find(is_it) else {
        if let Some(known) = mistyped(name) {
            return Err(format!("unknown: did you mean {known}?"));
        }
        let text =
            format!("variable {name} has no effect: no setting has that name (`tcptrace config show` lists all)");
        notices.push(Notice::Warning(text));
        return Ok(None);
    };
    let value = text.ok_or("not valid UTF-8")?;
    let lines = value.lines().filter(|line| !line.trim().is_empty());
    if field == "output" {
        let words: Vec<_> = lines.map(str::to_owned).collect();
        let outputs = words.iter().map(|line| line.parse()).collect::<Result<_, _>>()?;
        return Ok(Some(Layer { keys: Keys::default(), outputs, place: Place::Variable(name.to_owned(), words) }));
    }
    let pair = MapDeserializer::<_, serde::de::value::Error>::new([(field.replace('_', "-"), value)].into_iter());
    let keys = Keys::deserialize(pair).map_err(|error| error.to_string())?;
    Ok(Some(Layer { keys, outputs: Vec::new(), place: Place::Variable(name.to_owned(), vec![value.to_owned()]) }))
}

/// The variable that an unknown name was probably meant to be: at most two letters differ. More distant names may belong to
/// other programs.
fn mistyped(name: &str) -> Option<String> {
    let letters = name.len() - PREFIX.len();
    let wrong = |known: &String| strsim::osa_distance(&name.to_ascii_uppercase(), known);
    let known = fields().chain(["config"]).map(|field| PREFIX.to_owned() + &field.to_ascii_uppercase());
    let known = known.chain(SECRETS.map(str::to_owned));
    known.min_by_key(wrong).filter(|known| known != name && wrong(known) <= (letters / 3).min(2))
}

/// Is it one of those that Kubernetes sets in each pod for services whose name begins with `tcptrace`
/// (`TCPTRACE_PORT=tcp://10.96.0.7:9437`, `TCPTRACE_SERVICE_HOST`)?
fn is_service_link(name: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];
    let is_address = || PROTOCOLS.iter().any(|protocol| value.starts_with(&format!("{protocol}://")));
    // As in TCPTRACE_PORT_9437_TCP_ADDR.
    let is_port = |rest: &str| {
        let (port, rest) = rest.split_once('_').unwrap_or_default();
        !port.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && PROTOCOLS.iter().any(|protocol| rest.starts_with(&protocol.to_uppercase()))
    };
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT") && is_address()
        || name.split("_PORT_").skip(1).any(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_sets_is_no_setting() {
        for (name, value, want) in [
            ("TCPTRACE_PORT", "tcp://10.96.0.7:9437", true),
            ("TCPTRACE_PORT", "9437", false),
            ("TCPTRACE_SERVICE_HOST", "10.96.0.7", true),
            ("TCPTRACE_SERVICE_PORT_METRICS", "9437", true),
            ("TCPTRACE_WEB_SERVICE_HOST", "10.96.0.7", true),
            ("TCPTRACE_PORT_9437_TCP", "tcp://10.96.0.7:9437", true),
            ("TCPTRACE_PORT_9437_TCP_ADDR", "10.96.0.7", true),
            ("TCPTRACE_WEB_PORT_9437_UDP_PORT", "9437", true),
            ("TCPTRACE_LOCAL_PORT", "80", false),
            ("TCPTRACE_PORT_A_TCP", "80", false),
            ("TCPTRACE_PORT_", "80", false),
        ] {
            assert_eq!(is_service_link(name, value), want, "{name}={value}");
        }
    }
}
