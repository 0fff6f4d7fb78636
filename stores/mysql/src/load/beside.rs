//! What comes back beside tables: sequences, routines, views, events and accounts, where they are missing.
//!
//! They are made when the tables have their names, because a view cannot be made before. Nothing that stands there is changed. What
//! cannot be made is said and does not undo the restore: the rows are right without it, and no server takes such statements back.

use super::controls::{Controls, PATIENCE};
use super::place::Place;
use super::target::Target;
use super::triggers;
use crate::connection::Connection;
use crate::definitions::{self, Kept, Kind};
use crate::store::Shared;
use crate::wire::WireError;
use keepfast_store::Result;
use std::collections::BTreeSet;

/// The server's number for what is no statement of its own.
const NO_STATEMENT: u16 = 1064;

/// The server's number for an account that is there already.
const CANNOT_USER: u16 = 1396;

/// Where definitions go: to the servers on which tables come back to their databases. Those of other databases are left out, which is said.
pub(super) fn places(shared: &Shared, tables: &[Target], kept: Vec<Kept>) -> Vec<(String, Kept)> {
    let all = || tables.iter().flat_map(|t| &t.places);
    for target in tables {
        triggers::say_homeless(target.triggers.as_deref().unwrap_or_default(), &target.places);
    }
    let name = |place: &Place| shared.servers[place.server].name().to_owned();
    let mut found = vec![];
    for kept in kept {
        let servers: BTreeSet<String> = match kept.kind {
            Kind::User if !shared.accounts => continue,
            Kind::User => all().map(name).collect(),
            _ => all().filter(|p| p.database == kept.database).map(name).collect(),
        };
        if servers.is_empty() {
            tracing::warn!(
                "{} is not made: its tables are restored into another database, which it may not be meant for",
                kept.called()
            );
        }
        found.extend(servers.into_iter().map(|server| (server, kept.clone())));
    }
    found
}

/// Makes what is missing; says of what it did not make, and why.
pub(super) async fn make(controls: &Controls, beside: &[(String, Kept)]) -> Result<Vec<String>> {
    let mut problems = vec![];
    let servers: BTreeSet<&String> = beside.iter().map(|(server, _)| server).collect();
    for server in servers {
        let at = controls.shared.server_named(server)?;
        drop(controls.locked(at, PATIENCE).await?);
        let mut session = controls.shared.servers[at].connect_to_write().await?;
        let mut left: Vec<&Kept> = beside.iter().filter(|(s, _)| s == server).map(|(_, kept)| kept).collect();
        // Views of functions after these, and views of views as often as it takes.
        left.sort_by_key(|kept| match kept.kind {
            Kind::User => 0,
            Kind::Sequence => 1,
            Kind::Function | Kind::Procedure | Kind::Trigger => 2,
            Kind::View => 3,
            Kind::Event => 4,
        });
        let mut accounts = vec![];
        loop {
            let before = left.len();
            let (mut again, mut refused) = (vec![], vec![]);
            for kept in left {
                match one(&mut session, kept).await {
                    Ok(Done::Made) if kept.kind == Kind::User => accounts.push(kept),
                    Ok(Done::Made | Done::There) => {}
                    Ok(Done::Another) => problems.push(format!(
                        "{}: another one stands there, and stays as it is (on {server})",
                        kept.called()
                    )),
                    Err(e @ WireError::Refused { .. }) => {
                        again.push(kept);
                        refused.push(problem(kept, &e, server));
                    }
                    Err(e) => return Err(controls.failed("make what belongs to the restored tables", at, e)),
                }
            }
            let progress = again.len() < before;
            left = again;
            if left.is_empty() || !progress {
                problems.extend(refused);
                break;
            }
        }
        // What they may do when all of them, and the tables, are there.
        for kept in accounts {
            for grant in &kept.then {
                match session.run(grant).await {
                    Err(e @ WireError::Refused { .. }) => problems.push(problem(kept, &e, server)),
                    other => {
                        other.map(drop).map_err(|e| controls.failed("grant what accounts may do", at, e))?
                    }
                }
            }
        }
    }
    Ok(problems)
}

fn problem(kept: &Kept, error: &WireError, server: &str) -> String {
    let called = kept.called();
    match (kept.kind, error.code()) {
        // The server's words may have a part of the statement, and it the hash of a password.
        (Kind::User, Some(code)) => {
            format!("{called}: the server refuses it with error {code} (on {server})")
        }
        (Kind::Sequence, Some(NO_STATEMENT)) => {
            format!("{called}: this server has no sequences (on {server})")
        }
        _ => format!("{called}: {error} (on {server})"),
    }
}

/// What became of a definition.
enum Done {
    Made,
    There,
    Another,
}

/// Makes one that is missing.
async fn one(session: &mut Connection, kept: &Kept) -> Result<Done, WireError> {
    definitions::settled(session).await?;
    if kept.kind == Kind::User {
        return match kept.make(session, &kept.statement()).await {
            // It is there, and keeps what it has.
            Err(e) if e.code() == Some(CANNOT_USER) => Ok(Done::There),
            other => other.map(|()| Done::Made),
        };
    }
    match definitions::read(session, (kept.kind, &kept.database, &kept.name)).await? {
        Some(there) if there.is_like(kept) => Ok(Done::There),
        Some(_) => Ok(Done::Another),
        None => {
            kept.make(session, &kept.statement()).await?;
            if kept.kind == Kind::Event {
                tracing::info!(
                    "{} is made as it was: where it was enabled, it runs from now on",
                    kept.called()
                );
            }
            Ok(Done::Made)
        }
    }
}
