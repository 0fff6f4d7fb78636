//! Verification of stored bytes, and their repair.
//!
//! A vault that can no longer be opened is looked at all the same: what is wrong with it is a finding, not a failure.

use crate::Result;
use crate::api::*;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::places::Place;
use crate::progress::Work;
use keepfast_model::{BackupName, ByteCount, Hash256, LogSeq};
use keepfast_objects::Target;
use keepfast_vault::{
    Behind, CheckOptions, CheckReport, Damage, Environment, Lost, RepairReport, Vault, VaultError, layout,
};

impl Engine {
    /// The backup that a text names; where it names a vault alone, the name is not known yet.
    pub(crate) fn asked_name(&self, text: &str) -> Result<BackupName> {
        match Place::parse(text)?.backup {
            Some(name) => Ok(name),
            None => Ok("vault".parse()?),
        }
    }

    /// Takes a vault's log as it is from now on.
    pub(crate) async fn accept(&self, text: &str) -> Result<()> {
        let target = self.place_target(text)?;
        self.accept_head(&Vault::open_with(target, self.environment()).await?).await
    }

    fn environment(&self) -> Environment {
        self.options.surroundings.vault.clone()
    }

    fn place_target(&self, text: &str) -> Result<Target> {
        self.vault_target(Place::parse(text)?.vault.as_deref())
    }

    pub(crate) async fn verify_stored(
        &self,
        request: &VerifyRequest,
        expect: Option<(LogSeq, Hash256)>,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let target = self.place_target(&request.backup)?;
        report.vault = target.url().to_owned();
        // A wrong name is found before everything is read; damage is found by reading it.
        match self.find_backup(&request.backup).await {
            Ok(found) => report.backup = found.backup,
            Err(EngineError::RolledBack { .. } | EngineError::Vault(VaultError::Damaged { .. })) => {}
            Err(e) => return Err(e),
        }
        let checked = if request.repair {
            let from = request.repair_from.as_deref().map(|url| self.vault_target(Some(url))).transpose()?;
            let repaired = self.repair(&target, from.as_ref()).await?;
            report.healed = repaired.healed.iter().map(healed).collect();
            report.damage.extend(repaired.lost.iter().map(lost));
            repaired.check
        } else {
            let checked = self.check(&target).await?;
            report.damage.extend(checked.damage.iter().map(damage));
            checked
        };
        report.objects = checked.objects;
        report.bytes = ByteCount(checked.bytes);
        report.points = checked.points;
        report.head = head_text(checked.head);
        let opened = async {
            let vault = Vault::open_with(target, self.environment()).await?;
            let log = vault.log().await?;
            Ok::<_, VaultError>((vault, log))
        };
        let (vault, log) = match opened.await {
            Ok(opened) => opened,
            // Why it cannot be opened is in the report already; without that, nothing was compared with the head.
            Err(_) if !report.damage.is_empty() => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        self.refresh_projections(&vault, &checked.behind, request.repair).await;
        if let Some((seq, hash)) = expect {
            let stands = log.lines().any(|line| line.seq == seq && line.stored == hash);
            report.damage.extend((!stands).then(|| rolled_back(&vault, seq)));
        }
        if let Some(seq) = self.lost_head(&vault).await? {
            let mut found = rolled_back(&vault, seq);
            found.what = "the log does not hold this record, which was seen here before: it was rolled back or replaced".into();
            report.damage.push(found);
        } else {
            self.compare_head(&vault).await?;
        }
        Ok(())
    }

    /// Says which Delta logs do not show the newest base, or brings them there where a repair was asked for.
    async fn refresh_projections(&self, vault: &Vault, behind: &[Behind], repair: bool) {
        let note = |line: String| self.options.progress.note(&line);
        if !repair {
            for Behind { backup, table, .. } in behind {
                note(format!(
                    "the Delta log of '{table}' in {backup} does not show its newest base; `verify --repair` writes it"
                ));
            }
            return;
        }
        match vault.project_behind(behind).await {
            Ok(failed) => failed.into_iter().for_each(|(Behind { table, .. }, error)| {
                note(format!("the Delta log of '{table}' was not written: {error}"));
            }),
            Err(error) => note(format!("Delta logs were not written: {error}")),
        }
    }

    async fn check(&self, target: &Target) -> Result<CheckReport> {
        let (heard, options) = (Heard { engine: self.clone() }, CheckOptions::default());
        match Vault::open_with(target.clone(), self.environment()).await {
            Ok(vault) => Ok(vault.check(&options, &heard).await?),
            Err(VaultError::Damaged { .. }) => {
                Ok(Vault::check_place(target.clone(), self.environment(), &options, &heard).await?)
            }
            Err(e) => Err(e.into()),
        }
    }

    async fn repair(&self, target: &Target, from: Option<&Target>) -> Result<RepairReport> {
        let heard = Heard { engine: self.clone() };
        match Vault::open_with(target.clone(), self.environment()).await {
            Ok(vault) => Ok(vault.repair(from, &heard).await?),
            Err(VaultError::Damaged { .. }) => {
                Ok(Vault::repair_place(target.clone(), self.environment(), from, &heard).await?)
            }
            Err(e) => Err(e.into()),
        }
    }
}

pub(crate) fn head_text(head: Option<(LogSeq, Hash256)>) -> String {
    head.map_or_else(|| "0:".to_owned(), |(seq, hash)| format!("{seq}:{hash}"))
}

/// A record that must be there and is not.
pub(crate) fn rolled_back(vault: &Vault, seq: LogSeq) -> DamageReport {
    DamageReport {
        object: vault.target().full(&layout::log_record(seq)),
        what: "the log does not hold the expected record: it was rolled back or replaced".into(),
        tables: vec![],
        points: vec![format!("number {seq}")],
        not_healed: None,
        lost: vec![],
    }
}

fn damage(d: &Damage) -> DamageReport {
    DamageReport {
        object: d.path.clone(),
        what: match d.kept_versions {
            0 => d.what.to_string(),
            n => format!("{}; the place keeps {n} earlier versions (`keepfast vault recover`)", d.what),
        },
        tables: d.tables.iter().map(ToString::to_string).collect(),
        points: d.points.iter().map(ToString::to_string).collect(),
        not_healed: None,
        lost: vec![],
    }
}

fn lost(l: &Lost) -> DamageReport {
    DamageReport {
        not_healed: Some(l.why.clone()),
        lost: l.gaps.iter().map(ToString::to_string).collect(),
        ..damage(&l.damage)
    }
}

fn healed(h: &keepfast_vault::Healed) -> HealedReport {
    HealedReport { object: h.path.clone(), what: h.what.to_string(), by: h.by.to_string() }
}

/// Tells the engine's listener how far a check is.
struct Heard {
    engine: Engine,
}

impl keepfast_vault::Progress for Heard {
    fn expect(&self, _objects: u64, bytes: u64) {
        self.engine.options.progress.stage("verify", Some(Work::Bytes(bytes)));
    }

    fn checked(&self, _objects: u64, bytes: u64) {
        self.engine.options.progress.advance(bytes, 0);
    }
}
