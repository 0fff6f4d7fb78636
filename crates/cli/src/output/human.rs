//! Numbers, durations and times as people read them.

use jiff::Timestamp;
use keepfast_model::ByteCount;

/// A whole number with a comma every three digits.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `1 row`, `3 rows`.
pub fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// `3 rows`.
pub fn rows(n: u64) -> String {
    plural(n, "row", "rows")
}

/// A duration: `4 ms`, `1.24 s`, `3 min 20 s`, `2 h 5 min`.
pub fn seconds(s: f64) -> String {
    if !s.is_finite() || s < 0.0 {
        return "?".into();
    }
    if s < 0.9995 {
        return format!("{:.0} ms", s * 1000.0);
    }
    if s < 99.95 {
        return format!("{s:.2} s");
    }
    let whole = s.round() as u64;
    if whole < 3600 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", whole / 3600, whole % 3600 / 60)
    }
}

/// Bytes in a time: `120.0 MiB/s`.
pub fn rate(bytes: ByteCount, s: f64) -> String {
    if s <= 0.0 { "?".into() } else { format!("{}/s", ByteCount((bytes.0 as f64 / s) as u64)) }
}

/// A moment to the second, in UTC.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Text on one line that cannot steer a terminal: control characters, and those that turn the writing direction,
/// are shown as escapes.
pub fn safe(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(steers) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if steers(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_comma_every_three_digits() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(rows(1), "1 row");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        assert_eq!(seconds(0.0042), "4 ms");
        assert_eq!(seconds(0.9999), "1.00 s");
        assert_eq!(seconds(1.239), "1.24 s");
        assert_eq!(seconds(200.4), "3 min 20 s");
        assert_eq!(seconds(7500.0), "2 h 5 min");
        assert_eq!(seconds(f64::NAN), "?");
    }

    #[test]
    fn text_cannot_steer_a_terminal() {
        assert_eq!(safe("plain ü"), "plain ü");
        assert_eq!(safe("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
    }
}
