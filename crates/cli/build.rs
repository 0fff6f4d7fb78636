//! Puts the pages of `docs/errors/` into the binary, so that `keepfast explain` works anywhere.

use std::fmt::Write as _;
use std::path::PathBuf;

fn main() {
    // Asked at run time: a build folder may serve several clones.
    let crate_folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let pages = crate_folder.join("../../docs/errors");
    println!("cargo:rerun-if-changed={}", pages.display());
    let mut found: Vec<(u16, PathBuf)> = std::fs::read_dir(&pages)
        .expect("docs/errors stands beside the crates")
        .filter_map(|entry| {
            let path = entry.expect("docs/errors can be listed").path();
            let name = path.file_name()?.to_str()?;
            let code = name.strip_prefix("KF")?.strip_suffix(".md")?.parse().ok()?;
            Some((code, path))
        })
        .collect();
    found.sort();
    let mut code = String::from(
        "/// The page of each error code, in ascending order.\npub const PAGES: &[(u16, &str)] = &[\n",
    );
    for (number, path) in found {
        println!("cargo:rerun-if-changed={}", path.display());
        writeln!(code, "    ({number}, include_str!({:?})),", path.display().to_string())
            .expect("a String takes all");
    }
    code.push_str("];\n");
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    std::fs::write(out.join("pages.rs"), code).expect("OUT_DIR can be written");
}
