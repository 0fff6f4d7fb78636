//! Triggers of tables that change their names.
//!
//! A trigger follows its renamed table, and its name is the only one in its database. So those that are to stand on the new table are
//! made on it under other names before it is visible (where that fails nothing has changed), and they are at work from the moment when the
//! names change. After it the table that is only kept loses its own, and the new ones get their names: under a lock of the table, so
//! that no row is written meanwhile.

use super::controls::PATIENCE;
use super::place::{Place, behind};
use super::swap::{At, Step};
use crate::connection::Connection;
use crate::definitions::{self, Kept, Kind};
use crate::names::{full, quoted};
use crate::trigger::renamed;
use crate::wire::WireError;
use keepfast_store::StoreError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A trigger that is to stand when the names have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NewTrigger {
    /// Its table's name before and after.
    before: String,
    after: String,
    /// Its name until the names have changed, and the later one.
    temporary: String,
    name: String,
    kept: Kept,
}

impl NewTrigger {
    /// The statement that makes it.
    fn statement(&self, name: &str, table: &str) -> Option<Vec<u8>> {
        match name == self.kept.name && self.kept.table.as_deref() == Some(table) {
            true => Some(self.kept.statement()),
            false => renamed(&self.kept.statement(), &quoted(name), &quoted(table)),
        }
    }

    async fn make(&self, session: &mut Connection, name: &str, table: &str) -> Result<(), WireError> {
        let statement = self.statement(name, table);
        let statement = statement.ok_or(WireError::Malformed("a trigger's statement is none"))?;
        self.kept.make(session, &statement).await
    }
}

/// Triggers of a table that has other names before and after. Of a run, `n` of which there are already.
pub(super) fn moves(
    (run, n): (&str, usize),
    (before, after): (&str, &str),
    wanted: Vec<Kept>,
) -> Vec<NewTrigger> {
    let all = wanted.into_iter().zip(n..).map(|(kept, n)| NewTrigger {
        before: before.to_owned(),
        after: after.to_owned(),
        temporary: format!("__keepfast_{run}_{n}"),
        name: kept.name.clone(),
        kept,
    });
    all.collect()
}

/// Gives a number to triggers whose names others have that keep them.
pub(super) async fn name_freely(at: &mut Connection, step: &mut Step) -> Result<(), WireError> {
    let databases: BTreeSet<String> = step.triggers.iter().map(|t| t.kept.database.clone()).collect();
    for database in databases {
        // Those of a replaced table are dropped.
        let dropped: BTreeSet<String> = step
            .renames
            .iter()
            .filter(|r| r.database == database && !r.from_is_ours)
            .map(|r| r.from.clone())
            .collect();
        let there = definitions::trigger_names(at, &database).await?;
        let there = there.into_iter().filter(|(_, table)| !dropped.contains(table));
        let mut taken: BTreeSet<String> = there.map(|(name, _)| name.to_lowercase()).collect();
        for trigger in step.triggers.iter_mut().filter(|t| t.kept.database == database) {
            let numbered = (2_u32..).map(|n| behind(&trigger.kept.name, &format!("_{n}")));
            let mut names = std::iter::once(trigger.kept.name.clone()).chain(numbered);
            trigger.name = names.find(|name| !taken.contains(&name.to_lowercase())).unwrap_or_default();
            taken.insert(trigger.name.to_lowercase());
        }
    }
    Ok(())
}

/// Says which triggers a table loses that is replaced.
pub(super) fn say_lost(place: &Place, live: &[Kept], wanted: &[Kept]) {
    for lost in live.iter().filter(|l| wanted.iter().all(|w| w.name != l.name)) {
        tracing::warn!(
            "{} of the replaced table '{}' is not in the backup: the restored table has it no more; undo brings it back",
            lost.called(),
            place.name
        );
    }
}

/// Says which triggers of a backup have no table of theirs in a restore.
pub(super) fn say_homeless(triggers: &[Kept], places: &[Place]) {
    for trigger in triggers {
        let own = |p: &Place| p.database == trigger.database && trigger.table.as_ref() == Some(&p.name);
        if !places.iter().any(own) {
            tracing::warn!(
                "{} is not made: its table is restored under another name, which it may not be meant for",
                trigger.called()
            );
        }
    }
}

/// What a server says of a trigger of a name that another has.
const EXISTS: u16 = 1359;

impl At<'_> {
    async fn session(&self) -> Result<Connection, StoreError> {
        // Only who has the load's lock changes anything.
        drop(self.controls.locked(self.server, PATIENCE).await?);
        self.controls.shared.servers[self.server].connect_to_write().await
    }

    /// Makes the triggers, under other names, on tables that nobody sees yet.
    pub async fn add_triggers(&self) -> Result<(), StoreError> {
        if self.step.triggers.is_empty() {
            return Ok(());
        }
        let mut session = self.session().await?;
        for trigger in &self.step.triggers {
            let mut made = trigger.make(&mut session, &trigger.temporary, &trigger.before).await;
            if made.as_ref().is_err_and(|e| e.code() == Some(EXISTS)) {
                // The last statement of a process that died may come to its end behind all that looked for what it left.
                let database = &trigger.kept.database;
                let dropped = drop_trigger(&mut session, database, &trigger.temporary).await;
                dropped.map_err(|e| self.failed("drop a trigger", e))?;
                made = trigger.make(&mut session, &trigger.temporary, &trigger.before).await;
            }
            let what = format!("make {} on the restored table", trigger.kept.called());
            made.map_err(|e| self.failed(&what, e))?;
        }
        // What has to go later, too.
        let tables = self.step.triggers.iter().map(|t| full(&t.kept.database, &t.before)).collect();
        let fail = |e| self.failed("lock a table while its triggers get their names", e);
        lock(&mut session, &tables).await.map_err(fail)?;
        session.run("UNLOCK TABLES").await.map(drop).map_err(fail)
    }

    /// Drops what `add_triggers` made, wherever the tables are now.
    pub async fn drop_triggers(&self) -> Result<(), StoreError> {
        let databases: BTreeSet<&String> = self.step.triggers.iter().map(|t| &t.kept.database).collect();
        for database in databases {
            let mut at = self.controls.locked(self.server, PATIENCE).await?;
            let fail = |e| self.failed("drop a trigger", e);
            let there = definitions::trigger_names(&mut at, database).await.map_err(fail)?;
            for (name, _) in there {
                if self.step.triggers.iter().any(|t| t.temporary == name) {
                    drop_trigger(&mut at, database, &name).await.map_err(fail)?;
                }
            }
        }
        Ok(())
    }

    /// Gives triggers their names, and drops those of tables that are only kept.
    pub async fn settle_triggers(&self) -> Result<(), StoreError> {
        let fail = |e| self.failed("give a trigger its name", e);
        let of_new = self.step.triggers.iter().map(|t| &t.kept.database);
        let databases: BTreeSet<&String> = self.step.freed.iter().map(|(d, _)| d).chain(of_new).collect();
        let mut session = match databases.is_empty() {
            true => return Ok(()),
            false => self.session().await?,
        };
        for database in databases {
            let there = definitions::trigger_names(&mut session, database).await.map_err(fail)?;
            let has = |name: &str, table: Option<&str>| {
                there.iter().any(|(n, on)| n == name && table.is_none_or(|table| on == table))
            };
            for (name, table) in &there {
                if !self.step.freed.iter().any(|(d, t)| d == database && t == table) {
                    continue;
                }
                if let Some(kept) =
                    definitions::read(&mut session, (Kind::Trigger, database, name)).await.map_err(fail)?
                {
                    let statement = String::from_utf8_lossy(&kept.statement()).into_owned();
                    tracing::info!(table, statement, "a table that is only kept loses a trigger");
                }
                drop_trigger(&mut session, database, name).await.map_err(fail)?;
            }
            let left: Vec<&NewTrigger> = self
                .step
                .triggers
                .iter()
                .filter(|t| t.kept.database == *database)
                .filter(|t| has(&t.temporary, None) || !has(&t.name, Some(&t.after)))
                .collect();
            if left.is_empty() {
                continue;
            }
            definitions::settled(&mut session).await.map_err(fail)?;
            let tables = left.iter().map(|t| full(database, &t.after)).collect();
            lock(&mut session, &tables).await.map_err(fail)?;
            for trigger in left {
                if has(&trigger.temporary, None) {
                    drop_trigger(&mut session, database, &trigger.temporary).await.map_err(fail)?;
                }
                if !has(&trigger.name, Some(&trigger.after)) {
                    trigger.make(&mut session, &trigger.name, &trigger.after).await.map_err(fail)?;
                }
            }
            session.run("UNLOCK TABLES").await.map_err(fail)?;
        }
        Ok(())
    }
}

async fn lock(session: &mut Connection, tables: &BTreeSet<String>) -> Result<(), WireError> {
    let tables: Vec<String> = tables.iter().map(|table| format!("{table} WRITE")).collect();
    session.run(&format!("LOCK TABLES {}", tables.join(", "))).await.map(drop)
}

async fn drop_trigger(at: &mut Connection, database: &str, name: &str) -> Result<(), WireError> {
    at.run(&format!("DROP TRIGGER {}", full(database, name))).await.map(drop)
}
