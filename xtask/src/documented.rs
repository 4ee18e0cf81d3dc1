//! The documentation shows commands of `cargo xtask` that there are.

use std::{fs, path::Path};

use clap::{Parser as _, error::ErrorKind};

use xtask::workspace;

use crate::Cli;

/// Command lines of `cargo xtask` in a page: in blocks and in the text, where a line may end within one.
fn commands(page: &str) -> Vec<String> {
    let mut commands: Vec<_> =
        page.lines().filter(|line| line.starts_with("cargo xtask ")).map(str::to_owned).collect();
    let without_fences = page.replace("```", "");
    commands.extend(without_fences.split('`').filter(|span| span.starts_with("cargo xtask ")).map(str::to_owned));
    let one_line = |line: String| {
        let line = line.replace('\n', " ");
        line.split(['#', '…']).next().unwrap_or_default().trim().to_owned()
    };
    commands.into_iter().map(one_line).collect()
}

fn pages(folder: &Path) -> Vec<String> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

#[test]
fn commands_in_the_documentation_are_taken() {
    let root = workspace::root().unwrap();
    let pages = ["", "docs", "docs/decisions", "docs/pipelines"].map(|folder| pages(&root.join(folder))).concat();
    let commands: Vec<_> = pages.iter().flat_map(|page| commands(page)).collect();
    assert!(commands.len() > 20, "{commands:?}");
    for line in commands {
        let line = line.replace("NAME", "close-wait-leak");
        match Cli::try_parse_from(line.split_whitespace().skip(1)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {}
            Err(error) => panic!("`{line}`: {error}"),
        }
    }
}
