//! Installs Debian packages as a guest does: it waits for its turn, and leaves the machine's services as they were.

use std::{
    io,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use xtask::{privilege::Root, programs};

/// Installs the packages that are its arguments, as root.
///
/// Package scripts ask `policy-rc.d` whether they may start a service (invoke-rc.d(8)); the one that this puts there
/// says no, and carries a mark, so that the next call removes what a killed one left. Scripts enable services too:
/// those that were not enabled before are disabled again. Both happen however this ends, but for SIGKILL.
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
mark='# of `cargo xtask setup`'
enabled() { systemctl list-unit-files --state=enabled --no-legend 2>/dev/null | cut -d' ' -f1; }
# One at a time: two calls would take each other's policy away.
exec 9</var/lib/dpkg && flock 9 || exit
before=" $(enabled | tr '\n' ' ') "
leave() {
    # A second Ctrl-C must not end this half way: neither this shell nor systemctl, which gets its own session.
    trap '' HUP INT TERM
    grep -qsF "$mark" $policy && rm -f $policy
    for unit in $(enabled); do
        case "$before" in *" $unit "*) ;; *) setsid -w systemctl disable --quiet "$unit" ;; esac
    done
}
trap leave EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e $policy ]; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >$policy && chmod 755 $policy || exit
fi
tries=30
until apt-get update -q 9<&-; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || exit 1
    echo 'setup: apt-get update failed; if another apt holds its lock, this waits for it' >&2
    sleep 10
done
known=
for package; do
    if apt-cache show "$package" >/dev/null 2>&1; then
        known="$known $package"
    else
        echo "setup: warning: this system has no package $package" >&2
    fi
done
[ -z "$known" ] || apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 $known 9<&-
"#;

/// Installs `packages`, or says how to get them where that cannot be done from here.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if programs::find("apt-get").is_none() {
        bail!("there is no apt-get here: install what matches Debian's {list} with this system's package manager");
    }
    let mut command = Root::find_usable()
        .command("/bin/sh", &[("DEBIAN_FRONTEND", "noninteractive".into())])
        .with_context(|| format!("not installed: apt-get install --no-install-recommends {list}"))?;
    // apt prints its progress on standard output, where the results of tests are expected.
    command.args(["-c", INSTALL, "setup"]).args(packages).stdin(Stdio::null()).stdout(io::stderr());
    let status = programs::status(&mut command)?;
    if !status.success() {
        bail!("apt-get install --no-install-recommends {list}: {status}");
    }
    Ok(())
}

/// How much would be downloaded and how much disk space it would take, in apt's words; `None` if apt does not know.
pub(crate) fn size(packages: &[&str]) -> Option<String> {
    let mut simulate = Command::new(programs::find("apt-get")?);
    simulate.args(["install", "--no-install-recommends", "--assume-no", "-o", "Debug::NoLocking=true"]);
    simulate.args(packages).env("LC_ALL", "C").stdin(Stdio::null());
    // It fails, as the answer is no.
    let output = simulate.output().ok()?;
    sizes(&String::from_utf8_lossy(&output.stdout))
}

fn sizes(text: &str) -> Option<String> {
    let download = text.lines().find_map(|line| line.strip_prefix("Need to get ")?.strip_suffix(" of archives."))?;
    let disk = text.lines().find_map(|line| {
        line.strip_prefix("After this operation, ")?.strip_suffix(" of additional disk space will be used.")
    })?;
    Some(format!("{download} to download, {disk} on disk"))
}

#[cfg(test)]
mod tests {
    use super::sizes;

    #[test]
    fn sizes_are_read_from_what_apt_prints() {
        let text = "0 upgraded, 1 newly installed, 0 to remove and 125 not upgraded.\nNeed to get 350 kB of archives.\n\
            After this operation, 998 kB of additional disk space will be used.\nDo you want to continue? [Y/n] N\n";
        assert_eq!(sizes(text).as_deref(), Some("350 kB to download, 998 kB on disk"));
        assert_eq!(sizes("E: Unable to locate package x\n"), None);
    }
}
