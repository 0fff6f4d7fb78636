//! Exact column types and their two Arrow forms.
//!
//! The *physical* form is what segments hold: only what Parquet and Delta readers know. The *native* form is what SQL
//! sees: unsigned integers and TIME as themselves. Both hold the same values; only the wrapping differs.

use crate::error::ModelError;
use arrow::datatypes::{DataType, Field, TimeUnit};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A column's exact type. Its text form (`varchar(255)`, `decimal(10,2)`, `list(int32)`) is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ColumnType {
    /// TRUE or FALSE.
    Boolean,
    /// 8-bit signed integer, TINYINT.
    Int8,
    /// 16-bit signed integer, SMALLINT.
    Int16,
    /// 32-bit signed integer, INT.
    Int32,
    /// 64-bit signed integer, BIGINT.
    Int64,
    /// 8-bit unsigned integer, TINYINT UNSIGNED.
    UInt8,
    /// 16-bit unsigned integer, SMALLINT UNSIGNED.
    UInt16,
    /// 32-bit unsigned integer, INT UNSIGNED.
    UInt32,
    /// 64-bit unsigned integer, BIGINT UNSIGNED.
    UInt64,
    /// IEEE 754 single precision, FLOAT. Every bit pattern is kept.
    Float32,
    /// IEEE 754 double precision, DOUBLE. Every bit pattern is kept.
    Float64,
    /// Exact decimal of 1 to 38 digits, `scale` of them after the point.
    Decimal {
        /// All digits, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: u8,
    },
    /// Text of at most `length` characters, CHAR(n). Values are kept as given, without padding.
    Char {
        /// Characters at most.
        length: u32,
    },
    /// Text of at most `length` characters, VARCHAR(n) or VARCHAR.
    Varchar {
        /// Characters at most; none means no limit.
        length: Option<u32>,
    },
    /// Text without a limit, TEXT.
    Text,
    /// Exactly `length` bytes, BINARY(n).
    Binary {
        /// Bytes.
        length: u32,
    },
    /// At most `length` bytes, VARBINARY(n) or VARBINARY.
    Varbinary {
        /// Bytes at most; none means no limit.
        length: Option<u32>,
    },
    /// Bytes without a limit, BLOB.
    Blob,
    /// A day of the proleptic Gregorian calendar.
    Date,
    /// A time of day in microseconds since midnight.
    Time,
    /// A moment in microseconds: since 1970 in UTC with `zone`, a wall-clock reading without.
    Timestamp {
        /// Whether it is a moment (TIMESTAMP WITH TIME ZONE) or a wall-clock reading.
        zone: bool,
    },
    /// JSON text, kept as given.
    Json,
    /// A UUID, kept as 36 lower-case characters.
    Uuid,
    /// A list of values of one type, which may be NULL each; `INT[]`.
    List(Box<ColumnType>),
}

impl ColumnType {
    /// The Arrow type that segments hold.
    pub fn physical(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int8 => DataType::Int8,
            Self::Int16 | Self::UInt8 => DataType::Int16,
            Self::Int32 | Self::UInt16 => DataType::Int32,
            Self::Int64 | Self::UInt32 | Self::Time => DataType::Int64,
            Self::UInt64 => DataType::Decimal128(20, 0),
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale as i8),
            Self::Char { .. } | Self::Varchar { .. } | Self::Text | Self::Json | Self::Uuid => DataType::Utf8,
            Self::Binary { .. } | Self::Varbinary { .. } | Self::Blob => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Timestamp { zone: false } => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamp { zone: true } => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::List(item) => DataType::List(Arc::new(Field::new("element", item.physical(), true))),
        }
    }

    /// The Arrow type that SQL sees. Differs from [`Self::physical`] for unsigned integers and TIME, also inside lists.
    pub fn native(&self) -> DataType {
        match self {
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::List(item) => DataType::List(Arc::new(Field::new("element", item.native(), true))),
            other => other.physical(),
        }
    }

    /// The type whose physical form is `data_type`, as plain as possible; none where there is none.
    /// Wider and narrower Arrow forms (LargeUtf8, Utf8View, nanoseconds, dictionaries) map to the nearest type, and
    /// values then need a cast.
    pub fn from_arrow(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 => Self::Int8,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::UInt8 => Self::UInt8,
            DataType::UInt16 => Self::UInt16,
            DataType::UInt32 => Self::UInt32,
            DataType::UInt64 => Self::UInt64,
            DataType::Float16 | DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s)
                if *s >= 0 && *s as u8 <= *p =>
            {
                Self::Decimal { precision: *p, scale: *s as u8 }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Varchar { length: None },
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::Blob,
            DataType::FixedSizeBinary(n) => Self::Binary { length: u32::try_from(*n).ok()? },
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, zone) => Self::Timestamp { zone: zone.is_some() },
            DataType::List(f) | DataType::LargeList(f) | DataType::ListView(f) => {
                Self::List(Box::new(Self::from_arrow(f.data_type())?))
            }
            DataType::FixedSizeList(f, _) => Self::List(Box::new(Self::from_arrow(f.data_type())?)),
            DataType::Dictionary(_, value) => Self::from_arrow(value)?,
            DataType::Null => Self::Varchar { length: None },
            _ => return None,
        })
    }

    /// The type as SQL writes it, such as `VARCHAR(255)` or `INT UNSIGNED`.
    pub fn sql(&self) -> String {
        match self {
            Self::Boolean => "BOOLEAN".into(),
            Self::Int8 => "TINYINT".into(),
            Self::Int16 => "SMALLINT".into(),
            Self::Int32 => "INT".into(),
            Self::Int64 => "BIGINT".into(),
            Self::UInt8 => "TINYINT UNSIGNED".into(),
            Self::UInt16 => "SMALLINT UNSIGNED".into(),
            Self::UInt32 => "INT UNSIGNED".into(),
            Self::UInt64 => "BIGINT UNSIGNED".into(),
            Self::Float32 => "FLOAT".into(),
            Self::Float64 => "DOUBLE".into(),
            Self::Decimal { precision, scale } => format!("DECIMAL({precision},{scale})"),
            Self::Char { length } => format!("CHAR({length})"),
            Self::Varchar { length: Some(n) } => format!("VARCHAR({n})"),
            Self::Varchar { length: None } => "VARCHAR".into(),
            Self::Text => "TEXT".into(),
            Self::Binary { length } => format!("BINARY({length})"),
            Self::Varbinary { length: Some(n) } => format!("VARBINARY({n})"),
            Self::Varbinary { length: None } => "VARBINARY".into(),
            Self::Blob => "BLOB".into(),
            Self::Date => "DATE".into(),
            Self::Time => "TIME".into(),
            Self::Timestamp { zone: false } => "TIMESTAMP".into(),
            Self::Timestamp { zone: true } => "TIMESTAMP WITH TIME ZONE".into(),
            Self::Json => "JSON".into(),
            Self::Uuid => "UUID".into(),
            Self::List(item) => format!("{}[]", item.sql()),
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Int8 => f.write_str("int8"),
            Self::Int16 => f.write_str("int16"),
            Self::Int32 => f.write_str("int32"),
            Self::Int64 => f.write_str("int64"),
            Self::UInt8 => f.write_str("uint8"),
            Self::UInt16 => f.write_str("uint16"),
            Self::UInt32 => f.write_str("uint32"),
            Self::UInt64 => f.write_str("uint64"),
            Self::Float32 => f.write_str("float32"),
            Self::Float64 => f.write_str("float64"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Char { length } => write!(f, "char({length})"),
            Self::Varchar { length: Some(n) } => write!(f, "varchar({n})"),
            Self::Varchar { length: None } => f.write_str("varchar"),
            Self::Text => f.write_str("text"),
            Self::Binary { length } => write!(f, "binary({length})"),
            Self::Varbinary { length: Some(n) } => write!(f, "varbinary({n})"),
            Self::Varbinary { length: None } => f.write_str("varbinary"),
            Self::Blob => f.write_str("blob"),
            Self::Date => f.write_str("date"),
            Self::Time => f.write_str("time"),
            Self::Timestamp { zone: false } => f.write_str("timestamp"),
            Self::Timestamp { zone: true } => f.write_str("timestamptz"),
            Self::Json => f.write_str("json"),
            Self::Uuid => f.write_str("uuid"),
            Self::List(item) => write!(f, "list({item})"),
        }
    }
}

impl FromStr for ColumnType {
    type Err = ModelError;
    fn from_str(text: &str) -> Result<Self, ModelError> {
        let refuse = || ModelError::Type { text: text.to_owned() };
        let (name, args) = match text.strip_suffix(')').and_then(|t| t.split_once('(')) {
            Some((name, args)) => (name, Some(args)),
            None => (text, None),
        };
        let length = || -> Result<u32, ModelError> {
            args.and_then(|a| a.parse().ok()).filter(|n| *n > 0).ok_or_else(refuse)
        };
        let bounded = || args.map(|_| length()).transpose();
        let simple = match name {
            "boolean" => Self::Boolean,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "uint8" => Self::UInt8,
            "uint16" => Self::UInt16,
            "uint32" => Self::UInt32,
            "uint64" => Self::UInt64,
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            "text" => Self::Text,
            "blob" => Self::Blob,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp { zone: false },
            "timestamptz" => Self::Timestamp { zone: true },
            "json" => Self::Json,
            "uuid" => Self::Uuid,
            "char" => return Ok(Self::Char { length: length()? }),
            "binary" => return Ok(Self::Binary { length: length()? }),
            "varchar" => return Ok(Self::Varchar { length: bounded()? }),
            "varbinary" => return Ok(Self::Varbinary { length: bounded()? }),
            "list" => return Ok(Self::List(Box::new(args.ok_or_else(refuse)?.parse()?))),
            "decimal" => {
                let (p, s) = args.and_then(|a| a.split_once(',')).ok_or_else(refuse)?;
                let precision: u8 = p.parse().map_err(|_| refuse())?;
                let scale: u8 = s.parse().map_err(|_| refuse())?;
                if !(1..=38).contains(&precision) || scale > precision {
                    return Err(refuse());
                }
                return Ok(Self::Decimal { precision, scale });
            }
            _ => return Err(refuse()),
        };
        if args.is_some() { Err(refuse()) } else { Ok(simple) }
    }
}

impl TryFrom<String> for ColumnType {
    type Error = ModelError;
    fn try_from(text: String) -> Result<Self, ModelError> {
        text.parse()
    }
}

impl From<ColumnType> for String {
    fn from(t: ColumnType) -> String {
        t.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_back_its_own_text() {
        for text in [
            "boolean",
            "int8",
            "uint64",
            "float32",
            "decimal(38,10)",
            "char(3)",
            "varchar",
            "varchar(255)",
            "text",
            "binary(16)",
            "varbinary",
            "blob",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "json",
            "uuid",
            "list(int32)",
            "list(list(decimal(5,2)))",
        ] {
            assert_eq!(text.parse::<ColumnType>().unwrap().to_string(), text);
        }
        for text in
            ["", "int", "decimal(39,0)", "decimal(5,6)", "char", "char(0)", "date(3)", "list", "list(x)"]
        {
            assert!(text.parse::<ColumnType>().is_err(), "{text:?}");
        }
    }
}
