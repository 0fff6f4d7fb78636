//! A large object written in parts; it appears, durable, when it is completed.

use super::sync::Syncer;
use super::{blocking, generic};
use async_trait::async_trait;
use futures::FutureExt;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// An upload in parts. Dropping it removes what was written.
pub(super) struct Upload {
    syncer: Arc<Syncer>,
    out: Arc<File>,
    temporary: Option<PathBuf>,
    file: PathBuf,
    offset: u64,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({})", self.file.display())
    }
}

impl Upload {
    pub(super) fn new(syncer: Arc<Syncer>, out: File, temporary: PathBuf, file: PathBuf) -> Self {
        Self { syncer, out: Arc::new(out), temporary: Some(temporary), file, offset: 0 }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut at = self.offset;
        self.offset += data.content_length() as u64;
        let out = self.out.clone();
        async move {
            let written = blocking(move || -> io::Result<()> {
                for piece in data.iter() {
                    out.write_all_at(piece, at)?;
                    at += piece.len() as u64;
                }
                Ok(())
            });
            written.await?.map_err(generic)
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let Some(temporary) = self.temporary.take() else {
            return Err(generic(io::Error::other("the upload has ended already")));
        };
        let (out, file) = (self.out.clone(), self.file.clone());
        let done = blocking(move || {
            out.sync_all().and_then(|()| fs::rename(&temporary, &file)).inspect_err(|_| {
                let _ = fs::remove_file(&temporary);
            })
        });
        done.await?.map_err(generic)?;
        self.syncer.mark_folder(&self.file);
        self.syncer.barrier().await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        match self.temporary.take() {
            Some(temporary) => blocking(move || fs::remove_file(temporary)).await?.map_err(generic),
            None => Ok(()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            let _ = fs::remove_file(temporary);
        }
    }
}
