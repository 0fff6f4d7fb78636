//! The server's own word on the content: its checksums agree with what was scanned, and what differs is found.

use crate::common::*;
use keepfast_model::{KeyRange, SourceProof, TableName};
use keepfast_store::{CutOptions, OpenCut, ProofRequest, Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const FULL: ProofRequest = ProofRequest { full: true, ranges: vec![] };

/// What a backup asks for where it cannot name a range: everything, if that is cheap.
fn sampled() -> ProofRequest {
    ProofRequest { full: false, ranges: vec![KeyRange::default()] }
}

async fn cut_of(store: &dyn Store, table: &TableName) -> Arc<dyn OpenCut> {
    store.open_cut(std::slice::from_ref(table), &CutOptions { allow_fuzzy: true }).await.unwrap()
}

async fn proof(cut: &dyn OpenCut, table: &TableName, request: &ProofRequest) -> SourceProof {
    cut.prove(table, request).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_servers_checksums_prove_values_of_every_type() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let database = fresh("proof");
        every_type(&urls[0], &database).await;
        let (store, table) = (store(&urls[..1], &[]), named(&database, "every"));
        let cut = cut_of(&store, &table).await;
        let scanned = digest(cut.as_ref(), &table).await;
        for request in [FULL, sampled()] {
            let proof = proof(cut.as_ref(), &table, &request).await;
            assert_eq!(proof.rows, 2);
            assert_eq!(proof.ranges.len(), 1, "{}", proof.method);
            assert!(proof.ranges[0].range.is_all() && proof.method.contains("of all rows"));
            assert_eq!(proof.ranges[0].digest, scanned);
        }
        cut.release().await.unwrap();
    }
}

/// A table of 331,776 rows.
async fn many(url: &str, database: &str) {
    let ten: Vec<String> = (0..24).map(|n| format!("SELECT {n} n")).collect();
    let digits = format!("({})", ten.join(" UNION ALL "));
    let id = "a.n + 24 * b.n + 576 * c.n + 13824 * d.n";
    run(
        url,
        &[
            &format!("CREATE DATABASE {database}"),
            &format!(
                "CREATE TABLE {database}.many (id INT PRIMARY KEY, name VARCHAR(40), amount DECIMAL(10,2))"
            ),
            &format!(
                "INSERT INTO {database}.many SELECT {id}, CONCAT('name, ', {id}), ({id}) / 7 \
                 FROM {digits} a, {digits} b, {digits} c, {digits} d"
            ),
            &format!("ANALYZE TABLE {database}.many"),
        ],
    )
    .await;
}

#[tokio::test]
async fn one_range_of_a_large_table_is_sampled_and_another_one_in_the_next_cut() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let database = fresh("sampled");
        many(&urls[0], &database).await;
        let (store, table) = (store(&urls[..1], &[]), named(&database, "many"));
        let cut = cut_of(&store, &table).await;
        let unread = proof(cut.as_ref(), &table, &sampled()).await;
        assert!(unread.ranges.is_empty() && unread.method.contains("no content"), "{}", unread.method);
        let (batches, partitions) = read(cut.as_ref(), &table, 3).await;
        assert!(partitions > 1, "{partitions}");
        let whole = batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
        let one = proof(cut.as_ref(), &table, &sampled()).await;
        assert_eq!(one.rows, whole);
        assert!(
            one.ranges.is_empty(),
            "a sample is compared here, and no range that was asked for is proven"
        );
        let rows = one.method.split("of ").find_map(|part| part.split_once(" sampled rows")).unwrap().0;
        assert!((1..whole).contains(&rows.parse().unwrap()), "{}", one.method);
        let all = proof(cut.as_ref(), &table, &FULL).await;
        assert_eq!(all.ranges[0].digest, digest(cut.as_ref(), &table).await);
        cut.release().await.unwrap();
        // The turn goes by seconds.
        let mut methods = vec![one.method];
        for _ in 0..4 {
            tokio::time::sleep(std::time::Duration::from_millis(1000)).await;
            let cut = cut_of(&store, &table).await;
            read(cut.as_ref(), &table, 3).await;
            methods.push(proof(cut.as_ref(), &table, &sampled()).await.method);
            cut.release().await.unwrap();
            if methods.first() != methods.last() {
                break;
            }
        }
        methods.dedup();
        assert!(methods.len() > 1, "{methods:?}");
    }
}

/// Where the connections of a server go through, which changes a word on its way as often as it is told.
async fn meddler(url: &str, from: &'static str, to: &'static str) -> (String, Arc<AtomicUsize>) {
    let port = url.rsplit_once(':').unwrap().1.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let left = Arc::new(AtomicUsize::new(0));
    let times = left.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            let times = times.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
                    let mut at = 0;
                    while let Some(found) =
                        bytes[at..read].windows(from.len()).position(|w| w == from.as_bytes())
                    {
                        if times
                            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                            .is_ok()
                        {
                            bytes[at + found..][..to.len()].copy_from_slice(to.as_bytes());
                        }
                        at += found + 1;
                    }
                    if to_client.write_all(&bytes[..read]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (format!("{}:{own}?tls=off", url.rsplit_once(':').unwrap().0), left)
}

#[tokio::test]
async fn a_value_that_changes_on_its_way_is_found() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let database = fresh("meddled");
        many(&urls[0], &database).await;
        run(&urls[0], &[&format!("UPDATE {database}.many SET name = 'the honest one' WHERE id % 1000 = 77")])
            .await;
        let (url, times) = meddler(&urls[0], "the honest one", "the h0nest one").await;
        let (store, table) = (store(&[url], &[]), named(&database, "many"));
        // In the scan alone: each partition's first such row.
        let cut = cut_of(&store, &table).await;
        let honest = digest(cut.as_ref(), &table).await;
        assert_eq!(proof(cut.as_ref(), &table, &FULL).await.ranges[0].digest, honest);
        cut.release().await.unwrap();
        let cut = cut_of(&store, &table).await;
        times.store(usize::MAX, Ordering::SeqCst);
        read(cut.as_ref(), &table, 3).await;
        times.store(0, Ordering::SeqCst);
        let error = cut.prove(&table, &sampled()).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("sampled partition"), "{error}");
        times.store(1, Ordering::SeqCst);
        let scanned = digest(cut.as_ref(), &table).await;
        assert_ne!(proof(cut.as_ref(), &table, &FULL).await.ranges[0].digest, scanned);
        // In the proof alone.
        times.store(1, Ordering::SeqCst);
        let error = cut.prove(&table, &FULL).await.unwrap_err().to_string();
        assert!(error.contains("checksum of a row is not that of the texts"), "{error}");
        times.store(0, Ordering::SeqCst);
        cut.release().await.unwrap();
    }
}

#[tokio::test]
async fn texts_that_utf8_does_not_have_are_never_called_proven() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let database = fresh("lossy");
        let sql = |sql: &str| sql.replace("D.", &format!("{database}."));
        run(
            &urls[0],
            &[
                &format!("CREATE DATABASE {database}"),
                &sql("CREATE TABLE D.t (id INT PRIMARY KEY, v VARCHAR(20) CHARACTER SET sjis)"),
                &sql("INSERT INTO D.t VALUES (1, 'ok'), (2, NULL), (3, '')"),
            ],
        )
        .await;
        let (store, table) = (store(&urls[..1], &[]), named(&database, "t"));
        let cut = cut_of(&store, &table).await;
        assert_eq!(proof(cut.as_ref(), &table, &FULL).await.ranges.len(), 1);
        // Two bytes that the character set takes for one character, and that mean none.
        run(&urls[0], &[&sql("INSERT INTO D.t VALUES (4, CONVERT(x'81AD' USING sjis))")]).await;
        let cut = cut_of(&store, &table).await;
        let proof = proof(cut.as_ref(), &table, &FULL).await;
        assert!(proof.ranges.is_empty(), "{}", proof.method);
        assert!(proof.method.contains("1 rows have characters that UTF-8 does not have"), "{}", proof.method);
    }
}
