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

/// Reads `KIND:TARGET`, `-` for standard output, or a path, which names a file to replace.
///
/// # Errors
/// If there is no such kind, its target is wrong, or the text is clearly meant as something else: a format or a URL.
pub fn parse(text: &str) -> Result<Box<dyn Target>, String> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    match KINDS.iter().find(|kind| kind.name == name) {
        Some(kind) => (kind.parse)(rest),
        None if matches!(text, "-" | "/dev/stdout") => (standard::KIND.parse)(""),
        None if matches!(name, "http" | "https") => {
            Err(format!("`{text}` is a URL: put the kind of output before it, for example otlp:{text}"))
        }
        None if is_path(text) => Ok(file::replaced(text)),
        None if matches!(text, "text" | "json" | "csv") => {
            Err(format!("`{text}` is a format: use --format {text}; for a file of that name write ./{text}"))
        }
        None => Err(format!("unknown output `{text}`; known: {}; for a file write ./{text}", forms())),
    }
}

/// True if it can only be a path: a kind of output has neither slash nor dot.
fn is_path(text: &str) -> bool {
    text.contains('/') || text.contains('.') && !text.contains(':')
}

/// What users write for each kind, separated by commas.
#[must_use]
pub fn forms() -> String {
    KINDS.iter().map(|kind| kind.form).collect::<Vec<_>>().join(", ")
}
