//! Python packages, pinned, in a folder beside the builds; nothing outside it is touched.

use crate::workspace::Workspace;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Packages that can be imported: the folder to put on `PYTHONPATH`.
pub enum Packages {
    /// Installed.
    Ready(PathBuf),
    /// There is no usable Python here, and why.
    NoPython(String),
    /// pip could not install them, and why.
    PipFailed(String),
}

/// Installs what a requirements file of the clone names, once for each content of that file.
///
/// `pip install --target` works without a virtual environment, which Debian ships as a package of its own.
pub fn packages(workspace: &Workspace, requirements: &str) -> Packages {
    let works = |arguments: &[&str]| {
        let run =
            Command::new("python3").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    if !works(&["-c", "import sys; sys.exit(sys.version_info < (3, 11))"]) {
        return Packages::NoPython("python3 (3.11 or newer) is not installed".into());
    }
    if !works(&["-m", "pip", "--version"]) {
        return Packages::NoPython("pip is not installed for python3".into());
    }
    let text = match workspace.read(requirements) {
        Ok(text) => text,
        Err(why) => return Packages::PipFailed(why),
    };
    let name = requirements.replace(['/', '.'], "-");
    let folder = workspace.release.join("../python").join(name);
    let stamp = folder.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == text) {
        return Packages::Ready(folder);
    }
    let _ = std::fs::remove_dir_all(&folder);
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-warn-script-location",
        "--target",
    ]);
    pip.arg(&folder)
        .arg("--requirement")
        .arg(workspace.root.join(requirements))
        .env("PIP_ROOT_USER_ACTION", "ignore");
    println!("   installing {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
    match pip.status() {
        Ok(status) if status.success() => match std::fs::write(&stamp, text) {
            Ok(()) => Packages::Ready(folder),
            Err(why) => Packages::PipFailed(format!("{}: {why}", stamp.display())),
        },
        Ok(status) => Packages::PipFailed(format!("pip install ended with {status}")),
        Err(why) => Packages::PipFailed(format!("python3 did not start: {why}")),
    }
}
