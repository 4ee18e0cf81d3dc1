//! Where outputs go, and the keys that each kind has.

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
    /// A file.
    File(FileSettings),
    /// The journal; `None`: where journald listens.
    Journald(Option<PathBuf>),
    /// A syslog server.
    Syslog(SyslogTarget),
    /// An OpenTelemetry collector, for logs and metrics.
    Otlp(OtlpSettings),
    /// The same for logs alone.
    OtlpLogs(OtlpSettings),
    /// The same for metrics alone.
    OtlpMetrics(OtlpSettings),
    /// A server of metrics for Prometheus at this address.
    Prometheus(SocketAddr),
    /// A Kafka topic.
    #[cfg(feature = "kafka")]
    Kafka(KafkaSettings),
}

/// The variables that hold what is secret, so that neither a command line nor a file does.
const OTLP_HEADERS: [&str; 2] = ["TCPTRACE_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
#[cfg(feature = "kafka")]
const KAFKA_PASSWORD: &str = "TCPTRACE_KAFKA_PASSWORD";

impl Target {
    /// All that there are, as a message tells them.
    pub const FORMS: &str = "stdout, file:PATH, journald, syslog:unix|udp:HOST|tcp:HOST, otlp:URL, prometheus:ADDRESS, \
                             kafka:HOST:PORT/TOPIC";

    /// The target that `to` names, as `KIND:…` or a path, which is replaced.
    ///
    /// # Errors
    /// Where it names none, or what it names is wrong.
    pub fn new(to: &str) -> Result<Self, String> {
        let (kind, rest) = to.split_once(':').unwrap_or((to, ""));
        let file =
            |path: &str, replace| Self::File(FileSettings { path: path.into(), replace, ..FileSettings::default() });
        match kind {
            "stdout" | "/dev/stdout" if rest.is_empty() => Ok(Self::Stdout),
            "file" if rest.is_empty() => Err(format!("`{to}` lacks a path: file:PATH")),
            "file" => Ok(file(rest, false)),
            "journald" => Ok(Self::Journald(Some(rest).filter(|path| !path.is_empty()).map(PathBuf::from))),
            "syslog" => rest.parse().map(Self::Syslog).map_err(|error| format!("{error}")),
            "otlp" => Ok(Self::Otlp(otlp(rest)?)),
            "prometheus" => http::parse_address(rest).map(Self::Prometheus).map_err(|error| error.to_string()),
            #[cfg(feature = "kafka")]
            "kafka" => KafkaSettings::new(rest).map(Self::Kafka).map_err(|error| format!("`{to}`: {error}")),
            #[cfg(not(feature = "kafka"))]
            "kafka" => Err("this tcptrace is built without Kafka: build it with --features kafka".into()),
            // A path, as all tools take it.
            _ if to.contains('/') || to.contains('.') && !to.contains(':') => Ok(file(to, true)),
            _ => Err(format!("`{to}` is no output: there are {}", Self::FORMS)),
        }
    }

    /// The keys that only this kind has.
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

    /// Sets one of these, but `format`.
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
            _ => Err("does not fit this output".into()),
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
            file.rotate_every = time.ok_or("takes a second or more")?;
        }
        "keep" => file.keep = digits(value).ok_or("takes a number of files")?,
        _ => {
            file.compression = match value {
                "none" => Compression::None,
                "gzip" => Compression::Gzip,
                "zstd" => Compression::Zstd,
                other => return Err(format!("`{other}` is no compression: there are none, gzip, zstd")),
            };
        }
    }
    Ok(())
}

#[cfg(feature = "kafka")]
fn set_kafka(settings: &mut KafkaSettings, key: &str, value: &str) -> Result<(), String> {
    let sasl = |settings: &mut KafkaSettings| {
        let password = std::env::var(KAFKA_PASSWORD)
            .map_err(|_| format!("the password is to be in the variable {KAFKA_PASSWORD}"))?;
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
                    return Err(format!("`{other}` is unknown: there are plain, scram-sha-256, scram-sha-512"));
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
        other => Err(format!("`{other}` is no compression here: there are none, gzip")),
    }
}
