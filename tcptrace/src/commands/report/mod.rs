//! `tcptrace report`: a recording as one HTML page.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::{anyhow, bail};

use crate::{
    cli::{
        args::{Args, FilterArgs, ReportArgs},
        terminal::exit,
    },
    commands::{
        doctor::{check::Check, settings::of_recording},
        replay::{
            files::Recording,
            player::{Player, Window},
            settings_of,
        },
        settings::{Settings, usage_error},
    },
    outputs::messages::{self, Form, Level},
    pipeline::{
        record_filter::RecordFilter,
        recording::anonymize::Anonymizer,
        route::{Renderer, Route},
    },
    render::html::{HostSetting, Page},
    sys::files,
};

/// Writes the report of a recording.
///
/// # Errors
/// If the recording cannot be read, or the report not be written.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    messages::start(Form::Plain, if args.quiet { Level::Warn } else { Level::Info })?;
    if args.anonymize
        && let Some(flag) = name_filter(&args.filter)
    {
        exit(usage_error(&format!(
            "{flag} filters by a name or an address, and --anonymize replaces these before: use filters by port, state or \
             PID, or none"
        )));
    }
    let file = &args.file;
    let failed =
        |error: anyhow::Error| anyhow!("cannot report on {}: {}", file.display(), messages::with_causes(&error));
    let recording = Recording::open(file).map_err(failed)?;
    let time = |when| recording.resolve(when).map_err(failed);
    let window =
        Window { from_ns: args.from.map(time).transpose()?, to_ns: args.to.map(time).transpose()?, speed: None };
    let mut trace = Args::parse_trace()?;
    trace.filter = args.filter.clone();
    trace.findings = args.findings.clone();
    let mut settings = settings_of(&trace, &recording)?;
    let session = &settings.session;
    let page = Page {
        recorded_by: recording.header.tcptrace.clone(),
        is_anonymous: args.anonymize,
        is_filtered: session.selection != Default::default() || session.rest.is_some(),
        is_part: window.from_ns.is_some() || window.to_ns.is_some(),
        settings: host_settings(&recording),
    };
    let route = Route::new(Renderer::Page(Box::default(), page), RecordFilter::default());
    (settings.outputs, settings.routes) = (Vec::new(), vec![route]);
    let output = Output::open(args.output.as_path())?;
    let written = bytes(settings, recording, window, args.anonymize).map_err(failed);
    let written = written.and_then(|bytes| output.write(&bytes));
    if written.is_err() {
        output.discard();
    }
    written.map(|()| ExitCode::SUCCESS)
}

/// The page.
fn bytes(settings: Settings, recording: Recording, window: Window, is_anonymous: bool) -> anyhow::Result<Vec<u8>> {
    let mut player = Player::start(settings, recording, window)?;
    if is_anonymous {
        player.anonymizer = Some(Anonymizer::default());
    }
    player.read()?;
    let (flaws, now_ns, reason) = (player.flaws(), player.now_ns, player.reason.clone());
    player.session.flaws(&flaws);
    player.session.end(now_ns, &reason, &[]);
    Ok(player.session.take().flat_map(|records| records.bytes().to_vec()).collect())
}

/// The TCP settings of the machine, with what doctor says about them.
fn host_settings(recording: &Recording) -> Vec<HostSetting> {
    let checks = of_recording(&recording.header.settings).into_iter();
    let setting = |check: Check| HostSetting {
        harm: check.status.is_finding().then_some(check.consequence),
        name: check.title,
        value: check.value.unwrap_or_default(),
        meaning: check.meaning,
    };
    checks.map(setting).collect()
}

/// The first filter by a name or an address.
fn name_filter(filter: &FilterArgs) -> Option<&'static str> {
    let given = [
        (!filter.address.is_empty(), "--address"),
        (!filter.local_address.is_empty(), "--local-address"),
        (!filter.remote_address.is_empty(), "--remote-address"),
        (!filter.comm.is_empty(), "--comm"),
        (!filter.exe.is_empty(), "--exe"),
        (!filter.user.is_empty(), "--user"),
        (!filter.unit.is_empty(), "--unit"),
        (!filter.container.is_empty(), "--container"),
        (!filter.pod.is_empty(), "--pod"),
        (!filter.cgroup.is_empty(), "--cgroup"),
        (filter.expression.is_some(), "--where"),
        (!filter.words.is_empty(), "FILTER"),
    ];
    given.into_iter().find(|(is_given, _)| *is_given).map(|(_, flag)| flag)
}

/// Where the report goes.
enum Output<'a> {
    Stdout,
    File(File, &'a Path),
}

impl<'a> Output<'a> {
    /// Opens it, before the recording is read.
    fn open(path: &'a Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        if path.is_dir() {
            bail!("cannot write {}: it is a folder; give the name of a file in it", path.display());
        }
        let file = files::create_private(path).map_err(|error| anyhow!("cannot write {}: {error}", path.display()))?;
        Ok(Self::File(file, path))
    }

    fn write(&self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Stdout => match io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(anyhow!("cannot write to stdout: {error}"))
                }
                _ => Ok(()),
            },
            Self::File(file, path) => {
                let mut to = file;
                to.write_all(bytes).map_err(|error| anyhow!("cannot write {}: {error}", path.display()))
            }
        }
    }

    /// Removes the file, which is not whole.
    fn discard(&self) {
        if let Self::File(file, path) = self
            && files::is_at(file, path)
        {
            let _ = fs::remove_file(path); // the error that led here is the one to report
        }
    }
}
