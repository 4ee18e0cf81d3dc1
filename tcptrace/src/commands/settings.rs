//! Turns the user's settings (`cli`) into the parts of a run: kernel filter, session, renderers and outputs.

use std::{collections::HashSet, net::SocketAddr, path::PathBuf, time::Duration};

use aya_log::Level;
use clap::{CommandFactory as _, Error, Parser as _, error::ErrorKind};
use jiff::tz::TimeZone;

use crate::{
    analysis::{
        metrics,
        story::{Limits, Stories},
    },
    bpf::{object::Aggregate, probes::ProbeSettings},
    cli::{
        args::{
            AggregateBy, Args, FilterArgs, KillArgs, MetricsBy, OutputArgs, RecordArgs, RecordingArgs, StoryArgs,
            StuckArgs, Time, TopArgs, TraceArgs,
            values::{Color, Format, LogLevel},
        },
        conflicts::{self, conflict, conflict_of},
        findings::{FindingArgs, FindingsMode},
        outputs::OutputSpec,
        parse::{MAX_RING, MIN_RING, StoryFilter, Where},
        terminal::{is_colored, understands_codes},
    },
    commands::{
        filters::{self, filter, kernel_filter, of_story, resolved},
        top::{ScreenSettings, repeated},
        trace::names::NameSettings,
    },
    findings::Thresholds,
    listing::chosen_netns::ChosenNetns,
    model::{
        filter::{Place, PortRange, Term},
        kernel_counts::By,
        netns_choice::NetnsChoice,
        socket_filter::SocketFilter,
    },
    outputs::{recorder::RecorderSettings, target::Content},
    pipeline::{
        route::{Renderer, Route, StoryForm},
        settings::SessionSettings,
    },
    render::{
        csv::{Csv, Rows},
        json::Json,
        screen::Place as ScreenPlace,
        text::{Ladder, StuckText, Text, TextOptions, TimeStyle},
    },
    sys::{systemd::Service, terminal::is_input},
};

/// Everything that a run needs to start.
pub struct Settings {
    /// Settings of the BPF programs.
    pub probes: ProbeSettings,
    /// Settings of the session, which turns events into records.
    pub session: SessionSettings,
    /// The outputs.
    pub outputs: Vec<OutputSpec>,
    /// The renderer and filter of each output.
    pub routes: Vec<Route>,
    /// Address at which metrics are served.
    pub server: Option<SocketAddr>,
    /// How often metrics are sent by OTLP.
    pub metrics_every: Duration,
    /// Time between two summaries.
    pub interval: Option<Duration>,
    /// Time after which the run ends.
    pub duration: Option<Duration>,
    /// Time between two reads of the ring buffers.
    pub read_every: Duration,
    /// Time between two polls; `None` for no polls.
    pub poll: Option<Duration>,
    /// What to record, if anything.
    pub recording: Option<RecorderSettings>,
    /// The network namespace to which the run is limited.
    pub netns: Option<NetnsChoice>,
    /// That namespace once it is found.
    pub chosen: Option<ChosenNetns>,
    /// True if kernel addresses are printed instead of hashes.
    pub kernel_addresses: bool,
    /// Which names are read.
    pub names: NameSettings,
    /// True if the run ends once the problems that exist at the start are reported (`stuck --once`).
    pub once: bool,
    /// The screen on which it is shown.
    pub screen: Option<ScreenSettings>,
    /// File to create when all probes are attached.
    pub ready_file: Option<PathBuf>,
    /// The service manager to notify.
    pub service: Service,
    /// True if rights that are not needed any more are given up.
    pub sandbox: bool,
}

/// Flags that decide what is a finding.
const THRESHOLDS: [&str; 5] = ["--stuck-after", "--expect-listener", "--ignore", "--threshold", "--config"];

/// Default size of all rings together, and the minimum for each CPU, in bytes.
const DEFAULT_RING: u64 = 8 << 20;
const DEFAULT_RING_OF_CPU: u64 = 256 << 10;

impl Settings {
    /// The settings of a trace.
    ///
    /// # Errors
    /// A usage error (exit code 2) that names the flag, the reason and the way out.
    pub fn from_args(args: &TraceArgs) -> Result<Self, Error> {
        conflicts::check(args)?;
        let (filter, netns) = filter(&args.filter, &args.given)?;
        let states = filter.sockets.states;
        let looks = args.findings_mode != FindingsMode::Off && !args.summary;
        // Always checked, but not given to the kernel if findings are wanted: these need all events, and the session filters
        // what is shown.
        let kernel = Some(kernel_filter(&filter.kernel(), &args.filter.cgroup)?).filter(|_| !looks).unwrap_or_default();
        if let (Some(rest), true) = (&filter.rest, args.aggregate.is_some()) {
            let aggregate = args.given.name("aggregate");
            return Err(conflict(&format!(
                "{aggregate} counts in the kernel, which cannot decide this part of the filter: {rest}"
            )));
        }
        let (server, outputs) = outputs(args)?;
        let has_metrics = server.is_some() || outputs.iter().any(|spec| spec.target.content() == Content::Metrics);
        Ok(Self {
            probes: ProbeSettings {
                // Aggregate mode sends no events.
                ring_bytes: ring_bytes(if args.aggregate.is_some() { Some(MIN_RING) } else { args.ring_size }),
                shared_ring: args.shared_ring,
                max_sockets: args.kernel_sockets,
                filter: kernel,
                log_level: args.bpf_log.map(level),
                no_iterators: args.listing.no_iter || args.aggregate.is_some(),
                aggregate: args.aggregate.map(|by| Aggregate { by: self::by(by), keys: args.aggregate_keys }),
            },
            session: SessionSettings {
                states,
                selection: filter.sockets,
                rest: filter.rest,
                owner_unchecked: false,
                unfiltered: false,
                polls: args.poll.0.is_some(),
                max_sockets: args.max_sockets as usize,
                by_process: args.filter.pid.is_some(),
                events: !args.summary && args.findings_mode != FindingsMode::Only,
                count: args.count,
                findings: looks.then(|| thresholds(&args.findings)).transpose()?,
                metrics: has_metrics.then(|| metrics(args)),
            },
            routes: outputs.iter().map(|spec| Route::new(renderer(spec, args), spec.wants.clone())).collect(),
            outputs,
            server,
            metrics_every: args.metrics_every,
            interval: args.interval,
            duration: args.duration,
            // An event waits in the ring for at most half of the latency; the other half is for writing it.
            read_every: (args.latency / 2).max(Duration::from_millis(1)),
            poll: args.poll.0,
            netns,
            chosen: None,
            kernel_addresses: args.kernel_addresses,
            recording: args.recording.settings(),
            names: NameSettings { with_args: !args.no_args, resolve: args.resolve },
            once: false,
            screen: None,
            ready_file: args.ready_file.clone(),
            service: Service::default(),
            sandbox: !args.listing.no_sandbox,
        })
    }

    /// True if SIGHUP reopens files. With output to stdout, or a screen, it ends the run, as is usual.
    #[must_use]
    pub fn takes_hangup(&self) -> bool {
        self.service.is_service || self.screen.is_none() && self.outputs.iter().all(|output| !output.target.is_stdout())
    }

    /// The settings of `tcptrace stuck`: a trace that writes only findings. Text on a terminal becomes a screen, unless it is
    /// a single check.
    ///
    /// # Errors
    /// A usage error.
    pub fn from_stuck_args(args: &StuckArgs) -> Result<Self, Error> {
        if args.output.format() == Some(Format::Nagios) && !args.once {
            return Err(conflict_of("stuck", "--format nagios is for a single check: add --once"));
        }
        let mut trace = Args::try_parse_from(["tcptrace"])?.trace;
        trace.findings_mode = FindingsMode::Only;
        trace.filter = args.filter.clone();
        trace.findings = args.findings.clone();
        trace.listing = args.listing;
        trace.output = args.output.clone();
        trace.duration = args.duration;
        trace.recording = args.recording.clone();
        trace.ready_file.clone_from(&args.ready_file);
        let is_text = |spec: &OutputSpec| trace.output.format_of(spec) == Format::Text;
        if !args.sort.is_empty() && !args.output.to.iter().any(is_text) {
            return Err(conflict_of(
                "stuck",
                "--sort is for the list in text: findings in JSON and CSV come as they open",
            ));
        }
        // A screen has columns and an order of its own.
        let is_arranged = !args.columns.is_empty() || !args.sort.is_empty();
        let has_screen = !args.once && !is_arranged && understands_codes() && is_input();
        let screen = |spec: &OutputSpec| has_screen && spec.target.is_stdout() && is_text(spec);
        let before = trace.output.to.len();
        let kept: Vec<_> = trace.output.to.iter().filter(|spec| !screen(spec)).cloned().collect();
        if !args.once && kept.iter().any(is_text) {
            trace.interval = Some(args.interval);
        }
        trace.output.to = kept;
        let mut settings = Self::from_args(&trace)?;
        for (spec, route) in settings.outputs.iter_mut().zip(&mut settings.routes) {
            let text = match trace.output.format_of(spec) {
                Format::Text => {
                    let color = is_colored(args.output.color, spec.target.is_stdout());
                    StuckText::new(color, time_style(&args.output)).arranged(&args.columns, &args.sort)
                }
                Format::Nagios => StuckText::nagios(args.fail_on),
                Format::Json if spec.target.content() == Content::Formatted => {
                    *route = Route::new(Renderer::Json(Json::findings(&args.columns)), spec.wants.clone());
                    continue;
                }
                Format::Csv if has_head(spec, &trace) => {
                    let csv = Csv::findings(&args.columns);
                    *route = Route::new(Renderer::Csv(csv.headless()), spec.wants.clone());
                    spec.target.set_head(&Csv::findings(&args.columns).head());
                    continue;
                }
                Format::Csv => {
                    *route = Route::new(Renderer::Csv(Csv::findings(&args.columns)), spec.wants.clone());
                    continue;
                }
                Format::Json => continue,
            };
            *route = Route::new(Renderer::Stuck(text), spec.wants.clone());
        }
        if trace.output.to.len() < before {
            settings.show_on_screen(&args.filter, args.interval, args.output.color)?;
        }
        Ok(Self { once: args.once && args.duration.is_none(), ..settings })
    }

    /// The settings of `tcptrace top`: as `tcptrace stuck` on a terminal.
    ///
    /// # Errors
    /// A usage error.
    pub fn from_top_args(args: &TopArgs) -> Result<Self, Error> {
        let mut trace = Args::parse_trace()?;
        trace.findings_mode = FindingsMode::Only;
        trace.filter = args.filter.clone();
        trace.findings = args.findings.clone();
        trace.listing = args.listing;
        trace.output.to = Vec::new();
        trace.duration = args.duration;
        trace.recording = args.recording.clone();
        trace.ready_file.clone_from(&args.ready_file);
        let mut settings = Self::from_args(&trace)?;
        settings.show_on_screen(&args.filter, args.interval, args.color)?;
        Ok(settings)
    }

    /// Shows it on a screen, whose filter the user can change: without other outputs nothing else is filtered.
    fn show_on_screen(&mut self, filter: &FilterArgs, every: Duration, color: Color) -> Result<(), Error> {
        if self.outputs.is_empty() {
            (self.session.states, self.session.selection, self.session.rest) = Default::default();
        }
        let words = || std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        self.screen = Some(ScreenSettings {
            every,
            has_color: is_colored(color, true),
            filter: filters::initial(filter, true)?,
            place: ScreenPlace {
                before: Vec::new(),
                flags: repeated(words(), &["--netns"]),
                thresholds: repeated(words(), &THRESHOLDS),
            },
            is_live: true,
        });
        Ok(())
    }

    /// The settings of the run with which `tcptrace kill` looks for findings: as `tcptrace stuck --once`, with up to
    /// `examples` sockets of each finding, and without output.
    ///
    /// # Errors
    /// A usage error.
    pub fn from_kill_args(args: &KillArgs, examples: usize) -> Result<Self, Error> {
        let mut trace = Args::try_parse_from(["tcptrace"])?.trace;
        trace.findings_mode = FindingsMode::Only;
        trace.filter = args.filter.clone();
        trace.findings = args.findings.clone();
        trace.output.to = Vec::new();
        // It lists and ends sockets afterwards.
        let mut settings = Self { once: true, sandbox: false, ..Self::from_args(&trace)? };
        if let Some(thresholds) = &mut settings.session.findings {
            thresholds.examples = examples;
        }
        Ok(settings)
    }

    /// The settings of `tcptrace record`: a trace without output. Without a filter it looks for findings, so that a replay has
    /// the evidence; with one the kernel sends only what passes.
    ///
    /// # Errors
    /// A usage error.
    pub fn from_record_args(args: &RecordArgs) -> Result<Self, Error> {
        let mut trace = Args::parse_trace()?;
        trace.filter = args.filter.clone();
        trace.listing = args.listing;
        trace.duration = args.duration;
        trace.output.to = Vec::new();
        trace.ready_file.clone_from(&args.ready_file);
        trace.findings = args.findings.clone();
        trace.recording = RecordingArgs {
            record: Some(args.file.clone()),
            record_keep: args.keep,
            record_max_size: args.max_size,
            record_on_finding: args.on_finding,
        };
        trace.findings_mode = FindingsMode::Off;
        let filtered = Self::from_args(&trace)?;
        if let Some(rest) = &filtered.session.rest {
            return Err(conflict(&format!(
                "the kernel filters what is recorded, and cannot decide this part: {rest}; leave it out, and give it to \
                 tcptrace replay"
            )));
        }
        if filtered.session.selection == SocketFilter::default() {
            trace.findings_mode = FindingsMode::On;
            return Self::from_args(&trace);
        }
        if args.on_finding.is_some() {
            return Err(conflict(
                "--on-finding looks at all sockets: leave the filters out, and give them to tcptrace replay",
            ));
        }
        Ok(filtered)
    }

    /// The settings of `tcptrace story`: a trace of the wanted connections with default settings.
    ///
    /// # Errors
    /// A usage error.
    pub fn from_story_args(args: &StoryArgs) -> Result<Self, Error> {
        let mut trace = Args::try_parse_from(["tcptrace"])?.trace;
        let (address, port) = match args.which {
            StoryFilter::Address(address) => (Some(address), None),
            // The kernel's filter may match address and port at different ends; the stories check again.
            StoryFilter::End(end) => (Some(end.ip()), Some(end.port())),
            StoryFilter::Port(port) => (None, Some(port)),
            // The other end has a different cookie, so the kernel cannot filter.
            StoryFilter::Cookie(_) | StoryFilter::All => (None, None),
        };
        let term = |value| Term { is_negated: false, value };
        trace.filter.address.extend(address.map(Place::from).map(term));
        trace.filter.port.extend(port.map(|port| Term { is_negated: false, value: PortRange(port, port) }));
        trace.filter.netns.clone_from(&args.netns);
        let only = args.expression.clone().map(|Where(expr)| of_story(expr)).transpose()?;
        trace.filter.expression = only.as_ref().map(|(_, of_connection)| Where(of_connection.clone()));
        trace.findings_mode = FindingsMode::Off;
        trace.listing = args.listing;
        (trace.duration, trace.count) = (args.duration, args.count);
        trace.output = args.output.clone();
        trace.recording = args.recording.clone();
        trace.ready_file.clone_from(&args.ready_file);
        if args.output.to.iter().any(|spec| trace.output.format_of(spec) == Format::Csv) {
            return Err(conflict_of("story", "a story is not a row: use --format text or json"));
        }
        let mut settings = Self::from_args(&trace)?;
        // Stories are chosen by all of their events.
        settings.session.rest = None;
        let story = |spec: &OutputSpec| {
            let form = match trace.output.format_of(spec) {
                Format::Json => StoryForm::Json(Json::default()),
                _ => StoryForm::Text(Ladder::new(
                    is_colored(args.output.color, spec.target.is_stdout()),
                    time_style(&args.output),
                )),
            };
            let stories = Stories::new(args.which, Limits::default());
            let mut wants = spec.wants.clone();
            if let Some((only, _)) = &only {
                wants.add(only.clone());
            }
            Route::new(Renderer::Story(Box::new(stories), form), wants)
        };
        settings.routes = settings.outputs.iter().map(story).collect();
        Ok(settings)
    }
}

/// The address at which metrics are served, and the other outputs.
fn outputs(args: &TraceArgs) -> Result<(Option<SocketAddr>, Vec<OutputSpec>), Error> {
    let (mut server, mut outputs) = (None, Vec::new());
    for spec in &args.output.to {
        match spec.target.content() {
            Content::Scraped(_) if server.is_some() => {
                let output = args.given.name("output");
                let message = format!("{output}: prometheus:ADDRESS is given twice: one serves any number of scrapers");
                return Err(conflict(&message));
            }
            Content::Scraped(address) => server = Some(address),
            _ => {
                let mut spec = spec.clone();
                spec.wants.only = spec.wants.only.map(resolved).transpose()?;
                outputs.extend(spec.parts().into_iter().map(|spec| with_head(spec, args)));
            }
        }
    }
    let mut names = HashSet::new();
    if let Some(spec) = outputs.iter().find(|spec| !names.insert(&spec.name)) {
        let (output, to) = (args.given.name("output"), &spec.name);
        let message = format!("{output}: {to} is given twice: merge the two into one");
        return Err(conflict(&message));
    }
    Ok((server, outputs))
}

/// Makes each CSV file begin with the names of the columns, also after rotation.
fn with_head(mut spec: OutputSpec, args: &TraceArgs) -> OutputSpec {
    if has_head(&spec, args) {
        spec.target.set_head(&Csv::new(rows(args)).head());
    }
    spec
}

/// What the rows of CSV are.
fn rows(args: &TraceArgs) -> Rows {
    if args.findings_mode == FindingsMode::Only { Rows::Findings } else { Rows::Events }
}

fn has_head(spec: &OutputSpec, args: &TraceArgs) -> bool {
    !spec.target.is_stdout() && args.output.format_of(spec) == Format::Csv && args.aggregate.is_none()
}

fn metrics(args: &TraceArgs) -> metrics::Settings {
    let has = |label| args.metrics_by.contains(&label);
    metrics::Settings {
        by_process: has(MetricsBy::Process),
        by_cgroup: has(MetricsBy::Cgroup),
        by_unit: has(MetricsBy::Unit),
        by_container: has(MetricsBy::Container),
        by_pod: has(MetricsBy::Pod),
        by_local_port: has(MetricsBy::LocalPort),
        max_series: args.metrics_series as usize,
    }
}

const fn by(by: AggregateBy) -> By {
    match by {
        AggregateBy::Transition => By::Transition,
        AggregateBy::Port => By::Port,
        AggregateBy::Cgroup => By::Cgroup,
    }
}

fn thresholds(args: &FindingArgs) -> Result<Thresholds, Error> {
    args.thresholds().map_err(|error| usage(ErrorKind::ValueValidation, &error.to_string()))
}

pub(crate) fn usage_error(message: &str) -> Error {
    usage(ErrorKind::ArgumentConflict, message)
}

fn usage(kind: ErrorKind, message: &str) -> Error {
    Args::command().error(kind, message)
}

/// The total size of the ring buffers in bytes.
fn ring_bytes(size: Option<u64>) -> u32 {
    let of_all = || aya::util::nr_cpus().map_or(DEFAULT_RING, |cpus| DEFAULT_RING_OF_CPU.saturating_mul(cpus as u64));
    let size = size.unwrap_or_else(|| of_all().clamp(DEFAULT_RING, MAX_RING));
    u32::try_from(size.next_power_of_two()).unwrap_or(MAX_RING as u32)
}

/// The format of the times in text.
pub(crate) fn time_style(args: &OutputArgs) -> TimeStyle {
    match args.time {
        Time::Local => TimeStyle::Wall(TimeZone::system()),
        Time::Utc => TimeStyle::Wall(TimeZone::UTC),
        Time::Iso => TimeStyle::Iso(TimeZone::system()),
        Time::Mono => TimeStyle::Monotonic,
        Time::Delta => TimeStyle::Delta,
    }
}

fn renderer(spec: &OutputSpec, args: &TraceArgs) -> Renderer {
    match args.output.format_of(spec) {
        Format::Json => Renderer::Json(Json::default()),
        Format::Csv if has_head(spec, args) => Renderer::Csv(Csv::new(rows(args)).headless()),
        Format::Csv => Renderer::Csv(Csv::new(rows(args))),
        Format::Text | Format::Nagios => Renderer::Text(Text::new(TextOptions {
            time: time_style(&args.output),
            color: is_colored(args.output.color, spec.target.is_stdout()),
            owner_columns: args.filter.pid.is_some(),
            columns: args.columns.clone(),
            fits: spec.target.is_stdout(),
        })),
    }
}

const fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    }
}
