//! `keepfast vault init`, `keepfast vault info`

use crate::app::App;
use crate::args::VaultVerb;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::table::Grid;
use crate::output::{Report, human};
use jiff::Timestamp;
use keepfast_engine::api::BackupSummary;
use keepfast_model::ByteCount;
use keepfast_objects::open_target;
use keepfast_vault::{CreateOptions, Vault, VaultError};
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
        VaultVerb::Info { url } => {
            let location = location(app, url);
            let vault = Vault::open(open_target(&location).map_err(VaultError::from)?).await?;
            let records = vault.log().await?.head().map_or(0, |(seq, _)| seq.0);
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
            ("stored", format!("{}, {}", human::plural(self.objects, "object", "objects"), self.bytes)),
        ])
        .write(out, "")?;
        writeln!(out)?;
        self.backups.write_text(out)
    }
}
