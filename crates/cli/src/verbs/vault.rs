//! `keepfast vault init`, `info` and `recover`

use crate::app::App;
use crate::args::VaultVerb;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::table::Grid;
use crate::output::{Report, human};
use crate::verbs::vault_copy;
use jiff::Timestamp;
use keepfast_engine::api::BackupSummary;
use keepfast_model::ByteCount;
use keepfast_objects::open_target;
use keepfast_vault::{CreateOptions, Damage, RecoverOptions, Vault, VaultError, recover};
use serde::Serialize;
use std::io::{self, Write};

pub async fn run(app: &App, verb: VaultVerb) -> Result<Exit, CliError> {
    match verb {
        VaultVerb::Init { url } => {
            let target = open_target(&location(app, url)).map_err(VaultError::from)?;
            let vault = Vault::create(target, &CreateOptions::default()).await?;
            let made =
                Made { vault: vault.url().to_owned(), id: vault.id().to_string(), created: vault.created() };
            app.out.report(&made)?;
        }
        VaultVerb::Copy(args) => return vault_copy::run(app, args).await,
        VaultVerb::Recover { url, expect } => {
            let target = open_target(&url).map_err(VaultError::from)?;
            let report = recover(&target, app.environment(), &RecoverOptions { head: expect }).await?;
            let recovered = Recovered {
                vault: target.url().to_owned(),
                recovered: report.recovered,
                damage: damage(&report.damage),
            };
            app.out.report(&recovered)?;
            return Ok(if recovered.damage.is_empty() { Exit::Done } else { Exit::Found });
        }
        VaultVerb::Info { url } => {
            let location = location(app, url);
            let vault = Vault::open(open_target(&location).map_err(VaultError::from)?).await?;
            let log = vault.log().await?;
            let records = log.head().map_or(0, |(seq, _)| seq.0);
            let locked_until = log.backups().iter().filter_map(|b| log.locked_until(b)).max();
            let locks = locks(&vault, locked_until).await;
            let (mut objects, mut bytes) = (0, 0);
            let mut all = vault.target().list_stream("");
            while let Some(object) =
                futures::TryStreamExt::try_next(&mut all).await.map_err(VaultError::from)?
            {
                objects += 1;
                bytes += object.bytes;
            }
            let info = Info {
                vault: vault.url().to_owned(),
                id: vault.id().to_string(),
                created: vault.created(),
                program: vault.program().to_owned(),
                records,
                head: log.head().map(|(seq, hash)| format!("{seq}:{hash}")),
                points: log.all_points().count() as u64,
                locks,
                objects,
                bytes: ByteCount(bytes),
                backups: app.engine().list(Some(&location)).await?,
            };
            app.out.report(&info)?;
        }
    }
    Ok(Exit::Done)
}

/// Where the vault is: as typed, else the default one.
fn location(app: &App, url: Option<String>) -> String {
    url.unwrap_or_else(|| app.data().join("vault").to_string_lossy().into_owned())
}

/// Whether the place can lock objects, and until when points are locked.
#[derive(Debug, Serialize)]
struct Locks {
    /// `none`, `off`, `on`, or `unknown` where we may not ask.
    place: &'static str,
    /// How the place locks every object by itself.
    default: Option<String>,
    /// The latest time that a point's locks reach.
    until: Option<Timestamp>,
}

async fn locks(vault: &Vault, until: Option<Timestamp>) -> Locks {
    let (place, default) = match (vault.target().immutability(), vault.target().locking().await) {
        (None, _) => ("none", None),
        (_, Ok(None)) => ("off", None),
        (_, Ok(Some(locking))) => ("on", locking.default),
        // Credentials that may not ask are enough to read the vault.
        (_, Err(_)) => ("unknown", None),
    };
    let until = until.filter(|_| !["none", "off"].contains(&place));
    Locks { place, default, until }
}

impl Locks {
    fn in_words(&self) -> String {
        let place = match self.place {
            "none" => "none at this kind of place",
            "off" => "the bucket has no object lock",
            "on" => "the bucket has object lock",
            _ => "not known: the credentials may not ask",
        };
        let default = self.default.as_ref().map(|d| format!(", and locks all by itself: {d}"));
        let until = self.until.map(|t| format!(", points are locked until {}", human::time(t)));
        format!("{place}{}{}", default.unwrap_or_default(), until.unwrap_or_default())
    }
}

pub fn damage(damage: &[Damage]) -> Vec<String> {
    damage.iter().map(ToString::to_string).collect()
}

/// What `vault recover` brought back.
#[derive(Debug, Serialize)]
struct Recovered {
    vault: String,
    recovered: Vec<String>,
    damage: Vec<String>,
}

impl Report for Recovered {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.recovered.iter().try_for_each(|object| writeln!(out, "recovered {object}"))?;
        self.damage.iter().try_for_each(|d| writeln!(out, "damaged: {d}"))?;
        let left = match self.damage.len() as u64 {
            0 => "the vault is whole".to_owned(),
            n => format!("{} stay damaged", human::plural(n, "object", "objects")),
        };
        let n = self.recovered.len() as u64;
        writeln!(out, "{}: {} recovered, {left}", self.vault, human::plural(n, "object", "objects"))
    }
}

/// What `vault init` made.
#[derive(Debug, Serialize)]
struct Made {
    vault: String,
    id: String,
    created: Timestamp,
}

impl Report for Made {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "made vault {} with id {}", self.vault, self.id)
    }
}

/// What a vault holds.
#[derive(Debug, Serialize)]
struct Info {
    vault: String,
    id: String,
    created: Timestamp,
    program: String,
    records: u64,
    head: Option<String>,
    points: u64,
    locks: Locks,
    objects: u64,
    bytes: ByteCount,
    backups: Vec<BackupSummary>,
}

impl Report for Info {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        Grid::pairs([
            ("vault", self.vault.clone()),
            ("id", self.id.clone()),
            ("made", format!("{} by {}", human::time(self.created), self.program)),
            ("log", human::plural(self.records, "record", "records")),
            ("head", self.head.clone().unwrap_or_else(|| "-".to_owned())),
            ("points", human::count(self.points)),
            ("locks", self.locks.in_words()),
            ("stored", format!("{}, {}", human::plural(self.objects, "object", "objects"), self.bytes)),
        ])
        .write(out, "")?;
        writeln!(out)?;
        self.backups.write_text(out)
    }
}
