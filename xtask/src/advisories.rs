//! `cargo xtask check --advisories PATH`: known vulnerabilities of the crates, without network.
//!
//! The database changes with the day and not with the code, so it is no part of the other checks. Whoever releases or
//! packages tcptrace gives a clone of it.

use std::{fs, path::Path, process::Stdio};

use anyhow::{Context as _, Result, bail};
use xtask::{cargo, programs};

use crate::setup;

/// Where cargo-deny gets the database from, which git is told to be the clone: no network is used.
const ORIGIN: &str = "https://github.com/rustsec/advisory-db";
/// What a clone must have.
const BRANCH: &str = "main";

/// Fails if the lock file has a crate with an advisory in the database, a clone of RustSec's in the folder `database`; or if
/// that cannot be checked.
pub(crate) fn check(root: &Path, database: &Path) -> Result<()> {
    if !setup::has_deny() {
        bail!("cargo-deny is not installed; `cargo xtask setup --deny` installs it");
    }
    let shown = database.display();
    let database = database.canonicalize().with_context(|| format!("{shown}: no such folder"))?;
    if !database.join("crates").is_dir() || !database.join(".git").exists() {
        bail!("{shown}: is no clone of the advisory database: `git clone {ORIGIN} {shown}` makes one");
    }
    let database = database.to_str().with_context(|| format!("{shown}: its path is not UTF-8"))?;
    // A copy of its own, made anew: one from an earlier call would hide that the clone cannot be read.
    let folder = root.join("target/advisories");
    let _ = fs::remove_dir_all(&folder); // there may be none
    fs::create_dir_all(&folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
    let config = folder.join("deny.toml");
    fs::write(&config, config_text(&folder)).with_context(|| format!("{}: cannot write it", config.display()))?;
    let deny = |words: &[&str]| {
        let mut command = cargo::command(root);
        command.args(["deny", "--log-level", "error", "--config"]).arg(&config).args(words).stdin(Stdio::null());
        command.env("GIT_CONFIG_COUNT", "1");
        command.env("GIT_CONFIG_KEY_0", format!("url.file://{database}.insteadOf")).env("GIT_CONFIG_VALUE_0", ORIGIN);
        command.env("GIT_ALLOW_PROTOCOL", "file");
        command
    };
    programs::succeed(&mut deny(&["fetch", "db"])).with_context(|| {
        format!("{shown}: cannot be read as a clone of the advisory database, with a branch {BRANCH}")
    })?;
    programs::succeed(&mut deny(&["--offline", "--all-features", "check", "advisories"]))
}

/// Any advisory fails, of every dependency; so does a clone that is older than three months.
fn config_text(folder: &Path) -> String {
    format!(
        "[advisories]\ndb-path = {:?}\ndb-urls = [{ORIGIN:?}]\nunmaintained = \"all\"\nunsound = \"all\"\n\
         yanked = \"allow\"\nmaximum-db-staleness = \"P90D\"\n",
        folder.join("database")
    )
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        path::PathBuf,
        process::{self, Command},
    };

    use xtask::workspace;

    use super::*;

    /// A clone with one advisory on this crate, in a folder that is removed at the end.
    struct Database(PathBuf);

    impl Database {
        fn new(name: &str) -> Self {
            let database = Self(env::temp_dir().join(format!("xtask-advisories-{name}-{}", process::id())));
            fs::create_dir_all(database.0.join(format!("crates/{name}"))).unwrap();
            let text = format!(
                "```toml\n[advisory]\nid = \"RUSTSEC-2026-9999\"\npackage = \"{name}\"\ndate = \"2026-01-01\"\n\
                 url = \"https://example.org\"\n[versions]\npatched = [\">= 99.0.0\"]\n```\n\n# Made up\n\nFor a test.\n"
            );
            fs::write(database.0.join(format!("crates/{name}/RUSTSEC-2026-9999.md")), text).unwrap();
            database.git(&["init", "--quiet", "--initial-branch", BRANCH]);
            database.git(&["add", "--all"]);
            database.git(&["-c", "user.name=test", "-c", "user.email=test", "commit", "--quiet", "-m", "one"]);
            database
        }

        fn git(&self, words: &[&str]) {
            programs::succeed(Command::new("git").arg("-C").arg(&self.0).args(words)).unwrap();
        }
    }

    impl Drop for Database {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0); // leftovers are harmless
        }
    }

    #[test]
    fn an_advisory_on_a_crate_of_ours_fails_and_another_one_passes() {
        if !setup::has_deny() {
            eprintln!("skipped: cargo-deny is not installed");
            return;
        }
        let root = workspace::root().unwrap();
        let harmless = Database::new("no-crate-of-ours");
        check(&root, &harmless.0).unwrap();
        let ours = Database::new("rustix");
        let error = format!("{:#}", check(&root, &ours.0).unwrap_err());
        assert!(error.contains("check advisories"), "{error}");
        // What cannot be checked fails.
        fs::remove_dir_all(harmless.0.join(".git")).unwrap();
        assert!(check(&root, &harmless.0).unwrap_err().to_string().contains("is no clone"));
        assert!(check(&root, Path::new("/nowhere")).unwrap_err().to_string().contains("no such folder"));
        let other = Database::new("no-other-crate-of-ours");
        other.git(&["branch", "--move", "other"]);
        assert!(format!("{:#}", check(&root, &other.0).unwrap_err()).contains("with a branch main"));
    }
}
