//! The command line, variables and the config file, in two layers: [`args`] is what was typed, [`settings`] is what it means.

pub mod args;
pub mod config;
pub(crate) mod conflicts;
pub mod findings;
pub mod given;
pub mod outputs;
pub mod parse;
pub mod terminal;

/// The known name that is most like this one, as the end of a message; nothing where none is like it.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    const ALIKE: f64 = 0.7;
    let alike = known.map(|known| (strsim::jaro_winkler(name, known), known)).filter(|(alike, _)| *alike >= ALIKE);
    let best = alike.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.map_or_else(String::new, |(_, known)| format!(": did you mean `{known}`?"))
}
