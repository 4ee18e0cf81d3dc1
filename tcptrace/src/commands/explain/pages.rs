//! The pages of the documentation that are part of the program, taken apart into topics.

use std::iter;

/// A page, as it was when the program was built.
pub(super) struct Page {
    /// Its path in the repository.
    pub(super) name: &'static str,
    text: &'static str,
}

macro_rules! pages {
    ($($name:literal),* $(,)?) => {
        /// All of these pages, those that people ask for most first.
        pub(super) const PAGES: &[Page] =
            &[$(Page { name: $name, text: include_str!(concat!("../../../../", $name)) }),*];
    };
}

pages! {
    "docs/findings.md", "docs/states.md", "docs/errnos.md", "docs/json.md", "docs/metrics.md", "docs/pipelines.md",
    "docs/filters.md",
}

/// What a name may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Finding,
    State,
    Errno,
    /// How a connection ended.
    Ending,
    Cause,
    Threshold,
    /// How a time is known.
    Time,
    Record,
    Field,
    Metric,
    /// Another section.
    Section,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Finding => "finding",
            Self::State => "state",
            Self::Errno => "errno",
            Self::Ending => "ending",
            Self::Cause => "cause",
            Self::Threshold => "threshold",
            Self::Time => "time source",
            Self::Record => "record",
            Self::Field => "field",
            Self::Metric => "metric",
            Self::Section => "section",
        }
    }
}

/// Something that the pages explain.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The records that have this field; empty for all else.
    pub(super) of: Vec<String>,
    /// The page that it is from.
    pub(super) page: &'static str,
    /// Its text in Markdown.
    pub(super) text: String,
}

impl Topic {
    /// Its first sentence in one line, without what leads it in.
    pub(super) fn summary(&self) -> String {
        let lead = self.text.strip_prefix("**").and_then(|text| text.split_once("** "));
        let text = lead.map_or(self.text.as_str(), |(_, text)| text);
        let number = text.strip_prefix("Number ").and_then(|text| text.split_once(". "));
        let text = number.map_or(text, |(_, text)| text);
        let paragraph = text.split("\n\n").next().unwrap_or_default();
        let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ").replace(['`', '*'], "");
        line.split_once(". ").map_or(line.as_str(), |(first, _)| first).trim_end_matches('.').to_owned()
    }
}

/// All topics of all pages.
pub(super) fn topics() -> Vec<Topic> {
    let mut topics: Vec<Topic> = Vec::new();
    for Page { name: page, text } in PAGES {
        let mut sections = sections(text);
        // How to write a filter is one topic.
        if *page == "docs/filters.md" {
            let rest = sections.iter().skip(1).map(|section| format!("\n\n**{}**\n\n{}", section.title, section.body));
            let rest: String = rest.collect();
            sections.truncate(1);
            sections.iter_mut().for_each(|section| section.body += &rest);
        }
        for section in sections {
            let name = section.title.replace('`', "");
            let kind = kind_of(page, &section);
            let rows = rows(&section.body).into_iter().filter_map(|row| {
                let kind = kind_of_row(page, &section, &row)?;
                let of = if kind == Kind::Field { vec![name.clone()] } else { Vec::new() };
                let names = row.cells.first()?.split(", ").map(|name| name.trim_matches('`').to_owned());
                let text = row.text();
                let topics = names.map(move |name| Topic { name, kind, of: of.clone(), page, text: text.clone() });
                Some(topics.collect::<Vec<_>>())
            });
            for topic in rows.flatten() {
                // Many records share fields.
                match topics.iter_mut().find(|known| known.name == topic.name && known.text == topic.text) {
                    Some(known) => known.of.extend(topic.of),
                    None => topics.push(topic),
                }
            }
            topics.push(Topic { name, kind, of: Vec::new(), page, text: section.body });
        }
    }
    add_thresholds(&mut topics);
    topics.retain(|topic| !topic.text.is_empty());
    topics.sort_by_key(|topic| topic.kind); // stable: within a kind as on the page
    topics
}

/// Ends the text of each finding with its thresholds.
fn add_thresholds(topics: &mut [Topic]) {
    let thresholds: Vec<_> = topics.iter().filter(|topic| topic.kind == Kind::Threshold).cloned().collect();
    for finding in topics.iter_mut().filter(|topic| topic.kind == Kind::Finding) {
        let id = format!("`{}`", finding.name);
        for threshold in thresholds.iter().filter(|threshold| threshold.text.contains(&id)) {
            finding.text += &format!("\n\n**Threshold `{}`.**\n\n{}", threshold.name, threshold.text);
        }
    }
}

fn kind_of(page: &str, section: &Section) -> Kind {
    match page {
        "docs/findings.md" if section.level == 2 => Kind::Finding,
        "docs/states.md" if section.level == 2 => Kind::State,
        "docs/errnos.md" if section.level == 2 => Kind::Errno,
        "docs/json.md" if section.title.starts_with('`') => Kind::Record,
        _ => Kind::Section,
    }
}

fn kind_of_row(page: &str, section: &Section, row: &Row) -> Option<Kind> {
    if !row.cells.first()?.starts_with('`') {
        return None;
    }
    match (page, section.title.as_str(), row.head.first()?.as_str()) {
        ("docs/findings.md", _, "cause") => Some(Kind::Cause),
        ("docs/findings.md", _, "threshold") => Some(Kind::Threshold),
        ("docs/json.md", "Endings", _) => Some(Kind::Ending),
        ("docs/json.md", "Times", _) => Some(Kind::Time),
        ("docs/json.md", _, "field") => Some(Kind::Field),
        ("docs/metrics.md", _, "name") => Some(Kind::Metric),
        _ => None,
    }
}

/// A heading and what stands below it, up to the next one.
struct Section {
    level: usize,
    title: String,
    body: String,
}

fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        let level = line.chars().take_while(|c| *c == '#').count();
        let title = line.get(level..).and_then(|rest| rest.strip_prefix(' '));
        match title.filter(|_| level > 0 && !is_code) {
            Some(title) => sections.push(Section { level, title: title.to_owned(), body: String::new() }),
            None => {
                if let Some(section) = sections.last_mut() {
                    section.body += line;
                    section.body.push('\n');
                }
            }
        }
    }
    for section in &mut sections {
        section.body = section.body.trim().to_owned();
    }
    sections
}

/// A row of a table, with the heads of its columns.
struct Row {
    head: Vec<String>,
    cells: Vec<String>,
}

impl Row {
    /// The row as a list of its cells, without the first one, which is its name.
    fn text(&self) -> String {
        let cells = iter::zip(&self.head, &self.cells).skip(1).filter(|(_, cell)| !["", "–"].contains(&cell.as_str()));
        cells.map(|(head, cell)| format!("- {head}: {cell}")).collect::<Vec<_>>().join("\n")
    }
}

fn rows(text: &str) -> Vec<Row> {
    let cells = |line: &str| {
        let inner = line.strip_prefix("| ")?.strip_suffix(" |")?;
        Some(inner.split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
    };
    let (mut rows, mut head): (Vec<Row>, Option<Vec<String>>) = (Vec::new(), None);
    for line in text.lines() {
        match (cells(line), &head) {
            (None, _) => head = None,
            (Some(cells), None) => head = Some(cells),
            (Some(cells), _) if cells.first().is_some_and(|cell| cell.starts_with("---")) => {}
            (Some(cells), Some(head)) => rows.push(Row { head: head.clone(), cells }),
        }
    }
    rows
}
