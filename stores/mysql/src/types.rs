//! Column types of the server as exact types of ours.

use keepfast_model::ColumnType;

/// What `information_schema.columns` says of a column's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    /// `int`, `varchar`, …
    pub data_type: String,
    /// `int(10) unsigned`, `varchar(20)`, …
    pub column_type: String,
    /// Characters, of texts.
    pub characters: Option<u64>,
    /// Digits, of decimals.
    pub precision: Option<u64>,
    /// Digits after the point, of decimals.
    pub scale: Option<u64>,
}

/// Digits that a decimal of ours has at most. Longer values stand in the hidden column of exact values.
const DIGITS: u64 = 38;

/// The exact type; none for a type that this version does not know.
pub(crate) fn of(declared: &Declared) -> Option<ColumnType> {
    let unsigned = declared.column_type.contains("unsigned");
    let either = |signed, without| if unsigned { without } else { signed };
    let length = |n: Option<u64>| n.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    Some(match declared.data_type.as_str() {
        "tinyint" => either(ColumnType::Int8, ColumnType::UInt8),
        "smallint" => either(ColumnType::Int16, ColumnType::UInt16),
        "mediumint" | "int" => either(ColumnType::Int32, ColumnType::UInt32),
        "bigint" => either(ColumnType::Int64, ColumnType::UInt64),
        "year" => ColumnType::Int16,
        "bit" => ColumnType::UInt64,
        "float" => ColumnType::Float32,
        "double" => ColumnType::Float64,
        "decimal" => {
            let scale = declared.scale.unwrap_or(0).min(DIGITS);
            let precision = declared.precision.unwrap_or(10).clamp(scale.max(1), DIGITS);
            ColumnType::Decimal { precision: precision as u8, scale: scale as u8 }
        }
        // One of no characters holds the empty text alone.
        "char" => ColumnType::Char { length: length(declared.characters).unwrap_or(1) },
        "varchar" => ColumnType::Varchar { length: length(declared.characters) },
        "tinytext" | "text" | "mediumtext" | "longtext" => ColumnType::Text,
        "enum" | "set" | "inet4" | "inet6" => ColumnType::Varchar { length: None },
        "binary" => ColumnType::Binary { length: length(declared.characters).unwrap_or(1) },
        "varbinary" => ColumnType::Varbinary { length: length(declared.characters) },
        "tinyblob" | "blob" | "mediumblob" | "longblob" | "vector" => ColumnType::Blob,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" => ColumnType::Blob,
        "date" => ColumnType::Date,
        "time" => ColumnType::Time,
        "datetime" => ColumnType::Timestamp { zone: false },
        "timestamp" => ColumnType::Timestamp { zone: true },
        "json" => ColumnType::Json,
        "uuid" => ColumnType::Uuid,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_keep_their_sign_and_their_length() {
        let declared = |data_type: &str, column_type: &str, precision, scale| Declared {
            data_type: data_type.into(),
            column_type: column_type.into(),
            characters: Some(20),
            precision,
            scale,
        };
        let of = |d: Declared| of(&d).map(|t| t.to_string());
        assert_eq!(of(declared("bigint", "bigint(20) unsigned zerofill", None, None)).unwrap(), "uint64");
        assert_eq!(of(declared("mediumint", "mediumint(9)", None, None)).unwrap(), "int32");
        assert_eq!(of(declared("decimal", "decimal(65,30)", Some(65), Some(30))).unwrap(), "decimal(38,30)");
        assert_eq!(of(declared("varchar", "varchar(20)", None, None)).unwrap(), "varchar(20)");
        assert_eq!(of(declared("timestamp", "timestamp(6)", None, None)).unwrap(), "timestamptz");
        assert_eq!(of(declared("xmltype", "xmltype", None, None)), None);
    }
}
