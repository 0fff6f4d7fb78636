//! The newest record that was seen in each vault at each place, kept in the data folder.
//!
//! A vault that was replaced by an older state of itself is whole in itself: only somebody who remembers can tell.
//! Every command that opens a vault compares its log with what is remembered, and remembers what it then holds.

use crate::Result;
use crate::engine::Engine;
use crate::error::EngineError;
use keepfast_model::{Hash256, LogSeq};
use keepfast_vault::Vault;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A vault's newest record as it was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    /// Where the vault was then; for people.
    vault: String,
    seq: LogSeq,
    stored: Hash256,
}

impl Engine {
    /// Compares a vault's log with the newest record that was seen in it, and remembers its newest one.
    ///
    /// # Errors
    /// [`EngineError::RolledBack`] when that record is not there any more.
    pub(crate) async fn compare_head(&self, vault: &Vault) -> Result<()> {
        if let Some(seq) = self.lost_head(vault).await? {
            return Err(EngineError::RolledBack { vault: vault.url().to_owned(), seq });
        }
        match vault.log().await?.head() {
            Some((seq, _)) if self.known_head(vault).is_some_and(|k| k.seq == seq) => Ok(()),
            Some((seq, stored)) => self.keep_head(vault, seq, stored),
            None => Ok(()),
        }
    }

    /// Remembers a vault's newest record, whatever was seen before.
    pub(crate) async fn accept_head(&self, vault: &Vault) -> Result<()> {
        match vault.log().await?.head() {
            Some((seq, stored)) => self.keep_head(vault, seq, stored),
            None => Ok(()),
        }
    }

    /// The newest record that was seen in a vault and is not in its log.
    pub(crate) async fn lost_head(&self, vault: &Vault) -> Result<Option<LogSeq>> {
        // What was seen comes first: others may see newer records while the log is read.
        let Some(known) = self.known_head(vault) else { return Ok(None) };
        let log = vault.log().await?;
        let stands = log.lines().rev().any(|line| line.seq == known.seq && line.stored == known.stored);
        Ok((!stands).then_some(known.seq))
    }

    /// Remembers that a copy of a vault stands at a place, up to this record of it.
    ///
    /// # Errors
    /// [`EngineError::State`] when the data folder cannot be written.
    pub fn remember_copy(&self, vault: &Vault, url: &str, (seq, stored): (LogSeq, Hash256)) -> Result<()> {
        self.keep_head_at(vault, url, seq, stored)
    }

    /// Other places at which this vault was seen from here.
    pub(crate) fn known_copies(&self, vault: &Vault) -> Vec<String> {
        let prefix = format!("{}-", head_name(vault));
        let files = std::fs::read_dir(self.heads()).into_iter().flatten().flatten();
        let ours = files.filter(|file| {
            let name = file.file_name();
            name.to_str().is_some_and(|name| name.starts_with(&prefix) && name.ends_with(".json"))
        });
        let heads = ours.filter_map(|file| serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok());
        let mut places: Vec<String> = heads.map(|head: Head| head.vault).collect();
        places.retain(|place| place != vault.url());
        places.sort();
        places
    }

    fn keep_head(&self, vault: &Vault, seq: LogSeq, stored: Hash256) -> Result<()> {
        self.keep_head_at(vault, vault.url(), seq, stored)
    }

    fn keep_head_at(&self, vault: &Vault, url: &str, seq: LogSeq, stored: Hash256) -> Result<()> {
        let path = self.head_file(vault, url);
        let failed = |source: std::io::Error| EngineError::State {
            what: "write",
            path: path.display().to_string(),
            source,
        };
        let head = Head { vault: url.to_owned(), seq, stored };
        let json = serde_json::to_vec_pretty(&head).map_err(|e| failed(e.into()))?;
        std::fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(failed)?;
        // Two commands at once write two files; the later name wins, and either is a head that was seen.
        let unfinished = path.with_extension(format!("tmp-{}", std::process::id()));
        std::fs::write(&unfinished, json).map_err(failed)?;
        std::fs::rename(&unfinished, &path).map_err(failed)
    }

    /// What was seen before; none for a vault that is new here. A file that cannot be read remembers nothing.
    fn known_head(&self, vault: &Vault) -> Option<Head> {
        let path = self.head_file(vault, vault.url());
        let unknown = |reason: String| {
            let (path, vault) = (path.display(), vault.url());
            self.options
                .progress
                .note(&format!("{path} cannot be read and remembers nothing of {vault}: {reason}"));
            None
        };
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_or_else(|e| unknown(e.to_string()), Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => unknown(e.to_string()),
        }
    }

    /// A copy elsewhere has the same id, and may be behind.
    fn head_file(&self, vault: &Vault, url: &str) -> PathBuf {
        let place = Hash256::of(url.as_bytes()).to_string();
        self.heads().join(format!("{}-{}.json", head_name(vault), &place[..16]))
    }

    fn heads(&self) -> PathBuf {
        self.options.data.join("state").join("heads")
    }
}

/// What names of a vault's files begin with. The id comes from the vault, and must not choose a path.
fn head_name(vault: &Vault) -> String {
    let id = &vault.id().0;
    let plain = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric());
    if plain { id.clone() } else { Hash256::of(id.as_bytes()).to_string() }
}
