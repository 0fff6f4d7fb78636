//! What a very large vault costs: `scale FOLDER [--encrypted] [TABLES BACKUPS POINTS SEGMENTS]`.
//!
//! Makes a vault of records and manifests alone, as a million segments in a thousand tables and ten thousand restore
//! points need them (the segments themselves are never read here), where FOLDER is not one yet. Then each of the
//! things that must stay quick runs in a process of its own, so that its time and its peak of memory are its own.
//! A backup's tables get a new base every 25 points, of which all is new, and one change segment a point between.
//! With `--encrypted` every table is encrypted whole, under a key of its own. It ends with an error when one of the things takes
//! longer, or more memory, than docs/scale.md promises.

use jiff::{SignedDuration, Timestamp};
use keepfast_format::{Manifest, ManifestKind, SegmentEntry, WriterProfile};
use keepfast_keys::Credentials;
use keepfast_model::*;
use keepfast_objects::open_target;
use keepfast_vault::{AsOf, CreateOptions, Environment, Log, PruneOptions, Vault};
use std::path::{Path, PathBuf};
use std::time::Instant;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Points of one chain: a base, and changes.
const CHAIN: usize = 25;
/// What is measured.
const WORK: [&str; 8] = [
    "open",
    "open without checkpoint",
    "list",
    "show",
    "plan a prune",
    "start a restore",
    "commit",
    "rotate",
];
/// What docs/scale.md promises of each.
const SECONDS_MAX: f64 = 10.0;
const PEAK_KIB_MAX: u64 = 1 << 20;
/// Opens the vault that is made with keys.
const PASSPHRASE: &str = "passphrase of a measurement";

#[tokio::main]
async fn main() -> Outcome {
    let (options, arguments): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let folder = PathBuf::from(arguments.first().ok_or("name a folder")?);
    if let Some(work) = arguments.get(1).filter(|a| WORK.contains(&a.as_str())) {
        return measure(&folder, work).await;
    }
    let number = |at: usize, otherwise: usize| arguments.get(at).map_or(Ok(otherwise), |n| n.parse());
    let shape = Shape {
        tables: number(1, 1_000)?,
        backups: number(2, 100)?,
        points: number(3, 10_000)?,
        segments: number(4, 1_000_000)?,
        encrypted: options.iter().any(|option| option == "--encrypted"),
    };
    if !folder.exists() {
        let start = Instant::now();
        shape.make(&folder).await?;
        eprintln!("made in {:.0} s", start.elapsed().as_secs_f64());
    }
    eprintln!("{:<26} {:>9} {:>9} {:>9}  found", "", "seconds", "processor", "peak MiB");
    let mut kept = true;
    for work in WORK {
        kept &=
            std::process::Command::new(std::env::current_exe()?).arg(&folder).arg(work).status()?.success();
    }
    if kept { Ok(()) } else { Err("a promise of docs/scale.md was not kept".into()) }
}

fn environment() -> Environment {
    Environment { credentials: Credentials::passphrase(PASSPHRASE), ..Environment::default() }
}

async fn open(folder: &Path) -> Outcome<Vault> {
    Ok(Vault::open_with(open_target(&folder.to_string_lossy())?, environment()).await?)
}

async fn measure(folder: &Path, work: &str) -> Outcome {
    let hidden = folder.join("checkpoints").with_extension("hidden");
    let without = work == "open without checkpoint";
    if without {
        std::fs::rename(folder.join("checkpoints"), &hidden)?;
    }
    let start = Instant::now();
    let vault = open(folder).await?;
    let log = vault.log().await?;
    // Not the first, which is held.
    let backup = log.backups().pop().ok_or("the vault has no backup")?;
    let found = match work {
        "list" => list(&log),
        "show" => {
            let point = log.resolve(&backup, AsOf::Latest)?;
            format!("{} bytes of JSON", serde_json::to_vec(&*point)?.len())
        }
        "plan a prune" => plan_prune(&vault, &log, &backup).await?,
        "start a restore" => {
            let point = log.resolve(&backup, AsOf::Latest)?;
            let mut segments = 0;
            for table in &point.tables {
                let manifests = vault.read_manifests(table).await?;
                segments +=
                    manifests.base.iter().chain(&manifests.changes).map(|m| m.segments.len()).sum::<usize>();
            }
            format!("{segments} segments of {} tables", point.tables.len())
        }
        "commit" => format!("hold {}", vault.hold(&backup, None, None, "scale").await?),
        "rotate" => match log.keys().is_empty() {
            true => "a vault without keys".to_owned(),
            false => {
                vault.rotate_keys().await?;
                format!(
                    "keys of {} tables",
                    log.latest(&backup).map_or(0, |p| p.tables.len()) * log.backups().len()
                )
            }
        },
        _ => format!("{} records, {} points", log.lines().count(), log.all_points().count()),
    };
    let seconds = start.elapsed().as_secs_f64();
    if without {
        std::fs::rename(&hidden, folder.join("checkpoints"))?;
    }
    let peak = peak()?;
    eprintln!("{work:<26} {seconds:>9.2} {:>9.2} {:>9}  {found}", processor()?, peak >> 10);
    match seconds <= SECONDS_MAX && peak <= PEAK_KIB_MAX {
        true => Ok(()),
        false => {
            Err(format!("'{work}' takes more than {SECONDS_MAX} s or {} MiB", PEAK_KIB_MAX >> 10).into())
        }
    }
}

fn list(log: &Log) -> String {
    let backups = log.backups();
    let rows: u64 = log.all_points().flat_map(|p| &p.tables).map(|t| t.digest.rows).sum();
    let newest: Vec<_> = backups.iter().filter_map(|b| log.latest(b)).collect();
    format!("{} backups, {} newest points, {rows} rows", backups.len(), newest.len())
}

/// Plans a prune of one backup that keeps half of its points.
async fn plan_prune(vault: &Vault, log: &Log, backup: &BackupName) -> Outcome<String> {
    let last = u32::try_from(log.points(backup).count() / 2)?;
    let policy = RetentionPolicy { last, ..RetentionPolicy::default() };
    let plan = vault.plan_prune(&PruneOptions::of(backup.clone(), policy)).await?;
    let objects = plan.unneeded.len();
    Ok(format!("{} points stay, {} go, with {objects} objects", plan.kept.len(), plan.removed.len()))
}

/// Peak resident memory of this process, in KiB.
fn peak() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no peak of memory here")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Seconds of processor time of this process.
fn processor() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().ok_or("no times here")?.split(' ').collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

/// How large the vault is.
struct Shape {
    tables: usize,
    backups: usize,
    points: usize,
    segments: usize,
    encrypted: bool,
}

/// What one table of a backup has so far.
struct Growing {
    point: TablePoint,
    profile: WriterProfile,
    number: u64,
}

impl Shape {
    async fn make(&self, folder: &Path) -> Outcome {
        let options = CreateOptions { environment: environment(), ..CreateOptions::default() };
        let vault = Vault::create(open_target(&folder.to_string_lossy())?, &options).await?;
        let mut writer = Writer::new(folder, &vault, self.encrypted).await?;
        let of_backup = self.tables / self.backups;
        let points = self.points / self.backups;
        let bases = points.div_ceil(CHAIN);
        // What is not a change segment is shared out over the bases.
        let of_base = (self.segments / self.tables).saturating_sub(points - bases) / bases;
        let mut backups: Vec<(BackupName, Vec<Growing>)> = vec![];
        for b in 0..self.backups {
            let name: BackupName = format!("backup_{b:04}").parse()?;
            let mut tables = vec![];
            for t in 0..of_backup {
                let mut table = Growing::new(&name, b * of_backup + t)?;
                if self.encrypted {
                    table.encrypt(&vault).await?;
                }
                tables.push(table);
            }
            backups.push((name, tables));
        }
        let mut at = Timestamp::from_second(1_700_000_000)?;
        for p in 0..points {
            for (name, tables) in &mut backups {
                at = at.checked_add(SignedDuration::from_mins(5))?;
                for table in tables.iter_mut() {
                    match p % CHAIN {
                        0 => table.new_base(&writer, of_base).await?,
                        _ => table.change(&writer, LogSeq(writer.seq + 1)).await?,
                    }
                }
                let point = BackupPoint {
                    backup: name.clone(),
                    run: RunId(format!("{:032x}", writer.seq)),
                    store: "columnar".into(),
                    cut: Cut { at, exactness: Exactness::Exact, positions: vec![] },
                    tables: tables.iter().map(|t| t.point.clone()).collect(),
                    elapsed_ms: 60_000,
                    program: "keepfast 0.1.0".into(),
                    lock: None,
                };
                writer.record(at, vec![Record::Point(Box::new(point))]).await?;
            }
        }
        // A commit as any other, which writes a checkpoint.
        let vault = open(folder).await?;
        vault.hold(&backups[0].0, None, None, "scale").await?;
        Ok(())
    }
}

impl Growing {
    fn new(backup: &BackupName, number: usize) -> Outcome<Self> {
        let name = TableName::bare(format!("table_{number:05}"));
        let mut columns = vec![("id".to_owned(), ColumnType::Int64, false)];
        for c in 0..20 {
            let column_type = match c % 4 {
                0 => ColumnType::Varchar { length: Some(255) },
                1 => ColumnType::Int64,
                2 => ColumnType::Decimal { precision: 12, scale: 2 },
                _ => ColumnType::Timestamp { zone: false },
            };
            columns.push((format!("customer_column_{c}"), column_type, true));
        }
        let schema = TableSchema::of(columns, &["id"])?;
        let profile = WriterProfile::choose(&schema, &[], 8_192);
        let certificate = Certificate {
            kind: ProofKind::Source,
            rows: 0,
            partitions: 8,
            content_percent: 100,
            method: "count and checksums kept by the store when rows were inserted".into(),
            at: Timestamp::UNIX_EPOCH,
        };
        let point = TablePoint {
            id: Vault::table_id(backup, "columnar", &name, &Selection::default()),
            name,
            selection: Selection::default(),
            schema,
            mode: WriteMode::Full,
            base: vec![],
            changes: vec![],
            digest: Digest::default(),
            bytes: ByteCount(0),
            segments_new: 0,
            bytes_new: ByteCount(0),
            certificate,
            encryption: point::Encryption::None,
            key_ids: String::new(),
            sealed: None,
            parity: None,
            dependents: vec![],
            target_rows: 8_192,
            profile: profile.id(),
        };
        Ok(Self { point, profile, number: (number as u64) << 32 })
    }

    /// Gives the table its key.
    async fn encrypt(&mut self, vault: &Vault) -> Outcome {
        vault.encrypt_table(&self.point.id, &Encryption::Full).await?;
        self.point.encryption = Encryption::Full;
        self.point.key_ids = vault.protection(&self.point.id, &Encryption::Full).await?.key_ids().to_owned();
        Ok(())
    }

    fn entry(&mut self, seq: Option<i64>) -> SegmentEntry {
        self.number += 1;
        let id = Hash256::of(&self.number.to_le_bytes());
        let key = |n: u64| Some(KeyBytes([&[1][..], &n.to_be_bytes()].concat()));
        SegmentEntry {
            id,
            stored: Hash256::of(&id.0),
            bytes: ByteCount(1 << 20),
            shard: ShardId("0".into()),
            rows: 8_192,
            digest: Digest { rows: 8_192, sum: u128::from(self.number) << 64 },
            min: key(self.number * 8_192),
            max: key(self.number * 8_192 + 8_191),
            epoch: 0,
            // As long as a wrapped key.
            key: (self.point.encryption != Encryption::None).then(|| "0".repeat(120)),
            seq_min: seq,
            seq_max: seq,
        }
    }

    async fn pages(
        &mut self,
        writer: &Writer,
        kind: ManifestKind,
        entries: Vec<SegmentEntry>,
    ) -> Outcome<Vec<ManifestRef>> {
        let pages = Manifest::pages(kind, &self.point.id, &self.point.schema, &self.profile, entries);
        let mut references = vec![];
        for page in &pages {
            references.push(writer.manifest(page).await?);
        }
        Ok(references)
    }

    async fn new_base(&mut self, writer: &Writer, segments: usize) -> Outcome {
        let entries: Vec<_> = (0..segments).map(|_| self.entry(None)).collect();
        self.point.digest = Digest { rows: 8_192 * segments as u64, sum: u128::from(self.number) };
        self.point.certificate.rows = self.point.digest.rows;
        self.point.base = self.pages(writer, ManifestKind::Segments, entries).await?;
        self.point.changes.clear();
        self.point.mode = WriteMode::Full;
        Ok(())
    }

    async fn change(&mut self, writer: &Writer, seq: LogSeq) -> Outcome {
        let entry = self.entry(Some(seq.0 as i64));
        let manifest = self.pages(writer, ManifestKind::Changes, vec![entry]).await?.remove(0);
        self.point.changes.push(ChangeManifestRef { manifest, written_by: Some(seq) });
        self.point.mode = WriteMode::Incremental;
        Ok(())
    }
}

/// Writes objects as section 6 of `docs/format.md` describes them, without a sync for each; in a vault with keys as everybody does.
struct Writer {
    folder: PathBuf,
    vault: Vault,
    encrypted: bool,
    seq: u64,
    prev: Hash256,
}

impl Writer {
    /// Goes on after a first record.
    async fn new(folder: &Path, vault: &Vault, encrypted: bool) -> Outcome<Self> {
        let nobody = Record::Drop { backup: "nobody".parse()? };
        vault.commit(vec![nobody], &[], &()).await?;
        let (seq, prev) = vault.log().await?.head().ok_or("a first record")?;
        std::fs::create_dir_all(folder.join("manifests"))?;
        Ok(Self { folder: folder.to_owned(), vault: vault.clone(), encrypted, seq: seq.0, prev })
    }

    async fn manifest(&self, manifest: &Manifest) -> Outcome<ManifestRef> {
        if self.encrypted {
            return Ok(self.vault.put_manifest(manifest, &Encryption::Full).await?.0);
        }
        let (reference, bytes) = manifest.encode()?;
        std::fs::write(self.folder.join("manifests").join(reference.id.to_string()), bytes)?;
        Ok(reference)
    }

    async fn record(&mut self, at: Timestamp, records: Vec<Record>) -> Outcome {
        if self.encrypted {
            self.seq = self.vault.commit(records, &[], &()).await?.0;
            return Ok(());
        }
        self.seq += 1;
        let (vault, seq, prev) = (self.vault.id(), self.seq, self.prev);
        let mut json = format!("{{\"format\":1,\"vault\":\"{vault}\",\"seq\":{seq},\"prev\":\"{prev}\",\"at\":\"{at}\",\"records\":").into_bytes();
        serde_json::to_writer(&mut json, &records)?;
        json.extend_from_slice(b",\"auth\":null");
        let sum = Hash256::of(&json);
        json.extend_from_slice(format!(",\"sum\":\"{sum}\"}}\n").as_bytes());
        self.prev = Hash256::of(&json);
        for copy in ["log", "log-copy"] {
            std::fs::write(self.folder.join(copy).join(format!("{seq:020}.json")), &json)?;
        }
        Ok(())
    }
}
