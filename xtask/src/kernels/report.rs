//! docs/kernels.md, from the outcomes of a run.

use std::{collections::BTreeSet, fmt::Write as _};

use super::outcome::Outcome;

/// The page, with a row for each kernel and for each check.
pub(super) fn write(outcomes: &[(&str, Outcome)]) -> String {
    let mut page = String::from(HEAD);
    page.push_str("| kernel | release | passed | ignored | failed |\n| --- | --- | --- | --- | --- |\n");
    for (name, outcome) in outcomes {
        let (passed, ignored) = outcome.totals();
        let failed =
            if outcome.failed.is_empty() { "none".to_owned() } else { format!("`{}`", outcome.failed.join("`, `")) };
        line(&mut page, &[*name, &outcome.release, &passed.to_string(), &ignored.to_string(), &failed]);
    }
    page.push_str("\n## What works where\n\nAs `tcptrace doctor` says it there. Where all say the same, the row is left out below the table.\n\n");
    let names: Vec<_> = outcomes.iter().map(|(name, _)| *name).collect();
    line(&mut page, &[&["check"][..], &names].concat());
    line(&mut page, &vec!["---"; names.len() + 1]);
    let checks: BTreeSet<_> =
        outcomes.iter().flat_map(|(_, outcome)| outcome.checks.iter().map(|[check, ..]| check.as_str())).collect();
    let mut same = Vec::new();
    for check in checks {
        let said = |outcome: &Outcome| {
            let found = outcome.checks.iter().find(|[name, ..]| name == check);
            found.map_or_else(
                || "–".to_owned(),
                |[_, status, value]| if status == "ok" { value.clone() } else { format!("**{status}**: {value}") },
            )
        };
        let cells: Vec<_> = outcomes.iter().map(|(_, outcome)| said(outcome)).collect();
        if cells.iter().all(|cell| cell == &cells[0]) {
            same.push(format!("{check} ({})", cells[0]));
        } else {
            line(&mut page, &[&[check][..], &cells.iter().map(String::as_str).collect::<Vec<_>>()].concat());
        }
    }
    let _ = write!(page, "\nThe same everywhere: {}.\n", same.join(", ")); // to memory
    page
}

fn line(page: &mut String, cells: &[&str]) {
    let _ = writeln!(page, "| {} |", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | ")); // to memory
}

const HEAD: &str = "# Kernels

`cargo xtask kernels --record` wrote this page. It boots kernels of Debian in virtual machines, with the static binary and
the live tests that need nothing but a kernel: lives of connections, endings, owners, filters, losses, listings by both
ways, findings, doctor, `--aggregate`, recordings. Rows with a name of their own are systems in which something is missing;
there the first suites run.

";
