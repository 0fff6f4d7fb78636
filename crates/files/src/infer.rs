//! What the values of a column have in common, and the narrowest type that holds them all exactly.
//!
//! Invariant: evidence does not depend on the order of values, and the type decided takes every value seen. The rules
//! are in `docs/import.md`.

use crate::column::is_uuid;
use crate::error::Place;
use crate::json::{self, Value};
use crate::number::{self, Shape};
use crate::{calendar, json::JsonError};
use keepfast_model::ColumnType;

/// Kinds of values seen, as bits.
mod kind {
    pub(super) const BOOLEAN: u16 = 1;
    pub(super) const INTEGER: u16 = 1 << 1;
    pub(super) const DECIMAL: u16 = 1 << 2;
    pub(super) const FLOAT: u16 = 1 << 3;
    /// NaN or infinity in quotes: a float beside numbers, else text.
    pub(super) const SPECIAL: u16 = 1 << 4;
    pub(super) const DATE: u16 = 1 << 5;
    pub(super) const TIME: u16 = 1 << 6;
    pub(super) const TIMESTAMP: u16 = 1 << 7;
    pub(super) const TIMESTAMP_ZONE: u16 = 1 << 8;
    pub(super) const UUID: u16 = 1 << 9;
    pub(super) const TEXT: u16 = 1 << 10;
    pub(super) const ARRAY: u16 = 1 << 11;
    pub(super) const OBJECT: u16 = 1 << 12;
}

/// What was seen of one column.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    kinds: u16,
    /// Of whole numbers of at most 38 digits.
    least: i128,
    most: i128,
    /// Digits before the point at most, and after.
    before: u32,
    after: u32,
    /// A number stands that a DOUBLE would change.
    beyond_double: bool,
    /// Items of arrays.
    items: Option<Box<Evidence>>,
    /// Where the first NULL stands.
    null: Option<Place>,
}

impl Evidence {
    /// Notes NULL, or a missing value.
    pub(crate) fn see_null(&mut self, place: impl FnOnce() -> Place) {
        if self.null.is_none() {
            self.null = Some(place());
        }
    }

    /// Where the first NULL stands.
    pub(crate) fn null(&self) -> Option<&Place> {
        self.null.as_ref()
    }

    /// Notes a CSV value.
    #[inline]
    pub(crate) fn see_text(&mut self, text: &str) {
        if self.kinds & kind::TEXT != 0 {
            return;
        }
        self.kinds |= match text.as_bytes().first() {
            Some(b'-' | b'0'..=b'9') => {
                if self.see_number(text) {
                    return;
                }
                if number::is_special(text) { kind::FLOAT } else { text_kind(text) }
            }
            Some(b't' | b'T' | b'f' | b'F')
                if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") =>
            {
                kind::BOOLEAN
            }
            Some(b'n' | b'N' | b'i' | b'I') if number::is_special(text) => kind::FLOAT,
            _ => text_kind(text),
        };
    }

    /// Notes a JSON value; `place` is where it stands.
    pub(crate) fn see_json(&mut self, value: &Value<'_>, place: &dyn Fn() -> Place) {
        match value {
            Value::Null => self.see_null(place),
            Value::Bool(_) => self.kinds |= kind::BOOLEAN,
            Value::Number(text) => {
                self.see_number(text);
            }
            Value::String(text) => {
                self.kinds |= if number::is_special(text) { kind::SPECIAL } else { text_kind(text) };
            }
            Value::Object(_) => self.kinds |= kind::OBJECT,
            Value::Array(text) => {
                self.kinds |= kind::ARRAY;
                let items = self.items.get_or_insert_default();
                // The array was read as JSON before, so that this cannot fail.
                let _ = json::items(text, |item| {
                    items.see_json(&item, place);
                    Ok::<_, JsonError>(())
                });
            }
        }
    }

    /// Notes a number; false when the text is none.
    #[inline]
    fn see_number(&mut self, text: &str) -> bool {
        let Some(shape) = number::shape(text) else { return false };
        match shape {
            Shape::Integer(Some(value)) => {
                if self.kinds & kind::INTEGER == 0 {
                    (self.least, self.most) = (value, value);
                    self.kinds |= kind::INTEGER;
                }
                self.least = self.least.min(value);
                self.most = self.most.max(value);
            }
            Shape::Integer(None) => {
                // More digits than any decimal has.
                self.kinds |= kind::DECIMAL;
                self.before = u32::MAX;
            }
            Shape::Decimal { before, after } => {
                self.kinds |= kind::DECIMAL;
                self.before = self.before.max(before);
                self.after = self.after.max(after);
            }
            Shape::Float => {
                self.kinds |= kind::FLOAT;
                // Larger than any DOUBLE.
                self.beyond_double |= number::read_f64(text).is_err();
            }
        }
        if shape != Shape::Float && text.len() > 15 && !self.beyond_double {
            self.beyond_double = !number::double_keeps(text);
        }
        true
    }

    /// Adds what was seen elsewhere, in a later file.
    pub(crate) fn merge(&mut self, other: Self) {
        if other.kinds & kind::INTEGER != 0 {
            let mine = self.kinds & kind::INTEGER != 0;
            self.least = if mine { self.least.min(other.least) } else { other.least };
            self.most = if mine { self.most.max(other.most) } else { other.most };
        }
        self.kinds |= other.kinds;
        self.before = self.before.max(other.before);
        self.after = self.after.max(other.after);
        self.beyond_double |= other.beyond_double;
        match (&mut self.items, other.items) {
            (Some(mine), Some(others)) => mine.merge(*others),
            (mine @ None, others) => *mine = others,
            (Some(_), None) => {}
        }
        self.null = self.null.take().or(other.null);
    }

    /// Whether NULL must be allowed: it was seen, or nothing was.
    pub(crate) fn nullable(&self) -> bool {
        self.null.is_some() || self.kinds == 0
    }

    /// The narrowest type that takes every value seen.
    pub(crate) fn decide(&self) -> ColumnType {
        use kind::*;
        let varchar = ColumnType::Varchar { length: None };
        let only = |kinds: u16| self.kinds & !kinds == 0;
        match self.kinds {
            0 => varchar,
            ARRAY => match self.items.as_ref().map_or(varchar, |items| items.decide()) {
                ColumnType::Json => ColumnType::Json,
                item => ColumnType::List(Box::new(item)),
            },
            k if k & (ARRAY | OBJECT) != 0 => ColumnType::Json,
            BOOLEAN => ColumnType::Boolean,
            SPECIAL => varchar,
            _ if only(INTEGER | DECIMAL | FLOAT | SPECIAL) => self.decide_number().unwrap_or(varchar),
            DATE => ColumnType::Date,
            TIME => ColumnType::Time,
            _ if only(DATE | TIMESTAMP) => ColumnType::Timestamp { zone: false },
            TIMESTAMP_ZONE => ColumnType::Timestamp { zone: true },
            UUID => ColumnType::Uuid,
            _ => varchar,
        }
    }

    /// The type of a column of numbers; none where only text keeps them.
    fn decide_number(&self) -> Option<ColumnType> {
        let integers = self.kinds & kind::INTEGER != 0;
        let exact = self.kinds & (kind::FLOAT | kind::SPECIAL) == 0;
        if exact && self.kinds == kind::INTEGER {
            let within = |least: i128, most: i128| self.least >= least && self.most <= most;
            if within(i32::MIN.into(), i32::MAX.into()) {
                return Some(ColumnType::Int32);
            } else if within(i64::MIN.into(), i64::MAX.into()) {
                return Some(ColumnType::Int64);
            } else if within(0, u64::MAX.into()) {
                return Some(ColumnType::UInt64);
            }
        }
        if exact {
            let digits_of = |n: i128| n.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1);
            let before = if integers {
                self.before.max(digits_of(self.least)).max(digits_of(self.most))
            } else {
                self.before
            };
            let digits = before.saturating_add(self.after);
            if digits <= 38 {
                let precision = if digits <= 18 { 18 } else { 38 };
                // `after` is at most `digits`.
                return Some(ColumnType::Decimal { precision, scale: self.after as u8 });
            }
        }
        (!self.beyond_double).then_some(ColumnType::Float64)
    }
}

/// The kind of a text that is no number.
fn text_kind(text: &str) -> u16 {
    let bytes = text.as_bytes();
    match bytes {
        [_, _, b':', ..] if calendar::read_time(bytes, true).is_ok() => kind::TIME,
        [_, _, _, _, b'-', _, _, b'-', _, _] if calendar::read_date(bytes).is_ok() => kind::DATE,
        [_, _, _, _, b'-', _, _, b'-', _, _, b'T' | b't' | b' ', ..] => {
            match calendar::read_timestamp(bytes) {
                Ok(moment) if moment.zone => kind::TIMESTAMP_ZONE,
                Ok(_) => kind::TIMESTAMP,
                Err(_) => kind::TEXT,
            }
        }
        _ if is_uuid(text) => kind::UUID,
        _ => kind::TEXT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::Column;
    use proptest::prelude::*;
    use std::path::Path;

    fn of_texts(texts: &[&str]) -> String {
        let mut evidence = Evidence::default();
        texts.iter().for_each(|t| evidence.see_text(t));
        evidence.decide().to_string()
    }

    fn of_json(values: &str) -> String {
        let mut evidence = Evidence::default();
        let place = || Place::line(Path::new("t.jsonl"), 1);
        json::items(values, |v| {
            evidence.see_json(&v, &place);
            Ok::<_, JsonError>(())
        })
        .unwrap();
        evidence.decide().to_string()
    }

    #[test]
    fn the_narrowest_type_that_takes_all_values_is_chosen() {
        for (texts, decided) in [
            (&[][..], "varchar"),
            (&["true", "FALSE"], "boolean"),
            (&["1", "0"], "int32"),
            (&["1", "true"], "varchar"),
            (&["-2147483648", "2147483647"], "int32"),
            (&["2147483648"], "int64"),
            (&["-1", "9223372036854775808"], "decimal(38,0)"),
            (&["0", "18446744073709551615"], "uint64"),
            (&["18446744073709551616"], "decimal(38,0)"),
            (&["1.10", "22", "-3.5"], "decimal(18,2)"),
            (&["0.1234567890123456789"], "decimal(38,19)"),
            (&["1.5", "1e3"], "float64"),
            (&["1", "NaN"], "float64"),
            (&["-inf"], "float64"),
            (&["-0.0", "1"], "float64"),
            (&["9007199254740993", "1e3"], "varchar"),
            (&["9007199254740992", "1e3"], "float64"),
            (&["1e308"], "float64"),
            (&["1e309"], "varchar"),
            (&["1", "007"], "varchar"),
            (&["+1"], "varchar"),
            (&["2024-02-29"], "date"),
            (&["2023-02-29"], "varchar"),
            (&["10:00:00", "23:59:59.999999"], "time"),
            (&["10:00"], "varchar"),
            (&["2024-02-29", "2024-02-29T10:00:00"], "timestamp"),
            (&["2024-02-29 10:00:00Z", "2024-02-29T10:00:00+02:00"], "timestamptz"),
            (&["2024-02-29 10:00:00Z", "2024-02-29T10:00:00"], "varchar"),
            (&["2024-02-29 10:00:00.1234567"], "varchar"),
            (&["00000000-0000-0000-0000-00000000000A"], "uuid"),
            (&["12", ""], "varchar"),
            (&["12", "abc"], "varchar"),
        ] {
            assert_eq!(of_texts(texts), decided, "{texts:?}");
        }
        let long = "9".repeat(39);
        assert_eq!(of_texts(&[&long]), "varchar");
        assert_eq!(of_texts(&[&format!("1{}", "0".repeat(39))]), "float64");
    }

    #[test]
    fn json_keeps_strings_apart_from_numbers() {
        for (values, decided) in [
            (r#"["1", "2"]"#, "varchar"),
            (r#"[1, null, 2]"#, "int32"),
            (r#"[1, "a", true]"#, "varchar"),
            (r#"[1.5, "NaN"]"#, "float64"),
            (r#"["NaN"]"#, "varchar"),
            (r#"["2024-01-01"]"#, "date"),
            (r#"[[1, null], [], [3000000000]]"#, "list(int64)"),
            (r#"[[], null]"#, "list(varchar)"),
            (r#"[[[1.5]], [[2]]]"#, "list(list(decimal(18,1)))"),
            (r#"[[1], [{"a": 1}]]"#, "json"),
            (r#"[[1], 1]"#, "json"),
            (r#"[{"a": 1}]"#, "json"),
            (r#"[{"a": 1}, "x"]"#, "json"),
            (r#"[[1, "a"]]"#, "list(varchar)"),
        ] {
            assert_eq!(of_json(values), decided, "{values}");
        }
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "-?[0-9]{1,40}",
            "-?[0-9]{1,20}\\.[0-9]{1,22}",
            "-?[0-9]{1,3}(\\.[0-9])?e-?[0-9]{1,3}",
            Just("NaN".to_owned()),
            "(true|false)",
            "20[0-9]{2}-[01][0-9]-[0-3][0-9]",
            "20[0-9]{2}-0[1-9]-1[0-9][T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9])?(Z|\\+01)?",
            "[0-2][0-9]:[0-5][0-9]:[0-5][0-9]",
            "[a-z]{0,3}",
        ]
    }

    proptest! {
        #[test]
        fn the_type_decided_takes_every_value_and_keeps_numbers(texts in prop::collection::vec(text(), 1..4)) {
            let mut evidence = Evidence::default();
            texts.iter().for_each(|t| evidence.see_text(t));
            let decided = evidence.decide();
            let mut column = Column::new(&decided);
            for text in &texts {
                let taken = column.push_text(text);
                prop_assert!(taken.is_ok(), "{:?} as {}: {:?}", texts, decided, taken);
            }
            let mut turned = Evidence::default();
            texts.iter().rev().for_each(|t| turned.see_text(t));
            prop_assert_eq!(&decided, &turned.decide());
            let mut merged = Evidence::default();
            for text in &texts {
                let mut one = Evidence::default();
                one.see_text(text);
                merged.merge(one);
            }
            prop_assert_eq!(&decided, &merged.decide());
        }
    }
}
