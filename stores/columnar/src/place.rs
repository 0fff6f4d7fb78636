//! The objects of one store: reading with checks, sealed where the store has keys, and errors that name the object.

use crate::scratch::Scratch;
use crate::seal::{self, StoreKeys};
use crate::{Result, fault};
use bytes::Bytes;
use keepfast_keys::{KeyError, Random};
use keepfast_model::Hash256;
use keepfast_objects::{ObjectInfo, ObjectsError, Put, Target};
use keepfast_store::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

/// Where the store's objects are, and the keys that seal them.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub target: Target,
    random: Arc<dyn Random>,
    /// None of a store without keys, or as long as no catalog entry was read.
    keys: Arc<RwLock<Option<Arc<StoreKeys>>>>,
}

impl Place {
    pub fn new(target: Target, random: Arc<dyn Random>) -> Self {
        Self { target, random, keys: Arc::default() }
    }

    /// The keys as far as they were followed.
    pub fn keys(&self) -> Option<Arc<StoreKeys>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same objects, as one sees them that has these keys.
    pub fn with_keys(&self, keys: Arc<StoreKeys>) -> Self {
        Self { keys: Arc::new(RwLock::new(Some(keys))), ..self.clone() }
    }

    /// Takes newer keys for what is read and written from now on.
    pub fn keep_keys(&self, keys: Arc<StoreKeys>) {
        let mut known = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|k| k.reference.generation < keys.reference.generation) {
            *known = Some(keys);
        }
    }

    /// Where rows wait that do not fit into memory.
    pub fn scratch(&self) -> Scratch {
        match self.keys() {
            Some(_) => Scratch::sealed(self.random.clone()),
            None => Scratch::default(),
        }
    }

    /// An error of keys, about this object.
    pub fn key_error(&self, name: &str, error: KeyError) -> StoreError {
        let damaged = |reason: String| fault::damaged(self.full(name), reason);
        match error {
            KeyError::Sealed => damaged("its bytes are not those that were written".into()),
            KeyError::Forged { reason } => damaged(format!("a key file was changed: {reason}")),
            KeyError::Locked { .. } => StoreError::Locked { store: self.target.url.clone() },
            KeyError::WrongKey { recipients, .. } => {
                StoreError::WrongKey { store: self.target.url.clone(), recipients }
            }
            other => other.of(&self.target.url).into(),
        }
    }

    fn unsealed<'a>(&self, name: &str, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        match (self.keys(), seal::is_sealed(bytes)) {
            (None, false) => Ok(bytes.into()),
            (None, true) => Err(StoreError::Locked { store: self.target.url.clone() }),
            (Some(_), false) => Err(self.not_sealed(name)),
            (Some(keys), true) => match keys.open_object(name, bytes) {
                Ok(plain) => Ok(plain.into()),
                Err(e) => Err(self.key_error(name, e)),
            },
        }
    }

    /// A plain object in a store that has keys: somebody put it there who has none.
    pub fn not_sealed(&self, name: &str) -> StoreError {
        fault::damaged(self.full(name), "it is not sealed, and the store has keys")
    }

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

    /// Names of the folders directly in a folder.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>> {
        self.target.folders(folder).await.map_err(fault::objects)
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

    /// An object's value.
    pub fn decode<T: DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T> {
        self.parse(name, &self.unsealed(name, bytes)?)
    }

    /// As [`Self::decode`], of an object without a format.
    pub fn decode_any<T: DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T> {
        let plain = self.unsealed(name, bytes)?;
        serde_json::from_slice(&plain).map_err(|e| fault::damaged(self.full(name), e.to_string()))
    }

    /// As [`Self::decode`], of bytes that are not sealed.
    pub fn parse<T: DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T> {
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

    /// A value as the bytes of an object.
    pub fn encode<T: Serialize>(&self, name: &str, value: &T) -> Result<Bytes> {
        let plain = self.json(name, value)?;
        match self.keys() {
            Some(keys) => keys.seal_object(name, &plain).map_err(|e| self.key_error(name, e)),
            None => Ok(plain),
        }
    }

    /// As [`Self::encode`], never sealed.
    pub fn json<T: Serialize>(&self, name: &str, value: &T) -> Result<Bytes> {
        let mut json =
            serde_json::to_vec(value).map_err(|e| fault::damaged(self.full(name), e.to_string()))?;
        json.push(b'\n');
        Ok(json.into())
    }
}

/// The format of catalog entries, versions and holds.
pub(crate) const FORMAT: u32 = 1;
