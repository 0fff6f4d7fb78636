//! The oldest MySQL that is to be had, 8.0.12: what other tests show in full, shown of it once.

use crate::common::*;
use futures::TryStreamExt;
use keepfast_store::{CutOptions, LoadMode, ProofRequest, Store};
use keepfast_testbed::mysql::MYSQL80_URLS;

#[tokio::test]
async fn the_oldest_mysql_is_read_restored_and_followed() {
    let Some(urls) = servers(MYSQL80_URLS) else { return };
    let (url, database) = (&urls[0], fresh("oldest"));
    every_type(url, &database).await;
    let store = store(&urls[..1], &[]);
    let (from, to) = (named(&database, "every"), named(&database, "again"));
    let table = std::slice::from_ref(&from);
    let first = store.open_cut(table, &CutOptions::default()).await.unwrap();
    let whole = digest(first.as_ref(), &from).await;
    let proof = first.prove(&from, &ProofRequest { full: true, ranges: vec![] }).await.unwrap().unwrap();
    assert_eq!((proof.rows, proof.ranges[0].digest), (2, whole));
    first.release().await.unwrap();
    let published = restored((&store, &from), (&store, &to), LoadMode::Create).await;
    assert_eq!(digest_now(&store, &to).await, whole);
    store.undo(&published.undo).await.unwrap();
    // What was written since.
    let since = first.cut();
    run(url, &[&format!("UPDATE `{database}`.`every` SET q = 'other' WHERE id = 1")]).await;
    run(url, &[&format!("INSERT INTO `{database}`.`every` (id) VALUES (5)")]).await;
    let second = store.open_cut(table, &CutOptions::default()).await.unwrap();
    let changes: Vec<_> = second.changes(&from, &since.positions).await.unwrap().try_collect().await.unwrap();
    assert_eq!(changes.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    second.release().await.unwrap();
    assert_eq!(strays(&urls[..1], &database).await, [""; 0]);
}
