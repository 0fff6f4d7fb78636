//! `keepfast key add|rotate|remove|list|shred`: who can open a vault or a store, and what nobody shall read again.

use crate::app::App;
use crate::args::{KeyVerb, NewKeyArgs};
use crate::credentials;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::Report;
use crate::output::table::{Grid, Side};
use crate::verbs::key_owner::KeyOwner;
use keepfast_keys::{Cost, NewRecipient, Recipient};
use serde::Serialize;
use serde_json::json;
use std::io::{self, Write};

pub async fn run(app: &App, verb: KeyVerb) -> Result<Exit, CliError> {
    match verb {
        KeyVerb::Add(args) => add(app, args).await?,
        KeyVerb::Rotate { of } => {
            let owner = KeyOwner::open(app, &of).await?;
            owner.rotate().await?;
            let (generation, _) = owner.recipients().await?;
            let line = format!(
                "{} has a new vault key, generation {generation}; no data were written again",
                owner.url()
            );
            app.out.line(&line, &json!({owner.kind(): owner.url(), "generation": generation}))?;
        }
        KeyVerb::Remove { name, of } => {
            let owner = KeyOwner::open(app, &of).await?;
            owner.remove(&name).await?;
            let (generation, _) = owner.recipients().await?;
            let line = format!(
                "'{name}' cannot open {} any more: it has a new vault key, generation {generation}\n\
                 copies of the {} that were made before, and keys that '{name}' kept, still open what was there then",
                owner.url(),
                owner.kind()
            );
            app.out.line(
                &line,
                &json!({owner.kind(): owner.url(), "removed": name, "generation": generation}),
            )?;
        }
        KeyVerb::List { of } => {
            let owner = KeyOwner::open(app, &of).await?;
            app.out.report(&listed(&owner).await?)?;
        }
        KeyVerb::Shred { backup, table, column } => {
            let shredded = app.engine().shred(&backup, &table, column.as_deref()).await?;
            let what = match &column {
                Some(column) => format!("column '{column}' of table '{table}'"),
                None => format!("table '{table}'"),
            };
            let copies = match shredded.copies.as_slice() {
                [] => "none is known here".to_owned(),
                known => format!("here are known {}", known.join(", ")),
            };
            let line = format!(
                "the keys of {what} in {} are gone: what they encrypted can never be read again there\n\
                 copies of the vault that were made before still have the keys; {copies}",
                shredded.backup
            );
            let backup = shredded.backup.to_string();
            app.out.line(
                &line,
                &json!({"backup": backup, "table": table.to_string(), "column": column, "copies": shredded.copies}),
            )?;
        }
    }
    Ok(Exit::Done)
}

async fn add(app: &App, args: NewKeyArgs) -> Result<(), CliError> {
    // The first recipient makes keys, whoever it is.
    credentials::protect_memory();
    let owner = KeyOwner::open(app, &args.of).await?;
    let mut secret = None;
    let (usual, recipient) = if args.recovery {
        let (recipient, identity) = NewRecipient::recovery();
        secret = Some(identity);
        ("recovery", recipient)
    } else if let Some(public) = &args.recipient {
        (public.as_str(), NewRecipient::PublicKey(public.clone()))
    } else {
        let passphrase = match &args.new_passphrase_file {
            Some(path) => credentials::passphrase_of(path)?,
            None => match owner.first_passphrase(app) {
                // The first one is the one by which it is opened from now on.
                Some(passphrase) if !owner.has_keys().await? => passphrase.clone(),
                _ if credentials::can_ask() => credentials::ask("the new recipient", true)?,
                _ => return Err(CliError::usage("give the new passphrase with --new-passphrase-file FILE")),
            },
        };
        ("passphrase", NewRecipient::Passphrase(passphrase, Cost::default()))
    };
    let name = args.name.as_deref().unwrap_or(usual);
    let sealed = owner.is_store() && !owner.has_keys().await?;
    owner.add(name, &recipient).await?;
    let (generation, _) = owner.recipients().await?;
    let mut line = format!("'{name}' can open {}, generation {generation} of its keys", owner.url());
    if sealed {
        line.push_str("\nrestores into it that were made before cannot be undone any more: its tables were written anew");
    }
    if let Some(secret) = &secret {
        line.push_str("\nkeep this line in a safe place; it is shown once:\n");
        line.push_str(secret);
    }
    let secret = secret.as_deref();
    app.out.line(
        &line,
        &json!({owner.kind(): owner.url(), "added": name, "generation": generation, "identity": secret}),
    )
}

async fn listed(owner: &KeyOwner) -> Result<Listed, CliError> {
    let (generation, recipients) = owner.recipients().await?;
    let url = owner.url();
    let (vault, store) = match owner {
        KeyOwner::Vault(_) => (Some(url), None),
        KeyOwner::Store(_) => (None, Some(url)),
    };
    Ok(Listed {
        vault,
        store,
        generation,
        recipients: recipients
            .iter()
            .map(|r| ListedRecipient {
                name: r.name().to_owned(),
                kind: match r {
                    Recipient::Passphrase { .. } => "passphrase",
                    Recipient::PublicKey { .. } => "public key",
                },
                public_key: match r {
                    Recipient::Passphrase { .. } => None,
                    Recipient::PublicKey { public_key, .. } => Some(public_key.clone()),
                },
            })
            .collect(),
    })
}

/// Who can open a vault or a store.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(skip_serializing_if = "Option::is_none")]
    vault: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    generation: u64,
    recipients: Vec<ListedRecipient>,
}

#[derive(Debug, Serialize)]
struct ListedRecipient {
    name: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
}

impl Report for Listed {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let url = self.vault.as_ref().or(self.store.as_ref()).map_or("", String::as_str);
        if self.recipients.is_empty() {
            return writeln!(out, "{url} has no keys: nothing in it is encrypted");
        }
        let mut grid =
            Grid::new([("recipient", Side::Left), ("kind", Side::Left), ("public key", Side::Left)]);
        for r in &self.recipients {
            grid.row([r.name.clone(), r.kind.to_owned(), r.public_key.clone().unwrap_or_default()]);
        }
        grid.write(out, "")?;
        writeln!(out, "{url} has generation {} of its keys", self.generation)
    }
}
