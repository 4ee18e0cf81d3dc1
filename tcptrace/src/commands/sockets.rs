//! `tcptrace sockets`: lists once, writes, and ends.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
};

use bytes::BytesMut;
use thiserror::Error;

use crate::{
    app::wall_offset,
    cgroup,
    cli::args::{Color, Format, SocketsArgs},
    output::tell,
    render::sockets::{
        Form, Listing,
        csv::Csv,
        json::Json,
        text::{Text, TextOptions},
    },
    select::Selection,
    snapshot::Snapshot,
    sockets::{Cgroups, Row, count, rows, totals},
};

/// Output is handed over in pieces of about this size.
const PIECE_BYTES: usize = 64 * 1024;

/// Why it failed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error<E> {
    #[error("{0}")]
    List(E),
    #[error("cannot write to {target}: {source}")]
    Output { target: String, source: io::Error },
}

/// Writes what `list` finds of `selection` to stdout or the file that `args` name. A reader that has seen enough
/// (`| head`) is a normal end.
///
/// # Errors
/// Where the listing fails, or the output cannot be written.
pub fn run<E>(
    args: &SocketsArgs,
    selection: &Selection,
    list: impl FnOnce() -> Result<Snapshot, E>,
) -> Result<(), Error<E>> {
    let target = args.output.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
    let failed = |source| Error::Output { target: target.clone(), source };
    let output: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(File::create(path).map_err(failed)?),
        None => Box::new(io::stdout()),
    };
    let snapshot = list().map_err(Error::List)?;
    let skipped: Vec<_> = snapshot.skipped.fields().into_iter().filter(|(_, count)| *count > 0).collect();
    match write(args, selection, &snapshot, output) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(failed(error)),
        _ => {}
    }
    if !skipped.is_empty() {
        let words: Vec<_> = skipped.iter().map(|(what, count)| format!("{} {count}", what.replace('_', " "))).collect();
        tell(format_args!("not looked at: {}", words.join(", ")));
    }
    Ok(())
}

fn write(args: &SocketsArgs, selection: &Selection, snapshot: &Snapshot, mut output: impl Write) -> io::Result<()> {
    let mut cgroups = Cgroups::new(Box::new(cgroup::of_process));
    let rows = rows(snapshot, selection, &mut cgroups);
    let listing = Listing { snapshot, wall: wall_offset(), totals: totals(&rows), by: args.by };
    let mut form = match args.format {
        Format::Text => Form::Text(Text::new(&listing, text_options(args, snapshot, &rows))),
        Format::Json => Form::Json(Json::new(listing)),
        Format::Csv => Form::Csv(Csv::new(listing)),
    };
    let mut piece = BytesMut::new();
    let mut hand_over = |piece: &mut BytesMut, least: usize| {
        if piece.len() < least {
            return Ok(());
        }
        output.write_all(piece)?;
        piece.clear();
        output.flush()
    };
    match args.by {
        Some(by) => {
            for group in count(&rows, by, &mut cgroups) {
                form.group(&mut piece, &group);
                hand_over(&mut piece, PIECE_BYTES)?;
            }
        }
        None => {
            for row in &rows {
                form.row(&mut piece, row, &mut cgroups);
                hand_over(&mut piece, PIECE_BYTES)?;
            }
        }
    }
    form.end(&mut piece);
    hand_over(&mut piece, 0)
}

fn text_options(args: &SocketsArgs, snapshot: &Snapshot, rows: &[Row<'_>]) -> TextOptions {
    TextOptions {
        color: match args.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => args.output.is_none() && io::stdout().is_terminal(),
        },
        more: args.filter.pid.is_some(),
        netns: snapshot.namespaces.len() > 1 || args.filter.netns.is_some(),
        owner_source: rows.iter().any(|row| row.socket.owner.is_some()),
    }
}
