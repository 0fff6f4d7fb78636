//! Values of a key's columns as statements write them, and values that may lie between two of them.

use crate::catalog::PhysicalColumn;
use crate::names::text;
use serde::{Deserialize, Serialize};

/// Into how many parts a range of values is cut at once.
const PARTS: u128 = 16;

/// How values of a column are written and halved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Whole,
    Decimal {
        scale: u32,
    },
    Float,
    Bytes,
    Text {
        charset: String,
        collation: String,
    },
    /// Dates, and times of a day on them.
    Moment {
        time: bool,
    },
    Time,
    Uuid,
    Inet4,
    Inet6,
}

/// A value that stands in a table, as the server compares it: the same statement gives the same order each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Literal {
    /// Digits.
    Number(String),
    /// Between quotes.
    Quoted(String),
    /// Bytes in hex, of a character set where they are a text.
    Hex(Option<String>, String),
}

impl Literal {
    pub fn sql(&self) -> String {
        match self {
            Self::Number(digits) => digits.clone(),
            Self::Quoted(value) => text(value),
            Self::Hex(None, hex) => format!("x'{hex}'"),
            // In the column's own character set, so that the column's own collation compares.
            Self::Hex(Some(charset), hex) => format!("_{charset} x'{hex}'"),
        }
    }
}

impl Kind {
    /// None for columns whose order in an index is not that of their comparison, and for those that no index has.
    pub fn of(column: &PhysicalColumn) -> Option<Self> {
        let declared = &column.declared;
        Some(match declared.data_type.as_str() {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "bit" | "year" => Self::Whole,
            "decimal" => Self::Decimal { scale: declared.scale.unwrap_or(0).try_into().ok()? },
            "float" | "double" => Self::Float,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Self::Bytes,
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
                let collation = column.collation.clone()?;
                let charset = collation.split('_').next().unwrap_or_default().to_owned();
                let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                (plain(&collation) && !charset.is_empty()).then_some(())?;
                Self::Text { charset, collation }
            }
            "date" => Self::Moment { time: false },
            "datetime" | "timestamp" => Self::Moment { time: true },
            "time" => Self::Time,
            "uuid" => Self::Uuid,
            "inet4" => Self::Inet4,
            "inet6" => Self::Inet6,
            _ => return None,
        })
    }

    /// What asks for a column's value: what its literal is made of, and what guesses are made of.
    pub fn asked(&self, name: &str) -> (String, String) {
        match self {
            Self::Whole => (format!("{name} + 0"), "NULL".into()),
            Self::Decimal { .. } | Self::Float => (name.into(), "NULL".into()),
            Self::Bytes => (format!("HEX({name})"), "NULL".into()),
            Self::Text { .. } => (format!("HEX({name})"), format!("CONVERT({name} USING utf8mb4)")),
            _ => (format!("CAST({name} AS CHAR)"), "NULL".into()),
        }
    }

    pub fn literal(&self, own: String) -> Literal {
        match self {
            Self::Whole | Self::Decimal { .. } | Self::Float => Literal::Number(own),
            Self::Bytes => Literal::Hex(None, own),
            Self::Text { charset, .. } => Literal::Hex(Some(charset.clone()), own),
            _ => Literal::Quoted(own),
        }
    }

    /// Whether the order of values is known here, so that guesses between two of them lie between them.
    pub fn is_ordered(&self) -> bool {
        !matches!(self, Self::Text { .. })
    }

    /// Statements of values between two others, evenly spread where the order is known. `depth` counts tries: texts are
    /// guessed one character deeper each time, and all others once.
    pub fn between(&self, low: &Value, high: &Value, depth: usize) -> Vec<String> {
        if let Self::Text { charset, collation } = self {
            return texts_between(&low.text, &high.text, depth)
                .into_iter()
                .map(|guess| {
                    let hex = hex(guess.as_bytes());
                    match charset.as_str() {
                        "utf8mb4" => format!("_utf8mb4 x'{hex}' COLLATE {collation}"),
                        _ => format!("CONVERT(_utf8mb4 x'{hex}' USING {charset}) COLLATE {collation}"),
                    }
                })
                .collect();
        }
        if depth > 0 {
            return vec![];
        }
        let (low, high) = (&low.own, &high.own);
        match self {
            Self::Bytes => match (unhex(low), unhex(high)) {
                (Some(low), Some(high)) => {
                    bytes_between(&low, &high).iter().map(|b| format!("x'{}'", hex(b))).collect()
                }
                _ => vec![],
            },
            Self::Uuid => uuids_between(low, high).iter().map(|guess| text(guess)).collect(),
            Self::Inet4 => {
                let parsed = (low.parse::<std::net::Ipv4Addr>(), high.parse::<std::net::Ipv4Addr>());
                let (Ok(low), Ok(high)) = parsed else { return vec![] };
                let guesses = numbers_between(low.to_bits().into(), high.to_bits().into());
                let shown = |n: i128| text(&std::net::Ipv4Addr::from_bits(n as u32).to_string());
                guesses.into_iter().map(shown).collect()
            }
            Self::Inet6 => {
                let parsed = (low.parse::<std::net::Ipv6Addr>(), high.parse::<std::net::Ipv6Addr>());
                let (Ok(low), Ok(high)) = parsed else { return vec![] };
                let guesses = bytes_between(&low.octets(), &high.octets());
                let shown = |bytes: Vec<u8>| {
                    let mut octets = [0; 16];
                    octets.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
                    text(&std::net::Ipv6Addr::from(octets).to_string())
                };
                guesses.into_iter().map(shown).collect()
            }
            _ => match (self.number(low), self.number(high)) {
                (Some(low), Some(high)) => {
                    numbers_between(low, high).into_iter().map(|n| self.of_number(n)).collect()
                }
                _ => vec![],
            },
        }
    }

    /// A number in the order of the values.
    fn number(&self, value: &str) -> Option<i128> {
        match self {
            Self::Whole => value.parse().ok(),
            Self::Decimal { .. } => value.replace('.', "").parse().ok(),
            Self::Float => {
                let bits = value.parse::<f64>().ok()?.to_bits() as i64;
                // Bits of numbers below zero count backwards.
                Some(if bits < 0 { i128::from(i64::MIN) - i128::from(bits) } else { bits.into() })
            }
            Self::Moment { .. } => {
                let [year, month, day, time @ ..] = &numbers_of(value)[..] else { return None };
                Some(((year * 12 + month) * 32 + day) * DAY + micros(time))
            }
            Self::Time => {
                let sign = if value.starts_with('-') { -1 } else { 1 };
                Some(sign * micros(&numbers_of(value)))
            }
            _ => None,
        }
    }

    /// The statement of a value near such a number.
    fn of_number(&self, n: i128) -> String {
        match self {
            Self::Decimal { scale } => {
                let sign = if n < 0 { "-" } else { "" };
                let digits = format!("{:0width$}", n.unsigned_abs(), width = *scale as usize + 1);
                let (whole, part) = digits.split_at(digits.len() - *scale as usize);
                if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
            }
            Self::Float => {
                let bits = if n < 0 { i128::from(i64::MIN) - n } else { n };
                let found = f64::from_bits(bits as i64 as u64);
                if found.is_finite() { format!("{found:e}") } else { "0".into() }
            }
            Self::Moment { time } => {
                let (date, rest) = (n.div_euclid(DAY), n.rem_euclid(DAY));
                let (months, day) = (date.div_euclid(32), date.rem_euclid(32).clamp(1, 28));
                let (year, month) = (months.div_euclid(12).clamp(1, 9999), months.rem_euclid(12).max(1));
                match time {
                    true => format!("'{year:04}-{month:02}-{day:02} {}'", time_of(rest)),
                    false => format!("'{year:04}-{month:02}-{day:02}'"),
                }
            }
            Self::Time => format!("'{}{}'", if n < 0 { "-" } else { "" }, time_of(n.abs())),
            _ => n.to_string(),
        }
    }
}

/// A value of a key's column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// As its literal is made of it.
    pub own: String,
    /// A text as UTF-8.
    pub text: String,
}

const DAY: i128 = 86_400_000_000;

fn numbers_of(value: &str) -> Vec<i128> {
    let (value, part) = value.split_once('.').unwrap_or((value, ""));
    let split = value.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    let mut all: Vec<i128> = split.filter_map(|part| part.parse().ok()).collect();
    all.extend(format!("{part:0<6}").get(..6).and_then(|part| part.parse::<i128>().ok()));
    all
}

/// Of hours, minutes, seconds and a part of a second.
fn micros(time: &[i128]) -> i128 {
    let [hours, minutes, seconds, part] = time else { return 0 };
    ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + part
}

fn time_of(micros: i128) -> String {
    let (seconds, part) = (micros / 1_000_000, micros % 1_000_000);
    format!("{:02}:{:02}:{:02}.{part:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Numbers above the first, up to the second one, which is the last of them.
fn numbers_between(low: i128, high: i128) -> Vec<i128> {
    let Some(width) = high.checked_sub(low).and_then(|width| u128::try_from(width).ok()) else {
        return vec![];
    };
    let at = |part: u128| low + (width / PARTS * part + width % PARTS * part / PARTS) as i128;
    let mut all: Vec<i128> = (1..=PARTS).map(at).filter(|n| *n > low).collect();
    all.dedup();
    all
}

/// Bytes above the first, up to about the second ones.
fn bytes_between(low: &[u8], high: &[u8]) -> Vec<Vec<u8>> {
    let same = low.iter().zip(high).take_while(|(a, b)| a == b).count();
    let number = |bytes: &[u8]| {
        let next = bytes[same..].iter().copied().chain(std::iter::repeat(0)).take(15);
        next.fold(0_i128, |number, byte| number << 8 | i128::from(byte))
    };
    let bytes = |n: i128| [&high[..same], &n.to_be_bytes()[1..]].concat();
    numbers_between(number(low), number(high)).into_iter().map(bytes).collect()
}

/// In the order of their digits, and in that of their parts from the last one on: servers store them in either.
fn uuids_between(low: &str, high: &str) -> Vec<String> {
    let bytes = |text: &str| unhex(&text.replace('-', "")).filter(|bytes| bytes.len() == 16);
    let (Some(low), Some(high)) = (bytes(low), bytes(high)) else { return vec![] };
    let turned = |b: &[u8]| [&b[10..16], &b[8..10], &b[6..8], &b[4..6], &b[..4]].concat();
    let back = |b: &[u8]| [&b[12..16], &b[10..12], &b[8..10], &b[6..8], &b[..6]].concat();
    let whole = |mut b: Vec<u8>| {
        b.resize(16, 0);
        b
    };
    let plain = bytes_between(&low, &high).into_iter().map(whole);
    let other = bytes_between(&turned(&low), &turned(&high)).into_iter().map(|b| back(&whole(b)));
    let shown = |b: Vec<u8>| {
        let hex = hex(&b);
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    };
    plain.chain(other).map(shown).collect()
}

/// Characters of ASCII that texts are likely to have.
const ASCII: &str = " !#-./0123456789:@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";
/// Others, spread over what there is.
const OTHERS: &str = "ßéøþαδζλπσωабвгдежзиклмнопрстуфхцшыэюяאלةلあかさたなはまらアカサタナハマラ가나다라마바사아자차하一丁乙京人信公動北味国城大宇市店心惠排新月李民治海灯王現生白石福程網美花蓝西訪語路通達金長阿青香黄龙😀";

/// Texts that begin as the lower one, and have another character then. Which characters lie between two others is for the server to say; those that
/// surely do not are left out.
fn texts_between(low: &str, high: &str, depth: usize) -> Vec<String> {
    let (low, high): (Vec<char>, Vec<char>) = (low.chars().collect(), high.chars().collect());
    let same = low.iter().zip(&high).take_while(|(a, b)| a == b).count();
    let length = same + depth;
    if length > low.len() {
        return vec![];
    }
    let prefix: String = low[..length].iter().collect();
    // Deeper than where they differ any character may follow.
    let (from, to) = (low.get(length).copied(), high.get(same).copied().filter(|_| depth == 0));
    let ascii = |c: Option<char>| c.is_none_or(|c| c.is_ascii());
    let mut all: Vec<char> = vec![];
    if ascii(from) && ascii(to) {
        // By code, or without regard to case.
        let between = |c: char, of: fn(char) -> char| {
            from.is_none_or(|from| of(from) <= of(c)) && to.is_none_or(|to| of(c) <= of(to))
        };
        all.extend(ASCII.chars().filter(|c| between(*c, |c| c) || between(*c, |c| c.to_ascii_lowercase())));
        all.extend(OTHERS.chars().step_by(8).filter(|_| to.is_none()));
    } else {
        all.extend(ASCII.chars().chain(OTHERS.chars()));
    }
    if let (Some(a), Some(b)) = (from, to) {
        let codes = numbers_between((a.min(b) as u32).into(), (a.max(b) as u32).into());
        all.extend(codes.into_iter().filter_map(|code| char::from_u32(code as u32)));
    }
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(|c| format!("{prefix}{c}")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    Some(digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(own: &str) -> Value {
        Value { own: own.into(), text: own.into() }
    }

    #[test]
    fn numbers_between_two_others_are_spread_evenly_to_the_last() {
        assert_eq!(numbers_between(3, 5), [4, 5]);
        assert_eq!(numbers_between(5, 5), [0_i128; 0]);
        assert_eq!(numbers_between(0, 1600)[..3], [100, 200, 300]);
        assert_eq!(numbers_between(i128::from(i64::MIN), i128::from(u64::MAX)).len(), 16);
        assert!(numbers_between(i128::MIN, i128::MAX).is_empty(), "wider than all numbers of a server");
    }

    #[test]
    fn values_of_every_kind_are_halved_in_their_order() {
        let of = |kind: &Kind, low: &str, high: &str| kind.between(&value(low), &value(high), 0);
        assert_eq!(of(&Kind::Decimal { scale: 2 }, "-0.02", "0.14")[..3], ["-0.01", "0.00", "0.01"]);
        assert_eq!(of(&Kind::Bytes, "61", "6163")[15], "x'61630000000000000000000000000000'");
        assert_eq!(of(&Kind::Inet4, "10.0.0.0", "10.0.0.2"), ["'10.0.0.1'", "'10.0.0.2'"]);
        assert_eq!(of(&Kind::Inet6, "::", "::10")[4], "'::5'");
        let halves = of(&Kind::Float, "-1e300", "1e300");
        let numbers: Vec<f64> = halves.iter().map(|n| n.parse().unwrap()).collect();
        assert!(numbers.is_sorted() && numbers.contains(&0.0), "{halves:?}");
        let halves = of(&Kind::Moment { time: true }, "0000-00-00 00:00:00", "2024-02-29 12:00:00.5");
        assert!(halves.is_sorted() && halves[15].starts_with("'2024-02-28 12:00:00.500000"), "{halves:?}");
        let halves = of(&Kind::Time, "-838:59:59", "838:59:59.000000");
        assert_eq!(halves[7], "'00:00:00.000000'");
        let uuids =
            of(&Kind::Uuid, "00000000-0000-4000-8000-000000000000", "ffffffff-0000-4000-8000-000000000000");
        assert!(uuids[7].starts_with("'7fffffff-"), "{uuids:?}");
        assert!(of(&Kind::Whole, "x", "9").is_empty());
    }

    #[test]
    fn texts_are_guessed_one_character_deeper_each_time() {
        let texts = Kind::Text { charset: "latin1".into(), collation: "latin1_bin".into() };
        let found = texts.between(&value("order-1"), &value("order-9"), 0);
        let five = format!("CONVERT(_utf8mb4 x'{}' USING latin1) COLLATE latin1_bin", hex(b"order-5"));
        assert!(found.contains(&five), "{found:?}");
        assert_eq!(found.len(), 9, "{found:?}");
        assert!(texts.between(&value("order-1"), &value("order-9"), 1)[0].contains(&hex(b"order-1 ")));
        assert!(texts.between(&value("order-1"), &value("order-9"), 2).is_empty());
    }
}
