//! Numbers from text and back, exactly.
//!
//! Invariant: an integer or decimal is the value written or an error, never a rounded one; a float is the one nearest
//! to what is written, and what [`write_f64`] writes reads back to the same bits.

use crate::error::Wrong;
use std::fmt::{Display, Write};

/// Digits of the largest decimal.
const MOST_DIGITS: usize = 38;

/// A whole number that fits i64, of at most 18 digits. None means: look closer.
#[inline]
fn short_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for b in digits {
        let d = b.wrapping_sub(b'0');
        if d > 9 {
            return None;
        }
        value = value * 10 + i64::from(d);
    }
    Some(if negative { -value } else { value })
}

/// A whole number from `least` to `most`. `5`, `+5`, `005`, `5.00` and `5e0` are the same.
#[inline]
pub(crate) fn read_integer(text: &str, least: i128, most: i128) -> Result<i128, Wrong> {
    let value = match short_integer(text.as_bytes()) {
        Some(value) => i128::from(value),
        None => {
            Exact::read(text)?.at_scale(0).map_err(|w| if w == Wrong::Digits { Wrong::Form } else { w })?
        }
    };
    if value < least || value > most { Err(Wrong::Range) } else { Ok(value) }
}

/// The unscaled value of a decimal with this precision and scale.
#[inline]
pub(crate) fn read_decimal(text: &str, precision: u8, scale: u8) -> Result<i128, Wrong> {
    let value = match short_decimal(text.as_bytes(), scale) {
        Some(value) => value,
        None => Exact::read(text)?.at_scale(scale)?,
    };
    if value.unsigned_abs() >= 10u128.pow(u32::from(precision)) { Err(Wrong::Range) } else { Ok(value) }
}

/// A decimal of at most 18 digits written without exponent or sign `+`. None means: look closer.
fn short_decimal(text: &[u8], scale: u8) -> Option<i128> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    if digits.len() > 19 {
        return None;
    }
    let (mut value, mut seen, mut after) = (0i64, 0u32, None::<u32>);
    for b in digits {
        match b {
            b'0'..=b'9' if seen < 18 => {
                value = value * 10 + i64::from(b - b'0');
                seen += 1;
                after = after.map(|n| n + 1);
            }
            b'.' if after.is_none() && seen > 0 => after = Some(0),
            _ => return None,
        }
    }
    if seen == 0 || after == Some(0) {
        return None;
    }
    let raise = u32::from(scale).checked_sub(after.unwrap_or(0))?;
    let value = i128::from(value).checked_mul(10i128.checked_pow(raise)?)?;
    Some(if negative { -value } else { value })
}

/// A number as written: its significant digits and where the point stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exact {
    negative: bool,
    /// Without leading and trailing zeros; empty for zero.
    digits: Vec<u8>,
    /// The value is `0.digits × 10^point`.
    point: i64,
}

impl Exact {
    /// Reads `[+-]digits[.digits][e[+-]digits]`; one side of the point may be empty.
    pub(crate) fn read(text: &str) -> Result<Self, Wrong> {
        let mut rest = text.as_bytes();
        let mut negative = false;
        if let [sign @ (b'+' | b'-'), tail @ ..] = rest {
            negative = *sign == b'-';
            rest = tail;
        }
        let mut digits = Vec::with_capacity(rest.len().min(64));
        let (mut point, mut any, mut after_point) = (0i64, false, false);
        while let [b, tail @ ..] = rest {
            match b {
                b'0'..=b'9' => {
                    any = true;
                    if !digits.is_empty() || *b != b'0' {
                        digits.push(*b);
                        point += i64::from(!after_point);
                    } else if after_point {
                        point -= 1;
                    }
                }
                b'.' if !after_point => after_point = true,
                _ => break,
            }
            rest = tail;
        }
        if !any {
            return Err(Wrong::Form);
        }
        if let [b'e' | b'E', tail @ ..] = rest {
            let (sign, tail) = match tail {
                [b'-', tail @ ..] => (-1, tail),
                [b'+', tail @ ..] => (1, tail),
                tail => (1, tail),
            };
            if tail.is_empty() || !tail.iter().all(u8::is_ascii_digit) {
                return Err(Wrong::Form);
            }
            let exponent = tail.iter().fold(0i64, |v, b| (v * 10 + i64::from(b - b'0')).min(1 << 40));
            point += sign * exponent;
        } else if !rest.is_empty() {
            return Err(Wrong::Form);
        }
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        if digits.is_empty() {
            point = 0;
        }
        Ok(Self { negative, digits, point })
    }

    /// The value × 10^scale, when that is a whole number of at most 38 digits.
    fn at_scale(&self, scale: u8) -> Result<i128, Wrong> {
        if self.digits.is_empty() {
            return Ok(0);
        }
        // Digits of the whole number that is sought.
        let wanted = self.point + i64::from(scale);
        if wanted > MOST_DIGITS as i64 {
            return Err(Wrong::Range);
        }
        let Some(zeros) = wanted.checked_sub(self.digits.len() as i64).filter(|n| *n >= 0) else {
            return Err(Wrong::Digits);
        };
        let value = self.digits.iter().fold(0i128, |v, b| v * 10 + i128::from(b - b'0'));
        let value = value * 10i128.pow(zeros as u32);
        Ok(if self.negative { -value } else { value })
    }
}

/// The shape of a number written plainly, as inference sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A whole number; none where it has more than 38 digits.
    Integer(Option<i128>),
    /// A number with digits after the point.
    Decimal {
        /// Digits before the point; 0 for `0.5`.
        before: u32,
        /// Digits after it, trailing zeros too.
        after: u32,
    },
    /// One with an exponent, or a negative zero, which only a float holds.
    Float,
}

/// The shape of `-?(0|[1-9]digits)(.digits)?(e[+-]digits)?`; none for anything else, such as `007`, `+1` or `.5`.
#[inline]
pub(crate) fn shape(text: &str) -> Option<Shape> {
    let bytes = text.as_bytes();
    let start = usize::from(bytes.first() == Some(&b'-'));
    let mut at = start;
    while at < bytes.len() && bytes[at].is_ascii_digit() {
        at += 1;
    }
    let before = at - start;
    if before == 0 || (before > 1 && bytes[start] == b'0') {
        return None;
    }
    if at == bytes.len() {
        if start == 1 && bytes[1] == b'0' {
            return Some(Shape::Float);
        }
        let value = match short_integer(bytes) {
            Some(value) => Some(i128::from(value)),
            None if before <= MOST_DIGITS => text.parse().ok(),
            None => None,
        };
        return Some(Shape::Integer(value));
    }
    let mut after = 0;
    if bytes[at] == b'.' {
        at += 1;
        let from = at;
        while at < bytes.len() && bytes[at].is_ascii_digit() {
            at += 1;
        }
        after = at - from;
        if after == 0 {
            return None;
        }
    }
    if at == bytes.len() {
        let zero = bytes[start..].iter().all(|b| matches!(b, b'0' | b'.'));
        return Some(if start == 1 && zero {
            Shape::Float
        } else {
            let before = if bytes[start] == b'0' { 0 } else { before };
            Shape::Decimal {
                before: u32::try_from(before).unwrap_or(u32::MAX),
                after: u32::try_from(after).unwrap_or(u32::MAX),
            }
        });
    }
    if !matches!(bytes[at], b'e' | b'E') {
        return None;
    }
    at += 1;
    if at < bytes.len() && matches!(bytes[at], b'+' | b'-') {
        at += 1;
    }
    (at < bytes.len() && bytes[at..].iter().all(u8::is_ascii_digit)).then_some(Shape::Float)
}

/// Whether a DOUBLE stands for exactly this plainly written number, so that its shortest form has the same digits.
pub(crate) fn double_keeps(text: &str) -> bool {
    let Ok(exact) = Exact::read(text) else { return false };
    if exact.digits.len() <= 15 && exact.point.abs() < 300 {
        return true;
    }
    let Ok(value) = text.parse::<f64>() else { return false };
    value.is_finite() && Exact::read(&format!("{value:e}")).is_ok_and(|back| back == exact)
}

/// Whether the text is a float that is no number, as [`read_f64`] takes it.
pub(crate) fn is_special(text: &str) -> bool {
    matches!(text.len(), 3..=23) && {
        let word = text.strip_prefix(['-', '+']).unwrap_or(text);
        ["nan", "inf", "infinity"].iter().any(|w| word.eq_ignore_ascii_case(w)) || nan_bits(text).is_some()
    }
}

/// The bits in `NaN(0x…)`.
fn nan_bits(text: &str) -> Option<u64> {
    let hex = text.strip_prefix("NaN(0x")?.strip_suffix(')')?;
    if hex.starts_with('+') {
        return None;
    }
    u64::from_str_radix(hex, 16).ok()
}

/// The DOUBLE nearest to the text.
pub(crate) fn read_f64(text: &str) -> Result<f64, Wrong> {
    if let Some(bits) = nan_bits(text) {
        let value = f64::from_bits(bits);
        return if value.is_nan() { Ok(value) } else { Err(Wrong::Form) };
    }
    let value: f64 = text.parse().map_err(|_| Wrong::Form)?;
    if value.is_infinite() && !is_special(text) { Err(Wrong::Range) } else { Ok(value) }
}

/// The FLOAT nearest to the text.
pub(crate) fn read_f32(text: &str) -> Result<f32, Wrong> {
    if let Some(bits) = nan_bits(text) {
        let value = f32::from_bits(u32::try_from(bits).map_err(|_| Wrong::Range)?);
        return if value.is_nan() { Ok(value) } else { Err(Wrong::Form) };
    }
    let value: f32 = text.parse().map_err(|_| Wrong::Form)?;
    if value.is_infinite() && !is_special(text) { Err(Wrong::Range) } else { Ok(value) }
}

/// Appends the shortest text that reads back to the same bits. True when it is a number, false for NaN and infinities.
pub(crate) fn write_f64(value: f64, out: &mut String) -> bool {
    if value.is_nan() && value.to_bits() != f64::NAN.to_bits() {
        let _ = write!(out, "NaN(0x{:016x})", value.to_bits());
        return false;
    }
    write_float(value, value.is_finite(), value == f64::INFINITY, value == f64::NEG_INFINITY, out)
}

/// As [`write_f64`], for FLOAT.
pub(crate) fn write_f32(value: f32, out: &mut String) -> bool {
    if value.is_nan() && value.to_bits() != f32::NAN.to_bits() {
        let _ = write!(out, "NaN(0x{:08x})", value.to_bits());
        return false;
    }
    write_float(value, value.is_finite(), value == f32::INFINITY, value == f32::NEG_INFINITY, out)
}

fn write_float(
    value: impl std::fmt::Debug,
    finite: bool,
    infinite: bool,
    minus_infinite: bool,
    out: &mut String,
) -> bool {
    if finite {
        let _ = write!(out, "{value:?}");
    } else {
        out.push_str(if infinite {
            "Infinity"
        } else if minus_infinite {
            "-Infinity"
        } else {
            "NaN"
        });
    }
    finite
}

/// Appends a decimal with all digits of its scale.
pub(crate) fn write_decimal(value: i128, scale: u8, out: &mut String) {
    if scale == 0 {
        write_plain(value, out);
        return;
    }
    if value < 0 {
        out.push('-');
    }
    let unit = 10u128.pow(u32::from(scale));
    let value = value.unsigned_abs();
    let _ = write!(out, "{}.{:0width$}", value / unit, value % unit, width = usize::from(scale));
}

/// Appends a value as it displays itself.
pub(crate) fn write_plain(value: impl Display, out: &mut String) {
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut String) -> bool) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    proptest! {
        #[test]
        fn every_double_reads_back_to_its_bits(bits in any::<u64>()) {
            let text = written(|out| write_f64(f64::from_bits(bits), out));
            prop_assert_eq!(read_f64(&text).unwrap().to_bits(), bits);
        }

        #[test]
        fn every_float_reads_back_to_its_bits(bits in any::<u32>()) {
            let text = written(|out| write_f32(f32::from_bits(bits), out));
            prop_assert_eq!(read_f32(&text).unwrap().to_bits(), bits);
        }

        #[test]
        fn every_decimal_reads_back(value in any::<i128>(), precision in 1u8..=38, scale in 0u8..=38) {
            let scale = scale.min(precision);
            let value = value % 10i128.pow(u32::from(precision));
            let text = written(|out| { write_decimal(value, scale, out); true });
            prop_assert_eq!(read_decimal(&text, precision, scale), Ok(value));
            // The long way gives the same.
            prop_assert_eq!(Exact::read(&text).unwrap().at_scale(scale), Ok(value));
        }

        #[test]
        fn every_integer_reads_back(value in any::<i64>(), wide in any::<u64>()) {
            prop_assert_eq!(read_integer(&value.to_string(), i64::MIN.into(), i64::MAX.into()), Ok(value.into()));
            prop_assert_eq!(read_integer(&wide.to_string(), 0, u64::MAX.into()), Ok(wide.into()));
        }

        #[test]
        fn nan_and_minus_zero_and_infinity_read_back(pick in 0usize..5) {
            let value = [f64::NAN, -0.0, f64::INFINITY, f64::NEG_INFINITY, -f64::NAN][pick];
            let text = written(|out| write_f64(value, out));
            prop_assert_eq!(read_f64(&text).unwrap().to_bits(), value.to_bits());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.eEnaif(x)]{0,45}") {
            let _ = (shape(&text), read_f64(&text), read_f32(&text), double_keeps(&text), is_special(&text));
            let _ = (read_integer(&text, i128::MIN, i128::MAX), read_decimal(&text, 38, 10));
        }
    }

    #[test]
    fn whole_numbers_may_be_written_in_several_ways() {
        for text in ["5", "+5", "005", "5.00", "5e0", "0.5e1", "500e-2"] {
            assert_eq!(read_integer(text, -128, 127), Ok(5), "{text}");
        }
        for (text, wrong) in [
            ("128", Wrong::Range),
            ("-129", Wrong::Range),
            ("1e400", Wrong::Range),
            ("5.5", Wrong::Form),
            ("", Wrong::Form),
            ("-", Wrong::Form),
            (" 5", Wrong::Form),
            ("5x", Wrong::Form),
            ("1e", Wrong::Form),
            ("1_000", Wrong::Form),
            ("0x10", Wrong::Form),
            (".", Wrong::Form),
        ] {
            assert_eq!(read_integer(text, -128, 127), Err(wrong), "{text}");
        }
    }

    #[test]
    fn decimals_are_never_rounded() {
        assert_eq!(read_decimal("1.10", 4, 2), Ok(110));
        assert_eq!(read_decimal("1.1000", 4, 2), Ok(110));
        assert_eq!(read_decimal("1e1", 4, 2), Ok(1000));
        assert_eq!(read_decimal("-0.01", 4, 2), Ok(-1));
        assert_eq!(read_decimal("1.101", 4, 2), Err(Wrong::Digits));
        assert_eq!(read_decimal("100", 4, 2), Err(Wrong::Range));
        assert_eq!(read_decimal("1e-99999999999999999999", 4, 2), Err(Wrong::Digits));
        assert_eq!(read_decimal(&"9".repeat(38), 38, 0), Ok(10i128.pow(38) - 1));
        assert_eq!(read_decimal(&"9".repeat(39), 38, 0), Err(Wrong::Range));
    }

    #[test]
    fn shapes_of_numbers_are_told_apart_from_text() {
        assert_eq!(shape("0"), Some(Shape::Integer(Some(0))));
        assert_eq!(shape("-12"), Some(Shape::Integer(Some(-12))));
        assert_eq!(shape(&"9".repeat(38)), Some(Shape::Integer(Some(10i128.pow(38) - 1))));
        assert_eq!(shape(&"9".repeat(39)), Some(Shape::Integer(None)));
        assert_eq!(shape("1.10"), Some(Shape::Decimal { before: 1, after: 2 }));
        assert_eq!(shape("-0.5"), Some(Shape::Decimal { before: 0, after: 1 }));
        for text in ["1e5", "-0", "-0.0", "1.5E-3"] {
            assert_eq!(shape(text), Some(Shape::Float), "{text}");
        }
        for text in ["007", "+1", ".5", "5.", "", "-", "1e", "1e+", "1 ", "0x1", "1.2.3", "-.5"] {
            assert_eq!(shape(text), None, "{text}");
        }
    }

    #[test]
    fn a_double_keeps_what_its_shortest_form_says() {
        for text in ["0.1", "123456789012345", "9007199254740992", "0.30000000000000004"] {
            assert!(double_keeps(text), "{text}");
        }
        for text in ["9007199254740993", "0.12345678901234567890", "1e"] {
            assert!(!double_keeps(text), "{text}");
        }
    }

    #[test]
    fn floats_out_of_range_are_refused() {
        assert_eq!(read_f64("1e400"), Err(Wrong::Range));
        assert_eq!(read_f32("1e39"), Err(Wrong::Range));
        assert_eq!(read_f32("-inf"), Ok(f32::NEG_INFINITY));
        assert_eq!(read_f64("NaN(0x0)"), Err(Wrong::Form));
    }
}
