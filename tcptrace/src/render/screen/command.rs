//! The command line that shows the same as the screen.

use super::tab::Tab;
use crate::analysis::overview::SocketId;
use crate::render::text::Address;

/// Where the screen gets what it shows.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Words between `tcptrace` and the command: `replay FILE --at TIME`.
    pub before: Vec<String>,
    /// Flags that choose what is seen at all, such as `--netns self`.
    pub flags: Vec<String>,
    /// Flags that decide what is a finding.
    pub thresholds: Vec<String>,
}

/// The command for a tab with this filter.
pub(super) fn of_tab(place: &Place, tab: Tab, sort: Option<&str>, filter: &str) -> String {
    let is_live = place.before.is_empty();
    let words: &[&str] = match (tab, is_live) {
        (Tab::Findings, _) => &["stuck", "--once"],
        (Tab::Sockets, _) => &["sockets"],
        (Tab::Processes, _) => &["sockets", "--by", "pid,state"],
        (Tab::Services, _) => &["sockets", "--by", "port,state"],
        (Tab::States, true) => &["--summary", "--duration", "10s"],
        (Tab::States | Tab::Rates, false) => &["summary"],
        (Tab::Rates, true) => &["rates"],
    };
    let mut line = line(place, words);
    line.extend(place.thresholds.iter().filter(|_| tab == Tab::Findings).map(|word| quoted(word)));
    line.extend(sort.filter(|_| tab == Tab::Sockets).map(|sort| format!("--sort={sort}")));
    if !filter.is_empty() && words != ["rates"] {
        line.extend(["--where".to_owned(), quoted(filter)]);
    }
    line.join(" ")
}

/// The command for the story of a connection.
pub(super) fn of_story(place: &Place, id: &SocketId) -> String {
    let which = match id.cookie {
        Some(cookie) => format!("cookie:{cookie}"),
        None => Address(if id.remote.port() == 0 { id.local } else { id.remote }).to_string(),
    };
    let mut line = line(place, &["story"]);
    line.push(quoted(&which));
    line.join(" ")
}

/// The command for a topic.
pub(super) fn of_topic(topic: &str) -> String {
    format!("tcptrace explain {}", quoted(topic))
}

fn line(place: &Place, words: &[&str]) -> Vec<String> {
    let before = place.before.iter().map(|word| quoted(word));
    let words = words.iter().map(|word| (*word).to_owned());
    let flags = place.flags.iter().map(|word| quoted(word));
    std::iter::once("tcptrace".to_owned()).chain(before).chain(words).chain(flags).collect()
}

/// A word as a shell (sh) reads it back.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_same_words() {
        let place = Place {
            before: ["replay", "it's here.tcptrace", "--at", "+5m"].map(str::to_owned).to_vec(),
            flags: vec!["--netns=self".to_owned()],
            thresholds: vec!["--ignore=half-open".to_owned()],
        };
        let filter = "comm == \"a'b\" && port == 80";
        let line = of_tab(&place, Tab::Sockets, Some("-age"), filter);
        let output = std::process::Command::new("sh").args(["-c", &format!("printf '%s\\n' {line}")]).output().unwrap();
        let words: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
        let want = [
            "tcptrace",
            "replay",
            "it's here.tcptrace",
            "--at",
            "+5m",
            "sockets",
            "--netns=self",
            "--sort=-age",
            "--where",
            filter,
        ];
        assert_eq!(words, want);
        let live = of_tab(&Place::default(), Tab::Rates, None, filter);
        assert_eq!(live, "tcptrace rates", "it counts for the whole machine");
    }
}
