//! Writes the log messages of the BPF programs to stderr.

use crate::outputs::messages::info;

pub(crate) struct StderrLog;

impl log::Log for StderrLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        info(format_args!("bpf {}: {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}
