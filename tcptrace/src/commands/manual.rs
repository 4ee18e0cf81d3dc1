//! `tcptrace man` and `tcptrace completions`: what a package installs beside the program, made from the command line's own
//! description.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _, Error, error::ErrorKind};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::args::Args;

/// Why the package has another name than the program.
const PACKAGE: &str = ".SH PACKAGE\nPackages of this program are called tcptrace\\-ebpf, because Debian and others have an \
                       unrelated program called tcptrace, which analyses packet captures. They conflict with it.\n";

/// The completions for a shell.
pub(super) fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut built(), "tcptrace", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The man page of a command, as roff.
///
/// # Errors
/// A usage error if there is no such command.
pub(super) fn page(words: &[String]) -> Result<String, Error> {
    let root = built();
    let mut command = &root;
    for word in words {
        command = command.find_subcommand(word).ok_or_else(|| {
            let known: Vec<_> =
                command.get_subcommands().filter(|known| !known.is_hide_set()).map(Command::get_name).collect();
            let known = if known.is_empty() {
                "it has no commands".to_owned()
            } else {
                format!("known are {}", known.join(", "))
            };
            let message =
                format!("`{}` has no command `{word}`: {known}", command.get_bin_name().unwrap_or("tcptrace"));
            Args::command().error(ErrorKind::InvalidSubcommand, message)
        })?;
    }
    roff(command).map_err(|error| Args::command().error(ErrorKind::Io, error))
}

/// Writes the pages of all commands to a folder, as `tcptrace-sockets.1`.
pub(super) fn write(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).and_then(|()| pages(&built(), folder)).with_context(|| format!("{}", folder.display()))
}

fn pages(command: &Command, folder: &Path) -> io::Result<()> {
    fs::write(folder.join(format!("{}.1", command.get_display_name().unwrap_or("tcptrace"))), roff(command)?)?;
    command.get_subcommands().filter(|known| !known.is_hide_set()).try_for_each(|command| pages(command, folder))
}

fn roff(command: &Command) -> io::Result<String> {
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text)?;
    let (mut page, mut is_table) = (String::new(), false);
    for line in String::from_utf8_lossy(&text).lines() {
        // Tables keep their lines.
        if line.starts_with("  ") != is_table {
            is_table = !is_table;
            page += if is_table { ".nf\n" } else { ".fi\n" };
        }
        page.extend([line, "\n"]);
    }
    if command.get_name() == "tcptrace" {
        page += PACKAGE;
    }
    Ok(page)
}

/// The command line with all names filled in, without clap's own `help` commands.
fn built() -> Command {
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_that_names_it() {
        for command in built().get_subcommands() {
            let text = page(&[command.get_name().to_owned()]).unwrap();
            assert!(text.contains(&format!("tcptrace\\-{}", command.get_name())), "{text}");
        }
        let whole = page(&[]).unwrap();
        assert!(whole.contains(".TH tcptrace 1") && whole.contains("tcptrace\\-ebpf"), "{whole}");
        assert!(whole.contains("\n.nf\n  tcptrace  ") && whole.matches(".nf\n").count() == 1, "{whole}");
        assert!(page(&["no".to_owned()]).unwrap_err().to_string().contains("known are"));
    }

    #[test]
    fn completions_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            assert!(completions(shell).contains("sockets"), "{shell}");
        }
    }
}
