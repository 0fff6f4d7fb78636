//! Files from Maven's repository, fetched by Maven itself.

use crate::Missing;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What unpacks an artifact.
const UNPACK: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:unpack";

/// Unpacks an artifact, and the archive in it that is for this kind of machine, once; says where that is.
///
/// # Errors
/// [`Missing::Tool`] without Maven or tar, [`Missing::Failed`] when it cannot be had.
pub fn unpack(cache: &Path, name: &str, artifact: &str, archive: &str) -> Result<PathBuf, Missing> {
    let place = cache.join(name);
    if place.is_dir() {
        return Ok(place);
    }
    for tool in ["mvn", "tar"] {
        let there = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !there.is_ok_and(|status| status.success()) {
            return Err(Missing::Tool(format!("{tool}, which fetches {artifact}, is not installed")));
        }
    }
    eprintln!("   fetching {artifact} from Maven, once");
    let failed = |why: String| Missing::Failed(format!("{artifact} cannot be had: {why}"));
    // Built beside its place and moved there, so that what stands there is whole.
    let unfinished = cache.join(format!("{name}-{}", std::process::id()));
    let whole = unfinished.join("whole");
    std::fs::create_dir_all(&whole).map_err(|e| failed(e.to_string()))?;
    let mut maven = Command::new("mvn");
    maven.current_dir(&unfinished).args(["-q", "-B", UNPACK, &format!("-Dartifact={artifact}")]);
    maven.arg(format!("-DoutputDirectory={}", unfinished.display()));
    let mut tar = Command::new("tar");
    tar.current_dir(&whole).arg("xzf").arg(unfinished.join(archive));
    let mut done = Ok(());
    for command in [&mut maven, &mut tar] {
        done = done.and_then(|()| match command.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stdout).lines().take(3).collect::<String>()),
            Err(e) => Err(e.to_string()),
        });
    }
    let _ = std::fs::rename(&whole, &place);
    let _ = std::fs::remove_dir_all(&unfinished);
    match (done, place.is_dir()) {
        (Ok(()), true) => Ok(place),
        (Err(why), _) => {
            let _ = std::fs::remove_dir_all(&place);
            Err(failed(why))
        }
        _ => Err(failed("it could not be moved to its place".into())),
    }
}
