//! Damage on purpose: one byte of a stored file is changed, and put back in any case.

use crate::error::CliError;
use std::path::{Path, PathBuf};

/// A file with one wrong byte, which gets its right bytes back when this is dropped.
#[derive(Debug)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The byte's place, from 0.
    pub offset: usize,
    right: Option<Vec<u8>>,
}

impl Damage {
    /// Flips one bit in the middle of a file.
    ///
    /// # Errors
    /// [`CliError::File`] when the file cannot be read or written.
    pub fn flip(path: &Path) -> Result<Self, CliError> {
        let right = std::fs::read(path).map_err(|e| CliError::file("read", path, e))?;
        let offset = right.len() / 2;
        let mut wrong = right.clone();
        if let Some(byte) = wrong.get_mut(offset) {
            *byte ^= 1;
        }
        let damage = Self { path: path.to_owned(), offset, right: Some(right) };
        std::fs::write(path, wrong).map_err(|e| CliError::file("write", path, e))?;
        Ok(damage)
    }

    /// Puts the right bytes back.
    ///
    /// # Errors
    /// [`CliError::File`] when the file cannot be written.
    pub fn put_back(mut self) -> Result<(), CliError> {
        match self.right.take() {
            Some(right) => {
                std::fs::write(&self.path, right).map_err(|e| CliError::file("write", &self.path, e))
            }
            None => Ok(()),
        }
    }
}

impl Drop for Damage {
    fn drop(&mut self) {
        if let Some(right) = self.right.take() {
            // The caller is failing already and says why.
            let _ = std::fs::write(&self.path, right);
        }
    }
}

/// The largest segment under a vault's folder.
///
/// # Errors
/// [`CliError::File`] when a folder cannot be read, or holds no segment.
pub fn largest_segment(vault: &Path) -> Result<PathBuf, CliError> {
    let mut largest: Option<(u64, PathBuf)> = None;
    let mut folders = vec![vault.join("tables")];
    while let Some(folder) = folders.pop() {
        let read = |e| CliError::file("read", &folder, e);
        for entry in std::fs::read_dir(&folder).map_err(read)? {
            let entry = entry.map_err(read)?;
            let about = entry.metadata().map_err(read)?;
            let path = entry.path();
            if about.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "parquet")
                && largest.as_ref().is_none_or(|(n, _)| about.len() > *n)
            {
                largest = Some((about.len(), path));
            }
        }
    }
    largest.map(|(_, path)| path).ok_or_else(|| {
        CliError::file("find a segment in", vault, std::io::Error::from(std::io::ErrorKind::NotFound))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_gets_its_bytes_back_in_any_case() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, b"abc").unwrap();
        let damage = Damage::flip(&file).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"acc");
        drop(damage);
        assert_eq!(std::fs::read(&file).unwrap(), b"abc");
        Damage::flip(&file).unwrap().put_back().unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"abc");
    }
}
