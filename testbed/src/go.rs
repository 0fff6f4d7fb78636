//! Programs from the Go module proxy, each at one pinned version.

use crate::Missing;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds a program once and says where it is. Nothing but `cache` is written to, Go's own caches included.
///
/// # Errors
/// [`Missing::Tool`] without Go, [`Missing::Failed`] when it cannot be built.
pub fn install(cache: &Path, module: &str, version: &str) -> Result<PathBuf, Missing> {
    let name = module.rsplit('/').next().unwrap_or(module);
    let folder = cache.join(format!("{name}@{version}"));
    let program = folder.join(name);
    if program.is_file() {
        return Ok(program);
    }
    let go = |arguments: &[&str]| {
        let mut command = Command::new("go");
        command.args(arguments).current_dir(cache).env("GOTOOLCHAIN", "local");
        command.env("GOFLAGS", "-buildvcs=false -modcacherw").env("CGO_ENABLED", "0");
        command
    };
    let failed = |why: String| Missing::Failed(format!("{module} {version} cannot be built: {why}"));
    std::fs::create_dir_all(cache).map_err(|e| failed(e.to_string()))?;
    let version_of_go = go(&["version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !version_of_go.is_ok_and(|status| status.success()) {
        return Err(Missing::Tool(format!("Go, which builds {name}, is not installed")));
    }
    eprintln!("   building {module}@{version}, once");
    // Built beside its place and moved there, so that what stands there is whole.
    let unfinished = cache.join(format!("{name}-{}", std::process::id()));
    let built = go(&["install", "-trimpath", "-ldflags=-s -w", &format!("{module}@{version}")])
        .env("GOBIN", &unfinished)
        .env("GOPATH", cache.join("go"))
        .env("GOCACHE", cache.join("go-build"))
        .status();
    match built {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(failed(format!("go install ended with {status}"))),
        Err(e) => return Err(failed(e.to_string())),
    }
    let moved = std::fs::rename(&unfinished, &folder);
    if !program.is_file() {
        let why = moved.err().map_or("go install left no program".to_owned(), |e| e.to_string());
        return Err(failed(why));
    }
    // Sources and object files are many times the program.
    for left in ["go", "go-build"] {
        let _ = std::fs::remove_dir_all(cache.join(left));
    }
    let _ = std::fs::remove_dir_all(&unfinished);
    Ok(program)
}
