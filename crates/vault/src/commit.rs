//! The commit: one create-if-absent of the next log record.
//!
//! Before it nothing is visible, after it all is. Who finds the number taken reads what the rival wrote, lets its own
//! records be looked at again, stores anew whatever the rival condemned, and tries the next number. A lost answer is
//! no rival: the record that stands there is then ours, byte for byte.

use crate::error::VaultError;
use crate::keys::FIRST_GENERATION;
use crate::lock::Locking;
use crate::log::{AsOf, Log, LogLine, NO_PREVIOUS, NewLine, authenticate};
use crate::marker::FORMAT;
use crate::vault::Vault;
use crate::{Result, layout, salt};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use keepfast_format::{Manifest, ManifestKind, SegmentEntry};
use keepfast_keys::Keyring;
use keepfast_model::{BackupPoint, ByteCount, Encryption, Hash256, LogSeq, ManifestRef, PointId, Record};
use keepfast_objects::{ObjectsError, Put};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// An object that a run wrote, relative to the vault.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NewObject {
    /// Its path.
    pub path: String,
    /// Its stored size.
    pub bytes: ByteCount,
}

/// Looks at records again before every try to commit them.
#[async_trait]
pub trait Revalidate: Send + Sync {
    /// The records to commit after this log; called again whenever a rival was faster.
    ///
    /// # Errors
    /// Whatever makes the records wrong after `log`: the commit ends with it, and nothing is visible.
    async fn revalidate(&self, log: &Log, records: Vec<Record>) -> Result<Vec<Record>>;
}

/// Records that are right whatever happened before them.
#[async_trait]
impl Revalidate for () {
    async fn revalidate(&self, _log: &Log, records: Vec<Record>) -> Result<Vec<Record>> {
        Ok(records)
    }
}

/// Records that are right as long as a point is the newest of its backup: what was made from it would otherwise hide
/// what is newer.
#[derive(Clone, Debug)]
pub struct StillNewest(pub PointId);

#[async_trait]
impl Revalidate for StillNewest {
    async fn revalidate(&self, log: &Log, records: Vec<Record>) -> Result<Vec<Record>> {
        let newest = log.resolve(&self.0.backup, AsOf::Latest)?;
        if newest.seq() == self.0.seq {
            return Ok(records);
        }
        Err(VaultError::Superseded { base: self.0.to_string(), newest: newest.id().to_string() })
    }
}

/// Tries to create one record, after which a place is not asked again whether it shows the record that it refuses.
const TRIES: u32 = 16;

/// Notices that the log does not grow, although its next number is taken: listings that are old or that lie.
#[derive(Default)]
struct Tries {
    head: Option<LogSeq>,
    without_progress: u32,
}

impl Tries {
    /// Counts a try; an error is the number that is taken and not shown.
    fn next(&mut self, log: &Log) -> Result<(), LogSeq> {
        let head = log.head().map(|(seq, _)| seq);
        self.without_progress = if self.head == head { self.without_progress + 1 } else { 0 };
        self.head = head;
        match self.without_progress > TRIES {
            true => Err(head.map_or(LogSeq(1), LogSeq::next)),
            false => Ok(()),
        }
    }
}

/// Objects of one folder up to which each is asked for alone, and above which the folder is listed.
const ASK_UP_TO: usize = 32;

impl Vault {
    /// Makes records visible, all at once, and returns their number. At most one of them is a restore point.
    ///
    /// `written` are the objects that the caller wrote for it; they are made durable and compared by size before the
    /// commit and again after it. Then the record and its copy are read back.
    ///
    /// # Errors
    /// [`VaultError::Unconfirmed`] means that the record stands; after [`VaultError::Objects`] with a lost connection
    /// it may stand. After any other error it does not, and nothing is visible.
    pub async fn commit(
        &self,
        records: Vec<Record>,
        written: &[NewObject],
        check: &dyn Revalidate,
    ) -> Result<LogSeq> {
        self.commit_under(records, written, check, None, false).await
    }

    /// As [`Self::commit`], of records that bring new keys.
    pub(crate) async fn commit_with_keys(
        &self,
        records: Vec<Record>,
        check: &dyn Revalidate,
        keyring: Arc<Keyring>,
    ) -> Result<LogSeq> {
        self.commit_under(records, &[], check, Some(keyring), false).await
    }

    /// As [`Self::commit`], of records that stand under a number because of what else stands under theirs; there may be none.
    pub(crate) async fn commit_numbered(
        &self,
        records: Vec<Record>,
        written: &[NewObject],
        check: &dyn Revalidate,
        new_keys: Option<Arc<Keyring>>,
    ) -> Result<LogSeq> {
        self.commit_under(records, written, check, new_keys, true).await
    }

    async fn commit_under(
        &self,
        records: Vec<Record>,
        written: &[NewObject],
        check: &dyn Revalidate,
        new_keys: Option<Arc<Keyring>>,
        may_be_empty: bool,
    ) -> Result<LogSeq> {
        let mut records = records;
        let mut written: Vec<NewObject> = written.to_vec();
        self.target().sync().await?;
        self.compare_sizes(&written).await?;
        self.read_back(&records, &written).await?;
        let mut tries = Tries::default();
        let (line, bytes, locking) = loop {
            let log = self.log().await?;
            tries
                .next(&log)
                .map_err(|seq| VaultError::Unlisted { path: self.target().full(&layout::log_record(seq)) })?;
            records = check.revalidate(&log, records).await?;
            if !(may_be_empty && records.is_empty()) {
                refuse_contradictions(&records)?;
            }
            if log.condemns() {
                // What was condemned may be deleted at any time; the point will not name it.
                written.retain(|object| !log.is_condemned(&object.path));
                let compared = written.len();
                self.store_condemned_anew(&log, &mut records, &mut written).await?;
                self.compare_sizes(&written[compared..]).await?;
            }
            let locking = self.locking_of(&log, &records).await?;
            // A point says that it is locked where this commit has locked what it needs, and nowhere else.
            points_of(&mut records).for_each(|point| point.lock = None);
            if let Some(locking) = locking {
                self.lock_needs(locking, &log, &mut records).await?;
            }
            let mut all = records.clone();
            if !log.keys().contains_key(&FIRST_GENERATION) {
                all.insert(0, Record::Keys { generation: FIRST_GENERATION, stored: self.keys_stored() });
            }
            let (seq, prev) = log.head().map_or((LogSeq(1), NO_PREVIOUS), |(seq, hash)| (seq.next(), hash));
            let at = self.environment().clock.now();
            let keyring = match &new_keys {
                Some(new) => Some(new.clone()),
                None => self.open_keys()?,
            };
            authenticate::check_keys(keyring.as_deref(), &log, &all)?;
            let random = self.environment().random.as_ref();
            let closed = authenticate::close(keyring.as_deref(), &all, random)?;
            let mut line =
                NewLine { format: FORMAT, vault: self.id(), seq, prev, at, records: &closed, auth: None };
            let body = line.body()?;
            let known = log.keys().keys().next_back().copied();
            line.auth = keyring.as_deref().and_then(|keyring| {
                authenticate::code(keyring, authenticate::auth_generation(keyring, known, &all)?, body)
            });
            let bytes = line.encode()?;
            if self.create_record(seq, &bytes).await? {
                let (stored, size, auth) = (Hash256::of(&bytes), bytes.len() as u64, line.auth);
                let line = LogLine { seq, prev, at, records: all, auth, body, stored, bytes: size };
                break (line, bytes, locking);
            }
        };
        let seq = line.seq;
        if let Some(log) = self.cached_log().filter(|log| log.head().map_or(1, |(n, _)| n.0 + 1) == seq.0) {
            self.keep_log(&log.followed_by(vec![line]));
        } else if seq == LogSeq(1) {
            self.keep_log(&Log::empty(self.url()).followed_by(vec![line]));
        }
        let confirmed = match self.confirm(seq, &bytes, &written).await {
            Ok(()) => self.lock_committed(locking, seq).await,
            Err(e) => Err(e),
        };
        match confirmed {
            Ok(()) => {
                if let Some(log) = self.cached_log() {
                    self.checkpoint_if_due(&log).await;
                }
                Ok(seq)
            }
            Err((path, source)) => Err(VaultError::Unconfirmed { seq, path, source: source.into() }),
        }
    }

    /// Creates a record. False when a rival's stands there.
    async fn create_record(&self, seq: LogSeq, bytes: &Bytes) -> Result<bool> {
        let name = layout::log_record(seq);
        match self.target().put_new(&name, bytes.clone()).await {
            Ok(put) => Ok(put == Put::Created),
            // The request may have arrived all the same.
            Err(e @ ObjectsError::Unavailable { .. }) => match self.target().get(&name).await {
                Ok(found) => Ok(found == *bytes),
                Err(_) => Err(e.into()),
            },
            Err(e) => Err(e.into()),
        }
    }

    /// Writes the record's copy, reads both back, and compares what was written.
    async fn confirm(
        &self,
        seq: LogSeq,
        bytes: &Bytes,
        written: &[NewObject],
    ) -> Result<(), (String, VaultError)> {
        let at = |name: &str, e: ObjectsError| (self.target().full(name), VaultError::from(e));
        let copy = layout::log_copy(seq);
        self.target().put_new(&copy, bytes.clone()).await.map_err(|e| at(&copy, e))?;
        for name in [layout::log_record(seq), copy] {
            let found = self.target().get(&name).await.map_err(|e| at(&name, e))?;
            if found != *bytes {
                let path = self.target().full(&name);
                return Err((path.clone(), VaultError::damaged(path, "it is not what was just written")));
            }
        }
        let mut compared = self.compare_sizes(written).await;
        if let Err(VaultError::Incomplete { .. }) = compared {
            // A rival may have dropped the point since, and deleted its objects.
            let log = self.log().await.map_err(|e| (self.url().to_owned(), e))?;
            let standing: Vec<NewObject> =
                written.iter().filter(|o| !log.is_condemned(&o.path)).cloned().collect();
            compared = self.compare_sizes(&standing).await;
        }
        compared.map_err(|e| match e {
            VaultError::Incomplete { ref path, .. } => (path.clone(), e),
            e => (self.url().to_owned(), e),
        })
    }

    /// Locks a record that stands.
    async fn lock_committed(
        &self,
        locking: Option<Locking>,
        seq: LogSeq,
    ) -> Result<(), (String, VaultError)> {
        match locking {
            Some(locking) => self.lock_record(locking, seq).await.map_err(|e| (self.url().to_owned(), e)),
            None => Ok(()),
        }
    }

    /// Refuses objects that are missing or have another size.
    async fn compare_sizes(&self, written: &[NewObject]) -> Result<()> {
        let mut folders: BTreeMap<&str, Vec<&NewObject>> = BTreeMap::new();
        for object in written {
            let folder = object.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            folders.entry(folder).or_default().push(object);
        }
        let mut wrong = vec![];
        for (folder, objects) in folders {
            if objects.len() > ASK_UP_TO {
                let mut sizes = HashMap::new();
                let mut listing = self.target().list_stream(folder);
                while let Some(found) = listing.try_next().await? {
                    sizes.insert(found.path, found.bytes);
                }
                wrong.extend(
                    objects.iter().filter(|o| sizes.get(&o.path) != Some(&o.bytes.0)).map(|o| &o.path),
                );
                continue;
            }
            let paths: Vec<String> = objects.iter().map(|o| o.path.clone()).collect();
            let sizes: Vec<_> = futures::stream::iter(paths)
                .map(|path| async move { self.target().size(&path).await })
                .buffered(self.environment().parallel)
                .try_collect()
                .await?;
            wrong.extend(
                objects.iter().zip(sizes).filter(|(o, n)| *n != Some(o.bytes.0)).map(|(o, _)| &o.path),
            );
        }
        match wrong.first() {
            None => Ok(()),
            Some(path) => Err(VaultError::Incomplete {
                path: self.target().full(path),
                wrong: wrong.len(),
                total: written.len(),
            }),
        }
    }

    /// Stores every condemned object that a new point names under another name, and lets the point name that.
    async fn store_condemned_anew(
        &self,
        log: &Log,
        records: &mut [Record],
        written: &mut Vec<NewObject>,
    ) -> Result<()> {
        for record in records {
            let Record::Point(point) = record else { continue };
            for table in &mut point.tables {
                let mut new_bytes = 0;
                let changes = table.changes.iter_mut().map(|c| &mut c.manifest);
                for reference in table.base.iter_mut().chain(changes) {
                    if let Some(anew) =
                        self.manifest_anew(log, reference, &table.encryption, written, &mut new_bytes).await?
                    {
                        *reference = anew;
                    }
                }
                table.bytes_new += ByteCount(new_bytes);
            }
        }
        self.target().sync().await?;
        Ok(())
    }

    /// A manifest that names no condemned object and is none; none where that is so already.
    async fn manifest_anew(
        &self,
        log: &Log,
        reference: &ManifestRef,
        encryption: &Encryption,
        written: &mut Vec<NewObject>,
        new_bytes: &mut u64,
    ) -> Result<Option<ManifestRef>> {
        let condemned = log.is_condemned(&layout::manifest(reference.id));
        let mut manifest = self.read_manifest_if_there(reference).await.map_err(|e| self.pruned(e))?;
        let (mut changed, first) = (condemned, written.len());
        let Manifest { kind, table, segments, .. } = &mut manifest;
        for entry in segments {
            let name = |e: &SegmentEntry| match kind {
                ManifestKind::Segments => layout::segment(table, e),
                ManifestKind::Changes => layout::change_segment(table, e),
            };
            let path = name(entry);
            if !log.is_condemned(&path) {
                continue;
            }
            let file = self.read_entry(&path, entry).await.map_err(|e| self.pruned(e))?;
            let file = salt::salted(&file, &self.environment().random()?)
                .ok_or_else(|| VaultError::damaged(self.target().full(&path), "it is not a Parquet file"))?;
            entry.stored = Hash256::of(&file);
            entry.bytes = ByteCount(file.len() as u64);
            *new_bytes += entry.bytes.0;
            let path = name(entry);
            self.target().put_content(&path, file).await?;
            written.push(NewObject { path, bytes: entry.bytes });
            changed = true;
        }
        changed |= self.parity_anew(log, &mut manifest, first, written, new_bytes).await?;
        if !changed {
            return Ok(None);
        }
        if condemned {
            manifest.salt = Some(self.environment().random_id()?);
        }
        let (anew, _) = self.put_manifest(&manifest, encryption).await?;
        written.push(NewObject { path: layout::manifest(anew.id), bytes: anew.bytes });
        if manifest.parity.is_some() {
            written.push(self.put_manifest_copy(&anew).await?);
        }
        Ok(Some(anew))
    }

    /// What is gone was deleted by the prune that condemned it.
    fn pruned(&self, e: VaultError) -> VaultError {
        match e {
            VaultError::Objects(ObjectsError::NotFound { path }) => VaultError::Pruned { path },
            e => e,
        }
    }
}

fn points_of(records: &mut [Record]) -> impl Iterator<Item = &mut BackupPoint> {
    records.iter_mut().filter_map(|record| match record {
        Record::Point(point) => Some(point.as_mut()),
        _ => None,
    })
}

fn refuse_contradictions(records: &[Record]) -> Result<()> {
    let refuse = |reason: String| Err(VaultError::Record { reason });
    if records.is_empty() {
        return refuse("there is nothing to record".into());
    }
    let points: Vec<&BackupPoint> = records
        .iter()
        .filter_map(|r| match r {
            Record::Point(p) => Some(p.as_ref()),
            _ => None,
        })
        .collect();
    let [point] = points.as_slice() else {
        return if points.is_empty() {
            Ok(())
        } else {
            refuse("it holds more than one restore point".into())
        };
    };
    let mut ids = HashSet::new();
    if point.tables.is_empty() {
        return refuse(format!("the restore point of '{}' has no table", point.backup));
    }
    for table in &point.tables {
        let name = &table.name;
        if !ids.insert(&table.id) {
            return refuse(format!("table '{name}' stands twice"));
        }
        if table.base.is_empty() {
            return refuse(format!("table '{name}' has no base"));
        }
        if table.certificate.rows != table.digest.rows {
            let (proven, rows) = (table.certificate.rows, table.digest.rows);
            return refuse(format!("table '{name}' has {rows} rows, and its certificate proves {proven}"));
        }
        let base: u64 = table.base.iter().map(|m| m.rows).sum();
        if table.changes.is_empty() && base != table.digest.rows {
            let rows = table.digest.rows;
            return refuse(format!("table '{name}' has {rows} rows, and its segments hold {base}"));
        }
    }
    Ok(())
}
