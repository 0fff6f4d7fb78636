//! The values themselves: edges first, then ordinary ones, and keys that never repeat.

use super::EDGE_ROWS;
use keepfast_model::random::Random;
use keepfast_model::{Column, ColumnType, TableSchema};

/// One value before it has an Arrow form.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Booleans, integers, decimals, days, times and moments.
    Int(i128),
    /// The bits of a float of the column's width.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Option<Value>>),
}

/// Days and microseconds of the years 1 to 9999.
const FIRST_DAY: i128 = -719_162;
const LAST_DAY: i128 = 2_932_896;
const DAY_MICROS: i128 = 86_400_000_000;
/// Length of the one huge value of an unlimited column.
const HUGE: usize = 100_000;

/// The value of a column that is no key; `edges` are those of its type.
pub(super) fn of_column(column: &Column, edges: &[Value], row: u64, seed: u64) -> Option<Value> {
    let mut random = Random::at(seed, row, u64::from(column.id.0));
    if row < EDGE_ROWS {
        let turn = (seed.wrapping_add(u64::from(column.id.0)).wrapping_add(row) % EDGE_ROWS) as usize;
        if let Some(edge) = edges.get(turn) {
            return Some(edge.clone());
        }
        if turn == edges.len() && column.nullable {
            return None;
        }
    } else if column.nullable && random.below(16) == 0 {
        return None;
    }
    Some(ordinary(&column.column_type, &mut random))
}

/// The value of a bag's column: few different ones, so that rows repeat.
pub(super) fn of_bag(column: &Column, row: u64, seed: u64) -> Option<Value> {
    let mut random = Random::at(seed, row % 50, u64::from(column.id.0));
    if column.nullable && random.below(16) == 0 {
        None
    } else {
        Some(ordinary(&column.column_type, &mut random))
    }
}

/// The value of the key column at `place`: the row number in mixed radix, most of it in the first column.
pub(super) fn of_key(schema: &TableSchema, keys: &[usize], place: usize, row: u64) -> Value {
    let mut rest = row;
    for i in (1..keys.len()).rev() {
        let radix = if schema.columns[keys[i]].column_type == ColumnType::Boolean { 2 } else { 7 };
        if i == place {
            return key_value(&schema.columns[keys[i]].column_type, rest % radix);
        }
        rest /= radix;
    }
    key_value(&schema.columns[keys[0]].column_type, rest)
}

/// 0, -1, 1, -2, 2, …
fn zigzag(n: u64) -> i128 {
    if n.is_multiple_of(2) { i128::from(n / 2) } else { -i128::from(n / 2) - 1 }
}

fn key_value(column_type: &ColumnType, n: u64) -> Value {
    use ColumnType::*;
    match column_type {
        Boolean => Value::Int(i128::from(n % 2)),
        UInt8 | UInt16 | UInt32 | UInt64 => Value::Int(i128::from(n)),
        Int64 => Value::Int(zigzag(n) * 1_000_003),
        Int8 | Int16 | Int32 | Decimal { .. } | Date => Value::Int(zigzag(n)),
        Time => Value::Int(i128::from(n) * 1_000_003 % DAY_MICROS),
        Timestamp { .. } => Value::Int(zigzag(n) * 1_000_003),
        Float32 => Value::Float(u64::from((zigzag(n) as f32 / 2.0).to_bits())),
        Float64 => Value::Float((zigzag(n) as f64 / 8.0).to_bits()),
        Char { length } | Varchar { length: Some(length) } if *length < 24 => {
            Value::Text(base36(n, *length as usize))
        }
        Char { .. } | Varchar { .. } | Text | Json => Value::Text(match n % 4 {
            0 if n == 0 => String::new(),
            0 => format!("b{n}"),
            1 => format!("B-{n}"),
            2 => format!("ключ {n}"),
            _ => format!("a\0{n}"),
        }),
        Binary { length } | Varbinary { length: Some(length) }
            if *length < 10 || matches!(column_type, Binary { .. }) =>
        {
            let mut bytes = vec![0; *length as usize];
            for (at, byte) in bytes.iter_mut().rev().zip(n.to_le_bytes()) {
                *at = byte;
            }
            Value::Bytes(bytes)
        }
        Binary { .. } | Varbinary { .. } | Blob => {
            let mut bytes = match n % 3 {
                0 if n == 0 => return Value::Bytes(vec![]),
                0 => vec![0],
                1 => vec![0xff, 0],
                _ => vec![],
            };
            bytes.extend_from_slice(&n.to_be_bytes());
            Value::Bytes(bytes)
        }
        Uuid => Value::Text(uuid((u128::from(Random::new(n).next()) << 64) | u128::from(n))),
        List(_) => Value::List(vec![]),
    }
}

fn base36(mut n: u64, length: usize) -> String {
    let mut digits = vec![b'0'; length.min(13)];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(n % 36) as usize];
        n /= 36;
    }
    digits.into_iter().map(char::from).collect()
}

fn uuid(n: u128) -> String {
    let hex = format!("{n:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Smallest and largest value of a type that is counted in whole numbers.
fn limits(column_type: &ColumnType) -> Option<(i128, i128)> {
    use ColumnType::*;
    Some(match column_type {
        Boolean => (0, 1),
        Int8 => (i8::MIN.into(), i8::MAX.into()),
        Int16 => (i16::MIN.into(), i16::MAX.into()),
        Int32 => (i32::MIN.into(), i32::MAX.into()),
        Int64 => (i64::MIN.into(), i64::MAX.into()),
        UInt8 => (0, u8::MAX.into()),
        UInt16 => (0, u16::MAX.into()),
        UInt32 => (0, u32::MAX.into()),
        UInt64 => (0, u64::MAX.into()),
        Decimal { precision, .. } => {
            let most = 10i128.pow(u32::from(*precision)) - 1;
            (-most, most)
        }
        Date => (FIRST_DAY, LAST_DAY),
        Time => (0, DAY_MICROS - 1),
        Timestamp { .. } => (FIRST_DAY * DAY_MICROS, (LAST_DAY + 1) * DAY_MICROS - 1),
        _ => return None,
    })
}

/// The hardest values of a type; fewer than [`EDGE_ROWS`].
pub(super) fn edges(column_type: &ColumnType) -> Vec<Value> {
    use ColumnType::*;
    if let Some((least, most)) = limits(column_type) {
        let mut numbers = vec![least, most, 0, 1, most - 1];
        if least < 0 {
            numbers.push(-1);
        }
        return numbers.into_iter().filter(|n| (least..=most).contains(n)).map(Value::Int).collect();
    }
    let texts = |length: Option<u32>| {
        let mut texts = vec![
            String::new(),
            " ".into(),
            "it's \"quoted\"".into(),
            "\\N".into(),
            "NULL".into(),
            "back\\slash, comma; semicolon".into(),
            "line\r\nbreak\ttab".into(),
            "trailing space ".into(),
            "Ünïcödé 🦀 \u{200d}\u{fffd}".into(),
            "nul\0inside".into(),
            "\u{10ffff}".into(),
        ];
        texts.push("long ".repeat(length.map_or(HUGE, |n| n as usize).min(HUGE) / 5 + 1));
        texts
            .into_iter()
            .map(|t| Value::Text(t.chars().take(length.unwrap_or(u32::MAX) as usize).collect()))
            .collect()
    };
    let bytes = |length: Option<u32>| {
        let huge = length.map_or(HUGE, |n| n as usize).min(HUGE);
        let all: Vec<u8> = (0..=255).collect();
        [vec![], vec![0], vec![0xff; 3], b"'\"\\%_".to_vec(), all, vec![0; huge], vec![0xff; huge]]
            .into_iter()
            .map(|mut b| {
                b.truncate(length.unwrap_or(u32::MAX) as usize);
                Value::Bytes(b)
            })
            .collect()
    };
    match column_type {
        Float32 => [
            f32::NAN.to_bits(),
            f32::NAN.to_bits() ^ 1,
            f32::NAN.to_bits() | (1 << 31),
            (-0.0f32).to_bits(),
            0,
            f32::INFINITY.to_bits(),
            f32::NEG_INFINITY.to_bits(),
            f32::MIN.to_bits(),
            f32::MAX.to_bits(),
            f32::MIN_POSITIVE.to_bits(),
            1,
        ]
        .into_iter()
        .map(|bits| Value::Float(u64::from(bits)))
        .collect(),
        Float64 => [
            f64::NAN.to_bits(),
            f64::NAN.to_bits() ^ 1,
            f64::NAN.to_bits() | (1 << 63),
            (-0.0f64).to_bits(),
            0,
            f64::INFINITY.to_bits(),
            f64::NEG_INFINITY.to_bits(),
            f64::MIN.to_bits(),
            f64::MAX.to_bits(),
            f64::MIN_POSITIVE.to_bits(),
            1,
        ]
        .into_iter()
        .map(Value::Float)
        .collect(),
        Char { length } => texts(Some(*length)),
        Varchar { length } => texts(*length),
        Text => texts(None),
        Binary { length } => {
            [0u8, 1, 0xff].into_iter().map(|b| Value::Bytes(vec![b; *length as usize])).collect()
        }
        Varbinary { length } => bytes(*length),
        Blob => bytes(None),
        Json => [
            "null",
            "{}",
            "[]",
            "\"\"",
            "0",
            "-1.50e+3",
            "{ \"b\" : 1,  \"a\" : [ 1.0, null, \"\\u00e9\" ] }",
            "{\"a\":1,\"a\":2}",
        ]
        .into_iter()
        .map(|t| Value::Text(t.into()))
        .chain([Value::Text(format!("[{}0]", "0,".repeat(HUGE / 20)))])
        .collect(),
        Uuid => [0, u128::MAX, 1].into_iter().map(|n| Value::Text(uuid(n))).collect(),
        List(item) => {
            let edges = self::edges(item);
            let mut lists = vec![vec![], vec![None], vec![None, None]];
            lists.push(edges.iter().take(4).cloned().map(Some).chain([None]).collect());
            lists.push(vec![edges.last().cloned()]);
            let mut random = Random::new(7);
            lists.push((0..500).map(|_| Some(ordinary(item, &mut random))).collect());
            lists.into_iter().map(Value::List).collect()
        }
        _ => unreachable!("types counted in whole numbers were handled above"),
    }
}

fn ordinary(column_type: &ColumnType, random: &mut Random) -> Value {
    use ColumnType::*;
    if let Some((least, most)) = limits(column_type) {
        let span = (most as u128).wrapping_sub(least as u128).saturating_add(1);
        // Half of them small, as in real tables.
        let span = if random.below(2) == 0 { span.min(1000) } else { span };
        let start = if span > 1000 { least } else { least.max(0) };
        return Value::Int(start + (random.next_u128() % span) as i128);
    }
    let text = |random: &mut Random, most: u64| {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJ 0123456789-_";
        let length = 1 + random.below(most.min(24));
        (0..length)
            .map(|_| char::from(LETTERS[random.below(LETTERS.len() as u64) as usize]))
            .collect::<String>()
    };
    let bytes =
        |random: &mut Random, length: u64| (0..length).map(|_| random.next() as u8).collect::<Vec<_>>();
    match column_type {
        Float32 => Value::Float(u64::from(((random.below(2_000_000) as f32 - 1e6) / 7.0).to_bits())),
        Float64 => Value::Float(((random.below(2_000_000_000) as f64 - 1e9) / 7.0).to_bits()),
        Char { length } | Varchar { length: Some(length) } => Value::Text(text(random, u64::from(*length))),
        Varchar { length: None } | Text => Value::Text(text(random, 24)),
        Binary { length } => Value::Bytes(bytes(random, u64::from(*length))),
        Varbinary { length: Some(length) } => {
            let length = random.below(u64::from(*length).min(24) + 1);
            Value::Bytes(bytes(random, length))
        }
        Varbinary { length: None } | Blob => {
            let length = random.below(25);
            Value::Bytes(bytes(random, length))
        }
        Json => Value::Text(format!("{{\"n\":{},\"t\":\"{}\"}}", random.below(1000), text(random, 8))),
        Uuid => Value::Text(uuid(random.next_u128())),
        List(item) => Value::List(
            (0..random.below(5))
                .map(|_| if random.below(8) == 0 { None } else { Some(ordinary(item, random)) })
                .collect(),
        ),
        _ => unreachable!("types counted in whole numbers were handled above"),
    }
}
