//! Every call to the place of objects goes wrong in every way: what was committed stays whole, what was not is nowhere,
//! and the next process goes on without any step by hand.

use crate::common::{
    PHRASE, batch, begin, encrypted_memory, holding, map, memory, name, opened_by, over, schema, small,
};
use futures::future::BoxFuture;
use keepfast_columnar::{ColumnarStore, Options, Retention};
use keepfast_model::RunId;
use keepfast_objects::Target;
use keepfast_objects::faulty::{Fault, Process, Script};
use keepfast_store::load::LoadTable;
use keepfast_store::{CutOptions, LoadMode, LoadOptions, OnDuplicate, Result, Store};
use object_store::ObjectStore;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;

type State = BTreeMap<String, BTreeMap<i64, String>>;
/// Of values, of a column's type and of how a version was made.
const WORDS: &[&str] = &["restored", "again", "\"text\"", "\"columns\""];

type Act = fn(ColumnarStore) -> BoxFuture<'static, Result<()>>;

/// What the store is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    WithKeys,
}

impl Kind {
    async fn fresh(self) -> Arc<dyn ObjectStore> {
        let objects = match self {
            Self::Plain => memory(),
            Self::WithKeys => encrypted_memory().await,
        };
        prepare(&self.store(&objects)).await;
        objects
    }

    fn options(self) -> Options {
        match self {
            Self::Plain => small(),
            Self::WithKeys => opened_by(PHRASE),
        }
    }

    fn store(self, objects: &Arc<dyn ObjectStore>) -> ColumnarStore {
        over(objects, self.options())
    }

    /// The store as a process sees it.
    fn seen_by(self, process: &Process, objects: &Arc<dyn ObjectStore>) -> ColumnarStore {
        let target = Target::new(objects.clone(), Path::default(), "memory:store");
        ColumnarStore::with_options(process.wrap(&target), self.options())
    }
}

async fn state(store: &ColumnarStore) -> State {
    let mut all = State::new();
    for table in store.tables().await.unwrap() {
        let rows = map(store, &table.to_string()).await;
        // A kept table's number follows the catalog's; its rows are what matters.
        let shown = table.to_string().split("__replaced").next().unwrap().to_owned();
        let key = if table.to_string().contains("__replaced") { format!("{shown} before") } else { shown };
        all.insert(key, rows);
    }
    all
}

async fn prepare(store: &ColumnarStore) {
    let s = schema(true);
    for table in ["t", "u"] {
        store.create_table(&name(table), &s, false).await.unwrap();
        let rows: Vec<(i64, String)> = (0..100).map(|i| (i, format!("{table} {i}"))).collect();
        let rows: Vec<(i64, &str)> = rows.iter().map(|(i, v)| (*i, v.as_str())).collect();
        let mut change = begin(store, table).await;
        change.insert(batch(&s, &rows), OnDuplicate::Refuse).await.unwrap();
        change.commit().await.unwrap();
        for i in 0..3 {
            let mut change = begin(store, table).await;
            change.upsert(batch(&s, &[(i * 30, "again")])).await.unwrap();
            change.commit().await.unwrap();
        }
    }
}

async fn copy(from: &Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    let to = memory();
    let found: Vec<_> = from.list(None).try_collect().await.unwrap();
    for object in found {
        let bytes = from.get(&object.location).await.unwrap().bytes().await.unwrap();
        to.put(&object.location, bytes.into()).await.unwrap();
    }
    to
}

/// Runs an act with each of its calls going wrong in turn, in each of these ways.
async fn goes_wrong_everywhere(what: &str, act: Act, faults: &[Fault]) {
    goes_wrong_everywhere_in(Kind::Plain, what, act, faults).await;
    // What a fault does to calls is the same for sealed objects; that nothing is left in clear is not.
    goes_wrong_everywhere_in(
        Kind::WithKeys,
        what,
        act,
        &[Fault::DiesBefore, Fault::DiesAfter, Fault::LosesAnswer],
    )
    .await;
}

async fn goes_wrong_everywhere_in(kind: Kind, what: &str, act: Act, faults: &[Fault]) {
    let fresh = kind.fresh().await;
    let before = state(&kind.store(&fresh)).await;
    let whole = copy(&fresh).await;
    let counted = Process::default();
    act(kind.seen_by(&counted, &whole)).await.unwrap();
    let after = state(&kind.store(&whole)).await;
    let (mut untouched, mut done) = (0, 0);
    for operation in counted.trace() {
        for fault in faults.iter().filter(|f| f.fits(operation.kind)) {
            let said = format!("{what}, {fault} at {operation}");
            let objects = copy(&fresh).await;
            let process = Process::new(Script::at(operation.number, *fault));
            let answer = act(kind.seen_by(&process, &objects)).await;
            let next = kind.store(&objects);
            let found = state(&next).await;
            assert!(found == before || found == after, "{said}: {found:?}");
            assert!(answer.is_err() || found == after, "{said}: done and not to be seen");
            process.settle().await;
            if kind == Kind::WithKeys {
                assert_eq!(
                    holding(&objects, WORDS).await,
                    [] as [String; 0],
                    "{said}: something stands in clear"
                );
            }
            let found = state(&next).await;
            assert!(found == before || found == after, "{said}, settled: {found:?}");
            if found == before {
                untouched += 1;
            } else {
                done += 1;
            }
            // The next process sweeps what is left and does the same, where it was not done.
            next.vacuum(None, &Retention::newest()).await.unwrap();
            assert_eq!(state(&next).await, found, "{said}: a vacuum changed the tables");
            if found == before {
                act(next.clone()).await.unwrap();
                assert_eq!(state(&next).await, after, "{said}: not done by the next process");
            }
        }
    }
    if kind == Kind::Plain {
        assert!(!holding(&whole, WORDS).await.is_empty(), "the words are found where nothing is encrypted");
    }
    eprintln!("COUNT {} cuts: {what}, {kind:?}; {untouched} left it undone, {done} done", untouched + done);
    assert!(before == after || (done > 1 && untouched > 2), "{what}: {untouched} before, {done} after");
}

/// All faults but those of a place that stores nothing: nobody here reads the rows back, as a restore does.
fn honest() -> Vec<Fault> {
    Fault::ALL.into_iter().filter(|f| *f != Fault::Swallowed).collect()
}

fn insert_and_update(store: ColumnarStore) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let s = schema(true);
        let mut change = store.table(&name("t")).await?.begin().await?;
        let rows: Vec<(i64, &str)> = (200..260).map(|i| (i, "new")).collect();
        change.insert(batch(&s, &rows), OnDuplicate::Refuse).await?;
        change.delete_keys(batch(&s, &[(5, ""), (50, ""), (99, "")])).await?;
        change.commit().await.map(drop)
    })
}

fn create_and_drop(store: ColumnarStore) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        store.create_table(&name("w"), &schema(true), true).await?;
        store.drop_table(&name("w"), false).await.map(drop)
    })
}

fn vacuum(store: ColumnarStore) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move { store.vacuum(None, &Retention::newest()).await.map(drop) })
}

fn restore_two_tables(store: ColumnarStore) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let s = schema(true);
        let table = |target: &str, mode| LoadTable {
            target: name(target),
            schema: s.clone(),
            dependents: vec![],
            mode,
            segment_rows: None,
            replaced_tag: "9".into(),
            shard_rule: None,
        };
        let tables =
            vec![table("t", LoadMode::Replace), table("u", LoadMode::Merge), table("v", LoadMode::Create)];
        let load = store.begin_load(LoadOptions { run: RunId("run".into()), tables }).await?;
        let mut parts = vec![];
        for target in ["t", "u", "v"] {
            let rows: Vec<(i64, &str)> = (50..150).map(|i| (i, "restored")).collect();
            let rows = batch(&s, &rows);
            let stream = Box::pin(futures::stream::iter([Ok(rows.slice(0, 60)), Ok(rows.slice(60, 40))]));
            parts.push((name(target), vec![load.write_part(&name(target), 0, stream).await?]));
        }
        load.finish(parts).await?;
        let cut = load.open_cut().await?;
        assert_eq!(cut.table(&name("u")).await?.rows_expected, 150);
        load.publish().await.map(drop)
    })
}

fn restore_and_undo(store: ColumnarStore) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let s = schema(true);
        let table = |target: &str, mode| LoadTable {
            target: name(target),
            schema: s.clone(),
            dependents: vec![],
            mode,
            segment_rows: None,
            replaced_tag: "9".into(),
            shard_rule: None,
        };
        let tables = vec![table("t", LoadMode::Replace), table("u", LoadMode::Merge)];
        let load = store.begin_load(LoadOptions { run: RunId("run".into()), tables }).await?;
        let mut parts = vec![];
        for target in ["t", "u"] {
            let rows = batch(&s, &[(1, "restored"), (1000, "restored")]);
            let stream = Box::pin(futures::stream::iter([Ok(rows)]));
            parts.push((name(target), vec![load.write_part(&name(target), 0, stream).await?]));
        }
        load.finish(parts).await?;
        let published = load.publish().await?;
        store.undo(&published.undo).await
    })
}

fn hold_a_cut(store: ColumnarStore) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let cut = store.open_cut(&[name("t"), name("u")], &CutOptions::default()).await?;
        cut.release().await
    })
}

#[tokio::test]
async fn a_change() {
    goes_wrong_everywhere("a change", insert_and_update, &honest()).await;
}

#[tokio::test]
async fn a_vacuum() {
    goes_wrong_everywhere("a vacuum", vacuum, &Fault::ALL).await;
}

#[tokio::test]
async fn a_restore_of_tables_that_are_replaced_merged_and_new() {
    goes_wrong_everywhere("a restore", restore_two_tables, &honest()).await;
}

#[tokio::test]
async fn a_cut() {
    goes_wrong_everywhere("a cut", hold_a_cut, &Fault::ALL).await;
}

#[tokio::test]
async fn acts_of_several_commits_stop_between_them() {
    // These have states between before and after; each must be one that a whole commit makes.
    for act in [create_and_drop as Act, restore_and_undo] {
        let kind = Kind::Plain;
        let fresh = kind.fresh().await;
        let before = state(&kind.store(&fresh)).await;
        let mut between = 0;
        for calls in 0.. {
            let objects = copy(&fresh).await;
            let fault = if calls % 2 == 0 { Fault::DiesAfter } else { Fault::DiesBefore };
            let process = Process::new(Script::at(calls, fault));
            let answer = act(kind.seen_by(&process, &objects)).await;
            let store = kind.store(&objects);
            let found = state(&store).await;
            if found != before {
                between += 1;
                let restored = found.get("t").and_then(|t| t.get(&1000)).is_some();
                let merged = found.get("u").and_then(|t| t.get(&1000)).is_some();
                assert_eq!(restored, merged, "both tables of a restore, or none, at call {calls}");
                assert_eq!(restored, found.contains_key("t before"));
            }
            if calls >= process.operations() {
                answer.unwrap();
                break;
            }
        }
        assert!(between > 0);
    }
}
