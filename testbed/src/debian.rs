//! Programs from Debian's packages, unpacked into a folder of their own with every library that they need.
//!
//! apt verifies signatures and finds the dependencies, with lists and an empty state of its own, so that nothing on the
//! system is asked or changed and the suite need not be the system's. Programs run by the folder's own loader.

use crate::Missing;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Unpacked packages of one suite.
#[derive(Clone, Debug)]
pub struct Debian {
    root: PathBuf,
}

/// Where packages come from.
const MIRROR: &str = "http://deb.debian.org/debian";
/// Whose signatures count.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

impl Debian {
    /// Unpacks packages of a suite once, and says where they are.
    ///
    /// # Errors
    /// [`Missing::Tool`] without apt, [`Missing::Failed`] when the packages cannot be had.
    pub fn unpack(cache: &Path, suite: &str, name: &str, packages: &[&str]) -> Result<Self, Missing> {
        let root = cache.join(format!("{name}@{suite}"));
        if root.is_dir() {
            return Ok(Self { root });
        }
        for tool in ["apt-get", "dpkg-deb"] {
            let there =
                Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !there.is_ok_and(|status| status.success()) {
                return Err(Missing::Tool(format!("{tool}, which fetches {name}, is not installed")));
            }
        }
        eprintln!("   fetching {name} of Debian's {suite}, once");
        // Built beside its place and moved there, so that what stands there is whole.
        let unfinished = cache.join(format!("{name}-{}", std::process::id()));
        let fetched = fetch(&unfinished, suite, packages).and_then(|()| {
            let _ = std::fs::rename(unfinished.join("root"), &root);
            if root.is_dir() { Ok(()) } else { Err("it could not be moved to its place".into()) }
        });
        let _ = std::fs::remove_dir_all(&unfinished);
        match fetched {
            Ok(()) => Ok(Self { root }),
            Err(why) => Err(Missing::Failed(format!("{name} of Debian's {suite} cannot be had: {why}"))),
        }
    }

    /// Packages that were unpacked into a folder before.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder with all of them.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a file of the packages, such as `usr/share/mysql`.
    pub fn path(&self, within: &str) -> PathBuf {
        self.root.join(within)
    }

    /// A command that runs a program by its full path with the libraries of the packages.
    pub fn command(&self, program: &Path) -> Command {
        let library = format!("{}-linux-gnu", std::env::consts::ARCH);
        let folders = ["lib", "usr/lib"].map(|folder| self.root.join(folder).join(&library));
        let folders = folders.map(|folder| folder.display().to_string()).join(":");
        let private = self.root.join("usr/lib").join(&library).join("private");
        let mysql = self.root.join("usr/lib/mysql/private");
        let loader =
            ["lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1", "usr/lib64/ld-linux-x86-64.so.2"];
        let loader = loader.map(|path| self.root.join(path)).into_iter().find(|path| path.exists());
        let mut command = Command::new(loader.unwrap_or_else(|| self.root.join("lib/ld.so")));
        command.arg("--library-path").arg(format!("{folders}:{}:{}", private.display(), mysql.display()));
        command.arg(program);
        // Ways into servers that programs load when they are asked for.
        command
            .env("MARIADB_PLUGIN_DIR", self.root.join("usr/lib").join(&library).join("libmariadb3/plugin"));
        command
    }
}

/// Downloads and unpacks into `folder/root`.
fn fetch(folder: &Path, suite: &str, packages: &[&str]) -> Result<(), String> {
    let _ = std::fs::remove_dir_all(folder);
    for made in ["lists/partial", "cache/archives/partial", "root"] {
        std::fs::create_dir_all(folder.join(made)).map_err(|e| e.to_string())?;
    }
    std::fs::write(folder.join("status"), "").map_err(|e| e.to_string())?;
    let source = format!("deb [signed-by={KEYRING}] {MIRROR} {suite} main\n");
    std::fs::write(folder.join("sources.list"), source).map_err(|e| e.to_string())?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        for (option, at) in [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::Etc::SourceParts", "none"),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::Status", "status"),
            ("Dir::Cache", "cache"),
        ] {
            command.arg("-o").arg(format!("{option}={}", folder.join(at).display()));
        }
        command.args(["-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1", "-y"]);
        command.args(["--no-install-recommends", "--download-only"]).args(arguments);
        done(command.output(), "apt-get")
    };
    apt(&["update"])?;
    apt(&[&["install"], packages].concat())?;
    let archives = std::fs::read_dir(folder.join("cache/archives")).map_err(|e| e.to_string())?;
    for archive in archives.flatten().map(|entry| entry.path()) {
        if archive.extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(&archive).arg(folder.join("root"));
            done(unpack.output(), "dpkg-deb")?;
        }
    }
    Ok(())
}

fn done(output: std::io::Result<Output>, program: &str) -> Result<(), String> {
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    Err(format!(
        "{program} ended with {}: {}",
        output.status,
        last.into_iter().rev().collect::<Vec<_>>().join(" | ")
    ))
}
