//! Vaults that were written by released programs, healthy and damaged, are read for ever.
//!
//! `tests/fixtures/README.md` says how each was made. `KEEPFAST_WRITE_EXPECTED=1` writes what is found as what is
//! expected; look at the difference before you keep it.

use crate::common::world;
use keepfast_format::{ManifestKind, SegmentEntry, read_segment};
use keepfast_keys::Credentials;
use keepfast_model::{Digest, RowHasher, TablePoint};
use keepfast_objects::open_target;
use keepfast_vault::{CheckOptions, Environment, Vault};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vaults")
}

/// With the passphrase of the vaults that are encrypted.
fn environment() -> Environment {
    let credentials = Credentials::passphrase("passphrase of the fixtures");
    Environment { credentials, ..world(1).environment }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), &place).unwrap();
        }
    }
}

/// The healthy vault of a format with one fixture's changes, in a folder of its own.
fn laid_out(format: &Path, fixture: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&format.join("healthy"), folder.path());
    if fixture.join("changed").is_dir() {
        copy(&fixture.join("changed"), folder.path());
    }
    if let Ok(removed) = fs::read_to_string(fixture.join("removed.txt")) {
        for name in removed.lines() {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
    }
    folder
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    names.sort();
    names
}

/// Reads every file of a table's point and decodes its rows.
async fn readable(vault: &Vault, table: &TablePoint) -> Result<(), String> {
    let manifests = vault.read_manifests(table).await.map_err(|e| e.to_string())?;
    for manifest in manifests.base.iter().chain(&manifests.changes) {
        let schema = Arc::new(manifest.schema.clone());
        for entry in &manifest.segments {
            let SegmentEntry { rows, digest, .. } = entry;
            if manifest.kind == ManifestKind::Changes {
                vault.read_change_segment(&table.id, entry).await.map_err(|e| e.to_string())?;
                continue;
            }
            let bytes = vault.read_segment(&table.id, entry).await.map_err(|e| e.to_string())?;
            let hasher = RowHasher::new(&schema);
            let mut found = Digest::default();
            for batch in read_segment(bytes, &schema, None, 1024).map_err(|e| e.to_string())? {
                found = found
                    .merge(hasher.digest(&batch.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?);
            }
            if found != *digest || found.rows != *rows {
                return Err(format!("{} holds {found}", entry.file_name()));
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn vaults_of_every_format_and_damage_are_reported_as_ever_and_what_is_undamaged_is_read() {
    let (mut vaults, mut tables) = (0, 0);
    for format in names(&fixtures()) {
        for fixture in names(&format) {
            let name = fixture.file_name().unwrap().to_string_lossy().into_owned();
            let folder = laid_out(&format, &fixture);
            let target = open_target(&folder.path().to_string_lossy()).unwrap();
            let report =
                Vault::check_place(target.clone(), environment(), &CheckOptions::default(), &()).await;
            let report = report.unwrap();
            let root = target.url().to_owned();
            let mut found = String::new();
            for damage in &report.damage {
                writeln!(found, "{}", damage.to_string().replace(&root, "VAULT")).unwrap();
            }
            match report.head {
                Some((seq, hash)) => writeln!(found, "head {seq}:{hash}").unwrap(),
                None => writeln!(found, "no head").unwrap(),
            }
            // What the report does not name must be readable, where the vault can be opened at all.
            match async { Vault::open_with(target, environment()).await?.log().await }.await {
                Err(error) => {
                    writeln!(found, "cannot be opened: {}", error.to_string().replace(&root, "VAULT"))
                        .unwrap()
                }
                Ok(log) => {
                    let target = open_target(&folder.path().to_string_lossy()).unwrap();
                    let vault = Vault::open_with(target, environment()).await.unwrap();
                    // Reads what tells whether there are keys.
                    vault.log().await.unwrap();
                    for point in log.all_points() {
                        for table in &point.tables {
                            let touched = report
                                .damage
                                .iter()
                                .any(|d| d.points.contains(point.id()) && d.tables.contains(&table.name));
                            let read = readable(&vault, table).await;
                            assert!(
                                touched || read.is_ok(),
                                "{name}: {} of {}: {read:?}",
                                table.name,
                                point.id()
                            );
                            let how = if read.is_ok() { "readable" } else { "damaged" };
                            writeln!(found, "{} {}: {how}", point.id(), table.name).unwrap();
                            tables += 1;
                        }
                    }
                }
            }
            let expected = fixture.join("expected.txt");
            if std::env::var_os("KEEPFAST_WRITE_EXPECTED").is_some() {
                fs::write(&expected, &found).unwrap();
            }
            let expected = fs::read_to_string(&expected).unwrap_or_default();
            assert_eq!(found, expected, "{name} is reported otherwise than it was");
            vaults += 1;
        }
    }
    assert!(vaults >= 25, "{vaults}");
    eprintln!("{vaults} vaults, {tables} tables of points");
}

#[tokio::test]
async fn damage_of_fixtures_is_healed_from_the_healthy_vault() {
    let mut healed = 0;
    for format in names(&fixtures()) {
        for fixture in names(&format) {
            let name = fixture.file_name().unwrap().to_string_lossy().into_owned();
            let folder = laid_out(&format, &fixture);
            let target = open_target(&folder.path().to_string_lossy()).unwrap();
            let whole = open_target(&format.join("healthy").to_string_lossy()).unwrap();
            let report = Vault::repair_place(target, environment(), Some(&whole), &()).await;
            let report = match report {
                Ok(report) => report,
                // A record of this vault that the healthy one does not have: nobody can tell which is right.
                Err(error) => panic!("{name}: {error}"),
            };
            let left: Vec<String> = report.lost.iter().map(|l| l.damage.to_string()).collect();
            let foreign = name == "foreign-record";
            assert_eq!(left.is_empty(), !foreign, "{name}: {left:?}");
            healed += report.healed.len();
        }
    }
    assert!(healed > 15);
    eprintln!("{healed} objects healed");
}
