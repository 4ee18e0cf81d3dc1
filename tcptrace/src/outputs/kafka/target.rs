//! Kafka as a target of `--output`.

use std::{env, io};

use crate::{
    model::number::duration,
    outputs::{
        kafka::{
            Kafka,
            settings::{KafkaSettings, Sasl, SaslMechanism},
        },
        sink::Sink,
        target::{OutputKind, Target, flag, is_gzip},
    },
};

/// The kind `kafka`.
pub(in crate::outputs) const KIND: OutputKind = OutputKind {
    name: "kafka",
    form: "kafka:HOST:PORT/TOPIC",
    parse: |rest| match KafkaSettings::new(rest) {
        Ok(settings) => Ok(Box::new(settings)),
        Err(error) => Err(format!("`kafka:{rest}`: {error}")),
    },
};

/// The variable with the password, which belongs neither on a command line nor in a file.
const PASSWORD: &str = "TCPTRACE_KAFKA_PASSWORD";

impl KafkaSettings {
    /// How tcptrace authenticates, to be completed.
    fn new_sasl(&mut self) -> Result<Sasl, String> {
        let password = env::var(PASSWORD).map_err(|_| format!("the password is to be in the variable {PASSWORD}"))?;
        let new = Sasl { mechanism: SaslMechanism::ScramSha256, user: String::new(), password };
        Ok(self.sasl.take().unwrap_or(new))
    }
}

impl Target for KafkaSettings {
    fn keys(&self) -> &'static [&'static str] {
        &["compress", "timeout", "ca", "tls", "sasl", "user"]
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "compress" => self.gzip = is_gzip(value)?,
            "timeout" => self.timeout = duration(value)?,
            "ca" => self.ca = Some(value.into()),
            "tls" => self.tls = flag(value)?,
            "user" => self.sasl = Some(Sasl { user: value.to_owned(), ..self.new_sasl()? }),
            _ => {
                let mechanism = match value {
                    "plain" => SaslMechanism::Plain,
                    "scram-sha-256" => SaslMechanism::ScramSha256,
                    "scram-sha-512" => SaslMechanism::ScramSha512,
                    other => {
                        return Err(format!("`{other}` is unknown: there are plain, scram-sha-256, scram-sha-512"));
                    }
                };
                self.sasl = Some(Sasl { mechanism, ..self.new_sasl()? });
            }
        }
        Ok(())
    }

    fn open(&self) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(Kafka::new(self.clone()).map_err(io::Error::other)?))
    }

    fn boxed(&self) -> Box<dyn Target> {
        Box::new(self.clone())
    }
}
