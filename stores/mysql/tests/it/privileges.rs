//! What an account lacks is said before anything is done, and what is listed is enough.

use crate::common::*;
use crate::loading::loaded;
use keepfast_model::TableName;
use keepfast_store::{CutOptions, LoadMode, ProofRequest, Store, StoreError};
use keepfast_testbed::mysql::MARIADB_URLS;
use std::error::Error;

const PASSWORD: &str = "only-for-this-test";

/// Makes an account that may do this, and gives the URL by which it enters.
pub(crate) async fn account(url: &str, name: &str, grants: &[String]) -> String {
    let who = format!("'{name}'@'127.0.0.1'");
    let mut statements = vec![format!("CREATE USER {who} IDENTIFIED BY '{PASSWORD}'")];
    statements.extend(grants.iter().map(|grant| format!("GRANT {grant} TO {who}")));
    run(url, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    format!("mysql://{name}:{PASSWORD}@{}", url.rsplit_once('@').unwrap().1)
}

pub(crate) async fn drop_account(url: &str, name: &str) {
    run(url, &[&format!("DROP USER '{name}'@'127.0.0.1'")]).await;
}

/// What is lacking, in its own words.
fn lacking(error: &StoreError) -> String {
    assert!(matches!(error, StoreError::Denied { .. }), "{error}");
    let all = format!("{error}: {}", error.source().unwrap());
    assert!(!all.contains(PASSWORD), "{all}");
    all
}

#[tokio::test]
async fn a_backup_names_each_privilege_that_is_missing_and_needs_no_other() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("may_read"));
        let make = format!("CREATE TABLE {database}.t (id INT PRIMARY KEY)");
        run(url, &[&format!("CREATE DATABASE {database}"), &make]).await;
        let position = if kind == MARIADB_URLS { "BINLOG MONITOR" } else { "REPLICATION CLIENT" };
        let needs = [
            ("RELOAD", "*.*".to_owned()),
            (position, "*.*".to_owned()),
            ("SELECT", format!("`{database}`.`t`")),
        ];
        let table = named(&database, "t");
        let open = async |url: String| {
            let store = store(&[url], &[]);
            store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await
        };
        let all: Vec<String> = needs.iter().map(|(what, on)| format!("{what} ON {on}")).collect();
        let name = fresh("kf_all");
        let cut = open(account(url, &name, &all).await).await.unwrap();
        read(cut.as_ref(), &table, 1).await;
        cut.prove(&table, &ProofRequest { full: true, ranges: vec![] }).await.unwrap();
        cut.release().await.unwrap();
        drop_account(url, &name).await;
        for (at, (what, on)) in needs.iter().enumerate() {
            let rest: Vec<String> =
                all.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, g)| g.clone()).collect();
            let name = fresh("kf_less");
            let said = lacking(&open(account(url, &name, &rest).await).await.unwrap_err());
            assert_eq!(said.matches("GRANT ").count(), 1, "{said}");
            assert!(said.contains(&format!("GRANT {what} ON {on} TO `{name}`@`127.0.0.1`")), "{said}");
            drop_account(url, &name).await;
        }
        // All at once, in one error; and a table that is not there is another matter.
        let name = fresh("kf_none");
        let said = lacking(&open(account(url, &name, &[]).await).await.unwrap_err());
        assert!(said.contains(&format!("RELOAD, {position} ON *.*")), "{said}");
        assert!(said.contains("GRANT SELECT ON"), "{said}");
        drop_account(url, &name).await;
        let error = store(&urls[..1], &[])
            .open_cut(&[TableName { table: "gone".into(), ..table.clone() }], &CutOptions::default())
            .await;
        assert!(matches!(error, Err(StoreError::NoTable { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn privileges_of_patterns_and_of_roles_count() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("by_role"));
        let (role, name) = (fresh("kf_role"), fresh("kf_by_role"));
        let make = format!("CREATE TABLE {database}.t (id INT PRIMARY KEY)");
        let position = if kind == MARIADB_URLS { "BINLOG MONITOR" } else { "REPLICATION CLIENT" };
        let pattern = database.replace('_', "\\_").replacen("by", "b%", 1);
        run(url, &[&format!("CREATE DATABASE {database}"), &make, &format!("CREATE ROLE {role}")]).await;
        run(url, &[&format!("GRANT RELOAD, {position} ON *.* TO {role}")]).await;
        let entry = account(url, &name, &[format!("SELECT ON `{pattern}`.*"), role.clone()]).await;
        let who = format!("'{name}'@'127.0.0.1'");
        run(
            url,
            &[&match kind == MARIADB_URLS {
                true => format!("SET DEFAULT ROLE {role} FOR {who}"),
                false => format!("SET DEFAULT ROLE {role} TO {who}"),
            }],
        )
        .await;
        let table = named(&database, "t");
        let cut = store(&[entry], &[]).open_cut(std::slice::from_ref(&table), &CutOptions::default()).await;
        cut.unwrap().release().await.unwrap();
        drop_account(url, &name).await;
        run(url, &[&format!("DROP ROLE {role}")]).await;
    }
}

#[tokio::test]
async fn a_restore_names_each_privilege_that_is_missing_and_needs_no_other() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("may_write"));
        run(
            url,
            &[
                &format!("CREATE DATABASE {database}"),
                &format!("CREATE TABLE {database}.t (id INT PRIMARY KEY, v INT, KEY (v))"),
                &format!("INSERT INTO {database}.t VALUES (1, 2)"),
            ],
        )
        .await;
        let here = format!("`{database}`.*");
        let needs = ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP"];
        let needs = needs.map(|what| (what, here.as_str()));
        let all: Vec<String> = needs.iter().map(|(what, on)| format!("{what} ON {on}")).collect();
        let table = named(&database, "t");
        let restore = async |url: String| {
            let store = store(&[url], &[]);
            let from = crate::common::store(&urls[..1], &[]);
            let cut = from.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await?;
            let load = loaded(&store, cut.as_ref(), &table, &table, LoadMode::Replace).await?;
            load.open_cut().await?.release().await?;
            store.undo(&load.publish().await?.undo).await
        };
        let name = fresh("kf_all");
        restore(account(url, &name, &all).await).await.unwrap();
        drop_account(url, &name).await;
        for (at, (what, on)) in needs.iter().enumerate() {
            let rest: Vec<String> =
                all.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, g)| g.clone()).collect();
            let name = fresh("kf_less");
            let said = lacking(&restore(account(url, &name, &rest).await).await.unwrap_err());
            assert_eq!(said.matches("GRANT ").count(), 1, "{said}");
            assert!(said.contains(&format!("GRANT {what} ON {on} TO `{name}`@`127.0.0.1`")), "{said}");
            drop_account(url, &name).await;
        }
    }
}
