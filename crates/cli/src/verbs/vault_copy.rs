//! `keepfast vault copy`: the same vault elsewhere, for the same recipients or others, or another vault encrypted anew.

use crate::app::App;
use crate::args::{CopyArgs, CopyEncryption};
use crate::credentials;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{Report, human};
use crate::verbs::vault::damage;
use keepfast_keys::{Cost, NewRecipient};
use keepfast_model::{ByteCount, Hash256, LogSeq};
use keepfast_objects::{Target, open_target};
use keepfast_vault::{CheckReport, CopyOptions, NewEncryption, ReencryptOptions, Vault, VaultError};
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

pub async fn run(app: &App, args: CopyArgs) -> Result<Exit, CliError> {
    let recipients = recipients(&args)?;
    let vault = app.engine().vault(Some(&args.from)).await?;
    let target = open_target(&args.to).map_err(VaultError::from)?;
    let whole = match args.reencrypt {
        true => reencrypt(app, &vault, &target, recipients, args.encrypt).await?,
        false => copy(app, &vault, &target, recipients).await?,
    };
    Ok(if whole { Exit::Done } else { Exit::Found })
}

/// Copies, reads back in all, and says whether the copy is whole.
async fn copy(
    app: &App,
    vault: &Vault,
    target: &Target,
    recipients: Vec<(String, NewRecipient)>,
) -> Result<bool, CliError> {
    let started = Instant::now();
    let options = CopyOptions { recipients: (!recipients.is_empty()).then_some(recipients) };
    let report = vault.copy_with(target, &options, &()).await?;
    let checked = vault.check_copy(target, &()).await?;
    if let Some(head) = checked.head {
        app.engine().remember_copy(vault, target.url(), head)?;
    }
    let copied = Copied {
        from: vault.url().to_owned(),
        to: target.url().to_owned(),
        id: vault.id().to_string(),
        objects: report.objects,
        bytes: ByteCount(report.bytes),
        kept: report.kept,
        records: report.records,
        head: head(&checked),
        damage: damage(&checked.damage),
        seconds: started.elapsed().as_secs_f64(),
    };
    app.out.report(&copied)?;
    Ok(copied.damage.is_empty())
}

/// Encrypts anew, reads back in all, and says whether the other vault is whole and has all tables.
async fn reencrypt(
    app: &App,
    vault: &Vault,
    target: &Target,
    recipients: Vec<(String, NewRecipient)>,
    encrypt: Option<CopyEncryption>,
) -> Result<bool, CliError> {
    let started = Instant::now();
    let options = ReencryptOptions {
        recipients,
        encryption: match encrypt {
            None => NewEncryption::AsItWas,
            Some(CopyEncryption::Full) => NewEncryption::Full,
            Some(CopyEncryption::None) => NewEncryption::None,
        },
        credentials: app.credentials().clone(),
        ..ReencryptOptions::default()
    };
    let report = vault.reencrypt_to(target, &options, &()).await?;
    let made = Reencrypted {
        from: vault.url().to_owned(),
        to: target.url().to_owned(),
        id: report.vault,
        points: report.points,
        kept: report.kept,
        objects: report.objects,
        bytes: ByteCount(report.bytes),
        left_out: report.left_out,
        head: head(&report.checked),
        damage: damage(&report.checked.damage),
        seconds: started.elapsed().as_secs_f64(),
    };
    app.out.report(&made)?;
    Ok(made.damage.is_empty() && made.left_out.is_empty())
}

/// Those who are to open the copy, by name.
fn recipients(args: &CopyArgs) -> Result<Vec<(String, NewRecipient)>, CliError> {
    let mut all = vec![];
    if !args.recipient.is_empty() {
        credentials::protect_memory();
    }
    for text in &args.recipient {
        let (name, key) = text.split_once('=').unwrap_or((text, text));
        all.push((name.to_owned(), NewRecipient::PublicKey(key.to_owned())));
    }
    for text in &args.recipient_passphrase_file {
        let (name, file) = text.split_once('=').unwrap_or(("passphrase", text));
        let passphrase = credentials::passphrase_of(Path::new(file))?;
        all.push((name.to_owned(), NewRecipient::Passphrase(passphrase, Cost::default())));
    }
    Ok(all)
}

fn head(checked: &CheckReport) -> Option<String> {
    checked.head.map(|(seq, hash): (LogSeq, Hash256)| format!("{seq}:{hash}"))
}

/// What a copy did.
#[derive(Debug, Serialize)]
struct Copied {
    from: String,
    to: String,
    id: String,
    objects: u64,
    bytes: ByteCount,
    kept: u64,
    records: u64,
    head: Option<String>,
    damage: Vec<String>,
    seconds: f64,
}

impl Report for Copied {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "copied {} to {}: {} ({}) and {}, {} stood there already; read back in all, {}",
            self.from,
            self.to,
            human::plural(self.objects, "object", "objects"),
            self.bytes,
            human::plural(self.records, "record", "records"),
            human::count(self.kept),
            human::seconds(self.seconds)
        )?;
        self.damage.iter().try_for_each(|d| writeln!(out, "damaged: {d}"))
    }
}

/// What an encryption anew did.
#[derive(Debug, Serialize)]
struct Reencrypted {
    from: String,
    to: String,
    id: String,
    points: u64,
    kept: u64,
    objects: u64,
    bytes: ByteCount,
    left_out: Vec<String>,
    head: Option<String>,
    damage: Vec<String>,
    seconds: f64,
}

impl Report for Reencrypted {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "encrypted {} anew into {}, which is another vault: {} with {} ({}), {} stood there already; read back in all, {}",
            self.from,
            self.to,
            human::plural(self.points, "point", "points"),
            human::plural(self.objects, "object", "objects"),
            self.bytes,
            human::count(self.kept),
            human::seconds(self.seconds)
        )?;
        self.left_out.iter().try_for_each(|t| writeln!(out, "left out, since its keys were dropped: {t}"))?;
        self.damage.iter().try_for_each(|d| writeln!(out, "damaged: {d}"))
    }
}
