//! Reading objects in pieces: files in large ones, since each piece is a hop to a blocking thread.

use crate::error::ObjectsError;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use keepfast_model::Hash256;
use std::fs::File;
use std::io::{self, Read};

/// Bytes handed on at once.
const PIECE: usize = 1 << 20;

/// The bytes of an open file, in order.
pub(crate) fn file_pieces(file: File, full: String) -> BoxStream<'static, Result<Bytes, ObjectsError>> {
    futures::stream::try_unfold((file, full), |(mut file, full)| async move {
        let (file, read) = tokio::task::spawn_blocking(move || {
            let read = piece(&mut file);
            (file, read)
        })
        .await
        .map_err(|e| ObjectsError::of("read", full.as_str(), e.into()))?;
        match read {
            Ok(piece) if piece.is_empty() => Ok(None),
            Ok(piece) => Ok(Some((piece, (file, full)))),
            Err(e) => Err(ObjectsError::of_io("read", full, e)),
        }
    })
    .boxed()
}

fn piece(file: &mut File) -> io::Result<Bytes> {
    let mut buffer = Vec::with_capacity(PIECE);
    file.take(PIECE as u64).read_to_end(&mut buffer)?;
    Ok(buffer.into())
}

/// BLAKE3 and size of an open file's bytes.
pub(crate) async fn hash_file(mut file: File, full: String) -> Result<(Hash256, u64), ObjectsError> {
    let hashed = tokio::task::spawn_blocking(move || -> io::Result<_> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&mut file)?;
        Ok((Hash256(*hasher.finalize().as_bytes()), hasher.count()))
    });
    match hashed.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(e)) => Err(ObjectsError::of_io("read", full, e)),
        Err(e) => Err(ObjectsError::of("read", full, e.into())),
    }
}

/// BLAKE3 and size of a stream's bytes.
pub(crate) async fn hash_pieces(
    mut pieces: BoxStream<'static, object_store::Result<Bytes>>,
    full: String,
) -> Result<(Hash256, u64), ObjectsError> {
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|e| ObjectsError::of("read", full.as_str(), e))?;
        size += piece.len() as u64;
        hasher.update(&piece);
    }
    Ok((Hash256(*hasher.finalize().as_bytes()), size))
}
