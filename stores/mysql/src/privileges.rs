//! What an account may do, asked before anything is done, so that all that is missing is named at once.

use crate::connection::Connection;
use crate::definitions::{Kept, Kind};
use crate::error::failed;
use crate::names::{full, name_at, quoted};
use crate::store::{Server, Shared};
use crate::wire::WireError;
use keepfast_model::TableName;
use keepfast_store::{LoadOptions, Result, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a grant, or a need, is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Everything,
    /// A database; in a grant, a pattern of databases as LIKE has it.
    Database(String),
    Table(String, String),
}

/// One line of SHOW GRANTS.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    /// A part of wider grants that is taken away.
    revoked: bool,
    /// In capitals; those of single columns are left out.
    privileges: Vec<String>,
    scope: Scope,
}

/// A privilege that is needed: one of these, the first of which is named.
#[derive(Clone, Debug)]
struct Need {
    one_of: &'static [&'static str],
    scope: Scope,
}

/// What an account lacks.
#[derive(Debug, Default)]
struct Missing {
    lines: Vec<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missing: {}", self.lines.join("; "))
    }
}

impl std::error::Error for Missing {}

/// Stands for what `*` means in the name of a database: no grant names it, and one of all such databases reaches it.
const ANY: &str = "0any0";

/// Tables that a list of what is missing names.
const NAMED: usize = 8;

/// The privileges by which all servers are locked and their positions read.
fn for_the_barrier(mariadb: bool) -> Vec<Need> {
    let everywhere = |one_of| Need { one_of, scope: Scope::Everything };
    match mariadb {
        true => vec![everywhere(&["RELOAD"]), everywhere(&["BINLOG MONITOR", "REPLICATION CLIENT"])],
        false => vec![everywhere(&["RELOAD", "FLUSH_TABLES"]), everywhere(&["REPLICATION CLIENT", "SUPER"])],
    }
}

/// Checks that these tables can be backed up. `connections` has one for each server.
///
/// # Errors
/// `Denied` with all that is missing on all servers.
pub(crate) async fn check_backup(
    shared: &Shared,
    connections: &mut [Connection],
    tables: &[TableName],
) -> Result<()> {
    let mut missing = Missing::default();
    let mut accounts = vec![];
    for (server, connection) in shared.servers.iter().zip(connections) {
        let account = Account::ask(connection).await;
        let account = account.map_err(|e| failed("read the grants of its account", &server.address, e))?;
        missing.lines.extend(account.lacks(server, &for_the_barrier(account.mariadb)));
        accounts.push(account);
    }
    // A table must be read on the server that has it. Who may not read it does not even see it, so that any server will do.
    let mut unread = BTreeSet::new();
    for table in tables {
        // Who may not read a table does not see it: a pattern finds all shards only for one who may read all that it can mean.
        if let Some(pattern) = shared.databases_of(&table.table) {
            let scope = Scope::Database(pattern.replace('*', ANY));
            for (account, server) in accounts.iter().zip(&shared.servers) {
                if !account.has(&Need { one_of: &["SELECT"], scope: scope.clone() }) {
                    let like = pattern.replace('_', "\\_").replace('*', "%");
                    let (on, who) = (quoted(&like), &account.name);
                    missing.lines.push(format!("GRANT SELECT ON {on}.* TO {who} (on {})", server.address));
                }
            }
            continue;
        }
        let physical: Vec<(String, String)> = match shared.tables.get(&table.table) {
            Some((shards, _)) => shards.clone(),
            None => {
                let of = |server| (shared.database(table, server).to_owned(), table.table.clone());
                shared.servers.iter().map(of).collect::<BTreeSet<_>>().into_iter().collect()
            }
        };
        let read = |place: &(String, String)| {
            let scope = Scope::Table(place.0.clone(), place.1.clone());
            accounts.iter().any(|a| a.has(&Need { one_of: &["SELECT"], scope: scope.clone() }))
        };
        match shared.tables.contains_key(&table.table) {
            true => unread.extend(physical.into_iter().filter(|place| !read(place))),
            // The same table under the databases of several servers: one that can be read is enough to find it.
            false if !physical.iter().any(read) => unread.extend(physical),
            false => {}
        }
    }
    let who = accounts.first().map(|a| a.name.clone()).unwrap_or_default();
    for (database, table) in unread.iter().take(NAMED) {
        missing.lines.push(format!("GRANT SELECT ON {} TO {who}", full(database, table)));
    }
    if unread.len() > NAMED {
        missing.lines.push(format!("SELECT on {} more tables", unread.len() - NAMED));
    }
    missing.or_none("back up tables of", shared)
}

/// What an account lacks to see all definitions of a database, as the statements that grant it.
pub(crate) async fn unseen(
    connection: &mut Connection,
    server: &Server,
    database: &str,
) -> Result<Vec<String>, WireError> {
    let account = Account::ask(connection).await?;
    let here = |one_of| Need { one_of, scope: Scope::Database(database.to_owned()) };
    let mut needs = vec![here(&["TRIGGER"]), here(&["SHOW VIEW"]), here(&["EVENT"])];
    needs.push(match account.mariadb {
        true => Need { one_of: &["SELECT"], scope: Scope::Table("mysql".into(), "proc".into()) },
        false => Need { one_of: &["SHOW_ROUTINE", "SELECT"], scope: Scope::Everything },
    });
    Ok(account.lacks(server, &needs))
}

/// Whether an account is shown the triggers of a database.
pub(crate) async fn sees_triggers(connection: &mut Connection, database: &str) -> Result<bool, WireError> {
    let account = Account::ask(connection).await?;
    Ok(account.has(&Need { one_of: &["TRIGGER"], scope: Scope::Database(database.to_owned()) }))
}

/// Checks that tables can be restored into the only server.
///
/// # Errors
/// `Denied` with all that is missing; `Unsupported` where the server takes no rows from clients.
pub(crate) async fn check_restore(shared: &Shared, options: &LoadOptions) -> Result<()> {
    let [server] = shared.servers.as_slice() else { return Ok(()) };
    let mut connection = server.connect().await?;
    let fail = |e: WireError| failed("read the grants of its account", &server.address, e);
    let account = Account::ask(&mut connection).await.map_err(fail)?;
    let databases: BTreeSet<&str> =
        options.tables.iter().map(|table| shared.database(&table.target, server)).collect();
    let mut needs = vec![];
    let with_triggers = options.tables.iter().filter_map(|table| {
        let (database, name) = (shared.database(&table.target, server), &table.target.table);
        let mut kept = table.dependents.iter().filter_map(Kept::of_dependent);
        let comes =
            |k: Kept| k.kind == Kind::Trigger && k.database == database && k.table.as_ref() == Some(name);
        kept.any(comes).then_some(database)
    });
    for database in with_triggers.collect::<BTreeSet<_>>() {
        for one_of in [&["TRIGGER"], &["LOCK TABLES"]] {
            needs.push(Need { one_of, scope: Scope::Database(database.to_owned()) });
        }
    }
    for database in databases {
        for one_of in [&["SELECT"], &["INSERT"], &["UPDATE"], &["DELETE"], &["CREATE"], &["ALTER"], &["DROP"]]
        {
            needs.push(Need { one_of, scope: Scope::Database(database.to_owned()) });
        }
    }
    Missing { lines: account.lacks(server, &needs) }.or_none("restore tables into", shared)?;
    let takes = connection.rows("SELECT @@local_infile").await.map_err(fail)?;
    match takes.first().and_then(|row| row.first()?.as_deref()) {
        Some(b"1") => Ok(()),
        _ => {
            Err(shared.unsupported("take rows: local_infile is OFF there, and a restore needs it ON".into()))
        }
    }
}

impl Missing {
    fn or_none(self, what: &str, shared: &Shared) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        Err(StoreError::Denied { what: what.into(), object: shared.to_string(), source: Box::new(self) })
    }
}

/// An account and its grants.
#[derive(Debug)]
struct Account {
    /// As GRANT names it.
    name: String,
    mariadb: bool,
    grants: Vec<Grant>,
}

impl Account {
    async fn ask(connection: &mut Connection) -> Result<Self, WireError> {
        let rows = connection.rows("SELECT CURRENT_USER(), VERSION(), CURRENT_ROLE()").await?;
        let word = |at: usize| {
            let value = rows.first().and_then(|row| row.get(at)?.as_deref());
            value.map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default()
        };
        let mariadb = word(1).contains("MariaDB");
        let whole = word(0);
        let (user, host) = whole.rsplit_once('@').unwrap_or((&whole, "%"));
        let mut lines = match word(2).as_str() {
            // MySQL shows what roles give only when they are named; MariaDB shows those in use.
            "" | "NONE" => connection.rows("SHOW GRANTS").await?,
            _ if mariadb => connection.rows("SHOW GRANTS").await?,
            roles => connection.rows(&format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}")).await?,
        };
        if mariadb {
            // What everybody has; older servers know nothing of it.
            lines.extend(connection.rows("SHOW GRANTS FOR PUBLIC").await.unwrap_or_default());
        }
        let grants = lines.iter().filter_map(|row| parse(&String::from_utf8_lossy(row.first()?.as_deref()?)));
        Ok(Self { name: format!("{}@{}", quoted(user), quoted(host)), mariadb, grants: grants.collect() })
    }

    fn has(&self, need: &Need) -> bool {
        let gives = |grant: &Grant| {
            grant.privileges.iter().any(|p| p == "ALL PRIVILEGES" || need.one_of.contains(&p.as_str()))
        };
        let taken = |name: &str| {
            self.grants
                .iter()
                .any(|g| g.revoked && gives(g) && matches!(&g.scope, Scope::Database(d) if d == name))
        };
        self.grants.iter().filter(|g| !g.revoked && gives(g)).any(|grant| match (&grant.scope, &need.scope) {
            (Scope::Everything, Scope::Everything) => true,
            (Scope::Everything, Scope::Database(name) | Scope::Table(name, _)) => !taken(name),
            (Scope::Database(like), Scope::Database(name) | Scope::Table(name, _)) => is_like(name, like),
            (Scope::Table(..), Scope::Table(..)) => grant.scope == need.scope,
            _ => false,
        })
    }

    /// As GRANT statements, those of one scope together.
    fn lacks(&self, server: &Server, needs: &[Need]) -> Vec<String> {
        let mut missing: BTreeMap<&Scope, Vec<&str>> = BTreeMap::new();
        for need in needs.iter().filter(|need| !self.has(need)) {
            missing.entry(&need.scope).or_default().push(need.one_of[0]);
        }
        let line = |(scope, privileges): (&Scope, Vec<&str>)| {
            let on = match scope {
                Scope::Everything => "*.*".into(),
                Scope::Database(name) => format!("{}.*", quoted(name)),
                Scope::Table(database, name) => full(database, name),
            };
            format!("GRANT {} ON {on} TO {} (on {})", privileges.join(", "), self.name, server.address)
        };
        missing.into_iter().map(line).collect()
    }
}

/// A line of SHOW GRANTS; none for those of roles, routines and other users.
fn parse(line: &str) -> Option<Grant> {
    let (revoked, mut rest) = match line.strip_prefix("GRANT ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("REVOKE ")?),
    };
    let mut privileges = vec![];
    let mut privilege = String::new();
    let mut single = false;
    // A privilege on single columns names them behind it; only names stand in quotes.
    let object = loop {
        if let Some(object) = rest.strip_prefix(" ON ").filter(|_| !single) {
            break object;
        }
        let c = rest.chars().next()?;
        rest = match c {
            '`' => name(rest)?.1,
            _ => &rest[c.len_utf8()..],
        };
        match c {
            '(' => single = true,
            ')' => single = false,
            ',' if !single => privileges.push(std::mem::take(&mut privilege)),
            _ => {}
        }
        if c != ',' || single {
            privilege.push(c);
        }
    };
    privileges.push(privilege);
    let (database, rest) = name(object)?;
    let (table, rest) = name(rest.strip_prefix('.')?)?;
    if !(rest.starts_with(" TO ") || rest.starts_with(" FROM ")) {
        return None;
    }
    let scope = match (database, table) {
        (None, None) => Scope::Everything,
        (Some(database), None) => Scope::Database(database),
        (Some(database), Some(table)) => Scope::Table(database, table),
        (None, Some(_)) => return None,
    };
    let privileges = privileges.iter().map(|p| p.trim().to_uppercase()).filter(|p| !p.contains(['(', '`']));
    Some(Grant { revoked, privileges: privileges.collect(), scope })
}

/// A name in backquotes, or none for `*`; and what stands behind it.
fn name(text: &str) -> Option<(Option<String>, &str)> {
    if let Some(rest) = text.strip_prefix('*') {
        return Some((None, rest));
    }
    name_at(text).map(|(name, rest)| (Some(name), rest))
}

/// Whether a name is like a pattern: `_` is one character, `%` any, and a backslash takes either for itself. Some servers keep names
/// in small letters only, so that case says nothing.
fn is_like(name: &str, pattern: &str) -> bool {
    #[derive(PartialEq)]
    enum Part {
        Any,
        One,
        This(char),
    }
    let small = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    let (mut parts, mut taken) = (vec![], false);
    for c in small(pattern) {
        parts.push(match c {
            '\\' if !taken => {
                taken = true;
                continue;
            }
            '%' if !taken => Part::Any,
            '_' if !taken => Part::One,
            c => Part::This(c),
        });
        taken = false;
    }
    let name = small(name);
    let (mut at, mut part) = (0, 0);
    // Where the last `%` stands, and up to where it reaches so far.
    let mut any: Option<(usize, usize)> = None;
    while at < name.len() {
        match parts.get(part) {
            Some(Part::Any) => {
                any = Some((part, at));
                part += 1;
                continue;
            }
            Some(Part::One) => {}
            Some(Part::This(c)) if *c == name[at] => {}
            _ => {
                let Some((begin, reach)) = any else { return false };
                any = Some((begin, reach + 1));
                (part, at) = (begin + 1, reach + 1);
                continue;
            }
        }
        (part, at) = (part + 1, at + 1);
    }
    parts[part..].iter().all(|p| *p == Part::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_servers_are_understood_and_others_are_left_out() {
        let grant = parse("GRANT SELECT, SHOW VIEW ON `sh``op\\_%`.* TO `u`@`%` WITH GRANT OPTION").unwrap();
        assert_eq!(grant.privileges, ["SELECT", "SHOW VIEW"]);
        assert_eq!(grant.scope, Scope::Database("sh`op\\_%".into()));
        let all = "GRANT ALL PRIVILEGES ON *.* TO `u`@`localhost` IDENTIFIED BY PASSWORD '*7B9E'";
        assert_eq!(parse(all).unwrap().scope, Scope::Everything);
        let columns = parse("GRANT SELECT (`a`, `b ON c`), INSERT ON `d`.`t` TO `u`@`%`").unwrap();
        assert_eq!(columns.privileges, ["INSERT"]);
        assert_eq!(columns.scope, Scope::Table("d".into(), "t".into()));
        assert!(parse("REVOKE SELECT ON `mysql`.* FROM `u`@`%`").unwrap().revoked);
        for other in [
            "GRANT `role`@`%` TO `u`@`%`",
            "GRANT EXECUTE ON PROCEDURE `d`.`p` TO `u`@`%`",
            "GRANT PROXY ON ''@'' TO 'root'@'localhost' WITH GRANT OPTION",
            "GRANT `r` TO `u`@`%`",
            "GRANT SELECT ON `d",
            "",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_grant_counts_where_it_reaches_and_not_where_it_was_taken_back() {
        let account = |lines: &[&str]| Account {
            name: "`u`@`%`".into(),
            mariadb: false,
            grants: lines.iter().filter_map(|line| parse(line)).collect(),
        };
        let select = |d: &str, t: &str| Need { one_of: &["SELECT"], scope: Scope::Table(d.into(), t.into()) };
        let one = account(&["GRANT SELECT ON `shop\\_0_`.* TO `u`@`%`"]);
        assert!(one.has(&select("shop_07", "t")));
        assert!(!one.has(&select("shopx07", "t")) && !one.has(&select("shop_070", "t")));
        let all = account(&["GRANT SELECT ON *.* TO `u`@`%`", "REVOKE SELECT ON `hr`.* FROM `u`@`%`"]);
        assert!(all.has(&select("shop", "t")) && !all.has(&select("hr", "t")));
        let table = account(&["GRANT SELECT ON `d`.`t` TO `u`@`%`", "GRANT USAGE ON *.* TO `u`@`%`"]);
        assert!(table.has(&select("d", "t")) && !table.has(&select("d", "u")));
        assert!(!table.has(&Need { one_of: &["SELECT"], scope: Scope::Everything }));
        assert!(is_like("abc", "a%c") && is_like("", "%") && !is_like("ab", "a") && is_like("A_c", "a\\_C"));
    }
}
