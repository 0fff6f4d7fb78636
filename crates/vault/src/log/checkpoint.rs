//! Checkpoints: the log's first records together in one object, so that opening a vault need not read one object for
//! each thing that ever happened to it.
//!
//! A checkpoint proves nothing and is not needed: its records are hashed as they are read, their chain must hold, and
//! the record that follows them must stand in the log and name the last of them. Otherwise the log is read without
//! it. Damage to the records that it stands for is found by a check, which reads them all.

use super::line::{LogLine, NO_PREVIOUS};
use super::state::Log;
use crate::vault::Vault;
use crate::{Result, VaultError, layout};
use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_model::{Hash256, LogSeq};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};

/// Records after a checkpoint before the next one is written; later, an eighth of those that it holds.
const SPACING: u64 = 256;
/// Stored bytes of one checkpoint at most: it is held in memory.
const BYTES_MAX: usize = 256 << 20;
/// Bytes of one record at most, as a reader of checkpoints accepts it.
const RECORD_MAX: u64 = 256 << 20;
const ZSTD_LEVEL: i32 = 3;

/// Whether a checkpoint is due at `head` when the newest one holds the records up to `last`.
fn is_due(head: LogSeq, last: Option<LogSeq>) -> bool {
    let last = last.map_or(0, |seq| seq.0);
    head.0.saturating_sub(last) >= SPACING.max(last / 8)
}

/// The records of the newest checkpoint but its last, which the caller reads from the log: it names the one before.
/// Empty where there is none that can be used.
pub(super) async fn read(vault: &Vault) -> Vec<LogLine> {
    let newest = match standing(vault).await {
        Ok(standing) => standing.into_keys().max(),
        Err(e) => {
            tracing::warn!(vault = %vault.url(), error = %e, "checkpoints of the log could not be listed");
            None
        }
    };
    let Some((seq, stored)) = newest else { return vec![] };
    let name = layout::checkpoint(seq, stored);
    let lines = match vault.target().get(&name).await {
        Ok(bytes) => {
            let vault = vault.clone();
            let decoded = tokio::task::spawn_blocking(move || decode(&vault, seq, stored, &bytes)).await;
            decoded.unwrap_or_else(|e| Err(e.to_string()))
        }
        Err(e) => Err(e.to_string()),
    };
    lines.unwrap_or_else(|reason| {
        let path = vault.target().full(&name);
        tracing::warn!(object = %path, %reason, "a checkpoint is not used; the log is read without it");
        vec![]
    })
}

/// Bytes of records that are decoded at once.
const BATCH: usize = 16 << 20;

/// The records of a checkpoint up to the one before `newest`, chained.
fn decode(vault: &Vault, newest: LogSeq, stored: Hash256, bytes: &[u8]) -> Result<Vec<LogLine>, String> {
    if Hash256::of(bytes) != stored {
        return Err("its bytes are not those that its name states".into());
    }
    let mut lines: Vec<LogLine> = vec![];
    let (mut batch, mut size) = (vec![], 0);
    each_record(bytes, |seq, bytes| {
        if seq < newest {
            // Empty lines cost memory as well.
            size += bytes.len() + size_of::<(LogSeq, Vec<u8>)>();
            batch.push((seq, bytes.to_vec()));
        }
        if size >= BATCH {
            size = 0;
            lines.extend(decode_batch(vault, std::mem::take(&mut batch))?);
        }
        Ok(())
    })?;
    lines.extend(decode_batch(vault, batch)?);
    let mut prev = NO_PREVIOUS;
    for line in &lines {
        if line.prev != prev {
            return Err(format!("record {} does not follow the one before it", line.seq));
        }
        prev = line.stored;
    }
    match lines.last().map_or(0, |l| l.seq.0) + 1 == newest.0 {
        true => Ok(lines),
        false => Err("records are missing from it".into()),
    }
}

/// Decodes records on all cores, in order.
fn decode_batch(vault: &Vault, records: Vec<(LogSeq, Vec<u8>)>) -> Result<Vec<LogLine>, String> {
    let one = |(seq, bytes): &(LogSeq, Vec<u8>)| {
        let path = vault.target().full(&layout::log_record(*seq));
        LogLine::decode(&path, vault.id(), *seq, bytes).map_err(|e| e.to_string())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = records.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let decoding: Vec<_> = records
            .chunks(share)
            .map(|chunk| scope.spawn(move || chunk.iter().map(one).collect::<Result<Vec<_>, _>>()))
            .collect();
        let mut lines = vec![];
        for part in decoding {
            lines.extend(part.join().map_err(|_| "its decoder gave up on it")??);
        }
        Ok(lines)
    })
}

/// Gives the stored bytes of each record in turn.
fn each_record(
    stored: &[u8],
    mut see: impl FnMut(LogSeq, &[u8]) -> Result<(), String>,
) -> Result<u64, String> {
    let mut reader = BufReader::new(zstd::stream::Decoder::new(stored).map_err(|e| e.to_string())?);
    let (mut line, mut count) = (vec![], 0);
    loop {
        line.clear();
        let read = std::io::Read::take(&mut reader, RECORD_MAX).read_until(b'\n', &mut line);
        match read.map_err(|e| e.to_string())? {
            0 => return Ok(count),
            _ if line.last() != Some(&b'\n') => return Err("it ends within a record".into()),
            _ => {
                count += 1;
                see(LogSeq(count), &line)?;
            }
        }
    }
}

/// The checkpoints that stand, as their names tell, with their sizes.
async fn standing(vault: &Vault) -> Result<BTreeMap<(LogSeq, Hash256), u64>> {
    let listing = vault.target().list_stream(layout::CHECKPOINTS);
    let found = listing.try_filter_map(|object| async move {
        Ok(layout::checkpoint_of(&object.path).map(|found| (found, object.bytes)))
    });
    Ok(found.try_collect().await?)
}

/// Whether a checkpoint up to `head` would be too large, as far as the last one tells, which holds `records` in `bytes`.
fn would_not_fit(head: LogSeq, records: LogSeq, bytes: u64) -> bool {
    u128::from(bytes) * u128::from(head.0) > BYTES_MAX as u128 * u128::from(records.0.max(1))
}

impl Vault {
    /// Writes a checkpoint up to the head of `log` when one is due, and deletes those before the last. Whatever goes
    /// wrong is no error: the next commit tries again.
    pub(crate) async fn checkpoint_if_due(&self, log: &Log) {
        // A log this short has none, and needs none.
        let Some((head, _)) = log.head().filter(|(seq, _)| is_due(*seq, None)) else { return };
        if let Err(e) = self.checkpoint(log, head).await {
            tracing::warn!(vault = %self.url(), error = %e, "a checkpoint of the log was not written");
        }
    }

    async fn checkpoint(&self, log: &Log, head: LogSeq) -> Result<()> {
        let standing = standing(self).await?;
        let last = standing.iter().rfind(|((seq, _), _)| *seq <= head).map(|(last, bytes)| (*last, *bytes));
        // Also where it does not fit: else each commit from then on would do all of the work for nothing.
        if !is_due(head, last.map(|((seq, _), _)| seq))
            || last.is_some_and(|((seq, _), bytes)| would_not_fit(head, seq, bytes))
        {
            return Ok(());
        }
        let last = last.map(|(last, _)| last);
        let lines: Vec<Hash256> = log.lines().map(|l| l.stored).collect();
        let Some(bytes) = self.checkpoint_bytes(last, head, lines).await? else { return Ok(()) };
        self.target().put_new(&layout::checkpoint(head, Hash256::of(&bytes)), bytes).await?;
        // A reader may have listed the last one just now.
        for (seq, stored) in standing.into_keys().filter(|found| Some(*found) < last) {
            self.target().delete(&layout::checkpoint(seq, stored)).await?;
        }
        Ok(())
    }

    /// The last checkpoint and the records after it; none when it would grow too large.
    async fn checkpoint_bytes(
        &self,
        last: Option<(LogSeq, Hash256)>,
        head: LogSeq,
        lines: Vec<Hash256>,
    ) -> Result<Option<Bytes>> {
        let (mut bytes, mut from) = (vec![], LogSeq(1));
        if let Some((last, stored)) = last {
            let before = self.target().get(&layout::checkpoint(last, stored)).await?;
            // One that is damaged is replaced from the records.
            if holds(&before, last, stored, &lines) {
                (bytes, from) = (before.into(), last.next());
            }
        }
        let failed = |e: std::io::Error| VaultError::Record { reason: e.to_string() };
        let mut frame = zstd::stream::Encoder::new(bytes, ZSTD_LEVEL).map_err(failed)?;
        let mut records = futures::stream::iter((from.0..=head.0).map(LogSeq))
            .map(|seq| async move { (seq, self.target().get(&layout::log_record(seq)).await) })
            .buffered(self.environment().parallel);
        while let Some((seq, record)) = records.next().await {
            let record = record?;
            if Some(&Hash256::of(&record)) != lines.get(seq.0 as usize - 1) {
                let path = self.target().full(&layout::log_record(seq));
                return Err(VaultError::damaged(path, "it is not the record that was read before"));
            }
            frame.write_all(&record).map_err(failed)?;
            if frame.get_ref().len() > BYTES_MAX {
                return Ok(None);
            }
        }
        Ok(Some(frame.finish().map_err(failed)?.into()))
    }

    /// Compares every checkpoint with the log; those that differ, each with what is wrong.
    pub(crate) async fn wrong_checkpoints(&self, log: &Log) -> Result<Vec<(String, String)>> {
        let standing = standing(self).await?;
        let is_ahead = |(seq, _): &(LogSeq, Hash256)| log.head().is_none_or(|(head, _)| head < *seq);
        let newer = match standing.keys().any(is_ahead) {
            // Commits beside this one wrote it. Where the log cannot be read, that has been said.
            true => self.log().await.ok(),
            false => None,
        };
        let lines: Vec<Hash256> = newer.as_ref().unwrap_or(log).lines().map(|l| l.stored).collect();
        let mut wrong = vec![];
        for (seq, stored) in standing.into_keys() {
            let name = layout::checkpoint(seq, stored);
            match self.target().get(&name).await {
                Ok(bytes) if holds(&bytes, seq, stored, &lines) => {}
                Ok(_) => {
                    wrong.push((name, "it does not hold the records of the log; it may be deleted".into()))
                }
                // A commit beside this one replaced it.
                Err(e) if e.is_not_found() => {}
                Err(e) => wrong.push((name, e.to_string())),
            }
        }
        Ok(wrong)
    }
}

/// Whether a checkpoint has the bytes that its name states, and holds exactly the records up to `last`.
fn holds(bytes: &[u8], last: LogSeq, stored: Hash256, lines: &[Hash256]) -> bool {
    let compared = each_record(bytes, |seq, record| {
        match seq <= last && lines.get(seq.0 as usize - 1) == Some(&Hash256::of(record)) {
            true => Ok(()),
            false => Err(String::new()),
        }
    });
    Hash256::of(bytes) == stored && compared == Ok(last.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_written_more_seldom_as_the_log_grows() {
        let (mut last, mut written) = (None, 0);
        for head in (1..=20_000).map(LogSeq) {
            if is_due(head, last) {
                (last, written) = (Some(head), written + 1);
            }
        }
        assert!((20..40).contains(&written), "{written}");
        assert!(!is_due(LogSeq(255), None) && is_due(LogSeq(256), None));
        assert!(!is_due(LogSeq(10), Some(LogSeq(300))));
    }

    #[test]
    fn what_would_not_fit_is_not_tried_at_every_commit() {
        let most = BYTES_MAX as u64;
        assert!(!would_not_fit(LogSeq(1000), LogSeq(900), most / 2));
        assert!(would_not_fit(LogSeq(1000), LogSeq(900), most));
        assert!(would_not_fit(LogSeq(u64::MAX), LogSeq(1), u64::MAX));
    }

    #[test]
    fn records_come_out_of_any_number_of_frames_and_half_a_record_is_an_error() {
        let frame = |text: &str| zstd::bulk::compress(text.as_bytes(), 1).expect("text");
        let stored = [frame("a\nb\n"), frame("c\n")].concat();
        let mut seen = vec![];
        let count = each_record(&stored, |seq, bytes| {
            seen.push((seq.0, bytes.to_vec()));
            Ok(())
        });
        assert_eq!(count, Ok(3));
        assert_eq!(seen, [(1, b"a\n".to_vec()), (2, b"b\n".to_vec()), (3, b"c\n".to_vec())]);
        assert!(each_record(&frame("a\nb"), |_, _| Ok(())).is_err());
        assert!(each_record(&stored[..stored.len() - 2], |_, _| Ok(())).is_err());
        assert!(each_record(b"no frame at all", |_, _| Ok(())).is_err());
    }
}
