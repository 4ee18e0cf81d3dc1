//! The picture of a page, by Chromium.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use xtask::programs;

/// Width and height of the picture.
const SIZE: &str = "960,1000";

/// Draws the beginning of a page; `to` is from the repository's root.
pub(super) fn picture(root: &Path, html: &str, to: &str) -> Result<()> {
    if programs::find("chromium").is_none() {
        bail!("chromium is not installed (Debian package chromium): it draws {to}");
    }
    let folder = root.join("target/pictures");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let page = folder.join("report.html");
    fs::write(&page, html).with_context(|| page.display().to_string())?;
    let mut chromium = Command::new("chromium");
    chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]);
    chromium.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    chromium.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    chromium.arg(format!("--window-size={SIZE}")).arg(format!("--screenshot={}", root.join(to).display()));
    programs::succeed(chromium.arg(format!("file://{}", page.display())))
}
