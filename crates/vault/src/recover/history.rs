//! Which of the records that a place keeps are the vault's log.
//!
//! A version of a record may be of a vault that stood there before, damaged, or forged. Those that are whole and of this vault
//! hang on each other by the hash of the record before; where two of one number hang on the same, only somebody who remembers
//! one of them can tell, and nothing is changed.

use super::Recovery;
use crate::error::VaultError;
use crate::log::{LogLine, NO_PREVIOUS};
use crate::{Result, layout};
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_model::{Hash256, LogSeq, VaultId};
use std::collections::{BTreeMap, BTreeSet};

/// One record of the log.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub seq: LogSeq,
    pub prev: Hash256,
    pub stored: Hash256,
    /// Key files that it names.
    pub keys: Vec<(u64, Hash256)>,
    /// The name and the version that hold it.
    version: (String, String),
}

/// Records by number and hash.
type Records = BTreeMap<LogSeq, BTreeMap<Hash256, Record>>;

impl Recovery<'_> {
    /// Brings back both copies of every record of the vault, and returns the records in order.
    pub(super) async fn history(
        &mut self,
        vault: &VaultId,
        head: Option<(LogSeq, Hash256)>,
    ) -> Result<Vec<Record>> {
        let (records, live) = self.kept_records(vault).await?;
        let chosen = choose(records, head).map_err(|heads| VaultError::TwoHistories {
            url: self.target.url().to_owned(),
            heads: heads.iter().map(|(seq, hash)| format!("{seq}:{hash}")).collect::<Vec<_>>().join(" and "),
        })?;
        for record in &chosen {
            for name in [layout::log_record(record.seq), layout::log_copy(record.seq)] {
                if live.get(&name) != Some(&record.stored) {
                    let (source, version) = &record.version;
                    let bytes = self.target.get_version(source, version).await?;
                    self.put(&name, bytes).await?;
                }
            }
        }
        let last = chosen.last().map(|r| r.seq);
        // What goes on from another history would be read as the newest.
        for name in live.keys().filter(|name| layout::record_number(name) > last) {
            tracing::warn!(object = %self.target.full(name), "a record of another history is put aside");
            self.target.delete(name).await?;
        }
        Ok(chosen)
    }

    /// All whole records of the vault, and the hashes of those that readers get, by name.
    async fn kept_records(&self, vault: &VaultId) -> Result<(Records, BTreeMap<String, Hash256>)> {
        let mut kept = vec![];
        for folder in [layout::LOG, layout::LOG_COPY] {
            let versions = self.target.versions(&format!("{folder}/")).await?;
            kept.extend(versions.into_iter().filter_map(|k| Some((layout::record_number(&k.0)?, k))));
        }
        let mut read = futures::stream::iter(kept)
            .map(|(seq, kept)| async move {
                let bytes = self.read(&kept).await?;
                let line = bytes.and_then(|b| LogLine::decode(&kept.0, vault, seq, &b).ok());
                Ok::<_, VaultError>(line.map(|line| (line, kept)))
            })
            .buffer_unordered(self.parallel);
        let (mut records, mut live) = (Records::new(), BTreeMap::new());
        while let Some(found) = read.try_next().await? {
            let Some((line, (name, version))) = found else { continue };
            if version.latest {
                live.insert(name.clone(), line.stored);
            }
            let record = Record {
                seq: line.seq,
                prev: line.prev,
                stored: line.stored,
                keys: line.keys().collect(),
                version: (name, version.id),
            };
            records.entry(line.seq).or_default().insert(line.stored, record);
        }
        Ok((records, live))
    }
}

/// One record for each number, each after the one before it. An error names the newest records of the histories that fit.
fn choose(
    mut records: Records,
    head: Option<(LogSeq, Hash256)>,
) -> Result<Vec<Record>, Vec<(LogSeq, Hash256)>> {
    // Of one number those count that hang on a record that counts. Where none does, the one before is lost, and all count.
    let mut before = BTreeSet::from([NO_PREVIOUS]);
    let mut next = LogSeq(1);
    for (seq, of_number) in &mut records {
        if *seq == next && of_number.values().any(|r| before.contains(&r.prev)) {
            of_number.retain(|_, r| before.contains(&r.prev));
        }
        before = of_number.keys().copied().collect();
        next = seq.next();
    }
    if records.values().all(|of_number| of_number.len() == 1) {
        return Ok(records.into_values().flat_map(BTreeMap::into_values).collect());
    }
    let heads = || {
        let follows = |r: &Record| {
            records.get(&r.seq.next()).is_some_and(|next| next.values().any(|n| n.prev == r.stored))
        };
        let all = records.values().skip_while(|of_number| of_number.len() == 1);
        all.flat_map(|n| n.values()).filter(|r| !follows(r)).map(|r| (r.seq, r.stored)).collect()
    };
    let seen = head.and_then(|(seq, stored)| records.get(&seq)?.get(&stored));
    let Some(seen) = seen else { return Err(heads()) };
    let mut chosen = vec![seen.clone()];
    for (_, of_number) in records.range(..seen.seq).rev() {
        let above = chosen.last().map_or(seen.prev, |r| r.prev);
        match (of_number.get(&above), of_number.len()) {
            (Some(record), _) => chosen.push(record.clone()),
            (None, 1) => chosen.extend(of_number.values().cloned()),
            (None, _) => return Err(heads()),
        }
    }
    chosen.reverse();
    for (_, of_number) in records.range(seen.seq.next()..) {
        let last = chosen.last().map(|r| (r.seq.next(), r.stored));
        let mut after = of_number.values().filter(|r| Some((r.seq, r.prev)) == last);
        match (after.next(), after.next()) {
            (Some(record), None) => chosen.push(record.clone()),
            (None, _) => break,
            _ => return Err(heads()),
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Chosen = Result<Vec<(u64, Hash256)>, Vec<(LogSeq, Hash256)>>;

    /// Records as `number, name of this, name of the one before`.
    fn chosen(records: &[(u64, &str, &str)], head: Option<(u64, &str)>) -> Chosen {
        let hash = |name: &str| if name.is_empty() { NO_PREVIOUS } else { Hash256::of(name.as_bytes()) };
        let mut all = Records::new();
        for (seq, stored, prev) in records {
            let (seq, stored, prev) = (LogSeq(*seq), hash(stored), hash(prev));
            let record = Record { seq, prev, stored, keys: vec![], version: Default::default() };
            all.entry(seq).or_default().insert(stored, record);
        }
        let chosen = choose(all, head.map(|(seq, name)| (LogSeq(seq), hash(name))))?;
        Ok(chosen.into_iter().map(|r| (r.seq.0, r.stored)).collect())
    }

    fn names(names: &[&str]) -> Vec<(u64, Hash256)> {
        (1..).zip(names.iter().map(|n| Hash256::of(n.as_bytes()))).collect()
    }

    #[test]
    fn a_record_that_hangs_on_nothing_gives_way_to_one_that_does() {
        let found = [(1, "a", ""), (1, "x", "y"), (2, "b", "a"), (2, "z", "x"), (3, "c", "b")];
        assert_eq!(chosen(&found, None), Ok(names(&["a", "b", "c"])));
    }

    #[test]
    fn of_two_histories_the_one_that_was_seen_counts_and_without_it_none() {
        let found = [(1, "a", ""), (2, "b", "a"), (2, "B", "a"), (3, "C", "B"), (3, "c", "b"), (4, "D", "C")];
        assert_eq!(chosen(&found, None).unwrap_err().len(), 2);
        assert_eq!(chosen(&found, Some((2, "b"))), Ok(names(&["a", "b", "c"])));
        assert_eq!(chosen(&found, Some((4, "D"))), Ok(names(&["a", "B", "C", "D"])));
        assert_eq!(chosen(&found, Some((1, "a"))).unwrap_err().len(), 2);
        assert_eq!(chosen(&found, Some((2, "nothing"))).unwrap_err().len(), 2);
    }

    #[test]
    fn what_follows_a_lost_record_stays() {
        let found = [(1, "a", ""), (3, "c", "b"), (4, "d", "c")];
        let expected = names(&["a", "b", "c", "d"]);
        assert_eq!(chosen(&found, None), Ok([&expected[..1], &expected[2..]].concat()));
    }
}
