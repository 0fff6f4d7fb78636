//! Which physical tables the foreign keys of a loaded table refer to.

use super::Target;
use crate::definition::ForeignKey;
use crate::names::full;
use crate::store::Shared;

/// The foreign keys of the n-th physical table of a target.
///
/// The statement that a backup keeps is that of one shard, and names shards. A key to a declared table refers to the part of it that is the
/// n-th as well, where both have as many and it stands in the same database, else to the only part that stands there. A key to any
/// other table refers to the one of that name in the same database. Servers have no foreign keys to tables of other servers, and rows whose
/// partner is in another part are refused when the key is made.
///
/// # Errors
/// A text for people, where several parts could be meant.
pub(super) fn keys_of(shared: &Shared, target: &Target, n: usize) -> Result<Vec<ForeignKey>, String> {
    let keys = target.definition.foreign.iter();
    match target.places.as_slice() {
        [_] => Ok(keys.cloned().collect()),
        _ => keys.map(|key| of_shard(shared, target, n, key)).collect(),
    }
}

fn of_shard(shared: &Shared, target: &Target, n: usize, key: &ForeignKey) -> Result<ForeignKey, String> {
    let database = &target.places[n].database;
    if key.database.is_some() {
        return Ok(key.clone());
    }
    let declared = shared.tables.iter().find(|(_, (shards, _))| {
        shards.iter().any(|(_, name)| *name == key.table) && shards.iter().any(|(at, _)| at == database)
    });
    let Some((table, (shards, _))) = declared else { return Ok(key.clone()) };
    let here: Vec<&String> = shards.iter().filter(|(at, _)| at == database).map(|(_, name)| name).collect();
    let alike = shards.get(n).filter(|(at, _)| shards.len() == target.places.len() && at == database);
    match (alike, here.as_slice()) {
        (Some((_, name)), _) => Ok(ForeignKey { table: name.clone(), ..key.clone() }),
        (None, [name]) => Ok(ForeignKey { table: (*name).clone(), ..key.clone() }),
        (None, several) => Err(format!(
            "foreign key '{}' of {} refers to table '{table}', which has {} parts in that database, and which one is meant is not known; declare \
             both tables with as many shards in each database",
            key.name,
            full(database, &target.places[n].name),
            several.len()
        )),
    }
}
