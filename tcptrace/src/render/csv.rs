//! Events as CSV (RFC 4180), with a first line that names the columns. Columns that an event does not have are empty.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use super::{Context, Field, FieldValue, fields};
use crate::{clock::WallFormat, event::Event};

/// Writes CSV.
pub struct Csv {
    time: WallFormat,
    header_written: bool,
}

impl Default for Csv {
    fn default() -> Self {
        Self { time: WallFormat::rfc3339(), header_written: false }
    }
}

impl Csv {
    /// Writes the first line, if it was not written yet.
    pub fn header(&mut self, to: &mut BytesMut) {
        self.names(to, Field::ALL.iter().map(|field| field.name()));
    }

    fn names<'a>(&mut self, to: &mut BytesMut, names: impl Iterator<Item = &'a str>) {
        if !std::mem::replace(&mut self.header_written, true) {
            to.put_slice(names.collect::<Vec<_>>().join(",").as_bytes());
            to.put_u8(b'\n');
        }
    }

    /// Writes an event.
    pub fn event(&mut self, to: &mut BytesMut, event: &Event, context: &mut Context) {
        self.header(to);
        let mut column = 0;
        fields::visit(event, context, |field, value| {
            while column < field as usize {
                to.put_u8(b',');
                column += 1;
            }
            self.value(to, value);
        });
        while column + 1 < Field::ALL.len() {
            to.put_u8(b',');
            column += 1;
        }
        to.put_u8(b'\n');
    }

    /// Writes a row of these fields, and above the first one a row of their names.
    pub(super) fn row<'a>(
        &mut self,
        to: &mut BytesMut,
        fields: impl Iterator<Item = (&'a str, FieldValue<'a>)> + Clone,
    ) {
        self.names(to, fields.clone().map(|(name, _)| name));
        for (index, (_, value)) in fields.enumerate() {
            if index > 0 {
                to.put_u8(b',');
            }
            self.value(to, value);
        }
        to.put_u8(b'\n');
    }

    fn value(&mut self, to: &mut BytesMut, value: FieldValue<'_>) {
        match value {
            FieldValue::Null => {}
            FieldValue::Number(number) => to.put_slice(itoa::Buffer::new().format(number).as_bytes()),
            FieldValue::Text(text) => cell(to, text),
            // Writing to a buffer in memory cannot fail.
            FieldValue::Pointer(address) => _ = write!(to, "{address:#x}"),
            FieldValue::Address(address) => _ = write!(to, "{address}"),
            FieldValue::Time(wall_ns) => {
                self.time.write(to, wall_ns, 9);
                to.put_u8(b'Z');
            }
        }
    }
}

fn cell(to: &mut BytesMut, text: &str) {
    if !text.contains(['"', ',', '\n', '\r']) {
        to.put_slice(text.as_bytes());
        return;
    }
    to.put_u8(b'"');
    to.put_slice(text.replace('"', "\"\"").as_bytes());
    to.put_u8(b'"');
}
