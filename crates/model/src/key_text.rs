//! Encoded keys as a person reads them: `id = 12, name = 'x'`.
//!
//! The bytes may come from a damaged vault: what cannot be read is shown as hex.

use crate::column_type::ColumnType;
use crate::key::KeyBytes;
use crate::schema::TableSchema;
use jiff::civil::Date;
use jiff::{Span, Timestamp};
use std::fmt::Write;

/// Characters of one value that are shown at most.
const SHOWN: usize = 64;

/// The key columns and values of an encoded key of this table.
pub fn key_text(schema: &TableSchema, key: &KeyBytes) -> String {
    let mut rest = key.0.as_slice();
    let mut parts = vec![];
    for at in schema.key_positions() {
        let column = &schema.columns[at];
        match value(&column.column_type, &mut rest) {
            Some(value) => parts.push(format!("{} = {value}", column.name)),
            None => return format!("key {key}"),
        }
    }
    if parts.is_empty() || !rest.is_empty() { format!("key {key}") } else { parts.join(", ") }
}

fn value(column_type: &ColumnType, rest: &mut &[u8]) -> Option<String> {
    use ColumnType as T;
    match take::<1>(rest)? {
        [0] => return Some("NULL".into()),
        [1] => {}
        _ => return None,
    }
    Some(match column_type {
        T::Boolean => match take::<1>(rest)? {
            [0] => "false".into(),
            [1] => "true".into(),
            _ => return None,
        },
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => {
            integer(rest)?.to_string()
        }
        T::UInt64 => wide(rest)?.to_string(),
        T::Decimal { scale, .. } => decimal(wide(rest)?, u32::from(*scale)),
        T::Float32 => {
            let bits = u32::from_be_bytes(take(rest)?);
            f32::from_bits(if bits >> 31 == 1 { bits ^ (1 << 31) } else { !bits }).to_string()
        }
        T::Float64 => {
            let bits = u64::from_be_bytes(take(rest)?);
            f64::from_bits(if bits >> 63 == 1 { bits ^ (1 << 63) } else { !bits }).to_string()
        }
        T::Date => {
            let days = integer(rest)?;
            let day = i32::try_from(days)
                .ok()
                .and_then(|d| Date::constant(1970, 1, 1).checked_add(Span::new().try_days(d).ok()?).ok());
            day.map_or_else(|| format!("day {days}"), |d| d.to_string())
        }
        T::Time => {
            let micros = integer(rest)?;
            let seconds = micros.div_euclid(1_000_000);
            let (h, m, s) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
            format!("{h:02}:{m:02}:{s:02}.{:06}", micros.rem_euclid(1_000_000))
        }
        T::Timestamp { .. } => {
            let micros = integer(rest)?;
            Timestamp::from_microsecond(micros)
                .map_or_else(|_| format!("{micros} µs since 1970"), |t| t.to_string())
        }
        T::Char { .. } | T::Varchar { .. } | T::Text | T::Json | T::Uuid => {
            text(&String::from_utf8(escaped(rest)?).ok()?)
        }
        T::Binary { .. } | T::Varbinary { .. } | T::Blob => {
            let bytes = escaped(rest)?;
            let mut hex = String::from("x'");
            for b in bytes.iter().take(SHOWN / 2) {
                let _ = write!(hex, "{b:02x}");
            }
            hex.push_str(if bytes.len() > SHOWN / 2 { "…'" } else { "'" });
            hex
        }
        T::List(_) => return None,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn integer(rest: &mut &[u8]) -> Option<i64> {
    Some((u64::from_be_bytes(take(rest)?) ^ (1 << 63)) as i64)
}

fn wide(rest: &mut &[u8]) -> Option<i128> {
    Some((u128::from_be_bytes(take(rest)?) ^ (1 << 127)) as i128)
}

fn decimal(unscaled: i128, scale: u32) -> String {
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale as usize + 1);
    let (whole, part) = digits.split_at(digits.len() - scale as usize);
    let sign = if unscaled < 0 { "-" } else { "" };
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// `00 ff` stands for `00`, and `00 00` ends.
fn escaped(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![];
    loop {
        let at = rest.iter().position(|b| *b == 0)?;
        out.extend_from_slice(&rest[..at]);
        let after = *rest.get(at + 1)?;
        *rest = &rest[at + 2..];
        match after {
            0 => return Some(out),
            0xff => out.push(0),
            _ => return None,
        }
    }
}

fn text(value: &str) -> String {
    let mut shown: String = value.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if value.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("'{shown}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::encode_columns;
    use arrow::array::*;
    use std::sync::Arc;

    #[test]
    fn keys_are_shown_as_the_values_they_were_made_of() {
        let schema = TableSchema::of(
            vec![
                ("a".into(), ColumnType::Int32, false),
                ("b".into(), ColumnType::Decimal { precision: 10, scale: 2 }, false),
                ("c".into(), ColumnType::Varchar { length: None }, false),
                ("d".into(), ColumnType::Date, false),
                ("e".into(), ColumnType::Float64, false),
                ("f".into(), ColumnType::Blob, false),
                ("g".into(), ColumnType::Timestamp { zone: true }, false),
            ],
            &["a", "b", "c", "d", "e", "f", "g"],
        )
        .expect("a schema");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![-7])),
            Arc::new(Decimal128Array::from(vec![-5i128]).with_precision_and_scale(10, 2).expect("fits")),
            Arc::new(StringArray::from(vec!["it\0s"])),
            Arc::new(Date32Array::from(vec![19_723])),
            Arc::new(Float64Array::from(vec![-1.5])),
            Arc::new(BinaryArray::from(vec![&[0u8, 1][..]])),
            Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC")),
        ];
        let keys = encode_columns(&columns, 1).expect("keys");
        let key = KeyBytes(keys.value(0).to_vec());
        assert_eq!(
            key_text(&schema, &key),
            "a = -7, b = -0.05, c = 'it\\0s', d = 2024-01-01, e = -1.5, f = x'0001', g = 1970-01-01T00:00:00Z"
        );
        for length in 0..key.0.len() {
            let cut = key_text(&schema, &KeyBytes(key.0[..length].to_vec()));
            assert!(cut.starts_with("key "), "{cut}");
        }
    }
}
