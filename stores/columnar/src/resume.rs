//! Loads that outlive their process: what is remembered of them, and how far they are.
//!
//! `loads/<id>/load.json` makes a load one that another process can go on with: its token and its caller's purpose.
//! Notes stand beside it, and before each try to publish what that try would do. Whether it did is what the catalog
//! says: the entry of that number is by that writer. So a crash between a publication and its answer loses neither.

use crate::catalog::Catalog;
use crate::load::{ColumnarLoad, Token};
use crate::names;
use crate::store::ColumnarStore;
use crate::vacuum::older;
use crate::{Result, fault};
use jiff::Timestamp;
use keepfast_model::TableId;
use keepfast_objects::Put;
use keepfast_store::{LoadState, Published, StoreError, UnfinishedLoad};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// A load as it is remembered.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    format: u32,
    at: Timestamp,
    purpose: serde_json::Value,
    token: Token,
}

/// What a try to publish would do.
#[derive(Debug, Serialize, Deserialize)]
struct Intent {
    format: u32,
    published: Published,
    /// The version of each target then.
    files: Vec<(TableId, String)>,
}

/// Loads that are remembered, the oldest first.
pub(crate) async fn unfinished(store: &ColumnarStore) -> Result<Vec<UnfinishedLoad>> {
    let place = &store.shared.place;
    let mut found = vec![];
    let objects = place.list(names::LOADS).await?;
    if !objects.is_empty() {
        // With the catalog come the keys, where there are some.
        store.shared.head().await?;
    }
    for object in objects {
        if names::parse_load(&object.path).is_none() {
            continue;
        }
        // Another process may forget it while we look.
        let Some(bytes) = place.find(&object.path).await? else { continue };
        match place.decode::<Remembered>(&object.path, &bytes) {
            Ok(load) => found.push(UnfinishedLoad {
                targets: load.token.tables.iter().map(|t| t.load.target.clone()).collect(),
                token: to_json(&load.token)?,
                purpose: load.purpose,
                begun: load.at,
            }),
            // One that cannot be read is nobody's to go on with.
            Err(error) => tracing::warn!(object = %object.path, %error, "an unfinished load cannot be read"),
        }
    }
    found.sort_by_key(|load| load.begun);
    Ok(found)
}

/// Tables of remembered loads that began less than `age` ago: another process may go on with them.
pub(crate) async fn tables(store: &ColumnarStore, age: Duration, now: Timestamp) -> Result<HashSet<TableId>> {
    let place = &store.shared.place;
    let mut tables = HashSet::new();
    for object in place.list(names::LOADS).await? {
        if names::parse_load(&object.path).is_none() {
            continue;
        }
        let Some(bytes) = place.find(&object.path).await? else { continue };
        // One that cannot be read is nobody's to go on with.
        if let Ok(load) = place.decode::<Remembered>(&object.path, &bytes)
            && !older(load.at, age, now)
        {
            tables.extend(load.token.tables.into_iter().map(|table| table.id));
        }
    }
    Ok(tables)
}

fn to_json<T: Serialize>(value: &T) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|e| fault::damaged("a load's token", e.to_string()))
}

impl ColumnarLoad {
    pub(crate) async fn remember_in_place(&self, purpose: &serde_json::Value) -> Result<bool> {
        let place = &self.store.shared.place;
        let name = names::load(&self.token.id);
        let load = Remembered {
            format: crate::place::FORMAT,
            at: Timestamp::now(),
            purpose: purpose.clone(),
            token: self.token.clone(),
        };
        place.create(&name, place.encode(&name, &load)?).await?;
        Ok(true)
    }

    pub(crate) async fn note_in_place(&self, name: &str, note: &serde_json::Value) -> Result<bool> {
        let place = &self.store.shared.place;
        let name = names::note(&self.token.id, name);
        Ok(place.create(&name, place.encode(&name, note)?).await? == Put::Created)
    }

    pub(crate) async fn notes_in_place(&self) -> Result<BTreeMap<String, serde_json::Value>> {
        let place = &self.store.shared.place;
        let mut notes = BTreeMap::new();
        for object in place.list(&names::notes(&self.token.id)).await? {
            let name = object.path.rsplit('/').next().and_then(|file| file.strip_suffix(".json"));
            let (Some(name), Some(bytes)) = (name, place.find(&object.path).await?) else { continue };
            if let Ok(note) = place.decode_any(&object.path, &bytes) {
                notes.insert(name.to_owned(), note);
            }
        }
        Ok(notes)
    }

    /// Notes what a catalog entry would publish. Durable with the entry.
    pub(crate) async fn intend(&self, next: &Catalog, published: &Published) -> Result<()> {
        let place = &self.store.shared.place;
        if !place.exists(&names::load(&self.token.id)).await? {
            return Ok(());
        }
        let files = self.token.tables.iter().filter_map(|t| next.table(&t.load.target));
        let intent = Intent {
            format: crate::place::FORMAT,
            published: published.clone(),
            files: files.map(|entry| (entry.id.clone(), entry.file.clone())).collect(),
        };
        let name = names::intent(&self.token.id, next.seq, &next.writer);
        place.put(&name, place.encode(&name, &intent)?).await
    }

    /// What a try to publish did, where one succeeded.
    async fn intent_done(&self, head: &Catalog) -> Result<Option<Intent>> {
        let shared = &self.store.shared;
        for object in shared.place.list(&names::intents(&self.token.id)).await? {
            let file = object.path.rsplit('/').next().unwrap_or_default();
            let Some((seq, writer)) = names::parse_version_file(file) else { continue };
            let Some(bytes) = shared.place.find(&object.path).await? else { continue };
            let Ok(intent) = shared.place.decode::<Intent>(&object.path, &bytes) else { continue };
            let done = match shared.entry(seq).await? {
                Some(entry) => entry.writer == writer,
                // The entry is swept. What stands as it was meant was done; else nobody can go on with it anyway.
                None => seq < head.seq && intent.stands(head),
            };
            if done {
                return Ok(Some(intent));
            }
        }
        Ok(None)
    }

    pub(crate) async fn state_in_place(&self) -> Result<LoadState> {
        let shared = &self.store.shared;
        let head = shared.head().await?;
        if let Some(intent) = self.intent_done(&head).await? {
            return Ok(match intent.stands(&head) {
                true => LoadState::Published(intent.published),
                false => LoadState::Over("its tables were changed since it was published".into()),
            });
        }
        let over = |reason: &str| Ok(LoadState::Over(reason.to_owned()));
        if !shared.place.exists(&names::load(&self.token.id)).await? {
            return over("it was abandoned or forgotten");
        }
        if self.token.tables.iter().any(|t| head.knows(&t.id)) {
            return over("it was published, and its tables were changed since");
        }
        let ids: Vec<&str> = self.token.tables.iter().map(|t| t.id.0.as_str()).collect();
        if shared.condemned_since(self.token.since, &head, &ids).await? {
            return over("what it had written was swept");
        }
        Ok(LoadState::Open)
    }

    /// The answer of a publication by another process that goes on with this load; none where nobody published it.
    pub(crate) async fn published_by_another(&self, head: &Catalog) -> Result<Option<Published>> {
        if !self.token.tables.iter().any(|t| head.knows(&t.id)) {
            return Ok(None);
        }
        match self.intent_done(head).await? {
            Some(intent) => Ok(Some(intent.published)),
            None => Err(StoreError::Conflict {
                table: self.token.tables.first().map_or_else(String::new, |t| t.load.target.to_string()),
                reason: "this load was published before".into(),
            }),
        }
    }

    /// Removes what is remembered of it: first what makes it one.
    pub(crate) async fn forget_in_place(&self) -> Result<()> {
        let place = &self.store.shared.place;
        place.delete(&names::load(&self.token.id)).await?;
        for object in place.list(&format!("{}/{}", names::LOADS, self.token.id)).await? {
            place.delete(&object.path).await?;
        }
        Ok(())
    }
}

impl Intent {
    /// Whether every target is as it was meant to be.
    fn stands(&self, head: &Catalog) -> bool {
        self.files.iter().all(|(id, file)| head.by_id(id).is_some_and(|entry| entry.file == *file))
    }
}
