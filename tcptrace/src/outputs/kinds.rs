//! The kinds of outputs.
//!
//! A kind keeps its options in its own folder, next to the sink that uses them. To add one, implement [`Target`] there and
//! add its [`OutputKind`] to [`KINDS`].

#[cfg(feature = "kafka")]
use crate::outputs::kafka;
use crate::outputs::{
    alertmanager, exec, file, http, journald, otlp, standard, syslog,
    target::{OutputKind, Target},
    webhook,
};

/// Every kind of output.
pub const KINDS: &[OutputKind] = &[
    standard::KIND,
    file::KIND,
    journald::KIND,
    syslog::KIND,
    otlp::KIND,
    http::KIND,
    exec::KIND,
    webhook::KIND,
    alertmanager::KIND,
    #[cfg(feature = "kafka")]
    kafka::target::KIND,
    #[cfg(not(feature = "kafka"))]
    OutputKind {
        name: "kafka",
        form: "kafka:HOST:PORT/TOPIC",
        parse: |_| Err("this tcptrace is built without Kafka: build it with --features kafka".into()),
    },
];

/// Reads `KIND:TARGET`, or a path, which names a file to replace.
///
/// # Errors
/// If there is no such kind, or its target is wrong.
pub fn parse(text: &str) -> Result<Box<dyn Target>, String> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    match KINDS.iter().find(|kind| kind.name == name) {
        Some(kind) => (kind.parse)(rest),
        None if text == "/dev/stdout" => (standard::KIND.parse)(""),
        None if text.contains('/') || text.contains('.') && !text.contains(':') => Ok(file::replaced(text)),
        None => {
            let forms = KINDS.iter().map(|kind| kind.form).collect::<Vec<_>>().join(", ");
            Err(format!("unknown output `{text}`; known: {forms}"))
        }
    }
}
