//! The objects of one store: reading with checks, and errors that name the object.

use crate::{Result, fault};
use bytes::Bytes;
use keepfast_model::Hash256;
use keepfast_objects::{ObjectInfo, ObjectsError, Put, Target};
use keepfast_store::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where the store's objects are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub target: Target,
}

impl Place {
    pub fn full(&self, name: &str) -> String {
        self.target.full(name)
    }

    /// An object's bytes; none where it does not exist.
    pub async fn find(&self, name: &str) -> Result<Option<Bytes>> {
        match self.target.get(name).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ObjectsError::NotFound { .. }) => Ok(None),
            Err(e) => Err(fault::objects(e)),
        }
    }

    /// An object that something else promises. Its absence is damage.
    pub async fn get(&self, name: &str) -> Result<Bytes> {
        self.target.get(name).await.map_err(fault::objects)
    }

    pub async fn exists(&self, name: &str) -> Result<bool> {
        Ok(self.target.size(name).await.map_err(fault::objects)?.is_some())
    }

    /// Creates an object, durable before this returns.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<Put> {
        self.target.put_new(name, bytes).await.map_err(fault::objects)
    }

    /// Writes an object of a name that only this writer uses; durable with the next [`Self::create`] or [`Self::sync`].
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.target.put_content(name, bytes).await.map_err(fault::objects)?;
        Ok(())
    }

    pub async fn sync(&self) -> Result<()> {
        self.target.sync().await.map_err(fault::objects)
    }

    pub async fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>> {
        self.target.list(folder).await.map_err(fault::objects)
    }

    pub async fn delete(&self, name: &str) -> Result<()> {
        self.target.delete(name).await.map_err(fault::objects)
    }

    /// Refuses bytes other than those whose hash was recorded.
    pub fn check_stored(&self, name: &str, bytes: &[u8], stored: &Hash256) -> Result<()> {
        if Hash256::of(bytes) == *stored {
            return Ok(());
        }
        Err(fault::damaged(self.full(name), "its bytes are not those that were written"))
    }

    pub fn decode<T: DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T> {
        // The number of the format first: a newer one may have other members.
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |e: serde_json::Error| fault::damaged(self.full(name), e.to_string());
        let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
        if format > FORMAT {
            return Err(StoreError::Unsupported {
                store: self.target.url.clone(),
                what: format!("be read: {name} has format {format}, this program knows {FORMAT}"),
            });
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    pub fn encode<T: Serialize>(&self, name: &str, value: &T) -> Result<Bytes> {
        let mut json =
            serde_json::to_vec(value).map_err(|e| fault::damaged(self.full(name), e.to_string()))?;
        json.push(b'\n');
        Ok(json.into())
    }
}

/// The format of catalog entries, versions and holds.
pub(crate) const FORMAT: u32 = 1;
