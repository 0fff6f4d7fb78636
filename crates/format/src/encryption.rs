//! How the files of one table are protected: the keys of its data keys, and what opens one file.
//!
//! Parquet modular encryption with AES-256-GCM. Each file has a random data key, and in mode `columns` one for each secret column;
//! they stand, wrapped, in the file's manifest entry. Every module of a file is bound to table and identity, so that no file, page or
//! footer can stand in another's place.

use crate::Result;
use crate::error::FormatError;
use crate::identity::{Domain, IdentityKey};
use bytes::Bytes;
use keepfast_keys::{KeyError, Random, SecretKey, TableKey, hex, open, seal};
use keepfast_model::{ColumnId, Encryption, Hash256, TableId};
use parquet::encryption::decrypt::{FileDecryptionProperties, KeyRetriever};
use parquet::encryption::encrypt::FileEncryptionProperties;
use parquet::errors::ParquetError;
use std::fmt;
use std::sync::Arc;

/// Names the footer's key in a file's own metadata; columns are named by their ids.
const FOOTER: &[u8] = b"footer";

/// What protects the files of one table: where their identities are comparable, and the keys of their data keys.
#[derive(Clone, Debug)]
pub struct Protection {
    pub(crate) domain: Domain,
    pub(crate) identity: IdentityKey,
    keys: Option<(Arc<TableKey>, Arc<dyn Random>)>,
}

impl Protection {
    /// A table without encryption.
    pub fn plain(table: TableId, identity: IdentityKey) -> Self {
        Self { domain: Domain::plain(table), identity, keys: None }
    }

    /// A table with keys. `identity` is the dedup secret of encrypted tables.
    pub fn encrypted(
        table: TableId,
        identity: IdentityKey,
        keys: Arc<TableKey>,
        random: Arc<dyn Random>,
    ) -> Self {
        let domain = Domain { table, encryption: keys.encryption.clone(), key_ids: keys.ids() };
        Self { domain, identity, keys: Some((keys, random)) }
    }

    /// The table.
    pub fn table(&self) -> &TableId {
        &self.domain.table
    }

    /// How its files are encrypted.
    pub fn encryption(&self) -> &Encryption {
        &self.domain.encryption
    }

    /// Ids of its keys; empty without encryption.
    pub fn key_ids(&self) -> &str {
        &self.domain.key_ids
    }

    /// Random data keys for a new file, and their wrapped form for its manifest entry; none without encryption.
    pub(crate) fn new_file(&self, id: Hash256) -> Result<Option<(FileKeys, String)>> {
        let Some((keys, random)) = &self.keys else { return Ok(None) };
        let table = &self.domain.table;
        let random = random.as_ref();
        let wrap = |key: &SecretKey, column: Option<ColumnId>, data: &SecretKey| -> Result<String> {
            Ok(hex::encode(&seal(key, &context(table, id, column), data.bytes(), random)?))
        };
        let footer = SecretKey::random(random)?;
        let mut wrapped = wrap(keys.table(), None, &footer)?;
        let mut columns = vec![];
        for column in secret_columns(&keys.encryption) {
            let data = SecretKey::random(random)?;
            let key = key_of(keys, column).ok_or_else(|| shredded(table, column))?;
            wrapped.push_str(&format!(",{}:{}", column.0, wrap(key, Some(column), &data)?));
            columns.push((column, Some(data)));
        }
        Ok(Some((FileKeys { aad: aad(table, id), footer, columns, pass_over: false }, wrapped)))
    }
}

/// Data keys of one file.
#[derive(Clone)]
pub struct FileKeys {
    aad: Vec<u8>,
    footer: SecretKey,
    /// Secret columns, each with its key unless that was dropped; none where all is under the footer's key.
    columns: Vec<(ColumnId, Option<SecretKey>)>,
    /// Whether columns whose key was dropped are read as NULL, instead of failing the reader.
    pass_over: bool,
}

impl fmt::Debug for FileKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileKeys({} columns, …)", self.columns.len())
    }
}

impl FileKeys {
    /// Unwraps the data keys of a file's manifest entry.
    ///
    /// # Errors
    /// [`FormatError::Keys`] when they were changed, or belong to another table or file.
    pub fn open(keys: &TableKey, table: &TableId, id: Hash256, wrapped: &str) -> Result<Self> {
        let unwrap = |key: &SecretKey, column: Option<ColumnId>, text: &str| -> Result<SecretKey> {
            let sealed = hex::decode(text).ok_or(KeyError::Sealed)?;
            let data = open(key, &context(table, id, column), &sealed)?;
            Ok(SecretKey::from_slice(&data).ok_or(KeyError::Sealed)?)
        };
        let mut parts = wrapped.split(',');
        let footer = unwrap(keys.table(), None, parts.next().unwrap_or_default())?;
        let mut columns = vec![];
        for part in parts {
            let (column, text) = part.split_once(':').ok_or(KeyError::Sealed)?;
            let column = ColumnId(column.parse().map_err(|_| KeyError::Sealed)?);
            // What an earlier key wrapped is as lost as what a dropped one did.
            let data = key_of(keys, column).and_then(|key| unwrap(key, Some(column), text).ok());
            columns.push((column, data));
        }
        Ok(Self { aad: aad(table, id), footer, columns, pass_over: false })
    }

    /// Lets readers have NULL for columns whose key was dropped.
    #[must_use]
    pub fn passing_over_shredded(self) -> Self {
        Self { pass_over: true, ..self }
    }

    /// Whether columns whose key was dropped are NULL to a reader.
    pub(crate) fn passes_over(&self) -> bool {
        self.pass_over
    }

    /// Whether this column's key was dropped.
    pub(crate) fn is_shredded(&self, column: ColumnId) -> bool {
        self.columns.iter().any(|(id, key)| *id == column && key.is_none())
    }

    /// How a writer encrypts the file. `paths` are the Parquet paths of columns by id.
    pub(crate) fn encryption(&self, paths: &[(ColumnId, String)]) -> Result<Arc<FileEncryptionProperties>> {
        let mut builder = FileEncryptionProperties::builder(self.footer.bytes().to_vec())
            .with_footer_key_metadata(FOOTER.to_vec())
            .with_aad_prefix(self.aad.clone())
            .with_aad_prefix_storage(false)
            .with_plaintext_footer(!self.columns.is_empty());
        for (id, key) in &self.columns {
            // A file without the hidden column, or an older schema, has no such path.
            let Some((_, path)) = paths.iter().find(|(column, _)| column == id) else { continue };
            let key = key.as_ref().expect("a file is written with all its keys");
            builder =
                builder.with_column_key_and_metadata(path, key.bytes().to_vec(), id.0.to_le_bytes().to_vec());
        }
        builder.build().map_err(|e| FormatError::encode("a segment", e))
    }

    /// How a reader decrypts it.
    pub(crate) fn decryption(&self) -> Result<Arc<FileDecryptionProperties>> {
        FileDecryptionProperties::with_key_retriever(Arc::new(self.clone()))
            .with_aad_prefix(self.aad.clone())
            .build()
            .map_err(|e| FormatError::parquet("segment", e))
    }
}

impl KeyRetriever for FileKeys {
    fn retrieve_key(&self, metadata: &[u8]) -> Result<Vec<u8>, ParquetError> {
        if metadata == FOOTER {
            return Ok(self.footer.bytes().to_vec());
        }
        let id = metadata.try_into().ok().map(|id| ColumnId(u32::from_le_bytes(id)));
        let found = self.columns.iter().find(|(column, _)| Some(*column) == id);
        match found.and_then(|(_, key)| key.as_ref()) {
            Some(key) => Ok(key.bytes().to_vec()),
            None => Err(ParquetError::General("no key of a column".into())),
        }
    }
}

/// A stored file and, where it is encrypted, what opens it.
#[derive(Clone, Debug)]
pub struct SegmentFile {
    /// Its stored bytes.
    pub bytes: Bytes,
    /// Its data keys; none without encryption.
    pub keys: Option<FileKeys>,
}

impl From<Bytes> for SegmentFile {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, keys: None }
    }
}

/// Columns with keys of their own; the hidden column of exact values tells of any column, so it is one of them.
fn secret_columns(encryption: &Encryption) -> Vec<ColumnId> {
    match encryption {
        Encryption::Columns { columns } => columns.iter().copied().chain([ColumnId::EXACT]).collect(),
        Encryption::None | Encryption::Full => vec![],
    }
}

/// The key of a column's data keys; the hidden column's is the table's.
fn key_of(keys: &TableKey, column: ColumnId) -> Option<&SecretKey> {
    if column == ColumnId::EXACT { Some(keys.table()) } else { keys.column(column) }
}

fn shredded(table: &TableId, column: ColumnId) -> FormatError {
    KeyError::Shredded { what: format!("column {} of table {table}", column.0) }.into()
}

/// What every module of a file is bound to.
fn aad(table: &TableId, id: Hash256) -> Vec<u8> {
    [b"keepfast 1\0".as_slice(), table.0.as_bytes(), b"\0", &id.0].concat()
}

/// What a wrapped data key is bound to.
fn context(table: &TableId, id: Hash256, column: Option<ColumnId>) -> Vec<u8> {
    let column = column.map_or_else(|| "footer".to_owned(), |c| c.0.to_string());
    format!("keepfast data key 1\0{table}\0{id}\0{column}").into_bytes()
}
