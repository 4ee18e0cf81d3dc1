//! Formats messages by RFC 5424.

use std::fmt::Write as _;

use bytes::{BufMut as _, BytesMut};
use serde_json::{Map, Value};

use super::target::SyslogTarget;
use crate::outputs::{
    flat,
    words::{line, priority, subject},
};

/// Facility of system daemons (RFC 5424, section 6.2.1, table 1).
const DAEMON: u8 = 3;

/// Maximum length of names in RFC 5424, in bytes.
const HOSTNAME_MAX: usize = 255;
const MSGID_MAX: usize = 32;
const SD_NAME_MAX: usize = 32;

/// The parts of the header that are the same in all messages of this process.
pub(super) struct Header {
    hostname: String,
    sd_id: &'static str,
    process: u32,
}

impl Header {
    pub(super) fn new(hostname: &str, sd_id: &'static str, process: u32) -> Self {
        Self { hostname: ascii(hostname, HOSTNAME_MAX), sd_id, process }
    }

    /// Formats a record: all its fields as structured data, then the same as a sentence.
    pub(super) fn message(&self, record: &Map<String, Value>) -> String {
        let mut to = String::with_capacity(2048);
        let _ = write!(
            to,
            "<{}>1 {} {} tcptrace {} {} [{}",
            DAEMON * 8 + priority(record) as u8,
            timestamp(record),
            self.hostname,
            self.process,
            ascii(subject(record), MSGID_MAX),
            self.sd_id,
        ); // writing to memory does not fail
        flat::each(record, &mut |name, value| {
            to.push(' ');
            to.extend(name.chars().map(|c| if is_name(c) { c } else { '_' }).take(SD_NAME_MAX));
            to.push_str("=\"");
            for c in value.chars() {
                if matches!(c, '"' | '\\' | ']') {
                    to.push('\\');
                }
                to.push(c);
            }
            to.push('"');
        });
        to.push_str("] ");
        let words = line(record);
        if !words.is_ascii() {
            to.push('\u{feff}'); // marks the text as UTF-8 (RFC 5424, section 6.4)
        }
        to.push_str(&words);
        to
    }
}

/// The record's time with six decimals, the maximum of RFC 5424, or `-` if the time is unknown.
fn timestamp(record: &Map<String, Value>) -> String {
    let time = record.get("time").and_then(Value::as_str).unwrap_or_default();
    match time.strip_suffix('Z').and_then(|time| time.split_once('.')) {
        Some((seconds, decimals)) => ascii(&format!("{seconds}.{decimals:.6}Z"), 27),
        None => ascii(time, 27),
    }
}

/// A name for the header: invalid characters become `_`, an empty name `-`.
fn ascii(text: &str, max: usize) -> String {
    match text {
        "" => "-".to_owned(),
        text => text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(max).collect(),
    }
}

/// True if the character may appear in the name of a parameter (SD-NAME).
fn is_name(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '=' | ']' | '"')
}

/// Frames a message for a transport: over TCP its length in bytes comes first (RFC 6587, section 3.4.1).
pub(super) fn frame(to: &mut BytesMut, message: &str, target: &SyslogTarget) {
    if let SyslogTarget::Tcp(..) = target {
        to.put_slice(format!("{} ", message.len()).as_bytes());
    }
    to.put_slice(message.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> String {
        Header::new("web 1.example", "tcptrace@32473", 7).message(&flat::parse(json.as_bytes()).unwrap())
    }

    #[test]
    fn a_record_is_a_message() {
        let json = r#"{"event":"finding","time":"2026-03-04T05:07:08.250129999Z","finding":"close-wait-leak",
            "phase":"opened","severity":"warning","owner":{"pid":800,"command":"w\"e\\b]"},"count":3,"age_ns":null,
            "remote_address":null,"explanation":"x"}"#;
        assert_eq!(
            message(json),
            r#"<28>1 2026-03-04T05:07:08.250129Z web_1.example tcptrace 7 close-wait-leak [tcptrace@32473 event="finding" time="2026-03-04T05:07:08.250129999Z" finding="close-wait-leak" phase="opened" severity="warning" owner_pid="800" owner_command="w\"e\\b\]" count="3" explanation="x"] close-wait-leak opened: w"e\b][800] 3 sockets: x"#
        );
    }

    #[test]
    fn odd_records_are_valid_messages_too() {
        let odd = r#"{"event":"a b\u00e9","time":"2026","a=b]\"é":"ü\n","n23456789012345678901234567890123456":1}"#;
        assert_eq!(
            message(odd),
            "<30>1 2026 web_1.example tcptrace 7 a_b_ [tcptrace@32473 event=\"a bé\" time=\"2026\" a_b___=\"ü\\\\u{a}\" \
             n2345678901234567890123456789012=\"1\"] \u{feff}a bé: a=b]\"é ü\\u{a}, n23456789012345678901234567890123456 1"
        );
        assert_eq!(message("{}"), "<30>1 - web_1.example tcptrace 7 - [tcptrace@32473] -: ");
        assert_eq!(ascii("", 9), "-");
    }
}
