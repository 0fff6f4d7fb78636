//! Re-encryption: the restore points of a vault in another vault, under other keys or none.
//!
//! The other vault has an id, dedup secret, vault key and keys of tables of its own, so nothing that opens one opens the other, and no
//! identity of one is in the other. Points keep their names, numbers and times, and tables their rows, digests and certificates:
//! every file is read with the old keys, its rows are compared with what its manifest states, and encoded anew. Points are
//! committed oldest first, each whole; a call that was cut off goes on where it was, from what it staged.

mod files;
mod keys;
mod point;

use crate::check::{CheckOptions, CheckReport, Progress};
use crate::commit::Revalidate;
use crate::environment::{Clock, Environment};
use crate::error::VaultError;
use crate::keyring::KeyState;
use crate::keys::NewKeys;
use crate::log::{Hold, LineInfo, Log, Point};
use crate::vault::{CreateOptions, Vault};
use crate::{Result, layout};
use async_trait::async_trait;
use files::Known;
use jiff::Timestamp;
use keepfast_keys::{Credentials, NewRecipient};
use keepfast_model::{Encryption, Hash256, LogSeq, ManifestRef, Record, TableId, TablePoint};
use keepfast_objects::Target;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// How tables are encrypted in the other vault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewEncryption {
    /// Each as it was.
    #[default]
    AsItWas,
    /// All of them whole.
    Full,
    /// None of them.
    None,
}

impl NewEncryption {
    fn of(self, was: &Encryption) -> Encryption {
        match self {
            Self::AsItWas => was.clone(),
            Self::Full => Encryption::Full,
            Self::None => Encryption::None,
        }
    }
}

/// How a vault is re-encrypted.
#[derive(Clone, Debug)]
pub struct ReencryptOptions {
    /// Who can open the other vault, each with a name; may be empty where no table is encrypted.
    pub recipients: Vec<(String, NewRecipient)>,
    /// How its tables are encrypted, where they are not in it already.
    pub encryption: NewEncryption,
    /// What opens the other vault where an earlier call made it, besides passphrases among the recipients.
    pub credentials: Credentials,
    /// The program's name and version, kept in the vault.
    pub program: String,
}

impl Default for ReencryptOptions {
    fn default() -> Self {
        Self {
            recipients: vec![],
            encryption: NewEncryption::default(),
            credentials: Credentials::none(),
            program: CreateOptions::default().program,
        }
    }
}

/// What a re-encryption did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReencryptReport {
    /// The other vault's id.
    pub vault: String,
    /// Points committed.
    pub points: u64,
    /// Points that stood there already.
    pub kept: u64,
    /// Files encoded and written.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// The other vault, read back in all.
    pub checked: CheckReport,
    /// Tables of points that nobody can read any more, since their keys were dropped: they are not in the other vault.
    pub left_out: Vec<String>,
}

impl Vault {
    /// Makes another vault with this one's restore points, encrypted anew, or brings such a one up to date.
    ///
    /// # Errors
    /// [`VaultError::NotReencrypted`] where another vault stands, [`VaultError::Damaged`] for a file that does not hold the rows
    /// that its manifest states; [`KeyError::Locked`](keepfast_keys::KeyError::Locked),
    /// [`KeyError::NoCredential`](keepfast_keys::KeyError::NoCredential) without a recipient; otherwise as [`Vault::create`] and
    /// [`Vault::commit`]. What was committed stands, and the same call goes on.
    pub async fn reencrypt_to(
        &self,
        target: &Target,
        options: &ReencryptOptions,
        progress: &dyn Progress,
    ) -> Result<ReencryptReport> {
        let log = self.log().await?;
        self.open_keys()?;
        let clock = Arc::new(Replayed { clock: self.environment().clock.clone(), at: Mutex::default() });
        let phrases = options.recipients.iter().filter_map(|(_, recipient)| match recipient {
            NewRecipient::Passphrase(passphrase, _) => Some(passphrase.clone()),
            NewRecipient::PublicKey(_) => None,
        });
        let credentials = phrases.fold(options.credentials.clone(), Credentials::with_passphrase);
        let environment = Environment { clock: clock.clone(), credentials, ..self.environment().clone() };
        let made = CreateOptions { program: options.program.clone(), environment };
        let vault = Self::open_or_create_with(target.clone(), &made).await?;
        if vault.id() == self.id() {
            return Err(self.not_reencrypted(&vault));
        }
        let standing = vault.log().await?;
        vault.open_keys()?;
        let mut work = Reencryption {
            source: self,
            vault,
            clock,
            options,
            progress,
            pending: None,
            encryption: BTreeMap::new(),
            known: HashMap::new(),
            newest: HashMap::new(),
            report: ReencryptReport::default(),
        };
        work.take_up(&log, &standing)?;
        work.prepare_keys(&log, &standing).await?;
        work.replay(&log, &standing).await?;
        work.sweep(&log).await?;
        work.report.vault = work.vault.id().to_string();
        // Nobody here may be able to open it later, so it is read back now.
        work.report.checked = work.vault.check(&CheckOptions::default(), progress).await?;
        Ok(work.report)
    }

    fn not_reencrypted(&self, found: &Self) -> VaultError {
        VaultError::NotReencrypted { url: found.url().to_owned(), vault: self.url().to_owned() }
    }
}

/// A re-encryption under way.
struct Reencryption<'a> {
    source: &'a Vault,
    vault: Vault,
    clock: Arc<Replayed>,
    options: &'a ReencryptOptions,
    progress: &'a dyn Progress,
    /// Keys that no record names yet.
    pending: Option<NewKeys>,
    /// How tables that are to come are encrypted; those that are not among them are not.
    encryption: BTreeMap<TableId, Encryption>,
    /// Manifests that have been made anew, by the identity of the old one.
    known: HashMap<Hash256, Known>,
    /// The newest base of each table: old manifests, each with the new one.
    newest: HashMap<TableId, Vec<(ManifestRef, ManifestRef)>>,
    report: ReencryptReport,
}

impl Reencryption<'_> {
    /// Looks at what an earlier call left. Every record there must be that of the same number here.
    fn take_up(&mut self, log: &Log, standing: &Log) -> Result<()> {
        let ours: BTreeMap<LogSeq, _> = log.lines().map(|line| (line.seq, line)).collect();
        for line in standing.lines() {
            let fits = ours
                .get(&line.seq)
                .is_some_and(|o| o.at == line.at && (line.run.is_none() || o.run == line.run));
            if !fits {
                return Err(self.source.not_reencrypted(&self.vault));
            }
        }
        let points: BTreeMap<LogSeq, &Point> = log.all_points().map(|p| (p.seq(), p)).collect();
        for made in standing.all_points() {
            self.report.kept += 1;
            let Some(point) = points.get(&made.seq()) else { continue };
            if made.backup != point.backup || made.cut != point.cut {
                return Err(self.source.not_reencrypted(&self.vault));
            }
            for table in &made.tables {
                let Some(old) = point.tables.iter().find(|t| t.id == table.id) else {
                    return Err(self.source.not_reencrypted(&self.vault));
                };
                // What was readable then may have been dropped since.
                if old.sealed.is_some() {
                    continue;
                }
                if old.digest != table.digest
                    || (old.base.len(), old.changes.len()) != (table.base.len(), table.changes.len())
                {
                    return Err(self.source.not_reencrypted(&self.vault));
                }
                let bases = old.base.iter().cloned().zip(table.base.iter().cloned());
                let changes = old.changes.iter().zip(&table.changes);
                for (old, new) in
                    bases.clone().chain(changes.map(|(o, n)| (o.manifest.clone(), n.manifest.clone())))
                {
                    self.known.insert(old.id, Known { reference: new, sums: None });
                }
                self.newest.insert(old.id.clone(), bases.collect());
            }
        }
        self.say_what_is_missing(log, standing);
        Ok(())
    }

    /// Whoever began may have been cut off before the report: what earlier calls left out is said again.
    fn say_what_is_missing(&mut self, log: &Log, standing: &Log) {
        let head = standing.head().map(|(seq, _)| seq);
        let made: BTreeMap<LogSeq, &Point> = standing.all_points().map(|p| (p.seq(), p)).collect();
        for point in log.all_points().filter(|p| Some(p.seq()) <= head) {
            let is_made = |table: &&TablePoint| {
                made.get(&point.seq()).is_some_and(|made| made.tables.iter().any(|t| t.id == table.id))
            };
            for table in point.tables.iter().filter(|table| !is_made(table)) {
                self.report.left_out.push(left_out(table, point));
            }
        }
    }

    /// Commits what the other vault has not, number by number.
    async fn replay(&mut self, log: &Log, standing: &Log) -> Result<()> {
        let points: BTreeMap<LogSeq, &Point> = log.all_points().map(|p| (p.seq(), p)).collect();
        let mut holds: BTreeMap<LogSeq, Vec<&Hold>> = BTreeMap::new();
        for hold in holds_to_take(log) {
            holds.entry(hold.seq).or_default().push(hold);
        }
        for line in to_come(log, standing) {
            let mut records: Vec<Record> =
                holds.get(&line.seq).into_iter().flatten().map(|h| again(h)).collect();
            let mut written = vec![];
            if let Some(point) = points.get(&line.seq)
                && let Some(anew) = self.point_anew(point, &mut written).await?
            {
                records.push(Record::Point(Box::new(anew)));
                self.report.points += 1;
            }
            self.clock.set(line.at);
            let check =
                AtNumber { seq: line.seq, refused: self.source.not_reencrypted(&self.vault).to_string() };
            match self.pending.take() {
                Some(new) => {
                    new.read_back(self.vault.target()).await.map_err(|e| self.vault.missing(e))?;
                    records.insert(0, new.record());
                    let keyring = new.keyring;
                    self.vault.commit_numbered(records, &written, &check, Some(keyring.clone())).await?;
                    self.vault.keep_keys(KeyState::Open(keyring.clone()));
                    self.vault.try_to_delete_older_keys(keyring.generation()).await;
                }
                None => drop(self.vault.commit_numbered(records, &written, &check, None).await?),
            }
        }
        Ok(())
    }

    /// Removes what calls staged, this one and those that were cut off.
    async fn sweep(&self, log: &Log) -> Result<()> {
        let staged = self.vault.staged_runs().await?;
        let mut runs = BTreeSet::new();
        for table in log.all_points().flat_map(|p| &p.tables) {
            for reference in table.base.iter().chain(table.changes.iter().map(|c| &c.manifest)) {
                runs.insert(self.run_of(reference));
            }
        }
        for run in runs.into_iter().filter(|run| staged.contains_key(run)) {
            self.vault.sweep_run(&run).await?;
        }
        Ok(())
    }
}

/// Records whose numbers are still to be filled: up to the last one that says something of what is visible.
fn to_come<'a>(log: &'a Log, standing: &Log) -> impl Iterator<Item = &'a LineInfo> + use<'a> {
    let head = standing.head().map_or(0, |(seq, _)| seq.0);
    let holds = holds_to_take(log).map(|hold| hold.seq);
    let last = log.all_points().map(Point::seq).chain(holds).max();
    log.lines().filter(move |line| line.seq.0 > head && Some(line.seq) <= last)
}

fn holds_to_take(log: &Log) -> impl Iterator<Item = &Hold> {
    log.holds().filter(|hold| log.latest(&hold.backup).is_some())
}

/// What is said of a table that nobody can read.
fn left_out(table: &TablePoint, point: &Point) -> String {
    format!("{} of {}", table.name, point.id())
}

/// The record that takes a hold again.
fn again(hold: &Hold) -> Record {
    Record::Hold {
        id: hold.id.clone(),
        backup: hold.backup.clone(),
        point: hold.point,
        until: hold.until,
        reason: hold.reason.clone(),
    }
}

/// Refuses any number but one: points keep theirs.
struct AtNumber {
    seq: LogSeq,
    refused: String,
}

#[async_trait]
impl Revalidate for AtNumber {
    async fn revalidate(&self, log: &Log, records: Vec<Record>) -> Result<Vec<Record>> {
        match log.head().map_or(LogSeq(1), |(seq, _)| seq.next()) == self.seq {
            true => Ok(records),
            false => Err(VaultError::Stale {
                plan: format!("record {} was written by somebody else; {}", self.seq, self.refused),
            }),
        }
    }
}

/// Tells the time at which a record was written first.
#[derive(Debug)]
struct Replayed {
    clock: Arc<dyn Clock>,
    at: Mutex<Option<Timestamp>>,
}

impl Replayed {
    fn set(&self, at: Timestamp) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

impl Clock for Replayed {
    fn now(&self) -> Timestamp {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        at.unwrap_or_else(|| self.clock.now())
    }
}

/// The path of a manifest, for what is said of it.
fn manifest_path(vault: &Vault, reference: &ManifestRef) -> String {
    vault.target().full(&layout::manifest(reference.id))
}
