//! Tables that are altered while they are backed up: what is read is the table at the cut, or the backup ends and says why.

use crate::binlog::LOGS;
use crate::common::*;
use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use keepfast_model::{Digest, RowHasher, TableName};
use keepfast_mysql::MySqlStore;
use keepfast_mysql::testing::Session;
use keepfast_store::{CutOptions, OpenCut, PlanOptions, ProofRequest, ScanOptions, Store, StoreError};
use std::time::Duration;

/// A backup of a table at a cut, up to its proof.
async fn backed_up(cut: &dyn OpenCut, table: &TableName) -> Result<Digest, StoreError> {
    let hasher = RowHasher::new(&cut.table(table).await?.schema);
    let mut sum = Digest::default();
    for partition in cut.plan(table, &PlanOptions { partitions: 2, bounds: vec![] }).await? {
        let batches: Vec<RecordBatch> =
            cut.scan(&partition, &ScanOptions::default()).await?.try_collect().await?;
        for batch in &batches {
            sum = sum.merge(hasher.digest(batch)?);
        }
    }
    let proof = cut.prove(table, &ProofRequest { full: true, ranges: vec![] }).await?.unwrap();
    match proof.ranges[0].digest == sum {
        true => Ok(sum),
        // As whoever asks for a proof does.
        false => {
            Err(StoreError::Damaged { object: table.to_string(), reason: "scan and proof differ".into() })
        }
    }
}

async fn cut(store: &MySqlStore, table: &TableName) -> std::sync::Arc<dyn OpenCut> {
    store.open_cut(std::slice::from_ref(table), &CutOptions::default()).await.unwrap()
}

#[tokio::test]
async fn a_table_that_is_altered_behind_the_cut_ends_the_backup_or_is_read_as_it_was() {
    // Who alters and who locks all tables wait for each other: no other test is to wait for both.
    let _alone = LOGS.write().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("altered"));
        let store = store(&urls[..1], &[]);
        run(url, &[&format!("CREATE DATABASE {database}")]).await;
        let all = [
            ("a", "TRUNCATE TABLE a"),
            ("a", "DELETE FROM a"),
            ("a", "DROP TABLE a"),
            ("a", "DROP TABLE a; CREATE TABLE a LIKE b"),
            ("a", "RENAME TABLE a TO c"),
            ("a", "RENAME TABLE a TO c, b TO a, c TO b"),
            ("a", "ALTER TABLE a ADD COLUMN n INT DEFAULT 5"),
            ("a", "ALTER TABLE a ADD COLUMN n INT NOT NULL DEFAULT 5 FIRST"),
            ("a", "ALTER TABLE a DROP COLUMN w"),
            ("a", "ALTER TABLE a RENAME COLUMN v TO w, RENAME COLUMN w TO v"),
            ("a", "ALTER TABLE a RENAME COLUMN v TO t, RENAME COLUMN t TO v"),
            ("a", "ALTER TABLE a MODIFY v BIGINT"),
            ("a", "ALTER TABLE a ADD INDEX (v)"),
            ("a", "ALTER TABLE a ENGINE=InnoDB"),
            ("a", "ALTER TABLE a COMMENT 'another one'"),
            ("p", "ALTER TABLE p EXCHANGE PARTITION p0 WITH TABLE x"),
            ("p", "ALTER TABLE p TRUNCATE PARTITION p0"),
            ("p", "ALTER TABLE p DROP PARTITION p0"),
            ("p", "ALTER TABLE p ADD PARTITION (PARTITION p2 VALUES LESS THAN (30))"),
        ];
        let mut session = Session::open(url).await.unwrap();
        session.run(&[&format!("USE {database}")]).await.unwrap();
        for (name, altering) in all {
            session
                .run(&[
                    "DROP TABLE IF EXISTS a, b, c, p, x",
                    "CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, v INT, w INT, t VARCHAR(9))",
                    "INSERT INTO a (v, w, t) VALUES (1, 10, 'x'), (2, 20, 'y')",
                    // Made in the same second.
                    "CREATE TABLE b (id INT AUTO_INCREMENT PRIMARY KEY, v INT, w INT, t VARCHAR(9))",
                    "INSERT INTO b VALUES (7, 7, 70, 'z')",
                    "CREATE TABLE x (id INT PRIMARY KEY, v INT)",
                    "INSERT INTO x VALUES (3, 33)",
                    "CREATE TABLE p (id INT PRIMARY KEY, v INT) PARTITION BY RANGE (id) \
                     (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))",
                    "INSERT INTO p VALUES (1, 1), (11, 11)",
                ])
                .await
                .unwrap();
            let table = named(&database, name);
            let expected = digest_now(&store, &table).await;
            let cut = cut(&store, &table).await;
            session.run(&altering.split("; ").collect::<Vec<_>>()).await.unwrap();
            match backed_up(cut.as_ref(), &table).await {
                Ok(found) => {
                    assert_eq!(found, expected, "{kind}: {altering}: other rows");
                    assert!(altering.starts_with("DELETE"), "{kind}: {altering}: it was not noticed");
                }
                Err(StoreError::SchemaChanged { table, reason, .. }) => {
                    assert_eq!(table, format!("{database}.{name}"), "{kind}: {altering}: {reason}");
                    assert!(!altering.starts_with("DELETE"), "{kind}: {altering}: {reason}");
                }
                Err(other) => panic!("{kind}: {altering}: {other:?}"),
            }
            cut.release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_table_that_is_altered_while_its_rows_arrive_is_read_to_its_end_and_noticed_then() {
    // Who alters and who locks all tables wait for each other: no other test is to wait for both.
    let _alone = LOGS.write().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("meanwhile"));
        let store = store(&urls[..1], &[]);
        let mut session = Session::open(url).await.unwrap();
        session
            .run(&[
                &format!("CREATE DATABASE {database}"),
                &format!("USE {database}"),
                "CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(2000))",
                "INSERT INTO a SELECT 1 + a.n + 10 * b.n + 100 * c.n + 1000 * d.n, REPEAT('x', 2000) FROM \
                 (SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) a, \
                 (SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) b, \
                 (SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) c, \
                 (SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5) d",
                "CREATE TABLE b LIKE a",
            ])
            .await
            .unwrap();
        let table = named(&database, "a");
        let expected = digest_now(&store, &table).await;
        let cut = cut(&store, &table).await;
        let partition = cut.plan(&table, &PlanOptions::default()).await.unwrap().remove(0);
        let options = ScanOptions { batch_rows: 10, ..ScanOptions::default() };
        let mut rows = cut.scan(&partition, &options).await.unwrap();
        let first = rows.next().await.unwrap().unwrap();
        let renaming = tokio::spawn(async move {
            session.run(&["RENAME TABLE a TO c, b TO a"]).await.unwrap();
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!renaming.is_finished(), "the rows on their way keep the table");
        let hasher = RowHasher::new(&cut.table(&table).await.unwrap().schema);
        let mut sum = hasher.digest(&first).unwrap();
        while let Some(batch) = rows.try_next().await.unwrap() {
            sum = sum.merge(hasher.digest(&batch).unwrap());
        }
        assert_eq!(sum, expected);
        drop(rows);
        renaming.await.unwrap();
        let proof = cut.prove(&table, &ProofRequest::default()).await;
        assert!(matches!(proof, Err(StoreError::SchemaChanged { .. })), "{proof:?}");
        cut.release().await.unwrap();
    }
}

#[tokio::test]
async fn definition_and_rows_are_of_one_table_however_often_another_takes_its_name() {
    // Who alters and who locks all tables wait for each other: no other test is to wait for both.
    let _alone = LOGS.write().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("swapped"));
        let store = store(&urls[..1], &[]);
        let mut session = Session::open(url).await.unwrap();
        session
            .run(&[
                &format!("CREATE DATABASE {database}"),
                &format!("USE {database}"),
                "CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(9)) COMMENT 'one'",
                "INSERT INTO a VALUES (1, 'one')",
                "CREATE TABLE b (id INT PRIMARY KEY, v VARCHAR(9)) COMMENT 'two'",
                "INSERT INTO b VALUES (1, 'two')",
            ])
            .await
            .unwrap();
        let table = named(&database, "a");
        let mut digests = vec![];
        for comment in ["one", "two"] {
            digests.push((comment, digest_now(&store, &table).await));
            session.run(&["RENAME TABLE a TO c, b TO a, c TO b"]).await.unwrap();
        }
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let ends = over.clone();
        let swapping = tokio::spawn(async move {
            for pause in [15, 15, 40, 400].into_iter().cycle() {
                if ends.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                // A backup that looks at it may keep it for a moment.
                let _ = session.run(&["RENAME TABLE a TO c, b TO a, c TO b"]).await;
                // Long enough for a backup, now and then.
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        });
        let (mut whole, mut noticed) = (0, 0);
        for n in 0..100 {
            if n >= 25 && whole > 0 && noticed > 0 {
                break;
            }
            let found = async {
                let cut = store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await?;
                let definition = cut.table(&table).await?.dependents[0].definition.clone();
                Ok::<_, StoreError>((definition, backed_up(cut.as_ref(), &table).await?))
            };
            match found.await {
                Ok((definition, found)) => {
                    let (comment, _) = digests.iter().find(|(_, digest)| *digest == found).unwrap();
                    assert!(definition.contains(comment), "{kind}: rows of '{comment}': {definition}");
                    whole += 1;
                }
                // Where the other table was there for the proof alone, the proof is another one.
                Err(
                    StoreError::SchemaChanged { .. }
                    | StoreError::NoTable { .. }
                    | StoreError::Damaged { .. },
                ) => noticed += 1,
                Err(other) => panic!("{kind}: {other:?}"),
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        swapping.await.unwrap();
        eprintln!("{kind}: {whole} whole, {noticed} noticed");
        assert!(noticed > 0, "nothing was renamed meanwhile");
        assert!(whole > 0, "no backup came to its end, so that nothing was compared");
    }
}

#[tokio::test]
async fn partitioned_tables_are_read_by_accounts_that_can_tell_whether_a_partition_is_exchanged() {
    // Who alters and who locks all tables wait for each other: no other test is to wait for both.
    let _alone = LOGS.write().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("partitioned"));
        run(
            url,
            &[
                &format!("CREATE DATABASE {database}"),
                &format!(
                    "CREATE TABLE {database}.p (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 2"
                ),
                &format!("CREATE USER {database} IDENTIFIED BY 'x'"),
                &format!("GRANT RELOAD, REPLICATION CLIENT ON *.* TO {database}"),
                &format!("GRANT SELECT ON {database}.* TO {database}"),
            ],
        )
        .await;
        let store = store(&[format!("mysql://{database}:x@{}", url.split_once('@').unwrap().1)], &[]);
        let table = [named(&database, "p")];
        let refused = store.open_cut(&table, &CutOptions::default()).await.unwrap_err();
        let why = format!("{refused}: {}", std::error::Error::source(&refused).unwrap());
        assert!(matches!(refused, StoreError::Denied { .. }) && why.contains("GRANT PROCESS"), "{why}");
        run(url, &[&format!("GRANT PROCESS ON *.* TO {database}")]).await;
        store.open_cut(&table, &CutOptions::default()).await.unwrap().release().await.unwrap();
        run(url, &[&format!("DROP USER {database}")]).await;
    }
}
