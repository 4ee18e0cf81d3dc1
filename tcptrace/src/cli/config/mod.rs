//! The layers of settings: flags win over variables (`TCPTRACE_*`), these over the config file (TOML), these over defaults.
//! Variables and keys of the file have the long names of the flags: `--local-port 80`, `TCPTRACE_LOCAL_PORT=80` and
//! `local-port = 80` mean the same.

mod file;
mod keys;
mod layer;
mod value;
mod variables;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{ArgMatches, CommandFactory as _, Error, FromArgMatches as _, error::ErrorKind, parser::ValueSource};

pub use self::layer::Notice;
pub(crate) use self::variables::SECRETS;
use self::{keys::Keys, layer::Layer};
use super::{
    args::{Args, CONFIG_PATH, Command, KillArgs, OutputArgs, StuckArgs, TopArgs, TraceArgs},
    findings::FindingsMode,
    given::{Given, Origin, Setting},
    words::arrange,
};

/// The command line with the settings of all layers.
pub struct Parsed {
    /// The command and its flags.
    pub args: Args,
    /// What the user should know about the settings, although the program can run with them.
    pub notices: Vec<Notice>,
}

/// Parses the command line, and adds the settings of the variables and the config file.
///
/// # Errors
/// If the command line, a variable or the config file is wrong; help and version are such errors, too.
pub fn parse(words: Vec<OsString>) -> Result<Parsed, Error> {
    let words = arrange(words, &Args::command())?;
    let matches = Args::command().try_get_matches_from(words)?;
    let mut args = Args::from_arg_matches(&matches)?;
    let typed = matches.subcommand().map_or(&matches, |(_, of_command)| of_command);
    let mut notices = Vec::new();
    let mut layers = |config: &mut Option<PathBuf>| {
        let is_typed = typed.value_source("config") == Some(ValueSource::CommandLine);
        layers(config, is_typed, &mut notices).map_err(usage)
    };
    match &mut args.command {
        None => apply(layers(&mut args.trace.findings.config)?, &mut args.trace, typed),
        Some(Command::Daemon(daemon)) => {
            let layers = layers(&mut daemon.trace.findings.config)?;
            if is_typed(typed, "log_level") {
                daemon.trace.given.add("log_level", || flag(typed, "log_level"));
            }
            for layer in &layers {
                if let Some(level) = layer.keys.log_level
                    && daemon.trace.given.add("log_level", || layer.place.settings("log_level"))
                {
                    daemon.log_level = level;
                }
            }
            apply(layers, &mut daemon.trace, typed);
        }
        Some(
            Command::Stuck(StuckArgs { findings, .. })
            | Command::Top(TopArgs { findings, .. })
            | Command::Kill(KillArgs { findings, .. }),
        ) => {
            for Layer { keys, place, .. } in layers(&mut findings.config)? {
                keys.add_findings(findings, &mut Given::default(), |id| place.settings(id));
            }
        }
        Some(Command::Report(report)) => {
            let findings = &mut report.findings;
            for Layer { keys, place, .. } in layers(&mut findings.config)? {
                keys.add_findings(findings, &mut Given::default(), |id| place.settings(id));
            }
        }
        Some(Command::Replay(replay)) => {
            apply(Vec::new(), &mut replay.trace, typed);
            if replay.view.is_some()
                && let Some(flag) = Keys::ids().find_map(|id| replay.trace.given.get(id))
            {
                return Err(usage(format!("{flag} stands before the command: give it after the command")));
            }
        }
        Some(_) => {}
    }
    if let Some((output, given)) = outputs_of(&args) {
        let name = given.map_or_else(|| "--format".to_owned(), |given| given.name("format"));
        let name = if output.json { "--json" } else { &name };
        notices.extend(output.misnamed(name).map(Notice::Info));
    }
    Ok(Parsed { args, notices })
}

/// The outputs of the command, and where its settings were given.
const fn outputs_of(args: &Args) -> Option<(&OutputArgs, Option<&Given>)> {
    Some(match &args.command {
        None => (&args.trace.output, Some(&args.trace.given)),
        Some(Command::Daemon(daemon)) => (&daemon.trace.output, Some(&daemon.trace.given)),
        Some(Command::Sockets(args)) => (&args.output, None),
        Some(Command::Stuck(args)) => (&args.output, None),
        Some(Command::Kill(args)) => (&args.output, None),
        Some(Command::Rates(args)) => (&args.output, None),
        Some(Command::Story(args)) => (&args.output, None),
        Some(_) => return None,
    })
}

/// Checks the text of a config file, without what depends on the command line.
///
/// # Errors
/// Names line, column and key of the first mistake.
pub fn check_text(text: &str) -> Result<(), String> {
    file::parse(Path::new(""), text).map(drop)
}

fn usage(message: String) -> Error {
    Error::raw(ErrorKind::ValueValidation, message + "\n")
}

fn is_typed(typed: &ArgMatches, id: &str) -> bool {
    typed.value_source(id) == Some(ValueSource::CommandLine)
}

/// The flag with this id as it was typed.
fn flag(typed: &ArgMatches, id: &str) -> Vec<Setting> {
    let raw = typed.try_get_raw(id).ok().flatten().into_iter().flatten();
    let words = raw.map(|word| word.to_string_lossy().into_owned()).collect();
    vec![Setting::new(id, Origin::Flag, words)]
}

/// Sets what the command line left open.
fn apply(layers: Vec<Layer>, args: &mut TraceArgs, typed: &ArgMatches) {
    for id in Keys::ids().filter(|id| is_typed(typed, id)) {
        args.given.add(id, || flag(typed, id));
    }
    for Layer { keys, outputs, place } in layers {
        if !outputs.is_empty() && args.given.add("output", || place.settings("output")) {
            args.output.to = outputs;
        }
        keys.apply(args, |id| place.settings(id));
    }
    if args.aggregate.is_some() && args.given.get("findings_mode").is_none() {
        args.findings_mode = FindingsMode::Off;
    }
}

/// The layers below the command line, the highest first.
fn layers(config: &mut Option<PathBuf>, is_typed: bool, notices: &mut Vec<Notice>) -> Result<Vec<Layer>, String> {
    let mut layers = Vec::new();
    let mut is_wanted = is_typed;
    for (name, value) in env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(variables::PREFIX)) else { continue };
        if name != "TCPTRACE_CONFIG" {
            layers
                .extend(variables::read(name, &value, notices).map_err(|reason| format!("variable {name}: {reason}"))?);
        } else if !is_typed {
            *config = Some(value.into());
            is_wanted = true;
        }
    }
    if let Some(path) = config {
        if !is_wanted && *path == Path::new(CONFIG_PATH) && !path.exists() {
            notices.push(Notice::Info(format!("there is no {CONFIG_PATH}: all settings have their defaults")));
            *config = None;
        } else {
            layers.push(file::read(path).map_err(|reason| format!("config file {}{reason}", path.display()))?);
        }
    }
    Ok(layers)
}
