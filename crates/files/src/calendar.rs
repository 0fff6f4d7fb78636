//! Days, times and moments as ISO 8601 text, over the whole range of their physical integers.
//!
//! Invariant: what the writers here write, the readers here read back to the same integer. Years outside 0000 to 9999
//! are written with a sign, as ISO 8601's expanded form. Days are those of the proleptic Gregorian calendar.

use crate::error::Wrong;
use std::fmt::Write;

/// Microseconds of a day.
pub(crate) const DAY: i64 = 86_400_000_000;

/// Days since 1970-01-01 of a day that exists; `month` from 1.
pub(crate) fn days_of(year: i64, month: u32, day: u32) -> i64 {
    // Years begin in March here, so that the leap day is the last.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let shifted = i64::from((month + 9) % 12);
    let of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of days since 1970-01-01.
pub(crate) fn day_of(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_of_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Appends a day.
pub(crate) fn write_date(days: i64, out: &mut String) {
    let (year, month, day) = day_of(days);
    if (0..=9999).contains(&year) {
        let _ = write!(out, "{year:04}-{month:02}-{day:02}");
    } else {
        let _ = write!(out, "{year:+06}-{month:02}-{day:02}");
    }
}

/// Appends a time of day, with as many digits of a second as it needs. `micros` lies in 0 to one day.
pub(crate) fn write_time(micros: i64, out: &mut String) {
    let seconds = micros / 1_000_000;
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = micros % 1_000_000;
    if fraction != 0 {
        let _ = write!(out, ".{fraction:06}");
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// Appends a moment, with `Z` where it is one in UTC.
pub(crate) fn write_timestamp(micros: i64, zone: bool, out: &mut String) {
    write_date(micros.div_euclid(DAY), out);
    out.push('T');
    write_time(micros.rem_euclid(DAY), out);
    if zone {
        out.push('Z');
    }
}

/// Reads digits from the front.
struct Front<'a>(&'a [u8]);

impl Front<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Wrong> {
        if self.eat(byte) { Ok(()) } else { Err(Wrong::Form) }
    }

    fn two(&mut self) -> Result<u32, Wrong> {
        match self.0 {
            [a, b, rest @ ..] if a.is_ascii_digit() && b.is_ascii_digit() => {
                self.0 = rest;
                Ok(u32::from(a - b'0') * 10 + u32::from(b - b'0'))
            }
            _ => Err(Wrong::Form),
        }
    }

    /// A number of `least` to `most` digits.
    fn digits(&mut self, least: usize, most: usize) -> Result<i64, Wrong> {
        let n = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        if n < least || n > most {
            return Err(Wrong::Form);
        }
        let (digits, rest) = self.0.split_at(n);
        self.0 = rest;
        Ok(digits.iter().fold(0, |v, b| v * 10 + i64::from(b - b'0')))
    }

    fn date(&mut self) -> Result<i64, Wrong> {
        let year = match self.0.first() {
            Some(b'-') => {
                self.0 = &self.0[1..];
                -self.digits(4, 7)?
            }
            Some(b'+') => {
                self.0 = &self.0[1..];
                self.digits(4, 7)?
            }
            _ => self.digits(4, 4)?,
        };
        self.expect(b'-')?;
        let month = self.two()?;
        self.expect(b'-')?;
        let day = self.two()?;
        if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
            return Err(Wrong::Form);
        }
        Ok(days_of(year, month, day))
    }

    fn time(&mut self, seconds_needed: bool) -> Result<i64, Wrong> {
        let hour = self.two()?;
        self.expect(b':')?;
        let minute = self.two()?;
        let mut second = 0;
        let mut micros = 0;
        if self.eat(b':') {
            second = self.two()?;
            if self.eat(b'.') {
                let n = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
                let (digits, rest) = self.0.split_at(n);
                if n == 0 {
                    return Err(Wrong::Form);
                }
                if digits.iter().skip(6).any(|b| *b != b'0') {
                    return Err(Wrong::Digits);
                }
                for i in 0..6 {
                    micros = micros * 10 + digits.get(i).map_or(0, |b| i64::from(b - b'0'));
                }
                self.0 = rest;
            }
        } else if seconds_needed {
            return Err(Wrong::Form);
        }
        if hour > 23 || minute > 59 || second > 59 {
            return Err(Wrong::Form);
        }
        Ok((i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second)) * 1_000_000 + micros)
    }

    /// The offset from UTC in minutes; none where nothing follows.
    fn zone(&mut self) -> Result<Option<i64>, Wrong> {
        if self.0.is_empty() {
            return Ok(None);
        }
        if self.eat(b'Z') || self.eat(b'z') {
            return Ok(Some(0));
        }
        let sign = if self.eat(b'+') {
            1
        } else if self.eat(b'-') {
            -1
        } else {
            return Err(Wrong::Form);
        };
        let hours = self.two()?;
        let minutes = if self.eat(b':') {
            self.two()?
        } else if self.0.is_empty() {
            0
        } else {
            self.two()?
        };
        if hours > 23 || minutes > 59 {
            return Err(Wrong::Form);
        }
        Ok(Some(sign * i64::from(hours * 60 + minutes)))
    }
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
pub(crate) fn read_date(text: &[u8]) -> Result<i32, Wrong> {
    let mut front = Front(text);
    let days = front.date()?;
    if !front.0.is_empty() {
        return Err(Wrong::Form);
    }
    i32::try_from(days).map_err(|_| Wrong::Range)
}

/// Microseconds since midnight of `HH:MM:SS[.ffffff]`, or of `HH:MM` where seconds are not needed.
pub(crate) fn read_time(text: &[u8], seconds_needed: bool) -> Result<i64, Wrong> {
    let mut front = Front(text);
    let micros = front.time(seconds_needed)?;
    if front.0.is_empty() { Ok(micros) } else { Err(Wrong::Form) }
}

/// A moment as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Microseconds since 1970: in UTC where it has a zone, as the clock reads otherwise.
    pub micros: i64,
    /// Whether an offset from UTC was written.
    pub zone: bool,
}

/// A day with a time and perhaps an offset: `YYYY-MM-DD[T ]HH:MM[:SS[.ffffff]][Z|±HH[[:]MM]]`, or a day alone, which
/// is its midnight.
pub(crate) fn read_timestamp(text: &[u8]) -> Result<Moment, Wrong> {
    let mut front = Front(text);
    let days = front.date()?;
    let (mut micros, mut offset) = (0, None);
    if !front.0.is_empty() {
        if !front.eat(b'T') && !front.eat(b' ') {
            front.expect(b't')?;
        }
        micros = front.time(false)?;
        offset = front.zone()?;
    }
    let total = i128::from(days) * i128::from(DAY) + i128::from(micros)
        - i128::from(offset.unwrap_or(0)) * 60_000_000;
    Ok(Moment { micros: i64::try_from(total).map_err(|_| Wrong::Range)?, zone: offset.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn date(days: i64) -> String {
        let mut out = String::new();
        write_date(days, &mut out);
        out
    }

    fn timestamp(micros: i64, zone: bool) -> String {
        let mut out = String::new();
        write_timestamp(micros, zone, &mut out);
        out
    }

    proptest! {
        #[test]
        fn every_day_reads_back(days in any::<i32>()) {
            prop_assert_eq!(read_date(date(days.into()).as_bytes()), Ok(days));
        }

        #[test]
        fn every_moment_reads_back(micros in any::<i64>(), zone in any::<bool>()) {
            prop_assert_eq!(read_timestamp(timestamp(micros, zone).as_bytes()), Ok(Moment { micros, zone }));
        }

        #[test]
        fn every_time_reads_back(micros in 0..DAY) {
            let mut out = String::new();
            write_time(micros, &mut out);
            prop_assert_eq!(read_time(out.as_bytes(), true), Ok(micros));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9TZ:. ]{0,30}") {
            let _ = (read_date(text.as_bytes()), read_time(text.as_bytes(), false));
            let _ = read_timestamp(text.as_bytes());
        }
    }

    #[test]
    fn limits_and_known_days_are_written_as_iso() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(-719_528), "0000-01-01");
        assert_eq!(date(-719_529), "-00001-12-31");
        assert_eq!(date(2_932_897), "+10000-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        for days in [i32::MIN, i32::MAX] {
            assert_eq!(read_date(date(days.into()).as_bytes()), Ok(days));
        }
        for micros in [i64::MIN, i64::MAX, -1, 0] {
            assert_eq!(read_timestamp(timestamp(micros, true).as_bytes()).unwrap().micros, micros);
        }
        assert_eq!(timestamp(1_500_000, true), "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn offsets_are_taken_off() {
        let utc = read_timestamp(b"2024-03-10T10:00:00Z").unwrap();
        for text in ["2024-03-10 12:00:00+02", "2024-03-10T05:30-0430", "2024-03-10T12:00:00.000000000+02:00"]
        {
            assert_eq!(read_timestamp(text.as_bytes()), Ok(utc), "{text}");
        }
        assert!(!read_timestamp(b"2024-03-10").unwrap().zone);
    }

    #[test]
    fn what_no_calendar_has_is_refused() {
        for text in
            ["2023-02-29", "1900-02-29", "2024-13-01", "2024-00-10", "2024-1-1", "2024-01-32", "24-01-01", ""]
        {
            assert_eq!(read_date(text.as_bytes()), Err(Wrong::Form), "{text}");
        }
        for text in ["24:00:00", "10:60:00", "10:00:60", "1:00:00", "10:00:00.", "10:00:00Z"] {
            assert_eq!(read_time(text.as_bytes(), true), Err(Wrong::Form), "{text}");
        }
        assert_eq!(read_time(b"10:00:00.1234567", true), Err(Wrong::Digits));
        assert_eq!(read_date(b"+9999999-01-01"), Err(Wrong::Range));
        assert_eq!(read_timestamp(b"+999999-01-01"), Err(Wrong::Range));
    }
}
