//! The kinds of outputs, with the keys of each.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::parse::{duration, size};
#[cfg(feature = "kafka")]
use crate::outputs::{KafkaSettings, Sasl, SaslMechanism};
use crate::{
    model::number::digits,
    outputs::{Compression, FileSettings, OtlpHeaders, OtlpSettings, SyslogTarget, http},
};

/// Where an output goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, appended to or replaced, with or without rotation.
    File(FileSettings),
    /// The systemd journal, through this socket; `None` for journald's usual one.
    Journald(Option<PathBuf>),
    /// A syslog server.
    Syslog(SyslogTarget),
    /// An OpenTelemetry collector, for logs and metrics.
    Otlp(OtlpSettings),
    /// An OpenTelemetry collector, for logs only.
    OtlpLogs(OtlpSettings),
    /// An OpenTelemetry collector, for metrics only.
    OtlpMetrics(OtlpSettings),
    /// An HTTP server at this address that Prometheus scrapes.
    Prometheus(SocketAddr),
    /// A Kafka topic.
    #[cfg(feature = "kafka")]
    Kafka(KafkaSettings),
}

// Secrets come from variables, because a command line and a config file can be read by others.
/// Variables with the HTTP headers for OTLP; the first that is set counts.
const OTLP_HEADERS: [&str; 2] = ["TCPTRACE_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
/// Variable with the password for SASL.
#[cfg(feature = "kafka")]
const KAFKA_PASSWORD: &str = "TCPTRACE_KAFKA_PASSWORD";

impl Target {
    /// All forms, for messages.
    pub const FORMS: &str = "stdout, file:PATH, journald, syslog:unix|udp:HOST|tcp:HOST, otlp:URL, prometheus:ADDRESS, \
                             kafka:HOST:PORT/TOPIC";

    /// Parses `KIND:…`, or a path to a file that is replaced.
    ///
    /// # Errors
    /// If the kind is unknown, or what follows is wrong.
    pub fn new(to: &str) -> Result<Self, String> {
        let (kind, rest) = to.split_once(':').unwrap_or((to, ""));
        let file =
            |path: &str, replace| Self::File(FileSettings { path: path.into(), replace, ..FileSettings::default() });
        match kind {
            "stdout" | "/dev/stdout" if rest.is_empty() => Ok(Self::Stdout),
            "file" if rest.is_empty() => Err(format!("`{to}` has no path: give file:PATH")),
            "file" => Ok(file(rest, false)),
            "journald" => Ok(Self::Journald(Some(rest).filter(|path| !path.is_empty()).map(PathBuf::from))),
            "syslog" => rest.parse().map(Self::Syslog).map_err(|error| format!("{error}")),
            "otlp" => Ok(Self::Otlp(otlp(rest)?)),
            "prometheus" => http::parse_address(rest).map(Self::Prometheus).map_err(|error| error.to_string()),
            #[cfg(feature = "kafka")]
            "kafka" => KafkaSettings::new(rest).map(Self::Kafka).map_err(|error| format!("`{to}`: {error}")),
            #[cfg(not(feature = "kafka"))]
            "kafka" => Err("this tcptrace was built without Kafka: build it with --features kafka".into()),
            // A path, as `-o` takes it in most tools.
            _ if to.contains('/') || to.contains('.') && !to.contains(':') => Ok(file(to, true)),
            _ => Err(format!("unknown output `{to}`; known: {}", Self::FORMS)),
        }
    }

    /// The keys of this kind of output, in addition to those that all outputs have.
    #[must_use]
    pub const fn keys(&self) -> &'static [&'static str] {
        match self {
            Self::Stdout => &["format"],
            Self::File(_) => &["format", "replace", "rotate-size", "rotate-every", "keep", "compress"],
            Self::Journald(_) | Self::Syslog(_) | Self::Prometheus(_) => &[],
            Self::Otlp(_) | Self::OtlpLogs(_) | Self::OtlpMetrics(_) => &["compress", "timeout", "ca"],
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => &["compress", "timeout", "ca", "tls", "sasl", "user"],
        }
    }

    /// Sets one of [`Target::keys`] other than `format`.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match self {
            Self::File(file) => set_file(file, key, value),
            Self::Otlp(settings) => {
                match key {
                    "compress" => settings.gzip = is_gzip(value)?,
                    "timeout" => settings.timeout = duration(value)?,
                    _ => settings.ca = Some(value.into()),
                }
                Ok(())
            }
            #[cfg(feature = "kafka")]
            Self::Kafka(settings) => set_kafka(settings, key, value),
            _ => Err("this output has no such key".into()),
        }
    }
}

fn otlp(url: &str) -> Result<OtlpSettings, String> {
    let mut settings = OtlpSettings::new(url).map_err(|error| format!("otlp: {error}"))?;
    if let Some((name, headers)) = OTLP_HEADERS.iter().find_map(|name| Some((name, std::env::var(name).ok()?))) {
        settings.headers = OtlpHeaders::parse(&headers).map_err(|error| format!("${name}: {error}"))?;
    }
    Ok(settings)
}

fn set_file(file: &mut FileSettings, key: &str, value: &str) -> Result<(), String> {
    match key {
        "replace" => file.replace = flag(value)?,
        "rotate-size" => file.rotate_bytes = size(value)?,
        "rotate-every" => {
            let time = Some(duration(value)?).filter(|time| *time >= Duration::from_secs(1));
            file.rotate_every = time.ok_or("takes one second or more")?;
        }
        "keep" => file.keep = digits(value).ok_or("takes a number of files")?,
        _ => {
            file.compression = match value {
                "none" => Compression::None,
                "gzip" => Compression::Gzip,
                "zstd" => Compression::Zstd,
                other => return Err(format!("unknown compression `{other}`; known: none, gzip, zstd")),
            };
        }
    }
    Ok(())
}

#[cfg(feature = "kafka")]
fn set_kafka(settings: &mut KafkaSettings, key: &str, value: &str) -> Result<(), String> {
    let sasl = |settings: &mut KafkaSettings| {
        let password =
            std::env::var(KAFKA_PASSWORD).map_err(|_| format!("set the variable {KAFKA_PASSWORD} to the password"))?;
        let new = Sasl { mechanism: SaslMechanism::ScramSha256, user: String::new(), password };
        Ok::<_, String>(settings.sasl.take().unwrap_or(new))
    };
    match key {
        "compress" => settings.gzip = is_gzip(value)?,
        "timeout" => settings.timeout = duration(value)?,
        "ca" => settings.ca = Some(value.into()),
        "tls" => settings.tls = flag(value)?,
        "user" => settings.sasl = Some(Sasl { user: value.to_owned(), ..sasl(settings)? }),
        _ => {
            let mechanism = match value {
                "plain" => SaslMechanism::Plain,
                "scram-sha-256" => SaslMechanism::ScramSha256,
                "scram-sha-512" => SaslMechanism::ScramSha512,
                other => {
                    return Err(format!("unknown mechanism `{other}`; known: plain, scram-sha-256, scram-sha-512"));
                }
            };
            settings.sasl = Some(Sasl { mechanism, ..sasl(settings)? });
        }
    }
    Ok(())
}

fn flag(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "takes true or false".into())
}

fn is_gzip(value: &str) -> Result<bool, String> {
    match value {
        "none" => Ok(false),
        "gzip" => Ok(true),
        other => Err(format!("unknown compression `{other}` for this output; known: none, gzip")),
    }
}
