//! Two processes that write to one store at the same time. This program starts itself as each of them.

mod common;

use common::{batch, begin, content, map, name, schema, store_in};
use keepfast_store::{OnDuplicate, StoreError};
use std::path::Path;
use std::process::Command;

const ROUNDS: i64 = 15;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.as_slice() {
        [_, child, folder, number] if child == "child" => {
            write(Path::new(folder), number.parse().unwrap()).await
        }
        _ => two_processes_lose_no_update().await,
    }
}

async fn write(folder: &Path, number: i64) {
    let store = store_in(folder);
    let s = schema(true);
    for round in 0..ROUNDS {
        // A counter that both add to, and rows of one's own.
        loop {
            let mut change = begin(&store, "t").await;
            let old = content(change.base()).await.into_iter().find(|(id, _)| *id == -1).unwrap().1;
            let new = (old.parse::<i64>().unwrap() + 1).to_string();
            change.update(batch(&s, &[(-1, &old)]), batch(&s, &[(-1, &new)])).await.unwrap();
            change.insert(batch(&s, &[(round * 2 + number, "row")]), OnDuplicate::Refuse).await.unwrap();
            match change.commit().await {
                Ok(_) => break,
                Err(StoreError::Conflict { .. }) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }
}

async fn two_processes_lose_no_update() {
    let folder = tempfile::TempDir::new().unwrap();
    let store = store_in(folder.path());
    let s = schema(true);
    store.create_table(&name("t"), &s, false).await.unwrap();
    let mut change = begin(&store, "t").await;
    change.insert(batch(&s, &[(-1, "0")]), OnDuplicate::Refuse).await.unwrap();
    change.commit().await.unwrap();
    let children: Vec<_> = (0..2)
        .map(|number: i64| {
            Command::new(std::env::current_exe().unwrap())
                .args(["child", folder.path().to_str().unwrap(), &number.to_string()])
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let found = map(&store, "t").await;
    assert_eq!(found[&-1], (2 * ROUNDS).to_string());
    assert_eq!(found.len() as i64, 2 * ROUNDS + 1);
}
