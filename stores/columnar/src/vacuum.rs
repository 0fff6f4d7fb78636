//! Removing what nothing needs any more: versions past their time, dropped tables, and what unfinished writers left.
//!
//! First a catalog entry says what is condemned, then it is removed. A writer whose commit comes after that entry sees
//! it and starts anew; a writer whose commit came before it made the vacuum look again. So nothing that a kept version
//! refers to is ever removed, whoever stops wherever. Ages only decide what is looked at, never what is safe.

use crate::catalog::{Catalog, Condemned, CondemnedRef};
use crate::cut::Hold;
use crate::names::{self, WriterId};
use crate::seal::is_sealed;
use crate::store::ColumnarStore;
use crate::version::VersionFile;
use crate::{Result, fault};
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use keepfast_model::{ByteCount, TableId, TableName};
use keepfast_objects::ObjectInfo;
use keepfast_store::StoreError;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// What is kept of the past.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Versions of each table that are kept whatever their age, the newest among them; at least 1.
    pub versions: u64,
    /// Versions that were the newest at any time since then are kept too, so that an incremental backup a day finds where the
    /// last one was.
    pub age: Duration,
    /// But never more than this many.
    pub most: u64,
    /// Dropped tables and half-written files stay this long: their readers and writers may be at work.
    pub leftovers: Duration,
    /// Writes and loads that did not end stay this long after the last object that was written for them.
    pub unfinished: Duration,
    /// Loads that another process can go on with stay this long after they began.
    pub loads: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            versions: 100,
            age: Duration::from_secs(48 * 3600),
            most: 10_000,
            leftovers: Duration::from_secs(3600),
            unfinished: Duration::from_secs(48 * 3600),
            loads: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

impl Retention {
    /// Only the newest version of each table, and nothing unfinished: for when nobody else uses the store.
    pub fn newest() -> Self {
        let none = Duration::ZERO;
        Self { versions: 1, age: none, most: 1, leftovers: none, unfinished: none, loads: none }
    }
}

/// What a vacuum removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Versions past their time.
    pub versions: u64,
    /// Tables that are no longer visible.
    pub tables: u64,
    /// Objects of all kinds.
    pub objects: u64,
    /// Their bytes.
    pub bytes: ByteCount,
    /// One line each of what was removed, for people.
    pub lines: Vec<String>,
}

/// How long lists of condemned objects are kept; a write that takes longer starts anew.
const CONDEMNED_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Objects read or removed at once.
const AT_ONCE: usize = 16;

/// Version files by their names.
type Versions = HashMap<String, Arc<VersionFile>>;

/// Marks a table whose older versions were condemned.
pub(crate) fn versions_of(table: &TableId) -> String {
    format!("versions:{table}")
}

/// What a vacuum looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    /// Everything.
    All,
    /// One table.
    Table(&'a TableId),
    /// What no catalog entry shows: dropped tables, and loads.
    Hidden,
}

/// What is to be removed, found for one catalog entry.
#[derive(Debug, Default)]
struct Plan {
    /// In the order of removal.
    objects: Vec<ObjectInfo>,
    condemned: HashSet<String>,
    dropped: HashSet<TableId>,
    removed: Removed,
}

impl ColumnarStore {
    /// Removes what `retention` does not keep, of one table or of all.
    ///
    /// # Errors
    /// `NoTable`; `Conflict` when writers come first again and again. What was removed before stays removed.
    pub async fn vacuum(&self, table: Option<&TableName>, retention: &Retention) -> Result<Removed> {
        let only = match table {
            Some(name) => Some(self.table(name).await?.id),
            None => None,
        };
        self.vacuum_scope(only.as_ref().map_or(Scope::All, Scope::Table), retention).await
    }

    pub(crate) async fn vacuum_scope(&self, scope: Scope<'_>, retention: &Retention) -> Result<Removed> {
        let place = &self.shared.place;
        for tried in 0..20 {
            // Once another writer was first, those of this process wait until the next plan is done.
            let mut turn = if tried == 0 { None } else { Some(self.shared.turn.acquire().await) };
            let head = self.shared.head().await?;
            self.end_removal(&head).await?;
            let plan = self.plan_vacuum(&head, scope, retention).await?;
            if plan.objects.is_empty() && plan.dropped.is_empty() {
                return Ok(plan.removed);
            }
            let writer = WriterId::random();
            let mut next = head.next(&writer, "vacuum".into());
            next.dropped.retain(|d| !plan.dropped.contains(&d.id));
            let object = format!("{}/{:020}-{writer}.json", names::CONDEMNED, next.seq);
            let mut ids: Vec<String> = plan.condemned.iter().cloned().collect();
            ids.sort_unstable();
            let list = Condemned { format: crate::place::FORMAT, ids, before: head.condemned.clone() };
            place.put(&object, place.encode(&object, &list)?).await?;
            next.condemned = Some(CondemnedRef { seq: next.seq, object: object.clone() });
            if turn.is_none() {
                turn = Some(self.shared.turn.acquire().await);
            }
            let done = self.shared.try_commit(&head, next).await?.is_some();
            drop(turn);
            if !done {
                place.delete(&object).await?;
                continue;
            }
            for stage in plan.objects.chunk_by(|a, b| kind(&a.path) == kind(&b.path)) {
                let paths: Vec<String> = stage.iter().map(|o| o.path.clone()).collect();
                stream::iter(paths)
                    .map(|path| {
                        let place = place.clone();
                        async move { place.delete(&path).await }
                    })
                    .buffered(AT_ONCE)
                    .try_collect::<()>()
                    .await?;
            }
            self.sweep_condemned().await?;
            return Ok(plan.removed);
        }
        Err(StoreError::Conflict {
            table: match scope {
                Scope::Table(id) => id.0.clone(),
                Scope::All | Scope::Hidden => "all tables".into(),
            },
            reason: "other writers were always first".into(),
        })
    }

    async fn plan_vacuum(
        &self,
        head: &Arc<Catalog>,
        scope: Scope<'_>,
        retention: &Retention,
    ) -> Result<Plan> {
        let now = Timestamp::now();
        // Holds are read after the catalog entry: a cut that is not seen here looks at the catalog after us.
        let held = self.held(now).await?;
        let loading = crate::resume::tables(self, retention.loads, now).await?;
        let mut plan = Plan::default();
        for (id, objects) in self.objects_by_table(head, scope).await? {
            match head.by_id(&id) {
                Some(entry) => {
                    let newest = self.shared.version(&id, &entry.file).await?;
                    let mut keep = Keep::default();
                    keep.newest(newest.clone(), entry.file.clone());
                    let read = self.read_versions(&id, &objects).await?;
                    self.keep_versions(&mut keep, newest, &read, retention, now).await?;
                    self.keep_held(&mut keep, &id, held.get(&id)).await?;
                    self.refer(&mut keep, &id).await?;
                    plan.unreferenced(&id, objects, &keep, retention, now);
                }
                None if held.contains_key(&id) || loading.contains(&id) => {}
                None => {
                    let dropped = head.dropped.iter().find(|d| d.id == id);
                    let gone = match dropped {
                        Some(d) => older(d.at, retention.leftovers, now),
                        None => objects.iter().all(|o| older_ms(o.modified_ms, retention.unfinished, now)),
                    };
                    if gone {
                        plan.table(id, dropped.map(|d| &d.name), objects);
                    }
                }
            }
        }
        // A dropped table may have no objects left.
        for d in &head.dropped {
            if matches!(scope, Scope::Table(id) if *id != d.id) {
                continue;
            }
            if !held.contains_key(&d.id) && older(d.at, retention.leftovers, now) {
                plan.dropped.insert(d.id.clone());
            }
        }
        plan.objects.sort_by(|a, b| kind(&a.path).cmp(&kind(&b.path)).then_with(|| a.path.cmp(&b.path)));
        Ok(plan)
    }

    /// The objects of each table that is to be looked at.
    async fn objects_by_table(
        &self,
        head: &Catalog,
        scope: Scope<'_>,
    ) -> Result<BTreeMap<TableId, Vec<ObjectInfo>>> {
        let place = &self.shared.place;
        let folders = match scope {
            Scope::All => vec![names::DATA.to_owned()],
            Scope::Table(id) => vec![names::table(id)],
            Scope::Hidden => {
                let folders = place.folders(names::DATA).await?;
                let visible = |name: &String| head.by_id(&TableId(name.clone())).is_some();
                folders
                    .into_iter()
                    .filter(|name| !visible(name))
                    .map(|name| names::table(&TableId(name)))
                    .collect()
            }
        };
        let mut tables: BTreeMap<TableId, Vec<ObjectInfo>> = BTreeMap::new();
        for folder in folders {
            for object in place.list(&folder).await? {
                if let Some(id) = names::parse_table(&object.path) {
                    tables.entry(id).or_default().push(object);
                }
            }
        }
        Ok(tables)
    }

    /// Versions that open cuts hold; expired holds are removed.
    async fn held(&self, now: Timestamp) -> Result<HashMap<TableId, Vec<String>>> {
        let place = &self.shared.place;
        let mut held: HashMap<TableId, Vec<String>> = HashMap::new();
        for object in place.list(names::HOLDS).await? {
            // A hold can be given back while we look.
            let Some(bytes) = place.find(&object.path).await? else { continue };
            if place.keys().is_some() && !is_sealed(&bytes) {
                // Its reader knew of no keys, and what it held is gone.
                place.delete(&object.path).await?;
                continue;
            }
            match place.decode::<Hold>(&object.path, &bytes) {
                Ok(hold) if hold.until > now => {
                    for table in hold.tables {
                        held.entry(table.id).or_default().push(table.file);
                    }
                }
                Ok(_) => place.delete(&object.path).await?,
                // A hold that a crash tore holds nothing.
                Err(StoreError::Damaged { .. })
                    if older_ms(object.modified_ms, Duration::from_secs(3600), now) =>
                {
                    place.delete(&object.path).await?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(held)
    }

    /// The version files among a table's objects, by their names. They may be many, so several are read at once.
    async fn read_versions(&self, table: &TableId, objects: &[ObjectInfo]) -> Result<Versions> {
        let files = objects.iter().filter(|o| kind(&o.path) == 0).filter_map(|o| o.path.rsplit('/').next());
        stream::iter(files.map(str::to_owned).collect::<Vec<_>>())
            .map(|file| async move {
                match self.shared.find_version(table, &file).await {
                    Ok(found) => Ok(found.map(|version| (file, version))),
                    // One that nobody refers to is no concern.
                    Err(StoreError::Damaged { .. }) => Ok(None),
                    Err(e) => Err(e),
                }
            })
            .buffered(AT_ONCE)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await
    }

    /// Goes back from the newest version as far as versions are kept, and notes the writers of those before.
    async fn keep_versions(
        &self,
        keep: &mut Keep,
        newest: Arc<VersionFile>,
        read: &Versions,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<()> {
        let mut at = newest;
        let mut kept = 1;
        let mut keeping = true;
        while let Some(parent) = at.parent.clone() {
            let version = match read.get(&parent) {
                Some(version) => version.clone(),
                None => match self.shared.find_version(&at.table, &parent).await? {
                    Some(version) => version,
                    None => break,
                },
            };
            // It was the newest until the one after it was made.
            keeping = keeping
                && kept < retention.most.max(1)
                && (kept < retention.versions || !older(at.at, retention.age, now));
            keep.committed.insert(version.writer.clone());
            if keeping {
                kept += 1;
                keep.newest(version.clone(), parent);
            }
            at = version;
        }
        Ok(())
    }

    async fn keep_held(&self, keep: &mut Keep, table: &TableId, files: Option<&Vec<String>>) -> Result<()> {
        for file in files.into_iter().flatten() {
            if let Some(version) = self.shared.find_version(table, file).await? {
                keep.newest(version, file.clone());
            }
        }
        Ok(())
    }

    /// Everything that the kept versions refer to.
    async fn refer(&self, keep: &mut Keep, table: &TableId) -> Result<()> {
        let mut pages = HashMap::new();
        for version in keep.versions.values() {
            pages.extend(version.pages.iter().map(|p| (p.name.clone(), p.clone())));
        }
        let mut pages =
            stream::iter(pages)
                .map(|(name, page)| async move {
                    Ok::<_, StoreError>((name, self.shared.page(table, &page).await?))
                })
                .buffered(AT_ONCE);
        while let Some((name, segments)) = pages.try_next().await? {
            keep.names.extend(segments.iter().map(|segment| names::segment(table, &segment.file_name())));
            keep.names.insert(names::page(table, &name));
        }
        keep.names.extend(keep.versions.keys().map(|file| names::version(table, file)));
        Ok(())
    }

    async fn sweep_condemned(&self) -> Result<()> {
        let now = Timestamp::now();
        let place = &self.shared.place;
        for object in place.list(names::CONDEMNED).await? {
            if older_ms(object.modified_ms, CONDEMNED_KEPT, now) {
                place.delete(&object.path).await?;
            }
        }
        Ok(())
    }

    /// As [`Self::vacuum`] with the usual retention, and what writers left in the place itself.
    pub(crate) async fn sweep_all(&self) -> Result<Vec<String>> {
        let mut lines = self.vacuum_scope(Scope::All, &self.shared.options.retention).await?.lines;
        let files = self.sweep_files().await?;
        if files > 0 {
            lines.push(format!("{files} unfinished files"));
        }
        Ok(lines)
    }

    /// Removes files that dead writers left half written.
    pub(crate) async fn sweep_files(&self) -> Result<u64> {
        let leftovers = self.shared.options.retention.leftovers;
        self.shared.place.target.sweep(leftovers).await.map_err(fault::objects)
    }
}

/// What is kept of one table.
#[derive(Debug, Default)]
struct Keep {
    versions: HashMap<String, Arc<VersionFile>>,
    /// Writers whose work is done: nothing of them is under way.
    committed: HashSet<WriterId>,
    names: HashSet<String>,
}

impl Keep {
    fn newest(&mut self, version: Arc<VersionFile>, file: String) {
        self.committed.insert(version.writer.clone());
        self.versions.insert(file, version);
    }
}

impl Plan {
    /// Objects of a visible table that no kept version refers to.
    fn unreferenced(
        &mut self,
        table: &TableId,
        objects: Vec<ObjectInfo>,
        keep: &Keep,
        retention: &Retention,
        now: Timestamp,
    ) {
        let (mut versions, mut n) = (0u64, 0u64);
        // A writer is at work as long as something of it is young.
        let mut last: HashMap<Option<WriterId>, i64> = HashMap::new();
        for object in &objects {
            let at = last.entry(writer_of(&object.path)).or_insert(object.modified_ms);
            *at = object.modified_ms.max(*at);
        }
        for object in objects.into_iter().filter(|o| !keep.names.contains(&o.path)) {
            let writer = writer_of(&object.path);
            let done = writer.as_ref().is_some_and(|w| keep.committed.contains(w));
            let written = last.get(&writer).copied().unwrap_or(object.modified_ms);
            if !done && !older_ms(written, retention.unfinished, now) {
                continue;
            }
            if kind(&object.path) == 0 {
                versions += 1;
            }
            n += 1;
            self.condemned.extend(writer.filter(|_| !done).map(|w| w.0));
            self.add(object);
        }
        if n > 0 {
            self.condemned.insert(versions_of(table));
            self.removed.versions += versions;
            self.removed.lines.push(format!("table {table}: {versions} versions, {n} objects"));
        }
    }

    /// All of a table that is not visible.
    fn table(&mut self, id: TableId, name: Option<&TableName>, objects: Vec<ObjectInfo>) {
        let what = name.map_or_else(|| "unfinished load".to_owned(), |n| format!("dropped table {n}"));
        self.removed.tables += 1;
        self.removed.lines.push(format!("{what} ({id}): {} objects", objects.len()));
        self.condemned.insert(id.0.clone());
        self.condemned.insert(versions_of(&id));
        self.dropped.insert(id);
        objects.into_iter().for_each(|o| self.add(o));
    }

    fn add(&mut self, object: ObjectInfo) {
        self.removed.objects += 1;
        self.removed.bytes += ByteCount(object.bytes);
        self.objects.push(object);
    }
}

/// The writer of an object of a table.
fn writer_of(path: &str) -> Option<WriterId> {
    let file = path.rsplit('/').next().unwrap_or_default();
    names::parse_version_file(file).map(|(_, writer)| writer).or_else(|| names::writer_of(file))
}

/// The order of removal: versions first, so that nobody finds one whose rows are gone.
fn kind(path: &str) -> u8 {
    match path.split('/').nth(2) {
        Some("versions") => 0,
        Some("pages") => 1,
        _ => 2,
    }
}

pub(crate) fn older(at: Timestamp, age: Duration, now: Timestamp) -> bool {
    older_ms(at.as_millisecond(), age, now)
}

fn older_ms(at_ms: i64, age: Duration, now: Timestamp) -> bool {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    now.as_millisecond().saturating_sub(at_ms) >= age
}
