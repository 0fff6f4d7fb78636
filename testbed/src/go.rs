//! Programs from the Go module proxy, each at one pinned version, and programs of our own on top of such a module.

use crate::Missing;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a program once and says where it is. Nothing but `cache` is written to, Go's own caches included.
///
/// # Errors
/// [`Missing::Tool`] without Go, [`Missing::Failed`] when it cannot be built.
pub fn install(cache: &Path, module: &str, version: &str) -> Result<PathBuf, Missing> {
    let name = module.rsplit('/').next().unwrap_or(module);
    let place =
        Place { cache, name, what: format!("{module}@{version}"), folder: format!("{name}@{version}") };
    place.built(None, |unfinished| {
        let mut go = place.go(cache, "-buildvcs=false -modcacherw");
        go.args(["install", "-trimpath", "-ldflags=-s -w", &format!("{module}@{version}")]);
        go.env("GOBIN", unfinished);
        Ok(go)
    })
}

/// A program of ours: one source file that uses one module.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// The module, whose own `go.mod` pins all others.
    pub module: &'static str,
    /// The module's version.
    pub version: &'static str,
    /// The oldest Go that the module is for.
    pub go: (u32, u32),
}

/// As [`install`], for a program of ours.
///
/// # Errors
/// As [`install`]; [`Missing::Tool`] also where Go is too old.
pub fn build(cache: &Path, source: &Source) -> Result<PathBuf, Missing> {
    let Source { name, text, module, version, go } = *source;
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    // Clones with other texts may share the cache.
    let folder = format!("{name}@{version}-{:016x}", hash.finish());
    let place = Place { cache, name, what: format!("{name} on {module}@{version}"), folder };
    place.built(Some(go), |unfinished| {
        let manifest = format!("module {name}\n\ngo {}.{}\n\nrequire {module} {version}\n", go.0, go.1);
        std::fs::create_dir_all(unfinished)?;
        std::fs::write(unfinished.join("go.mod"), manifest)?;
        std::fs::write(unfinished.join("main.go"), text)?;
        let mut go = place.go(unfinished, "-buildvcs=false -modcacherw -mod=mod");
        go.args(["build", "-trimpath", "-ldflags=-s -w", "-o", name, "."]);
        Ok(go)
    })
}

/// Where a program is built and kept.
struct Place<'a> {
    cache: &'a Path,
    name: &'a str,
    what: String,
    folder: String,
}

impl Place<'_> {
    fn go(&self, within: &Path, flags: &str) -> Command {
        let mut command = Command::new("go");
        command.current_dir(within).env("GOTOOLCHAIN", "local").env("GOFLAGS", flags);
        command.env("CGO_ENABLED", "0").env("GOWORK", "off");
        command.env("GOPATH", self.cache.join("go")).env("GOCACHE", self.cache.join("go-build"));
        command
    }

    fn built(
        &self,
        least: Option<(u32, u32)>,
        command: impl FnOnce(&Path) -> std::io::Result<Command>,
    ) -> Result<PathBuf, Missing> {
        let Self { cache, name, what, .. } = self;
        let folder = cache.join(&self.folder);
        let program = folder.join(name);
        if program.is_file() {
            return Ok(program);
        }
        let failed = |why: String| Missing::Failed(format!("{what} cannot be built: {why}"));
        std::fs::create_dir_all(cache).map_err(|e| failed(e.to_string()))?;
        let version = match self.go(cache, "").arg("version").output() {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
            _ => return Err(Missing::Tool(format!("Go, which builds {name}, is not installed"))),
        };
        if let (Some(least), Some(found)) = (least, release(&version))
            && found < least
        {
            let ((a, b), (c, d)) = (least, found);
            return Err(Missing::Tool(format!(
                "{name} needs Go {a}.{b} or newer, and Go {c}.{d} is installed"
            )));
        }
        eprintln!("   building {what}, once");
        // Built beside its place and moved there, so that what stands there is whole.
        let unfinished = cache.join(format!("{name}-{}", std::process::id()));
        match command(&unfinished).and_then(|mut go| go.status()) {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(failed(format!("go ended with {status}"))),
            Err(e) => return Err(failed(e.to_string())),
        }
        let moved = std::fs::rename(&unfinished, &folder);
        if !program.is_file() {
            let why = moved.err().map_or("go left no program".to_owned(), |e| e.to_string());
            return Err(failed(why));
        }
        // Sources and object files are many times the program.
        for left in ["go", "go-build"] {
            let _ = std::fs::remove_dir_all(cache.join(left));
        }
        let _ = std::fs::remove_dir_all(&unfinished);
        Ok(program)
    }
}

/// The release in what `go version` says, such as `go version go1.26.8 linux/amd64`.
fn release(version: &str) -> Option<(u32, u32)> {
    let release = version.split_whitespace().find_map(|word| word.strip_prefix("go1."))?;
    let minor: String = release.chars().take_while(char::is_ascii_digit).collect();
    Some((1, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_go_are_read_and_anything_else_is_left_to_go() {
        for (version, expected) in [
            ("go version go1.26.8 linux/amd64", Some((1, 26))),
            ("go version go1.9 darwin/arm64", Some((1, 9))),
            ("go version go1.27rc1 linux/amd64", Some((1, 27))),
            ("go version devel", None),
        ] {
            assert_eq!(release(version), expected, "{version}");
        }
    }
}
