//! The pages, taken apart.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A page of Markdown.
pub(crate) struct Page {
    /// Its path in the repository.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A fenced block.
pub(crate) struct Block<'a> {
    pub(crate) page: &'a Page,
    pub(crate) line: usize,
    pub(crate) language: &'a str,
    /// The kind and the value of the mark above it: `<!-- KIND: VALUE -->`.
    pub(crate) mark: Option<(&'a str, &'a str)>,
    pub(crate) lines: Vec<&'a str>,
}

impl Block<'_> {
    /// File and line, for messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.page.name, self.line)
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All pages of the repository.
pub(crate) fn all() -> Vec<Page> {
    let tops = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = tops.filter(|path| path.is_file()).collect();
    files.extend(below("docs"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let pages: Vec<_> =
        files.iter().map(|path| Page::read(path.strip_prefix(root()).unwrap().to_str().unwrap())).collect();
    assert!(pages.len() > 15, "only {} pages were found", pages.len());
    pages
}

/// The paths of all files of Rust.
pub(crate) fn source_files() -> Vec<String> {
    let packages = ["tcptrace", "tcptrace-common", "tcptrace-ebpf", "xtask"];
    let files = packages.into_iter().flat_map(below).map(|path| path.to_str().unwrap().to_owned());
    files.filter(|path| path.ends_with(".rs")).collect()
}

/// All files below a folder of the repository.
fn below(folder: &str) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

impl Page {
    pub(crate) fn read(name: &str) -> Self {
        let path = root().join(name).canonicalize().unwrap();
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.to_owned(), path, text }
    }

    pub(crate) fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks: Vec<Block<'_>> = Vec::new();
        let (mut is_open, mut before) = (false, "");
        for (line, number) in self.text.lines().zip(1..) {
            match line.trim_start().strip_prefix("```") {
                Some(_) if is_open => is_open = false,
                Some(language) => {
                    let mark = before.trim().strip_prefix("<!-- ").and_then(|mark| mark.strip_suffix(" -->"));
                    let mark = mark.and_then(|mark| mark.split_once(": "));
                    blocks.push(Block { page: self, line: number, language, mark, lines: Vec::new() });
                    is_open = true;
                }
                None if is_open => blocks.last_mut().unwrap().lines.push(line),
                None => {}
            }
            before = line;
        }
        assert!(!is_open, "{}: a block has no end", self.name);
        blocks
    }

    /// The text without blocks, and the number of each line.
    pub(crate) fn prose(&self) -> Vec<(usize, &str)> {
        let mut is_open = false;
        let mut is_prose = |line: &str| {
            let is_fence = line.trim_start().starts_with("```");
            is_open ^= is_fence;
            !is_open && !is_fence
        };
        let lines = (1..).zip(self.text.lines());
        lines.filter(|(_, line)| is_prose(line)).collect()
    }

    /// Code in the text, which may go on in the next line, with the place of each.
    pub(crate) fn code_spans(&self) -> Vec<(String, String)> {
        let prose = self.prose();
        let mut spans = vec![(0, String::new())];
        for (number, line) in prose {
            for (part, begins) in line.split('`').zip(0..) {
                if begins > 0 {
                    spans.push((number, String::new()));
                }
                spans.last_mut().unwrap().1.push_str(part);
            }
            spans.last_mut().unwrap().1.push(' ');
        }
        let code = spans.into_iter().skip(1).step_by(2);
        code.map(|(number, span)| (format!("{}:{number}", self.name), span.trim().to_owned())).collect()
    }

    /// Links to files and headings, with the place of each.
    pub(crate) fn links(&self) -> Vec<(String, String)> {
        let links = self.prose().into_iter().flat_map(|(number, line)| {
            let targets = line.split("](").skip(1).filter_map(|behind| Some(behind.split_once(')')?.0));
            targets.map(move |target| (format!("{}:{number}", self.name), target.to_owned()))
        });
        links.filter(|(_, target)| !target.contains("://")).collect()
    }

    /// The names by which links reach the headings.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let headings = self.prose().into_iter().filter_map(|(_, line)| {
            let title = line.trim_start_matches('#');
            (title.len() < line.len()).then_some(title)
        });
        let mut anchors: Vec<String> = Vec::new();
        for title in headings {
            let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect();
            // GitHub numbers headings that are there already.
            let again = (1..).map(|number| format!("{anchor}-{number}"));
            let free = [anchor.clone()].into_iter().chain(again).find(|name| !anchors.contains(name));
            anchors.extend(free);
        }
        anchors
    }
}
