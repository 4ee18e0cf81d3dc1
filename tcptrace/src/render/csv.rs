//! Events or findings as CSV (RFC 4180). The first line names the columns; fields that a record does not have are empty.

use bytes::{BufMut, BytesMut};
use serde_json::Value;

use super::{fields, json};
use crate::{
    findings::Finding,
    model::{event::Event, printable::escaped, time::WallFormat},
    render::{
        context::Context,
        fields::{Field, FieldValue},
        finding_columns::FindingColumn,
        json::{finding_value, text_time},
    },
};

/// What the rows are: all rows of a file have the same columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// Events.
    #[default]
    Events,
    /// Findings.
    Findings,
}

/// Writes records as CSV.
pub struct Csv {
    rows: Rows,
    time: WallFormat,
    header_written: bool,
    line: Vec<u8>,
    /// The columns of findings.
    columns: Vec<FindingColumn>,
}

impl Default for Csv {
    fn default() -> Self {
        Self::new(Rows::Events)
    }
}

impl Csv {
    /// A writer of such rows.
    #[must_use]
    pub fn new(rows: Rows) -> Self {
        Self {
            rows,
            time: WallFormat::rfc3339(),
            header_written: false,
            line: Vec::new(),
            columns: FindingColumn::ALL.to_vec(),
        }
    }

    /// A writer of findings with these columns; all if there are none.
    #[must_use]
    pub fn findings(columns: &[FindingColumn]) -> Self {
        let mut csv = Self::new(Rows::Findings);
        if !columns.is_empty() {
            csv.columns = columns.to_vec();
        }
        csv
    }

    /// A writer without the first line, which is [`Csv::head`].
    #[must_use]
    pub fn headless(self) -> Self {
        Self { header_written: true, ..self }
    }

    /// The line that names the columns.
    #[must_use]
    pub fn head(mut self) -> Vec<u8> {
        let mut to = BytesMut::new();
        self.header(&mut to);
        to.to_vec()
    }

    /// Writes the first line unless it was written before.
    pub fn header(&mut self, to: &mut BytesMut) {
        match self.rows {
            Rows::Events => self.names(to, Field::ALL.iter().map(|field| field.name())),
            Rows::Findings => {
                let columns = std::mem::take(&mut self.columns);
                self.names(to, columns.iter().map(|column| column.name()));
                self.columns = columns;
            }
        }
    }

    /// True if its rows are findings.
    #[must_use]
    pub fn has_findings(&self) -> bool {
        self.rows == Rows::Findings
    }

    /// Writes a finding, if that is what the rows are.
    pub fn finding(&mut self, to: &mut BytesMut, finding: &Finding, context: &mut Context) {
        if self.rows != Rows::Findings {
            return;
        }
        self.header(to);
        let time = text_time(&mut self.time, context.wall, finding.time_ns);
        let value = finding_value(finding, &time, &mut context.names);
        for (index, column) in self.columns.iter().enumerate() {
            to.extend((index > 0).then_some(b','));
            match column.of(&value) {
                Value::Null => {}
                Value::String(text) => self::text(to, text),
                value @ (Value::Array(_) | Value::Object(_)) => quoted(to, json::text(value).as_bytes()),
                other => to.put_slice(other.to_string().as_bytes()),
            }
        }
        to.put_u8(b'\n');
    }

    fn names<'a>(&mut self, to: &mut BytesMut, names: impl Iterator<Item = &'a str>) {
        if !std::mem::replace(&mut self.header_written, true) {
            to.put_slice(names.collect::<Vec<_>>().join(",").as_bytes());
            to.put_u8(b'\n');
        }
    }

    /// Writes an event.
    pub fn event(&mut self, to: &mut BytesMut, event: &Event, context: &mut Context) {
        if self.rows != Rows::Events {
            return;
        }
        self.header(to);
        let Self { time, line, .. } = self;
        line.clear();
        let mut column = 0;
        fields::visit(event, context, &mut |field, value: FieldValue<'_>| {
            line.put_bytes(b',', field as usize - column);
            column = field as usize;
            cell(line, value, time);
        });
        line.put_bytes(b',', Field::ALL.len() - 1 - column);
        line.put_u8(b'\n');
        to.put_slice(line);
    }

    /// Writes a row of these fields; before the first one, a row of their names.
    pub(crate) fn row<'a>(
        &mut self,
        to: &mut BytesMut,
        fields: impl Iterator<Item = (&'a str, FieldValue<'a>)> + Clone,
    ) {
        self.names(to, fields.clone().map(|(name, _)| name));
        for (index, (_, value)) in fields.enumerate() {
            if index > 0 {
                to.put_u8(b',');
            }
            cell(to, value, &mut self.time);
        }
        to.put_u8(b'\n');
    }
}

/// Writes a cell without a separator.
pub(crate) fn cell(to: &mut impl BufMut, value: FieldValue<'_>, time: &mut WallFormat) {
    match value {
        FieldValue::Null | FieldValue::Nulls(_) => {}
        FieldValue::Number(number) => to.put_slice(itoa::Buffer::new().format(number).as_bytes()),
        FieldValue::Text(text) => self::text(to, text),
        FieldValue::Word(word) => to.put_slice(word.as_bytes()),
        FieldValue::Pointer(address) => fields::pointer(to, address),
        FieldValue::Address(address) => fields::ip(to, address),
        FieldValue::Time(wall_ns) => {
            time.write(to, wall_ns, 9);
            to.put_u8(b'Z');
        }
        FieldValue::Flag(flag) => to.put_slice(if flag { b"true" } else { b"false" }),
        FieldValue::List(texts) => {
            let mut list = Vec::new();
            json::list(&mut list, texts);
            quoted(to, &list);
        }
        FieldValue::Json(json) => quoted(to, json),
    }
}

/// Writes text. Spreadsheets take text that begins with certain characters for a formula, so a `'` is put before it, except
/// for numbers.
fn text(to: &mut impl BufMut, text: &str) {
    // The fast path for most text: names and paths.
    let is_plain = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b',');
    let first = text.as_bytes().first();
    if first.is_none_or(|first| first.is_ascii_alphanumeric() || *first == b'/') && text.bytes().all(is_plain) {
        to.put_slice(text.as_bytes());
        return;
    }
    let text = escaped(text);
    let is_formula = text.trim_start_matches(' ').starts_with(FORMULA) && !is_number(&text);
    if is_formula {
        quoted(to, format!("'{text}").as_bytes());
    } else {
        quoted(to, text.as_bytes());
    }
}

/// First characters of formulas, also in full width (OWASP, "CSV Injection"); tabs and line breaks are escaped anyway.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit()) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.'))
}

/// Writes text, quoted if RFC 4180 requires it.
fn quoted(to: &mut impl BufMut, text: &[u8]) {
    if !text.iter().any(|byte| matches!(byte, b'"' | b',' | b'\n' | b'\r')) {
        to.put_slice(text);
        return;
    }
    to.put_u8(b'"');
    for part in text.split_inclusive(|byte| *byte == b'"') {
        to.put_slice(part);
        if part.ends_with(b"\"") {
            to.put_u8(b'"');
        }
    }
    to.put_u8(b'"');
}
