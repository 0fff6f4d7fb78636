//! A table's columns and key, and the Arrow schemas that follow from them.

use crate::column_type::ColumnType;
use crate::error::ModelError;
use crate::ids::ColumnId;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Field metadata: the column's id.
pub const META_COLUMN_ID: &str = "keepfast.column_id";
/// Field metadata: the column's exact type in text form.
pub const META_TYPE: &str = "keepfast.type";
/// Field metadata that Parquet writers turn into the field id.
pub const META_PARQUET_ID: &str = "PARQUET:field_id";

/// What a row of the table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableShape {
    /// Relational rows.
    #[default]
    Rows,
    /// One cell a row: key, column, timestamp and tagged value (HBase, Tablestore with versions).
    Cells,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// Lasting id, never reused in this table.
    pub id: ColumnId,
    /// Name as users see it.
    pub name: String,
    /// Exact type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// Default as SQL text, applied where an INSERT leaves the column out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The store's own declaration, where it says more than `type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// A table's columns, key and shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TableSchema {
    /// Columns in the order users see.
    pub columns: Vec<Column>,
    /// Key columns by id in key order; empty means the table is a bag.
    #[serde(default)]
    pub key: Vec<ColumnId>,
    /// What a row is.
    #[serde(default)]
    pub shape: TableShape,
}

impl TableSchema {
    /// A schema of `rows` from names and types, ids counted from 1.
    ///
    /// # Errors
    /// As [`Self::check`]; also when a key column's name is unknown.
    pub fn of(columns: Vec<(String, ColumnType, bool)>, key: &[&str]) -> Result<Self, ModelError> {
        let columns: Vec<Column> = columns
            .into_iter()
            .zip(1..)
            .map(|((name, column_type, nullable), id)| Column {
                id: ColumnId(id),
                name,
                column_type,
                nullable,
                default: None,
                origin: None,
            })
            .collect();
        let key = key
            .iter()
            .map(|name| {
                columns.iter().find(|c| c.name == *name).map(|c| c.id).ok_or_else(|| ModelError::Schema {
                    table: String::new(),
                    reason: format!("the key names column '{name}', which does not exist"),
                })
            })
            .collect::<Result<_, _>>()?;
        let schema = Self { columns, key, shape: TableShape::Rows };
        schema.check("")?;
        Ok(schema)
    }

    /// The fixed schema of a table of [`TableShape::Cells`]: `row`, `family`, `column`, `timestamp`, `tag`, `value`.
    ///
    /// `timestamp` is the store's own number, `tag` its value type; the key is the first four. Cells of one key
    /// column order newest first only in the store: here the order is that of the encoded key.
    pub fn cells() -> Self {
        let blob = ColumnType::Blob;
        let mut schema = Self::of(
            vec![
                ("row".into(), blob.clone(), false),
                ("family".into(), blob.clone(), false),
                ("column".into(), blob.clone(), false),
                ("timestamp".into(), ColumnType::Int64, false),
                ("tag".into(), ColumnType::Int32, false),
                ("value".into(), blob, true),
            ],
            &["row", "family", "column", "timestamp"],
        )
        .expect("the fixed schema of cells is valid");
        schema.shape = TableShape::Cells;
        schema
    }

    /// Checks that ids and names are unique, the key exists and is not nullable, and no name is reserved.
    ///
    /// # Errors
    /// [`ModelError::Schema`] with the first contradiction.
    pub fn check(&self, table: &str) -> Result<(), ModelError> {
        let refuse = |reason: String| Err(ModelError::Schema { table: table.to_owned(), reason });
        if self.columns.is_empty() {
            return refuse("it has no columns".into());
        }
        let mut names = HashSet::new();
        let mut ids = HashSet::new();
        for c in &self.columns {
            if c.name.is_empty() {
                return refuse("a column has no name".into());
            }
            if c.name.to_lowercase().starts_with(crate::change::hidden::PREFIX) {
                return refuse(format!("the name '{}' is reserved", c.name));
            }
            if !names.insert(c.name.to_lowercase()) {
                return refuse(format!("column '{}' stands twice", c.name));
            }
            if c.id.0 == 0 || c.id.0 >= ColumnId::FIRST_HIDDEN || !ids.insert(c.id) {
                return refuse(format!("column id {} is reserved or stands twice", c.id.0));
            }
        }
        let mut key = HashSet::new();
        for id in &self.key {
            match self.column(*id) {
                None => return refuse(format!("the key names column id {}, which does not exist", id.0)),
                Some(c) if c.nullable => {
                    return refuse(format!("key column '{}' may be NULL", c.name));
                }
                Some(c) if matches!(c.column_type, ColumnType::List(_) | ColumnType::Json) => {
                    return refuse(format!("key column '{}' has type {}", c.name, c.column_type.sql()));
                }
                Some(c) if !key.insert(*id) => {
                    return refuse(format!("key column '{}' stands twice", c.name));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The column with this id.
    pub fn column(&self, id: ColumnId) -> Option<&Column> {
        self.columns.iter().find(|c| c.id == id)
    }

    /// The position of the column with this name, in any case.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns
            .iter()
            .position(|c| c.name == name)
            .or_else(|| self.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name)))
    }

    /// Positions of the key columns, in key order. Empty for a bag.
    pub fn key_positions(&self) -> Vec<usize> {
        self.key.iter().filter_map(|id| self.columns.iter().position(|c| c.id == *id)).collect()
    }

    /// Names of the key columns, in key order.
    pub fn key_names(&self) -> Vec<&str> {
        self.key.iter().filter_map(|id| self.column(*id)).map(|c| c.name.as_str()).collect()
    }

    /// Whether the table has no key, so that rows count with their multiplicity.
    pub fn is_bag(&self) -> bool {
        self.key.is_empty()
    }

    /// The schema of chosen columns, in table order. The key stays only when all its columns are chosen.
    pub fn project(&self, names: &[String]) -> Result<Self, ModelError> {
        let mut chosen = HashSet::new();
        for name in names {
            let at = self.position(name).ok_or_else(|| ModelError::Schema {
                table: String::new(),
                reason: format!("there is no column '{name}'"),
            })?;
            chosen.insert(self.columns[at].id);
        }
        let columns: Vec<_> = self.columns.iter().filter(|c| chosen.contains(&c.id)).cloned().collect();
        let key = if self.key.iter().all(|id| chosen.contains(id)) { self.key.clone() } else { vec![] };
        let schema = Self { columns, key, shape: self.shape };
        schema.check("")?;
        Ok(schema)
    }

    /// The Arrow schema that segments of this table hold, with column ids and exact types as field metadata.
    pub fn physical(&self) -> SchemaRef {
        self.arrow(ColumnType::physical)
    }

    /// The Arrow schema that SQL sees.
    pub fn native(&self) -> SchemaRef {
        self.arrow(ColumnType::native)
    }

    fn arrow(&self, form: fn(&ColumnType) -> DataType) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|c| {
                Field::new(&c.name, form(&c.column_type), c.nullable).with_metadata(HashMap::from([
                    (META_COLUMN_ID.to_owned(), c.id.0.to_string()),
                    (META_PARQUET_ID.to_owned(), c.id.0.to_string()),
                    (META_TYPE.to_owned(), c.column_type.to_string()),
                ]))
            })
            .collect();
        Arc::new(Schema::new(fields))
    }
}
