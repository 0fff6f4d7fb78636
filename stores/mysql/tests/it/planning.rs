//! Tables are cut into ranges of like size that hold each row once, whatever their key is.

use crate::common::*;
use keepfast_mysql::testing::{pieces, rows};
use keepfast_store::{CutOptions, PlanOptions, ProofRequest, Store};
use keepfast_testbed::mysql::MARIADB_URLS;
use std::time::Instant;

/// Ranges that are wanted.
const WANTED: u32 = 8;

/// A key, and what makes it of the number `n` of one of `ROWS` rows, in that order.
struct Shape {
    name: &'static str,
    columns: &'static str,
    key: &'static str,
    values: &'static str,
    /// Of one family only.
    mariadb: Option<bool>,
}

const fn shape(name: &'static str, columns: &'static str, key: &'static str, values: &'static str) -> Shape {
    Shape { name, columns, key, values, mariadb: None }
}

/// `n % 10 > 0` is nine tenths of the rows.
const SHAPES: &[Shape] = &[
    shape(
        "counted, with holes, nine tenths in one range",
        "a BIGINT NOT NULL",
        "PRIMARY KEY (a)",
        "IF(n % 10 > 0, n, n * 1000000007)",
    ),
    shape(
        "unsigned and beyond the half",
        "a BIGINT UNSIGNED NOT NULL",
        "PRIMARY KEY (a)",
        "18446744073709551615 - n * n",
    ),
    shape("below zero", "a INT NOT NULL", "PRIMARY KEY (a)", "IF(n % 3 = 0, -n, n - 2147483648)"),
    shape(
        "nine tenths of one tenant",
        "a INT NOT NULL, b BIGINT NOT NULL",
        "PRIMARY KEY (a, b)",
        "IF(n % 10 > 0, 7, n % 50), n",
    ),
    shape(
        "few tenants",
        "a TINYINT NOT NULL, b INT NOT NULL, c INT NOT NULL",
        "PRIMARY KEY (a, b, c)",
        "n % 2, n % 3, n",
    ),
    shape(
        "texts that begin alike",
        "a VARCHAR(60) NOT NULL",
        "PRIMARY KEY (a)",
        "CONCAT('tenant/orders/', IF(n % 10 > 0, 'a', 'B'), LPAD(n * 7, 9, '0'))",
    ),
    shape(
        "names without regard to case and accents",
        "a VARCHAR(60) NOT NULL",
        "PRIMARY KEY (a)",
        "CONCAT(ELT(n % 7 + 1, 'Émile', 'emil', 'Zoë', 'ángel', 'ANNA', 'ßen', 'øre'), ' ', n)",
    ),
    shape(
        "a text and a number",
        "a VARCHAR(30) NOT NULL, b INT NOT NULL",
        "PRIMARY KEY (a, b)",
        "ELT(n % 3 + 1, 'north', 'South', 'süd'), n",
    ),
    shape(
        "texts of gbk",
        "a VARCHAR(30) CHARACTER SET gbk NOT NULL, b INT NOT NULL",
        "PRIMARY KEY (a, b)",
        "ELT(n % 5 + 1, '中文', '国家', '上海', 'abc', '北京'), n",
    ),
    shape(
        "texts of latin1",
        "a VARCHAR(30) CHARACTER SET latin1 COLLATE latin1_german2_ci NOT NULL",
        "PRIMARY KEY (a)",
        "CONCAT(ELT(n % 4 + 1, 'ä', 'ae', 'z', 'Ö'), n)",
    ),
    shape(
        "texts by their bytes",
        "a VARCHAR(30) COLLATE utf8mb4_bin NOT NULL",
        "PRIMARY KEY (a)",
        "CONCAT(ELT(n % 4 + 1, '😀', 'é', 'A', '中'), n)",
    ),
    shape("bytes", "a VARBINARY(40) NOT NULL", "PRIMARY KEY (a)", "UNHEX(SHA2(n, 256))"),
    shape("uuids as bytes", "a BINARY(16) NOT NULL", "PRIMARY KEY (a)", "UNHEX(LEFT(SHA2(n, 256), 32))"),
    shape(
        "uuids as texts",
        "a CHAR(36) NOT NULL",
        "PRIMARY KEY (a)",
        "INSERT(INSERT(INSERT(INSERT(LEFT(SHA2(n, 256), 32), 21, 0, '-'), 17, 0, '-'), 13, 0, '-'), 9, 0, '-')",
    ),
    Shape {
        mariadb: Some(true),
        ..shape(
            "uuids",
            "a UUID NOT NULL",
            "PRIMARY KEY (a)",
            "CONCAT(LEFT(SHA2(n, 256), 8), '-1111-4222-8333-', RIGHT(SHA2(n, 256), 12))",
        )
    },
    Shape {
        mariadb: Some(true),
        ..shape(
            "addresses",
            "a INET6 NOT NULL",
            "PRIMARY KEY (a)",
            "CONCAT('2001:db8::', HEX(n % 3), ':', HEX(n MOD 65536), ':', HEX(n DIV 65536))",
        )
    },
    Shape {
        mariadb: Some(true),
        ..shape(
            "short addresses",
            "a INET4 NOT NULL",
            "PRIMARY KEY (a)",
            "CONCAT('10.', n % 2, '.', n DIV 256 % 256, '.', n % 256)",
        )
    },
    Shape {
        mariadb: Some(false),
        ..shape("counted down", "a INT NOT NULL, b INT NOT NULL", "PRIMARY KEY (a DESC, b DESC)", "n % 3, n")
    },
    shape("decimals", "a DECIMAL(38,10) NOT NULL", "PRIMARY KEY (a)", "n * 1.0000000001 - 5000"),
    shape("floats", "a DOUBLE NOT NULL, b INT NOT NULL", "PRIMARY KEY (a, b)", "(n - 3000) * 1e-3, n"),
    shape("bits", "a BIT(40) NOT NULL", "PRIMARY KEY (a)", "n * 1000003"),
    shape("years", "a YEAR NOT NULL, b INT NOT NULL", "PRIMARY KEY (a, b)", "1990 + n % 30, n"),
    shape(
        "moments, some of them in no calendar",
        "a DATETIME(6) NOT NULL, b INT NOT NULL",
        "PRIMARY KEY (a, b)",
        "IF(n % 5 = 0, '0000-00-00', TIMESTAMPADD(SECOND, n * 37, '2024-01-01')), n",
    ),
    shape(
        "days",
        "a DATE NOT NULL, b INT NOT NULL",
        "PRIMARY KEY (a, b)",
        "TIMESTAMPADD(DAY, n % 400, '2024-01-01'), n",
    ),
    shape(
        "times",
        "a TIME(3) NOT NULL, b INT NOT NULL",
        "PRIMARY KEY (a, b)",
        "SEC_TO_TIME(n * 100 - 600000), n",
    ),
    shape(
        "unique, and no primary key",
        "a INT NOT NULL, b INT",
        "UNIQUE KEY u (a), KEY k (b)",
        "n * 5, n % 2",
    ),
    shape(
        "unique where it is not NULL",
        "a INT, b INT",
        "UNIQUE KEY u (a), KEY k (b)",
        "IF(n % 4 = 0, NULL, n), n % 2",
    ),
    shape(
        "no key, and an index with NULL",
        "a INT, b VARCHAR(20)",
        "KEY k (a)",
        "IF(n % 4 = 0, NULL, n DIV 3), 'x'",
    ),
];

/// The count of rows, and a sum over what is in them.
async fn sum(url: &str, place: &str, condition: &str) -> (u64, u128) {
    let sql =
        format!("SELECT COUNT(*), IFNULL(SUM(CRC32(CONCAT_WS('/', n, pad))), 0) FROM {place}{condition}");
    let row = rows(url, &sql).await.unwrap().remove(0);
    let number = |at: usize| row[at].as_ref().unwrap().parse::<u128>().unwrap();
    (number(0) as u64, number(1))
}

/// A database with a table `numbers` of the numbers from 1 on.
async fn numbers(url: &str, database: &str, count: u64) {
    let digits = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 \
        UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    run(
        url,
        &[
            &format!("CREATE DATABASE {database} CHARACTER SET utf8mb4"),
            &format!("CREATE TABLE {database}.numbers (n INT PRIMARY KEY)"),
            &format!(
                "INSERT INTO {database}.numbers SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d AS n \
                 FROM {digits} a, {digits} b, {digits} c, {digits} d, {digits} e, {digits} f HAVING n BETWEEN 1 AND {count}"
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_large_shard_is_read_in_ranges_whose_rows_together_are_those_that_the_server_sums() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("large"));
        numbers(url, &database, 170_000).await;
        run(
            url,
            &[
                &format!(
                    "CREATE TABLE {database}.t (k VARCHAR(20) NOT NULL, n INT NOT NULL, PRIMARY KEY (k, n))"
                ),
                &format!(
                    "INSERT INTO {database}.t SELECT ELT(n % 3 + 1, 'Å', 'b', 'B'), n FROM {database}.numbers"
                ),
                &format!("ANALYZE TABLE {database}.t"),
            ],
        )
        .await;
        let (store, table) = (store(&urls[..1], &[]), named(&database, "t"));
        let cut = store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await.unwrap();
        let plan = cut.plan(&table, &PlanOptions { partitions: 4, bounds: vec![] }).await.unwrap();
        assert!((2..=4).contains(&plan.len()), "{plan:?}");
        assert!(plan.iter().all(|piece| piece.rows_expected < 90_000), "{plan:?}");
        let (batches, _) = read(cut.as_ref(), &table, 4).await;
        let hasher = keepfast_model::RowHasher::new(&cut.table(&table).await.unwrap().schema);
        let read = batches
            .iter()
            .fold(keepfast_model::Digest::default(), |sum, b| sum.merge(hasher.digest(b).unwrap()));
        let proof = cut.prove(&table, &ProofRequest { full: true, ranges: vec![] }).await.unwrap().unwrap();
        assert_eq!((proof.rows, proof.ranges[0].digest), (170_000, read), "{}", proof.method);
        cut.release().await.unwrap();
        run(url, &[&format!("DROP DATABASE {database}")]).await;
    }
}

#[tokio::test]
async fn ranges_of_every_kind_of_key_are_balanced_and_hold_each_row_once() {
    let (count, least) = if long() { (200_000, 20_000) } else { (6000, 500) };
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("ranges"));
        numbers(url, &database, count).await;
        for (at, shape) in SHAPES.iter().enumerate() {
            if shape.mariadb.is_some_and(|mariadb| mariadb != (kind == MARIADB_URLS)) {
                continue;
            }
            let (table, what) = (format!("t{at}"), format!("{kind}: {}", shape.name));
            let place = format!("{database}.{table}");
            run(
                url,
                &[
                    "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'",
                    &format!(
                        "CREATE TABLE {place} ({}, n INT NOT NULL, pad VARCHAR(90) NOT NULL, {})",
                        shape.columns, shape.key
                    ),
                    &format!(
                        "INSERT INTO {place} SELECT {}, n, REPEAT('x', 80) FROM {database}.numbers",
                        shape.values
                    ),
                    &format!("ANALYZE TABLE {place}"),
                ],
            )
            .await;
            let began = Instant::now();
            let cut = pieces(url, (&database, &table), WANTED, least)
                .await
                .unwrap_or_else(|e| panic!("{e}: {what}"));
            let took = began.elapsed();
            let mut whole = (0, 0);
            let mut counts = vec![];
            for (condition, _) in &cut {
                let found = sum(url, &place, condition).await;
                whole = (whole.0 + found.0, whole.1 + found.1);
                counts.push(found.0);
            }
            assert_eq!(whole, sum(url, &place, "").await, "{what}: {cut:?}");
            let (largest, mean) = (counts.iter().max().unwrap(), count / u64::from(WANTED));
            eprintln!("{what}: {counts:?} in {took:?}");
            // Rows whose key is NULL are a range of their own.
            let nulls = cut[0].0.ends_with("IS NULL");
            assert!(counts.len() >= 5 && counts.len() <= 13, "{what}: {cut:?}");
            assert!(
                *largest <= mean * 2 || nulls && counts[1..].iter().all(|n| *n <= mean * 2),
                "{what}: {counts:?}"
            );
        }
        run(url, &[&format!("DROP DATABASE {database}")]).await;
    }
}

#[tokio::test]
async fn tables_that_cannot_be_cut_are_read_whole() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("whole"));
        run(url, &[&format!("CREATE DATABASE {database}")]).await;
        for (name, columns) in [
            ("bare", "a INT, b INT"),
            ("prefix", "a TEXT NOT NULL, b INT, PRIMARY KEY (a(5), b)"),
            ("words", "a ENUM('x','y') NOT NULL, b INT NOT NULL, PRIMARY KEY (a, b)"),
            ("empty", "a INT, b INT, PRIMARY KEY (a, b)"),
        ] {
            let place = format!("{database}.{name}");
            let values = "'x', 1 UNION ALL SELECT 'y', 2 UNION ALL SELECT 'x', 3";
            let fill = match name {
                "empty" => "SELECT 1".to_owned(),
                "bare" => {
                    format!("INSERT INTO {place} SELECT 1, 1 UNION ALL SELECT 1, 1 UNION ALL SELECT NULL, 3")
                }
                _ => format!("INSERT INTO {place} SELECT {values}"),
            };
            run(
                url,
                &[&format!("CREATE TABLE {place} ({columns})"), &fill, &format!("ANALYZE TABLE {place}")],
            )
            .await;
            let cut = pieces(url, (&database, name), 4, 1).await.unwrap();
            assert_eq!(
                cut.iter().map(|(condition, _)| condition.as_str()).collect::<Vec<_>>(),
                [""],
                "{name}"
            );
        }
        run(url, &[&format!("DROP DATABASE {database}")]).await;
    }
}
