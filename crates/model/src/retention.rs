//! Retention: which restore points of a backup stay, and why. A pure function of the points, the policy and the time.
//!
//! Order is that of the log, which no clock can disturb; only `within` and the periods look at cut times, in UTC. The
//! newest point always stays, and so does one that is held or locked.

use crate::ids::LogSeq;
use jiff::civil::{Date, ISOWeekDate, Weekday};
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A period of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// An hour.
    Hourly,
    /// A day.
    Daily,
    /// A week that begins on Monday (ISO 8601).
    Weekly,
    /// A month.
    Monthly,
    /// A year.
    Yearly,
}

impl Period {
    /// All of them, from short to long.
    pub const ALL: [Self; 5] = [Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// The first day and hour of the period that a moment is in; equal for all moments of one period.
    pub fn start(self, at: Timestamp) -> (Date, i8) {
        let civil = Offset::UTC.to_datetime(at);
        let date = civil.date();
        match self {
            Self::Hourly => (date, civil.hour()),
            Self::Daily => (date, 0),
            Self::Weekly => {
                let week = date.iso_week_date();
                let monday = ISOWeekDate::new(week.year(), week.week(), Weekday::Monday);
                (monday.map_or(date, |monday| monday.date()), 0)
            }
            Self::Monthly => (date.first_of_month(), 0),
            Self::Yearly => (date.first_of_year(), 0),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        })
    }
}

/// What a backup keeps. A point stays when any rule keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionPolicy {
    /// The newest points, as many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last: u32,
    /// The last point of each of the newest periods that have one, as many periods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub periods: BTreeMap<Period, u32>,
    /// Points whose cut is at most so long before the newest cut, or before now where that is earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<SignedDuration>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A point as retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its number: later ones were committed later.
    pub seq: LogSeq,
    /// Its cut.
    pub cut: Timestamp,
    /// Whether a hold is in force on it.
    pub held: bool,
    /// Whether what it needs is locked at its place.
    pub locked: bool,
}

/// Why a point stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is the newest; that one always stays.
    Newest,
    /// A hold is in force on it.
    Held,
    /// What it needs is locked at its place, and could not be removed.
    Locked,
    /// It is one of the last.
    Last,
    /// Its cut is recent enough.
    Within,
    /// It is the last of its period.
    #[serde(untagged)]
    Period(Period),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Held => f.write_str("held"),
            Self::Locked => f.write_str("locked"),
            Self::Last => f.write_str("last"),
            Self::Within => f.write_str("within"),
            Self::Period(period) => period.fmt(f),
        }
    }
}

/// What becomes of a point: it stays for all these reasons, or goes where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The point.
    pub seq: LogSeq,
    /// Sorted; empty means that it goes.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// Whether the point stays.
    pub fn stays(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// The policy has no rule that keeps anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the retention policy keeps nothing")]
pub struct KeepsNothing;

impl RetentionPolicy {
    /// Whether no rule keeps anything.
    pub fn keeps_nothing(&self) -> bool {
        self.last == 0
            && self.periods.values().all(|n| *n == 0)
            && self.within.is_none_or(|d| d.is_negative())
    }

    /// A verdict for every point, oldest first. Of points of one number the first counts.
    ///
    /// # Errors
    /// [`KeepsNothing`]: without a rule, nothing is judged.
    pub fn judge(&self, points: &[Candidate], now: Timestamp) -> Result<Vec<Verdict>, KeepsNothing> {
        if self.keeps_nothing() {
            return Err(KeepsNothing);
        }
        let mut points = points.to_vec();
        points.sort_by_key(|p| p.seq);
        points.dedup_by_key(|p| p.seq);
        let mut reasons: BTreeMap<LogSeq, Vec<Reason>> = points.iter().map(|p| (p.seq, vec![])).collect();
        let mut keep = |seq: LogSeq, reason: Reason| {
            reasons.entry(seq).or_default().push(reason);
        };
        points.iter().next_back().into_iter().for_each(|p| keep(p.seq, Reason::Newest));
        points.iter().filter(|p| p.held).for_each(|p| keep(p.seq, Reason::Held));
        points.iter().filter(|p| p.locked).for_each(|p| keep(p.seq, Reason::Locked));
        points.iter().rev().take(self.last as usize).for_each(|p| keep(p.seq, Reason::Last));
        if let (Some(within), Some(newest)) = (self.within, points.iter().map(|p| p.cut).max()) {
            // A point from the future must not make all others old, nor may a clock that runs ahead.
            let from = newest.min(now).checked_sub(within).unwrap_or(Timestamp::MIN);
            points.iter().filter(|p| p.cut >= from).for_each(|p| keep(p.seq, Reason::Within));
        }
        for (period, count) in &self.periods {
            let mut last_of: BTreeMap<(Date, i8), &Candidate> = BTreeMap::new();
            for point in &points {
                let last = last_of.entry(period.start(point.cut)).or_insert(point);
                if (last.cut, last.seq) < (point.cut, point.seq) {
                    *last = point;
                }
            }
            for point in last_of.values().rev().take(*count as usize) {
                keep(point.seq, Reason::Period(*period));
            }
        }
        Ok(reasons
            .into_iter()
            .map(|(seq, mut reasons)| {
                reasons.sort_unstable();
                Verdict { seq, reasons }
            })
            .collect())
    }
}

impl fmt::Display for RetentionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules = vec![];
        if self.last > 0 {
            rules.push(format!("last {}", self.last));
        }
        rules.extend(self.periods.iter().filter(|(_, n)| **n > 0).map(|(p, n)| format!("{p} {n}")));
        if let Some(within) = self.within {
            rules.push(format!("within {within:#}"));
        }
        f.write_str(&if rules.is_empty() { "nothing".to_owned() } else { rules.join(", ") })
    }
}

/// Reads a duration such as `36h`, `30d`, `2w` or `1d12h`: whole numbers with `s`, `m` (minutes), `h`, `d`, `w` or `y` (365 days).
///
/// # Errors
/// A sentence that says what a duration is.
pub fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    let refuse = || "it is a duration such as 36h, 30d, 2w or 1d12h".to_owned();
    let mut seconds: i64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().map_err(|_| refuse())?;
        let unit = rest[digits..].chars().next().ok_or_else(refuse)?;
        let of_unit = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            'y' => 31_536_000,
            _ => return Err(refuse()),
        };
        let more = number.checked_mul(of_unit).and_then(|more| seconds.checked_add(more));
        seconds = more.filter(|s| *s <= 1000 * 366 * 86_400).ok_or("it is longer than a thousand years")?;
        rest = &rest[digits + unit.len_utf8()..];
    }
    Ok(SignedDuration::from_secs(seconds))
}
