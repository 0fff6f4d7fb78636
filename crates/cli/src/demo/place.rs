//! Where the demo works: a new folder that is removed at the end, or one that the user keeps.

use crate::error::CliError;
use std::path::{Path, PathBuf};

/// A folder for the demo.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    remove: bool,
}

impl Place {
    /// The folder to keep, or a new one among the system's temporary files.
    ///
    /// # Errors
    /// Wrong use when the folder to keep holds something, [`CliError::File`] when it cannot be made.
    pub fn new(keep: Option<PathBuf>) -> Result<Self, CliError> {
        let make = |path: &Path| {
            std::fs::create_dir_all(path).map_err(|e| CliError::file("make the folder", path, e))
        };
        if let Some(path) = keep {
            let holds = std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some());
            if holds {
                return Err(CliError::usage(format!(
                    "--keep takes a new folder, and {} holds something",
                    path.display()
                )));
            }
            make(&path)?;
            return Ok(Self { path, remove: false });
        }
        let temp = std::env::temp_dir();
        make(&temp)?;
        for n in 0..1000 {
            let path = temp.join(format!("keepfast-demo-{}-{n}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, remove: true }),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(CliError::file("make the folder", &path, e)),
            }
        }
        Err(CliError::file("make a folder in", &temp, std::io::ErrorKind::AlreadyExists.into()))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is removed at the end.
    pub fn is_removed(&self) -> bool {
        self.remove
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.remove {
            // What cannot be removed stays among the temporary files, which the system sweeps.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_place_vanishes_and_a_kept_one_stays() {
        let place = Place::new(None).unwrap();
        let path = place.path().to_owned();
        std::fs::write(path.join("x"), b"x").unwrap();
        drop(place);
        assert!(!path.exists());
        let folder = tempfile::tempdir().unwrap();
        let keep = folder.path().join("k");
        drop(Place::new(Some(keep.clone())).unwrap());
        assert!(keep.is_dir());
        std::fs::write(keep.join("x"), b"x").unwrap();
        assert!(matches!(Place::new(Some(keep)), Err(CliError::Arguments { .. })));
    }
}
