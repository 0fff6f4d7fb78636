//! An open vault, and how one is made.

use crate::environment::Environment;
use crate::error::VaultError;
use crate::keyring::KeyState;
use crate::keys::Keys;
use crate::lock::Retain;
use crate::log::Log;
use crate::marker::{FORMAT, Marker};
use crate::{Result, layout};
use futures::stream::TryStreamExt;
use keepfast_format::IdentityKey;
use keepfast_model::{BackupName, Hash256, Selection, TableId, TableName, VaultId};
use keepfast_objects::{Put, Target};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// How a vault is made.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// The program's name and version, kept in the vault.
    pub program: String,
    /// Time, random bytes and parallelism.
    pub environment: Environment,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            program: concat!("keepfast ", env!("CARGO_PKG_VERSION")).to_owned(),
            environment: Environment::default(),
        }
    }
}

/// An open vault. Cheap to clone; clones share a cache of the log.
#[derive(Clone)]
pub struct Vault {
    inner: Arc<Inner>,
    /// What this clone's commits lock; none means as the backup did before.
    retain: Option<Retain>,
    /// Whether columns whose key was dropped are NULL to readers.
    pass_over: bool,
}

struct Inner {
    target: Target,
    marker: Marker,
    keys: Keys,
    environment: Environment,
    log: Mutex<Option<Log>>,
    key_state: Mutex<KeyState>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.url())
    }
}

impl Vault {
    /// Makes a vault at an empty place, with a random dedup secret.
    ///
    /// The place is probed first. What a dead maker left behind is taken up; `keepfast.json` is written last and
    /// makes it a vault.
    ///
    /// # Errors
    /// [`VaultError::VaultExists`], also when a rival was faster; [`VaultError::NotEmpty`] among foreign objects;
    /// [`VaultError::Objects`] when the place cannot be written or overwrites objects.
    pub async fn create(target: Target, options: &CreateOptions) -> Result<Self> {
        let environment = options.environment.clone();
        let mut found = target.list_stream("");
        while let Some(object) = found.try_next().await? {
            let ours = [layout::KEYS, layout::STAGING]
                .iter()
                .any(|folder| object.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
            if object.path == layout::MARKER {
                return Err(VaultError::VaultExists { url: target.url().to_owned() });
            }
            if !ours {
                return Err(VaultError::NotEmpty { url: target.url().to_owned(), object: object.path });
            }
        }
        drop(found);
        let id = environment.random_id()?;
        target.probe(&id).await?;
        let keys = Keys::create(&target, &environment).await?;
        let marker = Marker {
            format: FORMAT,
            vault: VaultId(id),
            created: environment.clock.now(),
            program: options.program.clone(),
        };
        match target.put_new(layout::MARKER, marker.encode()?).await? {
            Put::Created => {
                // A place that answers and stores nothing is no vault.
                Marker::read(&target).await?;
                Ok(Self::of(target, marker, keys, environment))
            }
            Put::Existed => Err(VaultError::VaultExists { url: target.url().to_owned() }),
        }
    }

    /// Opens the vault at a place.
    ///
    /// # Errors
    /// [`VaultError::NotAVault`] where there is none, [`VaultError::NewerFormat`] and [`VaultError::Damaged`] where
    /// it cannot be read, [`VaultError::Objects`] where the place cannot be reached.
    pub async fn open(target: Target) -> Result<Self> {
        Self::open_with(target, Environment::default()).await
    }

    /// Opens the vault at a place, with this clock and these random bytes.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with(target: Target, environment: Environment) -> Result<Self> {
        let marker = Marker::read(&target).await?;
        let keys = Keys::read(&target, crate::keys::FIRST_GENERATION).await?;
        Ok(Self::of(target, marker, keys, environment))
    }

    /// Opens the vault at a place, or makes one where the place is empty.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::create`].
    pub async fn open_or_create(target: Target) -> Result<Self> {
        Self::open_or_create_with(target, &CreateOptions::default()).await
    }

    /// As [`Self::open_or_create`], with options.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::create`].
    pub async fn open_or_create_with(target: Target, options: &CreateOptions) -> Result<Self> {
        match Self::open_with(target.clone(), options.environment.clone()).await {
            Err(VaultError::NotAVault { .. }) => {}
            other => return other,
        }
        match Self::create(target.clone(), options).await {
            Err(VaultError::VaultExists { .. }) => Self::open_with(target, options.environment.clone()).await,
            other => other,
        }
    }

    pub(crate) fn of(target: Target, marker: Marker, keys: Keys, environment: Environment) -> Self {
        let inner =
            Inner { target, marker, keys, environment, log: Mutex::default(), key_state: Mutex::default() };
        Self { inner: Arc::new(inner), retain: None, pass_over: false }
    }

    pub(crate) fn with_retain(&self, retain: Retain) -> Self {
        Self { retain: Some(retain), ..self.clone() }
    }

    pub(crate) fn retain(&self) -> Option<Retain> {
        self.retain
    }

    /// The same open vault, whose readers have NULL for columns whose key was dropped.
    #[must_use]
    pub fn passing_over_shredded(&self) -> Self {
        Self { pass_over: true, ..self.clone() }
    }

    pub(crate) fn passes_over_shredded(&self) -> bool {
        self.pass_over
    }

    /// The vault's random id.
    pub fn id(&self) -> &VaultId {
        &self.inner.marker.vault
    }

    /// Its address as it may be shown, without secrets.
    pub fn url(&self) -> &str {
        self.inner.target.url()
    }

    /// When it was made.
    pub fn created(&self) -> jiff::Timestamp {
        self.inner.marker.created
    }

    /// The program that made it.
    pub fn program(&self) -> &str {
        &self.inner.marker.program
    }

    /// Where its objects stand.
    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    /// The key of identities of tables without encryption.
    pub fn identity_key(&self) -> IdentityKey {
        self.inner.keys.identity.clone()
    }

    /// BLAKE3 of the key file's stored bytes.
    pub(crate) fn keys_stored(&self) -> Hash256 {
        self.inner.keys.named
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    /// The id of one part of one store table in one backup. `store` is the store's kind, such as `columnar`.
    pub fn table_id(backup: &BackupName, store: &str, name: &TableName, selection: &Selection) -> TableId {
        layout::table_id(backup, store, name, selection)
    }

    pub(crate) fn cached_log(&self) -> Option<Log> {
        self.inner.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn key_state(&self) -> KeyState {
        self.inner.key_state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the keys that the log named last.
    pub(crate) fn keep_keys(&self, state: KeyState) {
        *self.inner.key_state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Lets the next reader of the log read all of it.
    pub(crate) fn forget_log(&self) {
        *self.inner.log.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The same vault at another place, with the keys as far as they are open here.
    pub(crate) fn elsewhere(&self, target: Target) -> Self {
        let Inner { marker, keys, environment, .. } = &*self.inner;
        let elsewhere = Self::of(target, marker.clone(), keys.clone(), environment.clone());
        elsewhere.keep_keys(self.key_state());
        elsewhere
    }

    /// Keeps a log for the next reader, unless a newer one is kept.
    pub(crate) fn keep_log(&self, log: &Log) {
        let mut kept = self.inner.log.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|k| k.head() < log.head()) {
            *kept = Some(log.clone());
        }
    }
}
