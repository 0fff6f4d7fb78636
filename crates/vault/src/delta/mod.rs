//! The newest base of a table as a Delta table, so that any Delta reader opens it where it stands.
//!
//! Best effort: Keepfast never reads it, and it can be rebuilt. One version a base: it removes the files that the
//! former base had and this one has not, and adds the new ones. The protocol is that of the Delta transaction log,
//! reader version 1, or 3 with `timestampNtz` where a column is a timestamp without zone.

use crate::error::VaultError;
use crate::vault::Vault;
use crate::{Result, layout};
use futures::stream::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use keepfast_format::{Manifest, SegmentEntry};
use keepfast_model::point::Encryption;
use keepfast_model::{ColumnType, TableId, TablePoint, TableSchema};
use keepfast_objects::Put;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A version of a Delta table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeltaVersion(pub u64);

/// What a version of the Delta log says, as far as the next one depends on it.
#[derive(Default)]
struct Projected {
    version: Option<u64>,
    /// Files and their sizes.
    files: BTreeMap<String, u64>,
    schema: Option<String>,
    reader_version: u64,
}

#[derive(Deserialize)]
struct Action {
    add: Option<File>,
    remove: Option<File>,
    #[serde(rename = "metaData")]
    metadata: Option<Metadata>,
    protocol: Option<Protocol>,
}

#[derive(Deserialize)]
struct File {
    path: String,
    #[serde(default)]
    size: u64,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "schemaString")]
    schema: String,
}

#[derive(Deserialize)]
struct Protocol {
    #[serde(rename = "minReaderVersion")]
    reader: u64,
}

impl Vault {
    /// Adds the base of a table as the next version of its Delta log. None where the log shows that base already.
    ///
    /// `base` are the table's base manifests, as [`Vault::read_manifests`] gives them.
    ///
    /// # Errors
    /// [`VaultError::Unsupported`] for an encrypted table, [`VaultError::Objects`], and [`VaultError::Damaged`] for
    /// a Delta log that cannot be read; [`Self::rebuild_projection`] then helps.
    pub async fn project_delta(&self, table: &TablePoint, base: &[Manifest]) -> Result<Option<DeltaVersion>> {
        if table.encryption != Encryption::None {
            return Err(VaultError::Unsupported { what: "a Delta log of an encrypted table".into() });
        }
        // The schema that the files were written with; changes after the base may have added columns.
        let schema = base.first().map_or(&table.schema, |m| &m.schema);
        loop {
            let before = self.projected(&table.id).await?;
            let at = self.environment().clock.now();
            let Some(actions) = next_version(&before, table, schema, base, at) else { return Ok(None) };
            let version = before.version.map_or(0, |v| v + 1);
            let mut text = String::new();
            for action in actions {
                text.push_str(&action.to_string());
                text.push('\n');
            }
            let name = version_name(&table.id, version);
            if self.target().put_new(&name, text.into()).await? == Put::Created {
                return Ok(Some(DeltaVersion(version)));
            }
        }
    }

    /// Writes a table's Delta log anew, with this base as its only version.
    ///
    /// # Errors
    /// As [`Self::project_delta`].
    pub async fn rebuild_projection(
        &self,
        table: &TablePoint,
        base: &[Manifest],
    ) -> Result<Option<DeltaVersion>> {
        self.remove_projection(&table.id).await?;
        self.project_delta(table, base).await
    }

    pub(crate) async fn remove_projection(&self, table: &TableId) -> Result<()> {
        let listed = self.target().list(&layout::delta_log(table)).await?;
        // Newest first: a reader that comes between sees an older version rather than a broken one.
        for object in listed.into_iter().rev() {
            self.target().delete(&object.path).await?;
        }
        Ok(())
    }

    async fn projected(&self, table: &TableId) -> Result<Projected> {
        let listed = self.target().list(&layout::delta_log(table)).await?;
        let names = listed.into_iter().map(|o| o.path).filter(|path| {
            path.rsplit('/')
                .next()
                .and_then(|n| n.strip_suffix(".json"))
                .is_some_and(|digits| digits.len() == 20)
        });
        let mut versions = futures::stream::iter(names)
            .map(|name| async move {
                let bytes = self.target().get(&name).await?;
                Ok::<_, VaultError>((name, bytes))
            })
            .buffered(self.environment().parallel);
        let mut state = Projected::default();
        while let Some((name, bytes)) = versions.try_next().await? {
            let version = state.version.map_or(0, |v| v + 1);
            if name != version_name(table, version) {
                let path = self.target().full(&name);
                return Err(VaultError::damaged(path, format!("version {version} before it is missing")));
            }
            state.version = Some(version);
            for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                let action: Action = serde_json::from_slice(line)
                    .map_err(|e| VaultError::damaged(self.target().full(&name), e.to_string()))?;
                if let Some(file) = action.remove {
                    state.files.remove(&file.path);
                }
                if let Some(file) = action.add {
                    state.files.insert(file.path, file.size);
                }
                state.schema = action.metadata.map(|m| m.schema).or(state.schema);
                state.reader_version = action.protocol.map_or(state.reader_version, |p| p.reader);
            }
        }
        Ok(state)
    }
}

fn version_name(table: &TableId, version: u64) -> String {
    format!("{}/{version:020}.json", layout::delta_log(table))
}

/// The actions that lead to a base; none where there is nothing to do.
fn next_version(
    before: &Projected,
    table: &TablePoint,
    schema: &TableSchema,
    base: &[Manifest],
    at: Timestamp,
) -> Option<Vec<Value>> {
    let millis = at.as_millisecond();
    let entries: BTreeMap<String, &SegmentEntry> =
        base.iter().flat_map(|m| &m.segments).map(|e| (format!("segments/{}", e.file_name()), e)).collect();
    let mut changes = vec![];
    for (path, size) in before.files.iter().filter(|(path, _)| !entries.contains_key(*path)) {
        changes.push(json!({"remove": {
            "path": path, "deletionTimestamp": millis, "dataChange": true, "extendedFileMetadata": true,
            "partitionValues": {}, "size": size,
        }}));
    }
    for (path, entry) in entries.iter().filter(|(path, _)| !before.files.contains_key(*path)) {
        changes.push(json!({"add": {
            "path": path, "partitionValues": {}, "size": entry.bytes, "modificationTime": millis, "dataChange": true,
            "stats": json!({"numRecords": entry.rows}).to_string(),
        }}));
    }
    let without_zone = schema.columns.iter().any(|c| holds_time_without_zone(&c.column_type));
    let schema = delta_schema(schema).to_string();
    let new_schema = before.schema.as_ref() != Some(&schema);
    if changes.is_empty() && !new_schema {
        return None;
    }
    let operation = if before.version.is_none() { "CREATE TABLE" } else { "WRITE" };
    let mut actions = vec![json!({"commitInfo": {
        "timestamp": millis, "operation": operation, "operationParameters": {},
        "engineInfo": concat!("keepfast ", env!("CARGO_PKG_VERSION")),
    }})];
    if before.version.is_none() || (without_zone && before.reader_version < 3) {
        actions.push(if without_zone {
            json!({"protocol": {
                "minReaderVersion": 3, "minWriterVersion": 7,
                "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"],
            }})
        } else {
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}})
        });
    }
    if new_schema {
        actions.push(json!({"metaData": {
            "id": as_uuid(&table.id.0), "name": table.name.table, "format": {"provider": "parquet", "options": {}},
            "schemaString": schema, "partitionColumns": [], "configuration": {}, "createdTime": millis,
        }}));
    }
    actions.extend(changes);
    Some(actions)
}

/// Delta wants a UUID; a table id is as long as one.
fn as_uuid(id: &str) -> String {
    let part = |range: std::ops::Range<usize>| id.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

fn delta_schema(schema: &TableSchema) -> Value {
    let fields: Vec<Value> = schema
        .columns
        .iter()
        .map(|c| {
            json!({"name": c.name, "type": delta_type(&c.column_type), "nullable": c.nullable, "metadata": {}})
        })
        .collect();
    json!({"type": "struct", "fields": fields})
}

/// The Delta type of a column's physical form.
fn delta_type(column_type: &ColumnType) -> Value {
    use ColumnType as T;
    let name = match column_type {
        T::Boolean => "boolean",
        T::Int8 => "byte",
        T::Int16 | T::UInt8 => "short",
        T::Int32 | T::UInt16 => "integer",
        T::Int64 | T::UInt32 | T::Time => "long",
        T::UInt64 => "decimal(20,0)",
        T::Float32 => "float",
        T::Float64 => "double",
        T::Decimal { precision, scale } => return json!(format!("decimal({precision},{scale})")),
        T::Char { .. } | T::Varchar { .. } | T::Text | T::Json | T::Uuid => "string",
        T::Binary { .. } | T::Varbinary { .. } | T::Blob => "binary",
        T::Date => "date",
        T::Timestamp { zone: true } => "timestamp",
        T::Timestamp { zone: false } => "timestamp_ntz",
        T::List(item) => {
            return json!({"type": "array", "elementType": delta_type(item), "containsNull": true});
        }
    };
    json!(name)
}

fn holds_time_without_zone(column_type: &ColumnType) -> bool {
    match column_type {
        ColumnType::Timestamp { zone } => !zone,
        ColumnType::List(item) => holds_time_without_zone(item),
        _ => false,
    }
}
