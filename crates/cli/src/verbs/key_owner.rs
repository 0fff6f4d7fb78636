//! What has keys: a vault, or a columnar store.

use crate::app::App;
use crate::args::KeyOwnerArgs;
use crate::error::CliError;
use keepfast_columnar::ColumnarStore;
use keepfast_engine::StoreSpec;
use keepfast_keys::{NewRecipient, Passphrase, Recipient};
use keepfast_vault::{Secrecy, Vault};

/// A vault or a store, for changing its keys.
#[derive(Debug)]
pub enum KeyOwner {
    /// A vault.
    Vault(Vault),
    /// A store.
    Store(ColumnarStore),
}

impl KeyOwner {
    /// What the options say, else the vault of the data folder.
    pub async fn open(app: &App, of: &KeyOwnerArgs) -> Result<Self, CliError> {
        let Some(store) = &of.store else {
            return Ok(Self::Vault(app.engine().vault(of.vault.as_deref()).await?));
        };
        let spec = match store.as_str() {
            "" => StoreSpec::Embedded,
            url if url.contains("://") => StoreSpec::Url(url.to_owned()),
            name => StoreSpec::Named(name.to_owned()),
        };
        Ok(Self::Store(app.stores().columnar(&spec)?))
    }

    /// `vault` or `store`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Vault(_) => "vault",
            Self::Store(_) => "store",
        }
    }

    pub fn is_store(&self) -> bool {
        matches!(self, Self::Store(_))
    }

    /// Where it is, without secrets.
    pub fn url(&self) -> String {
        match self {
            Self::Vault(vault) => vault.url().to_owned(),
            Self::Store(store) => store.to_string(),
        }
    }

    /// The first passphrase that was given for it.
    pub fn first_passphrase<'a>(&'a self, app: &'a App) -> Option<&'a Passphrase> {
        match self {
            Self::Vault(_) => app.credentials().first_passphrase(),
            Self::Store(store) => store.credentials().first_passphrase(),
        }
    }

    pub async fn has_keys(&self) -> Result<bool, CliError> {
        Ok(match self {
            Self::Vault(vault) => vault.secrecy().await? != Secrecy::Plain,
            Self::Store(store) => store.has_keys().await?,
        })
    }

    pub async fn recipients(&self) -> Result<(u64, Vec<Recipient>), CliError> {
        Ok(match self {
            Self::Vault(vault) => vault.recipients().await?,
            Self::Store(store) => store.recipients().await?,
        })
    }

    pub async fn add(&self, name: &str, recipient: &NewRecipient) -> Result<(), CliError> {
        match self {
            Self::Vault(vault) => vault.add_recipient(name, recipient).await?,
            Self::Store(store) => store.add_recipient(name, recipient).await?,
        }
        Ok(())
    }

    pub async fn rotate(&self) -> Result<(), CliError> {
        match self {
            Self::Vault(vault) => vault.rotate_keys().await?,
            Self::Store(store) => store.rotate_keys().await?,
        }
        Ok(())
    }

    pub async fn remove(&self, name: &str) -> Result<(), CliError> {
        match self {
            Self::Vault(vault) => vault.remove_recipient(name).await?,
            Self::Store(store) => store.remove_recipient(name).await?,
        }
        Ok(())
    }
}
