//! A whole run as one HTML page: it needs no network and no script, and opens from disk.
//!
//! Everything that comes from outside passes through `writer::Html`, which escapes it. The same run gives the same bytes.
//! Each picture has a table with the same facts after it, for screen readers and for copying.

mod facts;
mod findings;
mod heat;
mod ladders;
mod machine;
mod options;
mod page;
mod processes;
mod settings;
mod svg;
mod timeline;
mod words;
mod writer;

#[cfg(test)]
mod tests;

pub use self::options::{HostSetting, Page};

use bytes::BytesMut;

use self::{words::Words, writer::Html};
use crate::{analysis::postmortem::Postmortem, render::context::Context};

/// Writes the page.
pub fn write(to: &mut BytesMut, all: &Postmortem, page: &Page, context: &mut Context) {
    let Some(report) = &all.report else { return };
    let words = Words::new(context.wall, page.is_anonymous);
    let mut html = Html::new(to);
    page::head(&mut html);
    facts::write(&mut html, all, report, page, &words);
    let ladders = ladders::choose(all);
    timeline::write(&mut html, all, report, &words);
    findings::write(&mut html, all, &ladders, &words, context);
    machine::write(&mut html, report);
    heat::write(&mut html, &all.latencies);
    ladders::write(&mut html, all, &ladders, &words, context);
    processes::write(&mut html, all, report, context);
    settings::write(&mut html, all, page, context);
    page::foot(&mut html, page);
}
