//! The keys of an opened vault.
//!
//! A keyring is a value: a change gives another one, whose file is the next generation. Invariant: a file that opens was made by
//! somebody who had its vault key, and every key in it is the one that its name says.

use crate::credentials::Credentials;
use crate::file::{KeyFile, KeyKind, WrappedKey};
use crate::random::{self, Random};
use crate::recipient::{NewRecipient, Recipient};
use crate::secret::SecretKey;
use crate::{KeyError, Result, hex, sealed};
use keepfast_model::{ColumnId, Encryption, TableId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A key with the random id that tells it from an earlier one of its place.
#[derive(Clone, PartialEq, Eq)]
struct Named {
    id: String,
    key: SecretKey,
}

impl Named {
    fn random(random: &dyn Random) -> Result<Self> {
        let id: [u8; 8] = random::bytes(random)?;
        Ok(Self { id: hex::encode(&id), key: SecretKey::random(random)? })
    }
}

/// The keys of one table.
#[derive(Clone, PartialEq, Eq)]
pub struct TableKey {
    /// How the table is encrypted.
    pub encryption: Encryption,
    table: Named,
    columns: BTreeMap<ColumnId, Named>,
}

impl TableKey {
    fn random(encryption: &Encryption, random: &dyn Random) -> Result<Self> {
        let mut columns = BTreeMap::new();
        if let Encryption::Columns { columns: secret } = encryption {
            for id in secret {
                columns.insert(*id, Named::random(random)?);
            }
        }
        Ok(Self { encryption: encryption.clone(), table: Named::random(random)?, columns })
    }

    /// Wraps data keys of the table's files, and seals its manifests.
    pub fn table(&self) -> &SecretKey {
        &self.table.key
    }

    /// Wraps data keys of a secret column; none once it was dropped.
    pub fn column(&self, id: ColumnId) -> Option<&SecretKey> {
        self.columns.get(&id).map(|named| &named.key)
    }

    /// Whether these are the keys of a table that is encrypted in this way, and none of them was dropped.
    pub fn serves(&self, encryption: &Encryption) -> bool {
        let secret: &[ColumnId] = match encryption {
            Encryption::Columns { columns } => columns,
            Encryption::None | Encryption::Full => &[],
        };
        self.encryption == *encryption && secret.iter().all(|id| self.columns.contains_key(id))
    }

    /// Ids of all its keys: part of the domain in which identities are comparable.
    pub fn ids(&self) -> String {
        let columns = self.columns.iter().map(|(column, named)| format!(",{}:{}", column.0, named.id));
        std::iter::once(self.table.id.clone()).chain(columns).collect()
    }
}

impl fmt::Debug for TableKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableKey({:?}, …)", self.encryption)
    }
}

/// All keys of an opened vault or store.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring {
    /// The vault's or store's id, to which wrapped keys are bound.
    owner: String,
    generation: u64,
    dedup_secret: String,
    vault_key: SecretKey,
    recipients: Vec<Recipient>,
    /// By the generation that brought it.
    auth: BTreeMap<u64, Named>,
    dedup: Named,
    staging: Named,
    tables: BTreeMap<TableId, Arc<TableKey>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring(generation {}, {} tables, …)", self.generation, self.tables.len())
    }
}

impl Keyring {
    /// New keys for what had none, with its first recipient.
    ///
    /// # Errors
    /// [`KeyError::Random`], and what the recipient is refused for.
    pub fn create(
        owner: &str,
        generation: u64,
        dedup_secret: &str,
        name: &str,
        recipient: &NewRecipient,
        random: &dyn Random,
    ) -> Result<Self> {
        let keyring = Self {
            owner: owner.to_owned(),
            generation,
            dedup_secret: dedup_secret.to_owned(),
            vault_key: SecretKey::random(random)?,
            recipients: vec![],
            auth: BTreeMap::from([(generation, Named::random(random)?)]),
            dedup: Named::random(random)?,
            staging: Named::random(random)?,
            tables: BTreeMap::new(),
        };
        keyring.with_recipient(generation, name, recipient, random)
    }

    /// Opens a key file with the first credential that is one of its recipients'.
    ///
    /// # Errors
    /// [`KeyError::Locked`] without credentials, [`KeyError::WrongKey`] where none fits, [`KeyError::Forged`] for a file that
    /// was changed, [`KeyError::Cost`].
    pub fn open(file: &KeyFile, owner: &str, credentials: &Credentials) -> Result<Self> {
        if credentials.is_empty() {
            return Err(KeyError::Locked { what: owner.to_owned() });
        }
        let context = vault_key_context(owner);
        let mut vault_key = None;
        for recipient in &file.recipients {
            vault_key = recipient.unwrap(credentials, &context)?;
            if vault_key.is_some() {
                break;
            }
        }
        let names = || file.recipients.iter().map(Recipient::name).collect::<Vec<_>>().join(", ");
        let vault_key =
            vault_key.ok_or_else(|| KeyError::WrongKey { what: owner.to_owned(), recipients: names() })?;
        let forged = |reason: &str| KeyError::Forged { reason: reason.to_owned() };
        let code = file.mac.as_deref().ok_or_else(|| forged("it has no code"))?;
        if !mac_key(&vault_key).is_mac(&file.message(), code) {
            return Err(forged("its code is not of its members"));
        }
        let (mut auth, mut dedup, mut staging) = (BTreeMap::new(), None, None);
        let mut tables: BTreeMap<TableId, TableKey> = BTreeMap::new();
        let mut columns = vec![];
        for wrapped in &file.keys {
            let sealed_key =
                hex::decode(&wrapped.wrapped).ok_or_else(|| forged("a key is not hex digits"))?;
            let key = sealed::open(&vault_key, &key_context(owner, wrapped), &sealed_key)?;
            let key = SecretKey::from_slice(&key).ok_or_else(|| forged("a key has not 32 bytes"))?;
            let named = Named { id: wrapped.id.clone(), key };
            match (wrapped.kind, &wrapped.table, wrapped.column, wrapped.generation) {
                (KeyKind::Auth, _, _, Some(generation)) => {
                    auth.insert(generation, named);
                }
                (KeyKind::Dedup, ..) => dedup = Some(named),
                (KeyKind::Staging, ..) => staging = Some(named),
                (KeyKind::Table, Some(table), ..) => {
                    let encryption = wrapped.encryption.clone().unwrap_or(Encryption::Full);
                    let key = TableKey { encryption, table: named, columns: BTreeMap::new() };
                    tables.insert(table.clone(), key);
                }
                (KeyKind::Column, Some(table), Some(column), _) => columns.push((table, column, named)),
                _ => return Err(forged("a key does not say what it is of")),
            }
        }
        if auth.is_empty() {
            return Err(forged("a key is missing"));
        }
        for (table, column, named) in columns {
            if let Some(key) = tables.get_mut(table) {
                key.columns.insert(column, named);
            }
        }
        Ok(Self {
            owner: owner.to_owned(),
            generation: file.generation,
            dedup_secret: file.dedup_secret.clone(),
            vault_key,
            recipients: file.recipients.clone(),
            auth,
            dedup: dedup.ok_or_else(|| forged("a key is missing"))?,
            staging: staging.ok_or_else(|| forged("a key is missing"))?,
            tables: tables.into_iter().map(|(id, key)| (id, Arc::new(key))).collect(),
        })
    }

    /// The file of this keyring.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn to_file(&self, random: &dyn Random) -> Result<KeyFile> {
        let empty = |kind, named: &Named| WrappedKey {
            kind,
            id: named.id.clone(),
            table: None,
            column: None,
            generation: None,
            encryption: None,
            wrapped: String::new(),
        };
        let mut all: Vec<(&Named, WrappedKey)> = vec![];
        for (generation, named) in &self.auth {
            all.push((named, WrappedKey { generation: Some(*generation), ..empty(KeyKind::Auth, named) }));
        }
        all.push((&self.dedup, empty(KeyKind::Dedup, &self.dedup)));
        all.push((&self.staging, empty(KeyKind::Staging, &self.staging)));
        for (id, key) in &self.tables {
            let table = Some(id.clone());
            let encryption = Some(key.encryption.clone());
            let wrapped =
                WrappedKey { table: table.clone(), encryption, ..empty(KeyKind::Table, &key.table) };
            all.push((&key.table, wrapped));
            for (column, named) in &key.columns {
                let wrapped = WrappedKey {
                    table: table.clone(),
                    column: Some(*column),
                    ..empty(KeyKind::Column, named)
                };
                all.push((named, wrapped));
            }
        }
        let mut keys = Vec::with_capacity(all.len());
        for (named, mut wrapped) in all {
            let context = key_context(&self.owner, &wrapped);
            let sealed_key = sealed::seal(&self.vault_key, &context, named.key.bytes(), random)?;
            wrapped.wrapped = hex::encode(&sealed_key);
            keys.push(wrapped);
        }
        let mut file = KeyFile {
            generation: self.generation,
            dedup_secret: self.dedup_secret.clone(),
            recipients: self.recipients.clone(),
            keys,
            copy: false,
            mac: None,
        };
        self.sign(&mut file);
        Ok(file)
    }

    /// Puts the code of this keyring's vault key on a file.
    pub(crate) fn sign(&self, file: &mut KeyFile) {
        file.mac = Some(mac_key(&self.vault_key).mac(&file.message()));
    }

    /// Whether a file was made by somebody with this keyring's vault key, and is as it was made.
    pub fn has_made(&self, file: &KeyFile) -> bool {
        file.mac.as_deref().is_some_and(|code| mac_key(&self.vault_key).is_mac(&file.message(), code))
    }

    pub(crate) fn vault_key(&self) -> (&SecretKey, Vec<u8>) {
        (&self.vault_key, vault_key_context(&self.owner))
    }

    /// The number of its file.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Who can open it.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// The key that authenticates records, and the generation by which they name it.
    pub fn auth(&self) -> (u64, &SecretKey) {
        let (generation, named) =
            self.auth.last_key_value().expect("a keyring is made and opened with a key that authenticates");
        (*generation, &named.key)
    }

    /// The key that authenticated records under this generation.
    pub fn auth_of(&self, generation: u64) -> Option<&SecretKey> {
        self.auth.get(&generation).map(|named| &named.key)
    }

    /// Keys identities of encrypted tables.
    pub fn dedup(&self) -> &SecretKey {
        &self.dedup.key
    }

    /// Seals what runs leave in the staging area.
    pub fn staging(&self) -> &SecretKey {
        &self.staging.key
    }

    /// The keys of a table; none of one without encryption, or once they were dropped.
    pub fn table(&self, id: &TableId) -> Option<&Arc<TableKey>> {
        self.tables.get(id)
    }

    /// All tables that have keys.
    pub fn tables(&self) -> impl Iterator<Item = &TableId> {
        self.tables.keys()
    }

    /// With keys for a table that is to be encrypted in this way; those that it has already stay, for what they encrypted.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn with_table(
        &self,
        generation: u64,
        id: &TableId,
        encryption: &Encryption,
        random: &dyn Random,
    ) -> Result<Self> {
        let mut next = Self { generation, ..self.clone() };
        let mut key = TableKey::random(encryption, random)?;
        if let Some(old) = next.tables.get(id) {
            key.table = old.table.clone();
            key.columns.extend(old.columns.iter().map(|(column, named)| (*column, named.clone())));
        }
        next.tables.insert(id.clone(), Arc::new(key));
        Ok(next)
    }

    /// With one more recipient of the same vault key.
    ///
    /// # Errors
    /// [`KeyError::RecipientExists`], [`KeyError::EmptyPassphrase`], [`KeyError::NotAgeKey`].
    pub fn with_recipient(
        &self,
        generation: u64,
        name: &str,
        recipient: &NewRecipient,
        random: &dyn Random,
    ) -> Result<Self> {
        if self.recipients.iter().any(|r| r.name() == name) {
            return Err(KeyError::RecipientExists { name: name.to_owned() });
        }
        let mut next = Self { generation, ..self.clone() };
        next.recipients.push(recipient.wrap(
            name,
            &self.vault_key,
            &vault_key_context(&self.owner),
            random,
        )?);
        Ok(next)
    }

    /// With a new vault key, and a new key for records to come. Keys of tables stay, so no data are written again.
    ///
    /// # Errors
    /// [`KeyError::PassphraseNeeded`] for recipients whose passphrase is not among the credentials.
    pub fn rotated(&self, generation: u64, credentials: &Credentials, random: &dyn Random) -> Result<Self> {
        let context = vault_key_context(&self.owner);
        let mut next =
            Self { generation, vault_key: SecretKey::random(random)?, recipients: vec![], ..self.clone() };
        next.auth.insert(generation, Named::random(random)?);
        let mut needed = vec![];
        for recipient in &self.recipients {
            match recipient.anew(credentials, &context)? {
                Some(anew) => {
                    next.recipients.push(anew.wrap(recipient.name(), &next.vault_key, &context, random)?)
                }
                None => needed.push(recipient.name()),
            }
        }
        match needed.as_slice() {
            [] => Ok(next),
            names => Err(KeyError::PassphraseNeeded { names: names.join(", ") }),
        }
    }

    /// Without a recipient, under a new vault key, since it knows the old one.
    ///
    /// # Errors
    /// [`KeyError::NoRecipient`], [`KeyError::LastRecipient`], [`KeyError::PassphraseNeeded`].
    pub fn without_recipient(
        &self,
        generation: u64,
        name: &str,
        credentials: &Credentials,
        random: &dyn Random,
    ) -> Result<Self> {
        let mut fewer = self.clone();
        fewer.recipients.retain(|r| r.name() != name);
        if fewer.recipients.len() == self.recipients.len() {
            let known = self.recipients.iter().map(Recipient::name).collect::<Vec<_>>().join(", ");
            return Err(KeyError::NoRecipient { name: name.to_owned(), known });
        }
        if fewer.recipients.is_empty() {
            return Err(KeyError::LastRecipient { name: name.to_owned() });
        }
        fewer.rotated(generation, credentials, random)
    }

    /// Without the keys of tables, or of one secret column of a table: what they encrypted can never be read again.
    ///
    /// # Errors
    /// [`KeyError::Shredded`] where there is no such key.
    pub fn shredded(&self, generation: u64, id: &TableId, column: Option<ColumnId>) -> Result<Self> {
        let mut next = Self { generation, ..self.clone() };
        let gone = match column {
            None => next.tables.remove(id).is_some(),
            Some(column) => next.tables.get_mut(id).is_some_and(|key| {
                let mut fewer = TableKey::clone(key);
                let gone = fewer.columns.remove(&column).is_some();
                *key = Arc::new(fewer);
                gone
            }),
        };
        let what = || match column {
            None => format!("table {id}"),
            Some(column) => format!("column {} of table {id}", column.0),
        };
        if gone { Ok(next) } else { Err(KeyError::Shredded { what: what() }) }
    }
}

fn mac_key(vault_key: &SecretKey) -> SecretKey {
    vault_key.derive("keepfast key file 1")
}

fn vault_key_context(owner: &str) -> Vec<u8> {
    format!("keepfast vault key 1\0{owner}").into_bytes()
}

/// What a wrapped key is, so that none can stand in another's place.
fn key_context(owner: &str, wrapped: &WrappedKey) -> Vec<u8> {
    let without = WrappedKey { wrapped: String::new(), ..wrapped.clone() };
    let mut context = format!("keepfast key 1\0{owner}\0").into_bytes();
    context.extend(serde_json::to_vec(&without).expect("names and numbers have a JSON form"));
    context
}
