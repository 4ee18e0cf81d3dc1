//! The Python environment with the other ends of outputs that come as packages of PyPI, for `tests/peers`.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use xtask::programs;

/// The Debian packages of a Python that can make an environment.
pub(crate) const PACKAGES: [&str; 2] = ["python3", "python3-venv"];

/// The packages and versions of the Python environment, from the root of the repository.
const REQUIREMENTS: &str = "tcptrace/tests/peers/requirements.txt";

/// The variable that names another folder for the environment. The tests know it too.
const FOLDER_VARIABLE: &str = "TCPTRACE_PEERS";

/// A Python that can make an environment: the caller's, or Debian's.
pub(crate) fn find() -> Option<PathBuf> {
    [programs::find("python3"), Some("/usr/bin/python3".into())]
        .into_iter()
        .flatten()
        .find(|python| programs::stdout_of(Command::new(python).args(["-c", "import ensurepip, venv"])).is_ok())
}

/// The Python environment with the packages of [`REQUIREMENTS`].
pub(crate) struct Environment {
    /// Where it is, or will be.
    pub(crate) folder: PathBuf,
    requirements: PathBuf,
}

impl Environment {
    /// The environment for the repository at `root`, whether it is there or not.
    pub(crate) fn find(root: &Path) -> Result<Self> {
        let folder = match (env::var_os(FOLDER_VARIABLE), env::var_os("HOME")) {
            (Some(folder), _) => folder.into(),
            (None, Some(home)) => PathBuf::from(home).join(".cache/tcptrace/peers"),
            (None, None) => bail!("neither {FOLDER_VARIABLE} nor HOME names a folder for the Python environment"),
        };
        Ok(Self { folder, requirements: root.join(REQUIREMENTS) })
    }

    /// Whether it has all that is required: it holds a copy of the requirements that it was made from.
    pub(crate) fn is_complete(&self) -> bool {
        fs::read(self.stamp()).is_ok_and(|installed| fs::read(&self.requirements).is_ok_and(|now| installed == now))
    }

    /// Makes it, or adds what it lacks.
    pub(crate) fn complete(&self) -> Result<()> {
        let python = find().context("python3: has no ensurepip or venv")?;
        // What these print is not the result of a test.
        let quiet = |program: &Path| {
            let mut command = Command::new(program);
            command.stdin(Stdio::null()).stdout(io::stderr());
            command
        };
        programs::succeed(quiet(&python).args(["-m", "venv"]).arg(&self.folder))?;
        let mut pip = quiet(&self.folder.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        programs::succeed(pip.arg(&self.requirements))?;
        let stamp = self.stamp();
        fs::copy(&self.requirements, &stamp).with_context(|| format!("{}: cannot be written", stamp.display()))?;
        Ok(())
    }

    fn stamp(&self) -> PathBuf {
        self.folder.join("requirements.txt")
    }
}
