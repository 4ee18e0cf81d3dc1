//! Command lines of tcptrace in blocks and in the text.

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use tcptrace::cli::{args::Args, words::arrange};

use crate::pages::{Block, Page};

/// What stands for a value in the text, and a value. Longer ones first.
const PLACEHOLDERS: [(&str, &str); 7] = [
    ("COMMAND", "stuck"),
    ("ADDRESS", "10.0.0.1"),
    ("FILTER", "443"),
    ("ADDR", "10.0.0.1"),
    ("PORT", "443"),
    ("FILE", "file"),
    ("PATH", "path"),
];

/// The commands of a block, each in one line, without prompts, comments and environments.
pub(crate) fn lines(block: &Block<'_>) -> Vec<String> {
    let text = block.lines.join("\n").replace("\\\n", " ");
    let is_command = |line: &&str| block.language == "sh" || line.starts_with("$ ");
    let lines = text.lines().filter(is_command).map(|line| {
        let line = line.trim_start_matches("$ ");
        let line = line.split(" #").next().unwrap_or_default();
        let mut words: Vec<_> = line.split_whitespace().collect();
        while words.first().is_some_and(|word| *word == "sudo" || word.contains('=')) {
            words.remove(0);
        }
        words.join(" ")
    });
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// All command lines of tcptrace on a page, with the place of each: those in blocks, and those in the text.
pub(crate) fn shown(page: &Page) -> Vec<(String, String)> {
    let in_blocks = page.blocks().into_iter().filter(|block| ["sh", "console", "text"].contains(&block.language));
    let in_blocks = in_blocks.flat_map(|block| lines(&block).into_iter().map(move |line| (block.place(), line)));
    let in_text = page.code_spans();
    in_blocks
        .chain(in_text)
        .filter(|(_, line)| line == "tcptrace" || line.starts_with("tcptrace -") || is_command(line))
        .collect()
}

/// Is this a command of tcptrace, and no sentence that begins with its name?
fn is_command(line: &str) -> bool {
    let word = line.strip_prefix("tcptrace ").and_then(|rest| rest.split(' ').next());
    word.is_some_and(|word| {
        word.chars().all(|c| c.is_ascii_lowercase()) || PLACEHOLDERS.iter().any(|(name, _)| *name == word)
    })
}

/// The words of a command as a shell reads them, up to the first `|`, `>` and so on outside of quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | '<' | ';' | '&' | '…') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Asserts that the program takes a command line, as far as parsing goes. A command by its name alone may lack what it
/// requires.
pub(crate) fn assert_taken(place: &str, line: &str) {
    let filled = |word: String| PLACEHOLDERS.iter().fold(word, |word, (name, value)| word.replace(name, value));
    let words: Vec<String> = words(line).into_iter().map(filled).collect();
    if !cfg!(feature = "kafka") && words.iter().any(|word| word.contains("kafka:")) {
        return;
    }
    let length = words.len();
    let words = words.iter().map(Into::into).collect();
    match arrange(words, &Args::command()).and_then(Args::try_parse_from) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {}
        // The text names commands and flags without what they require.
        Err(error) if length <= 2 && error.kind() == ErrorKind::MissingRequiredArgument => {}
        Err(error) if length <= 2 && error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {}
        Err(error) if length <= 3 && error.to_string().contains("but none was supplied") => {}
        Err(error) => panic!("{place}: `{line}`: {error}"),
    }
}
