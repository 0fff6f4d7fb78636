//! Where the clone and its builds are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The clone that is checked, and the folder of its release builds.
pub struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Release builds: the folder this program itself was built into, whatever `CARGO_TARGET_DIR` says.
    pub release: PathBuf,
}

impl Workspace {
    /// The workspace whose `cargo xtask` runs this program. A build folder may serve several clones, so cargo is
    /// asked at run time.
    pub fn find() -> Result<Self, String> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("start it with `cargo xtask`")?;
        let root = Path::new(&package).parent().ok_or("xtask stands outside a workspace")?;
        let program = std::env::current_exe().map_err(|why| format!("cannot tell where builds go: {why}"))?;
        let release = program.parent().ok_or("cannot tell where builds go")?;
        Ok(Self { root: root.to_path_buf(), release: release.to_path_buf() })
    }

    /// A cargo command in the clone, with the toolchain that runs us.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(&self.root);
        // What cargo tells this program of its own package. Build scripts that look at it would run again, and everything
        // above them would be built again, each time somebody builds now with `cargo xtask` and now without.
        for (name, _) in std::env::vars_os() {
            let told = name.to_str().is_some_and(|n| {
                n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_") || n == "OUT_DIR"
            });
            if told {
                command.env_remove(name);
            }
        }
        command
    }

    /// The `keepfast` program of the last release build.
    pub fn keepfast(&self) -> PathBuf {
        self.release.join(format!("keepfast{}", std::env::consts::EXE_SUFFIX))
    }

    /// Text of a file of the clone; errors name it.
    pub fn read(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(self.root.join(path)).map_err(|why| format!("{path}: {why}"))
    }
}
