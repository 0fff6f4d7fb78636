//! Names that change on several servers: all of them, or none.
//!
//! A plan is written down before the first name changes. Each server's names change in one statement, which it does whole or not at
//! all, also in a crash; whether it did is seen by names that nobody else uses. So whoever finds a plan can go on with it.
//!
//! Foreign keys follow a renamed table. Those that are to refer to the new table are therefore added before (not checked by the
//! statement, which would copy the table, but by a search for rows without their partner, while new rows are checked already), and those that are
//! not meant any more are dropped after. Triggers follow it, too: see [`triggers`](super::triggers).

use super::controls::{Controls, PATIENCE};
use super::place::names;
use super::triggers::NewTrigger;
use crate::connection::Connection;
use crate::definition::ForeignKey;
use crate::names::{full, quoted, text};
use crate::wire::WireError;
use futures::future::join_all;
use keepfast_store::StoreError;
use serde::{Deserialize, Serialize};

/// Names that change together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
}

/// What changes on one server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Step {
    /// Its name, as [`Server::name`](crate::store::Server::name) gives it.
    pub server: String,
    pub renames: Vec<Rename>,
    pub keys: Vec<Key>,
    /// Triggers that are to stand when the names have changed, those of a table in their order.
    #[serde(default)]
    pub triggers: Vec<NewTrigger>,
    /// Tables by database and later name that lose their foreign keys and triggers: they are only kept.
    pub freed: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rename {
    pub database: String,
    pub from: String,
    pub to: String,
    /// Whether `from` is a name that only this plan uses; else `to` is.
    pub from_is_ours: bool,
}

/// A foreign key that is to stand when the names have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    pub database: String,
    /// Its table's name before and after.
    pub before: String,
    pub after: String,
    /// Its name until the names have changed; that of `key` is the later one.
    pub temporary: String,
    pub key: ForeignKey,
    /// The table that it refers to, before and after, by database and name.
    pub refers_before: (String, String),
    pub refers_after: (String, String),
}

/// How a plan failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing has changed.
    Back(StoreError),
    /// Some names changed and were changed back; what was visible meanwhile stands under other names.
    Undone(StoreError),
    /// Some names have changed, and whoever finds the plan goes on with it.
    Half(StoreError),
}

/// Times that a server is asked for its locks, each as long as its sessions' `lock_wait_timeout`, ten seconds.
const ATTEMPTS: u32 = 3;
const LOCK_WAIT: u16 = 1205;
/// The server's numbers for a session or a statement that somebody ended, and for a deadlock: trying again may succeed.
const ENDED: [u16; 5] = [1053, 1213, 1317, 1927, 3169];
/// Accounts without the right to lock tables do without the look ahead.
const MAY_NOT_LOCK: [u16; 3] = [1044, 1142, 1227];

impl Step {
    /// Whether its names have changed.
    pub async fn done(&self, at: &mut Connection) -> Result<bool, WireError> {
        // A staged table's name has the run in it, which nobody else has.
        let staged = self.renames.iter().find(|r| r.from.starts_with(super::PREFIX));
        let Some(first) = staged.or(self.renames.first()) else { return Ok(true) };
        let names = names(at, &first.database).await?;
        Ok(if first.from_is_ours { !names.contains(&first.from) } else { names.contains(&first.to) })
    }

    fn statement(&self) -> String {
        let pairs = self
            .renames
            .iter()
            .map(|r| format!("{} TO {}", full(&r.database, &r.from), full(&r.database, &r.to)));
        format!("RENAME TABLE {}", pairs.collect::<Vec<_>>().join(", "))
    }
}

/// A step with its server.
pub(super) struct At<'a> {
    pub controls: &'a Controls,
    pub server: usize,
    pub step: &'a Step,
}

impl At<'_> {
    pub fn failed(&self, what: &str, error: WireError) -> StoreError {
        match error.code() {
            Some(LOCK_WAIT) => StoreError::Unavailable {
                what: what.to_owned(),
                object: self.controls.shared.servers[self.server].address.to_string(),
                source: "another session holds a lock on one of the tables, by a transaction that has not ended or by LOCK TABLES, and did not \
                         give it back within 10 s; SHOW PROCESSLIST shows it"
                    .into(),
            },
            _ => self.controls.failed(what, self.server, error),
        }
    }

    async fn done(&self) -> Result<bool, StoreError> {
        let mut at = self.controls.locked(self.server, PATIENCE).await?;
        self.step.done(&mut at).await.map_err(|e| self.failed("look for names", e))
    }

    /// Waits for locks before anything changes, so that servers change their names at nearly one moment.
    async fn look_ahead(&self) -> Result<(), StoreError> {
        let what = "lock the tables that are replaced";
        let mut at = self.controls.locked(self.server, PATIENCE).await?;
        let theirs = self.step.renames.iter().filter(|r| !r.from_is_ours);
        let tables: Vec<String> = theirs.map(|r| format!("{} WRITE", full(&r.database, &r.from))).collect();
        if !tables.is_empty() {
            match at.run(&format!("LOCK TABLES {}", tables.join(", "))).await {
                Err(e) if e.code().is_some_and(|code| MAY_NOT_LOCK.contains(&code)) => {}
                other => other.map(drop).map_err(|e| self.failed(what, e))?,
            }
            at.run("UNLOCK TABLES").await.map_err(|e| self.failed(what, e))?;
        }
        Ok(())
    }

    /// Adds the foreign keys, and looks for rows that they refuse; those are named.
    async fn add_keys(&self) -> Result<Vec<String>, StoreError> {
        let mut at = self.controls.locked(self.server, PATIENCE).await?;
        let mut refused = vec![];
        for key in &self.step.keys {
            let fail = |e| self.failed("add a foreign key", e);
            at.run("SET SESSION foreign_key_checks = 0").await.map_err(fail)?;
            let (database, refers) = &key.refers_before;
            let table = full(&key.database, &key.before);
            let sql = format!("ALTER TABLE {table} ADD {}", key.key.adding(&key.temporary, database, refers));
            at.run(&sql).await.map_err(fail)?;
            at.run("SET SESSION foreign_key_checks = 1").await.map_err(fail)?;
            let rows = at.rows(&without_partner(&table, &key.key, &full(database, refers), false)).await;
            let rows = rows.map_err(fail)?;
            let count = rows.first().and_then(|row| row.first()?.as_deref()).unwrap_or(b"0");
            if count != b"0" {
                refused.push(format!(
                    "{} rows of '{}.{}' have no row in '{}.{}' for foreign key '{}'",
                    String::from_utf8_lossy(count),
                    key.database,
                    key.after,
                    key.refers_after.0,
                    key.refers_after.1,
                    key.key.name
                ));
            }
        }
        Ok(refused)
    }

    /// Drops what `add_keys` added, wherever the tables are now.
    async fn drop_keys(&self) -> Result<(), StoreError> {
        let mut at = self.controls.locked(self.server, PATIENCE).await?;
        for key in &self.step.keys {
            let sql = format!(
                "SELECT table_name FROM information_schema.table_constraints WHERE constraint_schema = {} AND constraint_name = {}",
                text(&key.database),
                text(&key.temporary)
            );
            let fail = |e| self.failed("drop a foreign key", e);
            for row in at.rows(&sql).await.map_err(fail)? {
                let Some(table) = row.first().and_then(|t| String::from_utf8(t.clone()?).ok()) else {
                    continue;
                };
                drop_key(&mut at, &key.database, &table, &key.temporary).await.map_err(fail)?;
            }
        }
        Ok(())
    }

    /// Changes the names, unless they have changed.
    async fn rename(&self, statement: &str) -> Result<(), StoreError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            // A connection that broke is made anew; its lock is had when the server has ended the old one, so that nothing of it is under way.
            let mut at = self.controls.locked(self.server, PATIENCE).await?;
            if self.step.done(&mut at).await.map_err(|e| self.failed("look for names", e))? {
                return Ok(());
            }
            match at.run(statement).await {
                Ok(_) => return Ok(()),
                Err(e) => {
                    let final_answer =
                        e.code().is_some_and(|code| code != LOCK_WAIT && !ENDED.contains(&code));
                    last = Some(self.failed("rename tables", e));
                    if final_answer {
                        break;
                    }
                }
            }
        }
        match last {
            Some(error) if !self.done().await? => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives foreign keys their later names, and drops those that are not meant any more.
    async fn settle_keys(&self) -> Result<(), StoreError> {
        let mut at = self.controls.locked(self.server, PATIENCE).await?;
        let fail = |e| self.failed("give a foreign key its name", e);
        if self.step.keys.is_empty() && self.step.freed.is_empty() {
            return Ok(());
        }
        at.run("SET SESSION foreign_key_checks = 0").await.map_err(fail)?;
        for (database, table) in &self.step.freed {
            for key in keys_of(&mut at, database, table).await.map_err(fail)? {
                drop_key(&mut at, database, table, &key.name).await.map_err(fail)?;
            }
        }
        for key in &self.step.keys {
            let there = keys_of(&mut at, &key.database, &key.after).await.map_err(fail)?;
            if there.iter().all(|k| k.name != key.temporary) {
                continue;
            }
            let meant = |k: &ForeignKey| {
                let database = k.database.as_ref().unwrap_or(&key.database);
                (database, &k.table) == (&key.refers_after.0, &key.refers_after.1)
                    && k.columns == key.key.columns
            };
            let mut others = there.iter().filter(|k| k.name != key.temporary);
            if let Some(old) = others.clone().find(|k| k.name == key.key.name && !meant(k)) {
                drop_key(&mut at, &key.database, &key.after, &old.name).await.map_err(fail)?;
            }
            if !others.any(meant) {
                let name = free_key(&mut at, &key.database, &key.key.name).await.map_err(fail)?;
                let (database, table) = &key.refers_after;
                let sql = format!(
                    "ALTER TABLE {} ADD {}",
                    full(&key.database, &key.after),
                    key.key.adding(&name, database, table)
                );
                at.run(&sql).await.map_err(fail)?;
            }
            drop_key(&mut at, &key.database, &key.after, &key.temporary).await.map_err(fail)?;
        }
        at.run("SET SESSION foreign_key_checks = 1").await.map_err(fail)?;
        Ok(())
    }

    /// Changes the names back. Tables that came in stand under names of their own then: they may have rows that are nowhere else.
    async fn back(&self) -> Result<(), StoreError> {
        let mut at = self.controls.locked(self.server, PATIENCE).await?;
        let fail = |e| self.failed("rename tables back", e);
        let mut pairs = vec![];
        for rename in self.step.renames.iter().rev() {
            let to = match rename.from.starts_with(super::PREFIX) {
                false => rename.from.clone(),
                true => {
                    free_name(&names(&mut at, &rename.database).await.map_err(fail)?, &rename.to, "__undone_")
                }
            };
            pairs.push(format!("{} TO {}", full(&rename.database, &rename.to), full(&rename.database, &to)));
        }
        at.run(&format!("RENAME TABLE {}", pairs.join(", "))).await.map_err(fail)?;
        Ok(())
    }
}

/// Counts rows of a table that a foreign key to another one does not allow. Rows that it refers to are locked where that is asked for.
pub(super) fn without_partner(table: &str, key: &ForeignKey, refers: &str, lock: bool) -> String {
    let both = key.columns.iter().zip(&key.refers);
    let pairs: Vec<String> =
        both.map(|(own, other)| format!("c.{} = p.{}", quoted(own), quoted(other))).collect();
    let set: Vec<String> = key.columns.iter().map(|own| format!("c.{} IS NOT NULL", quoted(own))).collect();
    format!(
        "SELECT COUNT(*) FROM {table} c WHERE {} AND NOT EXISTS (SELECT 1 FROM {refers} p WHERE {}{})",
        set.join(" AND "),
        pairs.join(" AND "),
        if lock { " LOCK IN SHARE MODE" } else { "" }
    )
}

/// A name that is free: the table's, with something behind it and a number.
pub(super) fn free_name(taken: &std::collections::BTreeSet<String>, name: &str, suffix: &str) -> String {
    let named = |n: u32| super::place::behind(name, &format!("{suffix}{n}"));
    (1..).map(named).find(|name| !taken.contains(name)).unwrap_or_default()
}

/// The name of a foreign key where it is free, else with a number.
async fn free_key(at: &mut Connection, database: &str, name: &str) -> Result<String, WireError> {
    for n in 1..u32::MAX {
        let name = if n == 1 { name.to_owned() } else { super::place::behind(name, &format!("_{n}")) };
        let sql = format!(
            "SELECT 1 FROM information_schema.table_constraints WHERE constraint_schema = {} AND constraint_name = {} \
             AND constraint_type = 'FOREIGN KEY'",
            text(database),
            text(&name)
        );
        if at.rows(&sql).await?.is_empty() {
            return Ok(name);
        }
    }
    Ok(name.to_owned())
}

/// The foreign keys of a table.
pub(super) async fn keys_of(
    at: &mut Connection,
    database: &str,
    table: &str,
) -> Result<Vec<ForeignKey>, WireError> {
    let rows = at.rows(&format!("SHOW CREATE TABLE {}", full(database, table))).await?;
    let statement = rows.first().and_then(|row| row.get(1)?.as_deref()).unwrap_or_default();
    Ok(ForeignKey::all_of(&String::from_utf8_lossy(statement)))
}

async fn drop_key(at: &mut Connection, database: &str, table: &str, key: &str) -> Result<(), WireError> {
    at.run(&format!("ALTER TABLE {} DROP FOREIGN KEY {}", full(database, table), quoted(key))).await.map(drop)
}

fn located<'a>(controls: &'a Controls, plan: &'a Plan) -> Result<Vec<At<'a>>, StoreError> {
    plan.steps
        .iter()
        .map(|step| Ok(At { controls, server: controls.shared.server_named(&step.server)?, step }))
        .collect()
}

/// Whether names have changed on any server.
pub(super) async fn begun(controls: &Controls, plan: &Plan) -> Result<bool, StoreError> {
    for at in located(controls, plan)? {
        if at.done().await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes back what a plan did before names changed.
pub(super) async fn give_up(controls: &Controls, plan: &Plan) -> Result<(), StoreError> {
    for at in located(controls, plan)? {
        at.drop_keys().await?;
        at.drop_triggers().await?;
    }
    Ok(())
}

/// Changes all names, from wherever an earlier process stopped.
pub(super) async fn run(controls: &Controls, plan: &Plan) -> Result<(), Failed> {
    let steps = located(controls, plan).map_err(Failed::Half)?;
    if !begun(controls, plan).await.map_err(Failed::Half)? {
        // Of a process before this one.
        give_up(controls, plan).await.map_err(Failed::Half)?;
        if let Err(error) = prepare(&steps).await {
            return Err(match give_up(controls, plan).await {
                Ok(()) => Failed::Back(error),
                Err(_) => Failed::Half(error),
            });
        }
    }
    let renamed = join_all(steps.iter().map(|at| async { at.rename(&at.step.statement()).await })).await;
    if let Some(error) = renamed.into_iter().find_map(Result::err) {
        return Err(back(&steps, controls, plan, error).await);
    }
    for at in &steps {
        at.settle_triggers().await.map_err(Failed::Half)?;
        at.settle_keys().await.map_err(Failed::Half)?;
    }
    Ok(())
}

async fn prepare(steps: &[At<'_>]) -> Result<(), StoreError> {
    for at in steps {
        at.look_ahead().await?;
    }
    for at in steps {
        at.add_triggers().await?;
    }
    let mut refused = vec![];
    for at in steps {
        refused.extend(at.add_keys().await?);
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(steps[0].controls.shared.unsupported(format!(
            "publish the restored tables: {}; bring those tables back together, to one moment",
            refused.join("; ")
        ))),
    }
}

/// Goes back where a server refuses its names, if all servers say how far they are.
async fn back(steps: &[At<'_>], controls: &Controls, plan: &Plan, error: StoreError) -> Failed {
    let mut changed = vec![];
    for at in steps {
        match at.done().await {
            Ok(true) => changed.push(at),
            Ok(false) => {}
            Err(_) => return Failed::Half(error),
        }
    }
    for at in &changed {
        if at.back().await.is_err() {
            return Failed::Half(error);
        }
    }
    match (give_up(controls, plan).await, changed.is_empty()) {
        (Err(_), _) => Failed::Half(error),
        (Ok(()), true) => Failed::Back(error),
        (Ok(()), false) => Failed::Undone(error),
    }
}
