//! Random histories of changes, against a plain map and a plain list.

use crate::common::{batch, begin, content, head, memory, name, schema, store_over};
use keepfast_columnar::{ColumnarStore, Retention};
use keepfast_store::OnDuplicate;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<i64>),
    Upsert(Vec<i64>),
    Ignore(Vec<i64>),
    DeleteKeys(Vec<i64>),
    /// Moves the keys in a range by this much.
    Move(i64, i64, i64),
    DeleteRange(i64, i64),
    Compact,
    Vacuum,
    Reopen,
}

fn keys() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        prop::collection::vec(-200..200i64, 1..5),
        (0..150i64, 1..300i64).prop_map(|(start, n)| (start..start + n).collect()),
        prop::collection::vec(-2000..2000i64, 100..600),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => keys().prop_map(Step::Insert),
        4 => keys().prop_map(Step::Upsert),
        2 => keys().prop_map(Step::Ignore),
        3 => keys().prop_map(Step::DeleteKeys),
        2 => (-200..200i64, 0..100i64, -50..50i64).prop_map(|(from, n, by)| Step::Move(from, from + n, by)),
        2 => (-200..400i64, 0..150i64).prop_map(|(from, n)| Step::DeleteRange(from, from + n)),
        1 => Just(Step::Compact),
        1 => Just(Step::Vacuum),
        1 => Just(Step::Reopen),
    ]
}

fn distinct(keys: &[i64]) -> Vec<i64> {
    let mut seen = std::collections::HashSet::new();
    keys.iter().copied().filter(|k| seen.insert(*k)).collect()
}

fn pairs<'a>(keys: &[i64], text: &'a str) -> Vec<(i64, &'a str)> {
    keys.iter().map(|k| (*k, text)).collect()
}

async fn keyed(steps: Vec<Step>) {
    let objects = memory();
    let mut store = store_over(&objects);
    let schema = schema(true);
    store.create_table(&name("t"), &schema, false).await.unwrap();
    let mut model: BTreeMap<i64, String> = BTreeMap::new();
    for (n, step) in steps.into_iter().enumerate() {
        let text = format!("step {n}");
        let shown = format!("{step:?}");
        let mut change = begin(&store, "t").await;
        match step {
            Step::Insert(keys) => {
                let keys = distinct(&keys);
                let fits = keys.iter().all(|k| !model.contains_key(k));
                // In two calls, the second of which may come before the first in key order.
                let (a, b) = keys.split_at(keys.len() / 2);
                change.insert(batch(&schema, &pairs(b, &text)), OnDuplicate::Refuse).await.unwrap();
                change.insert(batch(&schema, &pairs(a, &text)), OnDuplicate::Refuse).await.unwrap();
                let done = change.commit().await;
                assert_eq!(done.is_ok(), fits, "{shown}: {done:?}");
                if fits {
                    model.extend(keys.into_iter().map(|k| (k, text.clone())));
                }
            }
            Step::Upsert(keys) => {
                change.upsert(batch(&schema, &pairs(&keys, &text))).await.unwrap();
                change.commit().await.unwrap();
                model.extend(keys.into_iter().map(|k| (k, text.clone())));
            }
            Step::Ignore(keys) => {
                let rows = batch(&schema, &pairs(&keys, &text));
                let n = change.insert(rows, OnDuplicate::Ignore).await.unwrap();
                change.commit().await.unwrap();
                let before = model.len();
                for k in keys {
                    model.entry(k).or_insert_with(|| text.clone());
                }
                assert_eq!(n as usize, model.len() - before, "{shown}");
            }
            Step::DeleteKeys(keys) => {
                change.delete_keys(batch(&schema, &pairs(&keys, ""))).await.unwrap();
                change.commit().await.unwrap();
                keys.iter().for_each(|k| drop(model.remove(k)));
            }
            Step::Move(from, to, by) => {
                let old: Vec<(i64, String)> = model.range(from..to).map(|(k, v)| (*k, v.clone())).collect();
                let old_rows: Vec<(i64, &str)> = old.iter().map(|(k, v)| (*k, v.as_str())).collect();
                let new_rows: Vec<(i64, &str)> = old.iter().map(|(k, v)| (k + by, v.as_str())).collect();
                let mut after = model.clone();
                old.iter().for_each(|(k, _)| drop(after.remove(k)));
                let fits = new_rows.iter().all(|(k, _)| !after.contains_key(k));
                change.update(batch(&schema, &old_rows), batch(&schema, &new_rows)).await.unwrap();
                let done = change.commit().await;
                assert_eq!(done.is_ok(), fits, "{shown}: {done:?}");
                if fits {
                    after.extend(old.into_iter().map(|(k, v)| (k + by, v)));
                    model = after;
                }
            }
            Step::DeleteRange(from, to) => {
                let old: Vec<(i64, String)> = model.range(from..to).map(|(k, v)| (*k, v.clone())).collect();
                let old_rows: Vec<(i64, &str)> = old.iter().map(|(k, v)| (*k, v.as_str())).collect();
                change.delete(batch(&schema, &old_rows)).await.unwrap();
                change.commit().await.unwrap();
                old.iter().for_each(|(k, _)| drop(model.remove(k)));
            }
            Step::Compact => drop(store.compact(&name("t")).await.unwrap()),
            Step::Vacuum => drop(store.vacuum(None, &Retention::newest()).await.unwrap()),
            Step::Reopen => store = store_over(&objects),
        }
        let found = content(&head(&store, "t").await).await;
        let expected: Vec<(i64, String)> = model.iter().map(|(k, v)| (*k, v.clone())).collect();
        assert_eq!(found, expected, "after {shown}");
    }
}

async fn bag(steps: Vec<Step>) {
    let objects = memory();
    let mut store = store_over(&objects);
    let schema = schema(false);
    store.create_table(&name("t"), &schema, false).await.unwrap();
    let mut model: Vec<(i64, String)> = vec![];
    let one = |store: &ColumnarStore| {
        let store = store.clone();
        async move { begin(&store, "t").await }
    };
    for (n, step) in steps.into_iter().enumerate() {
        let shown = format!("{step:?}");
        // Few different texts, so that equal rows are common.
        let text = format!("{}", n % 2);
        match step {
            Step::Insert(keys) | Step::Upsert(keys) | Step::Ignore(keys) => {
                for part in keys.chunks(keys.len().div_ceil(3)) {
                    let mut change = one(&store).await;
                    let rows = batch(&schema, &pairs(part, &text));
                    change.insert(rows, OnDuplicate::Refuse).await.unwrap();
                    change.commit().await.unwrap();
                }
                model.extend(keys.into_iter().map(|k| (k, text.clone())));
            }
            Step::DeleteKeys(_) | Step::DeleteRange(_, _) => {
                // Every third row, one for one.
                let gone: Vec<(i64, String)> = model.iter().step_by(3).cloned().collect();
                let mut at = 0;
                model.retain(|_| {
                    at += 1;
                    (at - 1) % 3 != 0
                });
                let rows: Vec<(i64, &str)> = gone.iter().map(|(k, v)| (*k, v.as_str())).collect();
                let mut change = one(&store).await;
                assert_eq!(change.delete(batch(&schema, &rows)).await.unwrap() as usize, gone.len());
                change.commit().await.unwrap();
            }
            Step::Move(_, _, by) => {
                let old: Vec<(i64, String)> = model.iter().take(20).cloned().collect();
                model.iter_mut().take(20).for_each(|row| row.0 += by);
                let rows: Vec<(i64, &str)> = old.iter().map(|(k, v)| (*k, v.as_str())).collect();
                let moved: Vec<(i64, &str)> = rows.iter().map(|(k, v)| (k + by, *v)).collect();
                let mut change = one(&store).await;
                change.update(batch(&schema, &rows), batch(&schema, &moved)).await.unwrap();
                change.commit().await.unwrap();
            }
            Step::Compact => drop(store.compact(&name("t")).await.unwrap()),
            Step::Vacuum => drop(store.vacuum(None, &Retention::newest()).await.unwrap()),
            Step::Reopen => store = store_over(&objects),
        }
        let mut expected = model.clone();
        expected.sort();
        assert_eq!(content(&head(&store, "t").await).await, expected, "after {shown}");
    }
    // A row that is not there cannot be removed.
    let mut change = one(&store).await;
    change.delete(batch(&schema, &[(i64::MAX, "nobody")])).await.unwrap();
    assert!(change.commit().await.is_err());
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_table_with_a_key_is_a_map(steps in prop::collection::vec(step(), 1..14)) {
        block_on(keyed(steps));
    }

    #[test]
    fn a_table_without_a_key_is_a_multiset(steps in prop::collection::vec(step(), 1..14)) {
        block_on(bag(steps));
    }
}
