//! Reading the log from its two copies.
//!
//! Which copy of a record is right follows from the record after it, which names its hash. So the chain is walked
//! from the head down; the head itself is the copy whose seal holds.

use super::checkpoint;
use super::line::{LogLine, NO_PREVIOUS};
use crate::error::VaultError;
use crate::vault::Vault;
use crate::{Result, layout};
use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_model::{Hash256, LogSeq};
use std::collections::BTreeSet;

/// Something wrong in the log.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// The record.
    pub seq: LogSeq,
    /// The object, in full.
    pub path: String,
    pub missing: bool,
    pub reason: String,
    /// Whether the record cannot be read from either copy.
    pub fatal: bool,
}

/// Which copies of the newest record stand, and its bytes.
#[derive(Debug, Default)]
pub(crate) struct HeadCopies {
    pub original: bool,
    pub copy: bool,
    pub bytes: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Records that could be read, in order.
    pub lines: Vec<LogLine>,
    pub faults: Vec<Fault>,
    pub head: HeadCopies,
}

impl Reading {
    fn is_broken(&self) -> bool {
        self.faults.iter().any(|f| f.fatal)
    }
}

/// One record as it was found: each copy is absent, unreadable or readable.
struct Found {
    seq: LogSeq,
    original: Copy,
    copy: Copy,
}

enum Copy {
    NotRead,
    Missing,
    Bad(String),
    Good(LogLine, Bytes),
}

/// The records after `known`. With faults, lines may have gaps; without a fatal one they have none.
pub(crate) async fn read_after(vault: &Vault, known: Option<(LogSeq, Hash256)>) -> Result<Reading> {
    read(vault, known, false).await
}

/// All records and both copies of each: for checking.
pub(crate) async fn read_all(vault: &Vault) -> Result<Reading> {
    read(vault, None, true).await
}

async fn read(vault: &Vault, known: Option<(LogSeq, Hash256)>, both: bool) -> Result<Reading> {
    if known.is_none() && !both {
        let lines = checkpoint::read(vault).await;
        if let Some(last) = lines.last().map(|l| (l.seq, l.stored)) {
            match read_objects(vault, Some(last), both).await {
                Ok(after)
                    if after.lines.first().is_some_and(|l| l.seq == last.0.next()) && !after.is_broken() =>
                {
                    return Ok(Reading { lines: lines.into_iter().chain(after.lines).collect(), ..after });
                }
                _ => {
                    tracing::warn!(vault = %vault.url(), "a checkpoint does not fit the log, which is read without it")
                }
            }
        }
    }
    read_objects(vault, known, both).await
}

/// As [`read`], from the objects of records alone.
async fn read_objects(vault: &Vault, known: Option<(LogSeq, Hash256)>, both: bool) -> Result<Reading> {
    // Copies first: what is written meanwhile then stands in `originals` alone, as during any commit.
    let copies = numbers(vault, layout::LOG_COPY, known).await?;
    let originals = numbers(vault, layout::LOG, known).await?;
    let newest = copies.iter().chain(&originals).max().copied();
    if let Some((seq, _)) = known
        && newest.is_none_or(|n| n < seq)
    {
        let path = vault.target().full(&layout::log_record(seq));
        return Err(VaultError::damaged(path, "it was there before, and is missing"));
    }
    let first = known.map_or(LogSeq(1), |(seq, _)| seq.next());
    let Some(newest) = newest.filter(|n| *n >= first) else { return Ok(Reading::default()) };
    // A stray file with a huge number must not make us look for all numbers below it.
    let stand: BTreeSet<_> = copies.union(&originals).copied().filter(|n| *n >= first).collect();
    let found: Vec<_> = futures::stream::iter(stand.iter().copied())
        .map(|seq| fetch(vault, seq, both || seq == newest, seq == newest))
        .buffered(vault.environment().parallel.max(16))
        .try_collect()
        .await?;
    walk(vault, known, found).await
}

/// Numbers that stand in a folder, from `known` on.
async fn numbers(vault: &Vault, folder: &str, known: Option<(LogSeq, Hash256)>) -> Result<BTreeSet<LogSeq>> {
    let name = |seq: LogSeq| match folder {
        layout::LOG => layout::log_record(seq),
        _ => layout::log_copy(seq),
    };
    let listing = match known {
        Some((seq, _)) if seq.0 > 1 => vault.target().list_after(folder, &name(LogSeq(seq.0 - 1))),
        _ => vault.target().list_stream(folder),
    };
    let found = listing.try_filter_map(|object| async move {
        Ok(layout::record_number(&object.path).filter(|seq| name(*seq) == object.path))
    });
    Ok(found.try_collect().await?)
}

/// Reads the original, listed or not: it may have come after the listing. The copy only where it is needed.
async fn fetch(vault: &Vault, seq: LogSeq, both: bool, head: bool) -> Result<Found> {
    let original = get(vault, seq, &layout::log_record(seq)).await?;
    let copy = match &original {
        Copy::Good(..) if !both => Copy::NotRead,
        _ => get(vault, seq, &layout::log_copy(seq)).await?,
    };
    // Only the head's bytes may be written again; those of a long log would fill memory.
    let kept = |copy| match copy {
        Copy::Good(line, _) if !head => Copy::Good(line, Bytes::new()),
        copy => copy,
    };
    Ok(Found { seq, original: kept(original), copy: kept(copy) })
}

async fn get(vault: &Vault, seq: LogSeq, name: &str) -> Result<Copy> {
    let path = vault.target().full(name);
    let bytes = match vault.target().get(name).await {
        Ok(bytes) => bytes,
        Err(e) if e.is_not_found() => return Ok(Copy::Missing),
        Err(e) => return Err(e.into()),
    };
    match LogLine::decode(&path, vault.id(), seq, &bytes) {
        Ok(line) => Ok(Copy::Good(line, bytes)),
        Err(VaultError::Damaged { reason, .. }) => Ok(Copy::Bad(reason)),
        Err(e) => Err(e),
    }
}

/// Chooses the copy of every record that fits the chain, from the newest down.
async fn walk(vault: &Vault, known: Option<(LogSeq, Hash256)>, found: Vec<Found>) -> Result<Reading> {
    let mut reading = Reading::default();
    let full = |name: String| vault.target().full(&name);
    // The hash that the record above names, and its number.
    let mut above: Option<(LogSeq, Hash256)> = None;
    let newest = found.last().map(|f| f.seq);
    let first = known.map_or(LogSeq(1), |(seq, _)| seq.next());
    let mut gaps = vec![];
    let mut next = first;
    for record in &found {
        if record.seq > next {
            gaps.push((next, LogSeq(record.seq.0 - 1)));
        }
        next = record.seq.next();
    }
    for mut record in found.into_iter().rev() {
        let seq = record.seq;
        let wanted = above.filter(|(n, _)| *n == seq.next()).map(|(_, hash)| hash);
        let fits = |c: &Copy| match c {
            Copy::Good(line, _) => wanted.is_none_or(|hash| hash == line.stored),
            _ => false,
        };
        if !fits(&record.original) && matches!(record.copy, Copy::NotRead) {
            record.copy = get(vault, seq, &layout::log_copy(seq)).await?;
        }
        if Some(seq) == newest {
            reading.head.original = !matches!(record.original, Copy::Missing);
            reading.head.copy = !matches!(record.copy, Copy::Missing);
        }
        let usable = [fits(&record.original), fits(&record.copy)];
        let forked = match (&record.original, &record.copy) {
            (Copy::Good(a, _), Copy::Good(b, _)) => wanted.is_none() && a.stored != b.stored,
            _ => false,
        };
        let fatal = forked || usable == [false, false];
        for (state, name, other) in [
            (&record.original, layout::log_record(seq), usable[1]),
            (&record.copy, layout::log_copy(seq), usable[0]),
        ] {
            let mut fault = |missing: bool, reason: String| {
                reading.faults.push(Fault {
                    seq,
                    path: full(name.clone()),
                    missing,
                    reason,
                    fatal: fatal || !other,
                });
            };
            match state {
                Copy::NotRead => {}
                // Between the two creates of a commit, or after a crash there, the newest has one copy only.
                Copy::Missing if Some(seq) == newest && other => {}
                Copy::Missing => fault(true, "it is missing".into()),
                Copy::Bad(reason) => fault(false, reason.clone()),
                Copy::Good(..) if forked => {
                    fault(false, "it and its other copy are both whole, and differ".into());
                }
                Copy::Good(line, _) if wanted.is_some_and(|hash| hash != line.stored) => {
                    let next = seq.next();
                    fault(false, format!("it is not the record that record {next} follows"));
                }
                Copy::Good(..) => {}
            }
        }
        let chosen = match (record.original, record.copy) {
            (Copy::Good(line, bytes), _) if usable[0] => Some((line, bytes)),
            (_, Copy::Good(line, bytes)) if usable[1] => Some((line, bytes)),
            _ => None,
        };
        // Below an unreadable record the chain hangs on nothing.
        above = chosen.as_ref().map(|(line, _)| (seq, line.prev));
        if let Some((line, bytes)) = chosen {
            if Some(seq) == newest {
                reading.head.bytes = Some(bytes);
            }
            reading.lines.push(line);
        }
    }
    reading.lines.reverse();
    if let Some(line) = reading.lines.first().filter(|l| l.seq == first)
        && line.prev != known.map_or(NO_PREVIOUS, |(_, hash)| hash)
    {
        reading.faults.push(Fault {
            seq: first,
            path: full(layout::log_record(first)),
            missing: false,
            reason: match known {
                None => "it is the first record, and names one before it".into(),
                Some((n, _)) => format!("it does not follow record {n} as it was read before"),
            },
            fatal: true,
        });
    }
    for (from, to) in gaps {
        for name in [layout::log_record(from), layout::log_copy(from)] {
            let more = if from == to { String::new() } else { format!(", and so are all up to {to}") };
            let reason = format!("it is missing, and so is its other copy{more}");
            reading.faults.push(Fault { seq: from, path: full(name), missing: true, reason, fatal: true });
        }
    }
    reading.faults.sort_by(|a, b| (a.seq, &a.path).cmp(&(b.seq, &b.path)));
    Ok(reading)
}
