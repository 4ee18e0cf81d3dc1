//! `tcptrace kill`: ends connections that are proven leaked, or that a filter or cookies choose.
//!
//! It works in three steps, each in a file of its own: [`choose`] lists the sockets and says why each was chosen, [`end`]
//! checks each again and ends it, and [`report`] writes what became of each. Without `--yes` the second step is left out.

pub mod choose;
pub mod end;
pub mod report;

use std::process::ExitCode;

use anyhow::bail;

use crate::{
    cli::{args::KillArgs, conflicts::conflict_of, given::Given},
    commands::{
        filters,
        kill::{
            choose::{Chosen, Criteria, Proof},
            end::{Outcome, can_end},
            report::Report,
        },
        settings::Settings,
        trace,
    },
    findings::{Finding, Severity},
    listing::{Lister, ListingOptions, skipped},
    model::{netns_choice::NetnsChoice, socket_filter::SocketFilter},
    outputs::messages::{info, warn},
    sys::{clock::wall_offset, pids},
};

/// What a command line asks for: the criteria, and the settings of the run that looks for findings, if it names any.
pub struct Choice {
    criteria: Criteria,
    netns: Option<NetnsChoice>,
    findings: Option<Settings>,
}

/// Reads the flags.
///
/// # Errors
/// A usage error, for example if nothing says which sockets to end.
pub fn choice(args: &KillArgs) -> Result<Choice, clap::Error> {
    let (filter, netns) = filters::filter(&args.filter, &Given::default())?;
    let is_family_only = filter.sockets == SocketFilter { family: filter.sockets.family, ..SocketFilter::default() };
    let is_filter_empty = filter.rest.is_none() && is_family_only;
    if is_filter_empty && args.cookies.is_empty() && args.finding.is_empty() {
        return Err(conflict_of(
            "kill",
            "nothing says which sockets to end: name a finding (--finding close-wait-leak), a filter (--state CLOSE_WAIT) \
             or cookies (cookie:4711); --netns, --older-than, --ipv4 and --ipv6 \
             alone are not enough",
        ));
    }
    let findings = (!args.finding.is_empty()).then(|| Settings::from_kill_args(args, args.max as usize + 1));
    let criteria = Criteria {
        filter,
        cookies: args.cookies.clone(),
        findings: args.finding.clone(),
        older_than: args.older_than,
        listeners: args.listeners,
    };
    Ok(Choice { criteria, netns, findings: findings.transpose()? })
}

/// Lists the chosen sockets, and ends them if the user says so.
///
/// # Errors
/// If the sockets cannot be listed, too many match, or the kernel cannot end sockets.
pub async fn run(args: &KillArgs, Choice { criteria, netns, findings }: Choice) -> anyhow::Result<ExitCode> {
    let selection = &criteria.filter;
    pids::check(&selection.sockets.pids).map_err(anyhow::Error::msg)?.into_iter().for_each(info);
    pids::warning().into_iter().for_each(info);
    let proofs = match findings {
        Some(settings) => Some(proofs(&trace::run(settings).await?.open, &criteria)),
        None => None,
    };
    // sock_diag gives the ends, the cookie and the device as the kernel wants them in order to find the socket again.
    let wanted = ListingOptions { holders: true, ..ListingOptions::default() };
    let snapshot = Lister::alone(true, netns.clone()).list(&wanted)?;
    skipped::warnings(&snapshot.skipped).into_iter().for_each(warn);
    let chosen = Chosen::new(&snapshot, &criteria, proofs.as_deref());
    chosen.remarks().into_iter().for_each(warn);
    let count = chosen.targets.len();
    let is_possible = count == 0 || can_end()?;
    if count > args.max as usize && args.yes {
        bail!(
            "{count} sockets match, more than --max {}: nothing was ended; narrow the filter, or raise --max",
            args.max
        );
    }
    if !is_possible && args.yes {
        bail!("nothing was ended: {}", end::IMPOSSIBLE);
    }
    let outcomes = if args.yes { end::end(&chosen.targets, netns.as_ref())? } else { vec![Outcome::WouldEnd; count] };
    let report = Report {
        targets: &chosen.targets,
        outcomes: &outcomes,
        snapshot: &snapshot,
        wall: wall_offset(),
        is_dry_run: !args.yes,
        netns: snapshot.namespaces.len() > 1 || netns.is_some(),
    };
    report.write(args)?;
    if !args.yes && count > args.max as usize {
        warn(format_args!("{count} sockets match, more than --max {}: with --yes nothing would be ended", args.max));
    }
    if !is_possible {
        warn(end::IMPOSSIBLE);
    }
    let is_fine = outcomes.iter().all(Outcome::is_fine) && chosen.missing.is_empty() && is_possible;
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The sockets of the wanted findings. Findings of severity info prove no leak, for example those of a connection pool:
/// they are left out, and that is said.
fn proofs(open: &[Finding], criteria: &Criteria) -> Vec<Proof> {
    let mut proofs = Vec::new();
    for finding in open.iter().filter(|finding| criteria.findings.contains(&finding.detection.kind)) {
        let detection = &finding.detection;
        if detection.severity < Severity::Warning {
            warn(format_args!(
                "{} #{} is left alone ({} sockets): {}",
                detection.kind.id(),
                finding.number,
                detection.count,
                detection.cause.words()
            ));
            continue;
        }
        let live = detection.examples.iter().filter(|example| example.age.is_some());
        proofs.extend(live.filter_map(|example| {
            let (kind, cause, state) = (detection.kind, detection.cause, example.state);
            Some(Proof { cookie: example.cookie?, kind, cause, state, age: example.age? })
        }));
    }
    proofs
}
