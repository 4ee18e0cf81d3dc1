//! The sample outputs in the pages: each stands below a line `<!-- sample: NAME -->`, in a block of its own; with
//! `<!-- sample: NAME 2-4 -->` only these paragraphs of it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use super::{play::Shot, svg::plain};

const MARK: &str = "<!-- sample: ";

/// Writes the outputs into the pages that ask for them, and returns the names of those pages.
pub(super) fn update(root: &Path, shots: &[Shot]) -> Result<Vec<String>> {
    let mut written = Vec::new();
    let folder = root.join("docs");
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let old = fs::read_to_string(&path).with_context(|| name.clone())?;
        if old.contains(MARK) {
            fs::write(&path, with_samples(&old, shots).with_context(|| name.clone())?).with_context(|| name.clone())?;
            written.push(name);
        }
    }
    Ok(written)
}

fn with_samples(page: &str, shots: &[Shot]) -> Result<String> {
    let mut parts = page.split(MARK);
    let mut new = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (asked, behind) = part.split_once(" -->\n```console").context("a sample has no block ```console")?;
        let (_, behind) = behind.split_once("\n```").with_context(|| format!("the block of {asked} has no end"))?;
        let (name, which) = asked.split_once(' ').unwrap_or((asked, ""));
        let (first, last) = which.split_once('-').unwrap_or(("1", ""));
        let first = first.parse().with_context(|| asked.to_owned())?;
        let last = if last.is_empty() { usize::MAX } else { last.parse().with_context(|| asked.to_owned())? };
        let Some(shot) = shots.iter().find(|shot| shot.name == name) else { bail!("no output is called {name}") };
        let lines: Vec<_> =
            shot.paragraphs(first, last).into_iter().map(|line| plain(line).trim_end().to_owned()).collect();
        new += &format!(
            "{MARK}{asked} -->\n```console\n$ tcptrace {}\n{}\n```{behind}",
            shot.line,
            lines.join("\n").trim_end()
        );
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::{Shot, with_samples};

    #[test]
    fn only_the_block_below_the_mark_changes() {
        let shots = [Shot { name: "a".into(), line: "rates".into(), stdout: "\x1b[1mnew\x1b[0m  \nlines\n".into() }];
        let page = "before\n<!-- sample: a -->\n```console\n$ tcptrace old\nold\n```\nbehind\n";
        let new = with_samples(page, &shots).unwrap();
        assert_eq!(new, "before\n<!-- sample: a -->\n```console\n$ tcptrace rates\nnew\nlines\n```\nbehind\n");
        let page = page.replace("sample: a", "sample: a 2-3");
        let stdout = "1\n\n2\n\x1b[1m\n3\x1b[0m\n\n4\n";
        let new =
            with_samples(&page, &[Shot { name: "a".into(), line: "rates".into(), stdout: stdout.into() }]).unwrap();
        assert!(new.contains("rates\n2\n\n3\n```"), "{new}");
        assert!(with_samples("<!-- sample: b -->\n```console\n\n```", &shots).is_err());
    }
}
