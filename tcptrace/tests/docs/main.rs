//! README and docs show commands that the program takes and outputs that a command or a test made, and their links lead
//! somewhere.
//!
//! A block of commands or outputs that is not tcptrace's has a line above it that says where it comes from:
//! `<!-- sample: NAME -->` (`cargo xtask pictures` made it), `<!-- golden: FILE -->` (lines of a golden file),
//! `<!-- tested: FILE -->` (that test makes the same with the real programs; the values are of one run), or `<!-- not run: REASON -->`. The last ones are counted, so that a
//! new one is a decision.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod commands;
mod pages;
#[path = "../support/tracer.rs"]
mod tracer;

use std::{
    fs,
    path::{Path, PathBuf},
};

use pages::{Block, Page};
use tracer::tracer;

/// Blocks that nothing runs or makes. Say why in the mark, and change this number.
const NOT_RUN: usize = 19;

/// The README is a front door.
const README_BYTES: usize = 10 * 1024;

#[test]
fn commands_are_taken() {
    let mut taken = 0;
    for page in pages::all() {
        for (place, line) in commands::shown(&page) {
            commands::assert_taken(&place, &line);
            taken += 1;
        }
    }
    let pictures = fs::read_dir(pages::root().join("docs/pictures")).unwrap().map(|entry| entry.unwrap().path());
    // That of a report has no text.
    for picture in pictures.filter(|picture| picture.extension().is_some_and(|end| end == "svg")) {
        let text = fs::read_to_string(&picture).unwrap();
        let (_, line) = text.split_once("<title>").unwrap();
        commands::assert_taken(picture.to_str().unwrap(), line.split_once("</title>").unwrap().0);
    }
    assert!(taken > 80, "only {taken} command lines were found: are they looked for where they stand?");
}

#[test]
fn tests_that_pages_name_exist() {
    let mut named = 0;
    for page in pages::all() {
        let spans = page.code_spans().into_iter().map(|(_, span)| span);
        let lines: Vec<_> = page.blocks().iter().flat_map(commands::lines).chain(spans).collect();
        for line in lines.iter().filter(|line| line.starts_with("cargo ")) {
            let Some((_, rest)) = line.split_once("--test ") else { continue };
            let name = rest.split(' ').next().unwrap_or_default();
            let folder = pages::root().join("tcptrace/tests");
            let is_there = folder.join(name).join("main.rs").exists() || folder.join(format!("{name}.rs")).exists();
            assert!(is_there, "{}: `{line}`: there is no such test", page.name);
            named += 1;
        }
    }
    assert!(named > 5, "only {named} were found");
}

#[test]
fn source_files_that_pages_name_exist() {
    let files = pages::source_files();
    let mut named = 0;
    // A decision may be about code that is gone.
    for page in pages::all().iter().filter(|page| !page.name.starts_with("docs/decisions/")) {
        for (place, span) in page.code_spans() {
            if span.ends_with(".rs") && !span.contains([' ', '*']) && !span.contains("NAME") {
                let end = format!("/{span}");
                assert!(files.iter().any(|file| file.ends_with(&end)), "{place}: there is no file `{span}`");
                named += 1;
            }
            let is_folder = span.starts_with("tcptrace") && span.ends_with('/') && !span.contains("NAME");
            assert!(!is_folder || pages::root().join(&span).is_dir(), "{place}: there is no folder `{span}`");
        }
    }
    assert!(named > 30, "only {named} were found");
}

#[test]
fn every_block_says_where_it_comes_from() {
    let (mut not_run, mut wrong) = (Vec::new(), Vec::new());
    for page in pages::all() {
        for block in page.blocks() {
            let place = block.place();
            match block.mark {
                _ if block.language.is_empty() => wrong.push(format!("{place}: the block has no language")),
                Some(("sample", _)) if block.lines[0].starts_with("$ tcptrace ") => {}
                Some(("golden", file)) => {
                    assert_lines_of(&block, &pages::root().join("tcptrace/tests/golden").join(file))
                }
                Some(("tested", file)) if pages::root().join("tcptrace/tests").join(file).exists() => {}
                Some(("not run", reason)) if reason.len() > 10 => not_run.push(place),
                Some((kind, value)) => wrong.push(format!("{place}: `{kind}: {value}` names no test, or no reason")),
                None if is_checked_elsewhere(&block) => {}
                None => wrong.push(format!("{place}: what makes or runs this? (see the top of {})", file!())),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(not_run.len(), NOT_RUN, "blocks that nothing runs: {not_run:#?}");
}

/// Needs a block no mark? Commands of tcptrace and cargo are parsed, drawings are nobody's output, and the examples of
/// docs/json.md are compared with the schema by the golden tests.
fn is_checked_elsewhere(block: &Block<'_>) -> bool {
    let is_of_json = block.page.name == "docs/json.md" && block.language == "json";
    let is_drawing = block.language == "text" && block.lines.iter().any(|line| line.contains('┌'));
    let is_ours = |line: &String| line.starts_with("tcptrace ") || line == "tcptrace" || line.starts_with("cargo ");
    is_of_json
        || is_drawing
        || block.language == "toml"
        || block.language == "sh" && commands::lines(block).iter().all(is_ours)
}

/// Asserts that each line, but `…`, is one of the file.
fn assert_lines_of(block: &Block<'_>, file: &Path) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    for line in block.lines.iter().filter(|line| **line != "…" && !line.is_empty()) {
        assert!(text.lines().any(|known| known == *line), "{}: {} has no line {line:?}", block.place(), file.display());
    }
}

/// Samples are made by hand of a command, so they may be older than the program: their headings must be those of the golden
/// files, and the words of their findings those of docs/findings.md, which tests compare with the program.
#[test]
fn samples_are_of_this_version() {
    // Columns that the sample does not have may stand between.
    let has_columns = |line: &str, of: &str| {
        let mut words = line.split_whitespace();
        of.split_whitespace().all(|column| words.any(|word| word == column))
    };
    let goldens = fs::read_dir(pages::root().join("tcptrace/tests/golden")).unwrap().map(|entry| entry.unwrap().path());
    let goldens = goldens.filter(|path| path.extension().is_some_and(|end| end == "txt"));
    let goldens: String = goldens.map(|path| fs::read_to_string(path).unwrap()).collect();
    let findings = Page::read("docs/findings.md").text;
    let (mut headings, mut remedies) = (0, 0);
    for page in pages::all() {
        for block in page.blocks().iter().filter(|block| block.mark.is_some_and(|(kind, _)| kind == "sample")) {
            for line in &block.lines[1..] {
                let begins = line.split_whitespace().take(3);
                if begins.clone().count() == 3
                    && begins.flat_map(str::chars).all(|c| c.is_ascii_uppercase() || c == '-')
                {
                    let is_known = goldens.lines().any(|known| has_columns(known, line));
                    assert!(is_known, "{}: no golden file has the heading {line:?}", block.place());
                    headings += 1;
                }
                if let Some((remedy, _)) =
                    line.strip_prefix("   -> ").and_then(|rest| rest.split_once(" (tcptrace explain "))
                {
                    assert!(findings.contains(remedy), "{}: {remedy:?} is not in docs/findings.md", block.place());
                    remedies += 1;
                }
            }
        }
    }
    assert!(headings > 4 && remedies > 3, "{headings} headings and {remedies} remedies");
}

/// A folder that is there as long as this is.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tcptrace-docs-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Runs `config check` on a file `tcptrace.toml` with this text, and returns stdout and stderr.
    fn check(&self, config: &str, variable: Option<(&str, &str)>) -> (String, String) {
        self.run(config, &["config", "check", "tcptrace.toml"], variable)
    }

    fn run(&self, config: &str, arguments: &[&str], variable: Option<(&str, &str)>) -> (String, String) {
        fs::write(self.0.join("tcptrace.toml"), config).unwrap();
        let mut command = tracer();
        // An example may ask for it.
        command.env("TCPTRACE_KAFKA_PASSWORD", "secret").envs(variable);
        command.args(arguments).current_dir(&self.0);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn config_files_are_right() {
    let folder = Folder::new("examples");
    let mut checked = 0;
    for page in pages::all() {
        for block in page.blocks().iter().filter(|block| block.language == "toml" && block.mark.is_none()) {
            let (_, stderr) = folder.check(&block.lines.join("\n"), None);
            // The tests also run on a program that is built without it.
            let is_without_kafka = stderr.contains("is built without Kafka");
            assert!(stderr.is_empty() || is_without_kafka, "{}: {stderr}", block.place());
            checked += 1;
        }
    }
    assert!(checked > 2, "only {checked} config files were found");
}

#[test]
fn a_config_check_says_what_the_page_says() {
    let page = Page::read("docs/pipelines.md");
    let blocks = page.blocks();
    let find = |words: &str| blocks.iter().find(|block| block.lines.iter().any(|line| line.contains(words))).unwrap();
    let folder = Folder::new("check");
    let (stdout, _) = folder.check(&find("log-level = ").lines.join("\n"), None);
    assert_eq!(stdout.lines().collect::<Vec<_>>(), find("$ tcptrace config check").lines[1..]);
    let shown = find("$ tcptrace config show");
    let arguments: Vec<_> = shown.lines[0].strip_prefix("$ tcptrace ").unwrap().split(' ').collect();
    let (stdout, _) = folder.run(&find("log-level = ").lines.join("\n"), &arguments, None);
    let is_known = |line: &&str| *line == "…" || stdout.lines().any(|known| known.trim_end() == *line);
    assert!(shown.lines[1..].iter().all(is_known) && shown.lines.len() > 8, "{stdout}");
    let wrong = [
        ("\n\n\n\n\n\n[[output]]\nto = \"file:events.json\"\nrotat-size = \"1MiB\"\n", None),
        ("\n\nstate = \"LISTENN\"\n", None),
        ("aggregate = \"port\"\n\nlatency = \"10ms\"\n", None),
        ("", Some(("TCPTRACE_PORT", "http"))),
    ];
    let errors: Vec<_> = wrong.iter().map(|(config, variable)| folder.check(config, *variable).1).collect();
    let first_lines: Vec<_> = errors.iter().filter_map(|error| error.lines().next()).collect();
    assert_eq!(first_lines, find("error: config file").lines);
}

#[test]
fn links_lead_somewhere() {
    let pages = pages::all();
    let mut followed = 0;
    for page in &pages {
        for (place, link) in page.links() {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.path.clone() } else { page.path.parent().unwrap().join(file) };
            assert!(target.exists(), "{place}: {link} leads nowhere");
            if !anchor.is_empty() {
                let target = target.canonicalize().unwrap();
                let page = pages.iter().find(|page| page.path == target);
                let page = page.unwrap_or_else(|| panic!("{place}: {link} is no page"));
                assert!(page.anchors().iter().any(|known| known == anchor), "{place}: {link}: no such heading");
            }
            followed += 1;
        }
    }
    assert!(followed > 50, "only {followed} links were found");
}

#[test]
fn numbers_in_the_text_are_right() {
    let readme = Page::read("README.md");
    assert!(readme.text.len() <= README_BYTES, "README.md has {} bytes: it is a front door", readme.text.len());
    let prometheus = Page::read("docs/pipelines/prometheus.md");
    let rules = fs::read_to_string(pages::root().join("docs/pipelines/prometheus/tcptrace.rules.yml")).unwrap();
    let rules = format!("SUCCESS: {} rules found", rules.matches("- alert:").count());
    assert!(prometheus.text.contains(&rules), "docs/pipelines/prometheus.md does not say {rules:?}");
}
