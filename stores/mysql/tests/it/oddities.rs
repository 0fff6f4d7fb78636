//! Tables that are more than columns and rows: they come back as the server itself writes and sums them.

use crate::common::*;
use crate::loading::loaded;
use crate::types::values;
use keepfast_model::TableName;
use keepfast_mysql::testing::rows;
use keepfast_mysql::{MySqlStore, Options, ShardedTable};
use keepfast_store::{LoadMode, OpenCut, ProofRequest, Store, StoreError};
use keepfast_testbed::mysql::MARIADB_URLS;

/// A table: what makes it behind its name, and what fills it. `T` stands for its full name.
struct Odd {
    /// Of MariaDB alone, or of MySQL alone.
    only: Option<bool>,
    name: &'static str,
    create: &'static str,
    fill: &'static [&'static str],
}

const fn odd(name: &'static str, create: &'static str, fill: &'static [&'static str]) -> Odd {
    Odd { only: None, name, create, fill }
}

const fn of(mariadb: bool, name: &'static str, create: &'static str, fill: &'static [&'static str]) -> Odd {
    Odd { only: Some(mariadb), name, create, fill }
}

const ODD: &[Odd] = &[
    odd(
        "by range",
        "(id INT NOT NULL, d DATE NOT NULL, v TEXT, PRIMARY KEY (id, d)) PARTITION BY RANGE COLUMNS (d) \
         (PARTITION old VALUES LESS THAN ('2024-01-01'), PARTITION `new ones` VALUES LESS THAN (MAXVALUE))",
        &["INSERT INTO T VALUES (1, '2020-02-02', 'a'), (2, '2024-01-01', 'b'), (3, '2030-12-31', NULL)"],
    ),
    odd(
        "by list and hash",
        "(id INT NOT NULL, r INT NOT NULL, PRIMARY KEY (id, r)) PARTITION BY LIST (r) SUBPARTITION BY HASH (id) SUBPARTITIONS 2 \
         (PARTITION a VALUES IN (1, 2), PARTITION b VALUES IN (3))",
        &["INSERT INTO T VALUES (1, 1), (2, 2), (3, 3), (4, 1)"],
    ),
    odd(
        "without a key in partitions",
        "(a INT, b INT) PARTITION BY KEY (a) PARTITIONS 4",
        &["INSERT INTO T VALUES (1, 1), (1, 1), (NULL, 2), (7, 3)"],
    ),
    odd(
        "compressed",
        "(id INT PRIMARY KEY, v LONGTEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4",
        &["INSERT INTO T VALUES (1, REPEAT('long ', 40000)), (2, '')"],
    ),
    of(
        true,
        "compressed pages",
        "(id INT PRIMARY KEY, v LONGTEXT COMPRESSED, w BLOB COMPRESSED) PAGE_COMPRESSED=1",
        &["INSERT INTO T VALUES (1, REPEAT('long ', 40000), x'00ff'), (2, '', '')"],
    ),
    odd(
        "invisible",
        "(id INT PRIMARY KEY, a INT INVISIBLE DEFAULT 5, b INT, c INT GENERATED ALWAYS AS (a + b) VIRTUAL INVISIBLE)",
        &["INSERT INTO T (id, b) VALUES (1, 2)", "INSERT INTO T (id, a, b) VALUES (2, NULL, 3), (3, 9, 4)"],
    ),
    of(
        false,
        "a key that the server made",
        "(a INT, b TEXT)",
        &["INSERT INTO T VALUES (1, 'x'), (1, 'x'), (NULL, NULL)"],
    ),
    odd(
        "generated and indexed",
        "(id INT PRIMARY KEY, n VARCHAR(20), l INT GENERATED ALWAYS AS (LENGTH(n)) STORED, u VARCHAR(20) GENERATED ALWAYS AS (UPPER(n)) VIRTUAL, \
         KEY of_u (u), KEY of_l (l))",
        &["INSERT INTO T (id, n) VALUES (1, 'abc'), (2, NULL), (3, 'é')"],
    ),
    of(
        false,
        "indexes over expressions",
        "(id INT PRIMARY KEY, j JSON, n VARCHAR(20), KEY e ((LOWER(n)), id DESC), KEY m ((CAST(j->'$.tags' AS UNSIGNED ARRAY))), KEY hidden (n) INVISIBLE)",
        &["INSERT INTO T VALUES (1, '{\"tags\": [1, 2]}', 'A'), (2, NULL, NULL)"],
    ),
    of(
        false,
        "defaults that are expressions",
        "(id INT PRIMARY KEY DEFAULT (7), t TEXT DEFAULT (CONCAT('a\\'', '`')), b BINARY(3) DEFAULT 'a')",
        &["INSERT INTO T VALUES ()"],
    ),
    odd(
        "counting",
        "(id INT NOT NULL AUTO_INCREMENT, v INT, PRIMARY KEY (id)) AUTO_INCREMENT=1000",
        &[
            "INSERT INTO T (v) VALUES (1), (2), (3)",
            "INSERT INTO T VALUES (0, 5), (-3, 6)",
            "DELETE FROM T WHERE id = 1002",
        ],
    ),
    odd(
        "counting in a second column",
        "(a INT NOT NULL, id INT NOT NULL AUTO_INCREMENT, PRIMARY KEY (a, id), KEY (id))",
        &["INSERT INTO T (a) VALUES (1), (1), (2)"],
    ),
    odd(
        "filled with zeros",
        "(id INT(10) UNSIGNED ZEROFILL PRIMARY KEY, d DECIMAL(12,3) ZEROFILL, f FLOAT ZEROFILL, y TINYINT(3) ZEROFILL)",
        &["INSERT INTO T VALUES (7, 1.5, 2.25, 3), (4294967295, NULL, 0, 255)"],
    ),
    odd(
        "keys without regard to case",
        "(k VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci PRIMARY KEY, n INT)",
        &["INSERT INTO T VALUES ('a', 1), ('B', 2), ('c', 3), ('É', 4), ('z ', 5), ('', 6), ('ß', 7)"],
    ),
    odd(
        "keys by their bytes",
        "(k VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, b VARBINARY(9), PRIMARY KEY (k, b))",
        &[
            "INSERT INTO T VALUES ('a', ''), ('A', ''), ('é', '\\0'), ('e', '\\0\\0'), ('a', 'a '), ('a', 'a')",
        ],
    ),
    of(
        false,
        "keys where spaces count",
        "(k VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs PRIMARY KEY, c CHAR(5) COLLATE utf8mb4_0900_bin)",
        &["INSERT INTO T VALUES ('a', 'a'), ('a ', 'a '), ('A', ' a'), ('á', '')"],
    ),
    of(
        true,
        "keys where spaces count",
        "(k VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PRIMARY KEY, c CHAR(5) COLLATE utf8mb4_nopad_bin)",
        &["INSERT INTO T VALUES ('a', 'a'), ('a ', 'a '), ('A', ' a'), ('á', '')"],
    ),
    odd(
        "character sets",
        "(k VARCHAR(9) CHARACTER SET gbk PRIMARY KEY, l1 VARCHAR(9) CHARACTER SET latin1 COLLATE latin1_german2_ci, l2 CHAR(9) CHARACTER SET latin2, \
         cy TEXT CHARACTER SET cp1251, jp VARCHAR(9) CHARACTER SET sjis, ej VARCHAR(9) CHARACTER SET ujis, tw TEXT CHARACTER SET big5, kr VARCHAR(9) CHARACTER SET euckr, \
         gr CHAR(9) CHARACTER SET greek, he VARCHAR(9) CHARACTER SET hebrew, u2 VARCHAR(9) CHARACTER SET ucs2, u6 VARCHAR(9) CHARACTER SET utf16, \
         le VARCHAR(9) CHARACTER SET utf16le, u4 TEXT CHARACTER SET utf32, ru CHAR(9) CHARACTER SET koi8r, bi CHAR(4) CHARACTER SET binary)",
        &[
            "INSERT INTO T VALUES ('中文\\\\', 'ßä€', 'łódź', 'жук', 'ソ表\\\\', '日本', '功許', '한국', 'αβ', 'שלום', '☃\\\\', '😀\\\\', '😀', '😀\\n', 'ёж', 'a\\0')",
            "INSERT INTO T VALUES ('国', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '')",
            "INSERT INTO T (k) VALUES ('')",
        ],
    ),
    of(
        false,
        "gb18030",
        "(k VARCHAR(9) CHARACTER SET gb18030 PRIMARY KEY)",
        &["INSERT INTO T VALUES ('中😀'), ('a')"],
    ),
    odd(
        "words",
        "(id INT PRIMARY KEY, e ENUM('a','it''s','c,d','e\\nf','`)','') NOT NULL DEFAULT 'c,d', s SET('x','y z','ü') COMMENT 'AUTO_INCREMENT\\n) ENGINE=x, KEY `k`')",
        &[
            "INSERT INTO T VALUES (1, 'it''s', 'x,ü'), (2, 'e\\nf', ''), (3, '`)', NULL), (4, '', 'y z')",
            "INSERT INTO T (id) VALUES (5)",
        ],
    ),
    odd(
        "more indexes",
        "(id INT PRIMARY KEY, t TEXT, g POINT NOT NULL, v VARCHAR(99), FULLTEXT KEY words (t), SPATIAL KEY places (g), KEY part (t(7), v(3)), UNIQUE KEY down (v DESC) COMMENT 'KEY `x`')",
        &[
            "INSERT INTO T VALUES (1, 'some words', ST_GeomFromText('POINT(1 2)'), 'a'), (2, NULL, ST_GeomFromText('POINT(-1 0.1)'), NULL)",
        ],
    ),
    of(
        false,
        "places on the earth",
        "(id INT PRIMARY KEY, g POINT NOT NULL SRID 4326, h GEOMETRY SRID 0, i GEOMETRY, SPATIAL KEY (g))",
        &[
            "INSERT INTO T VALUES (1, ST_GeomFromText('POINT(52 13)', 4326), ST_GeomFromText('LINESTRING(0 0,1 1)'), ST_GeomFromText('POINT(1 1)', 3857))",
            "INSERT INTO T VALUES (2, ST_GeomFromText('POINT(-90 180)', 4326), NULL, NULL)",
        ],
    ),
    of(
        false,
        "vectors",
        "(id INT PRIMARY KEY, v VECTOR(3), w VECTOR)",
        &[
            "INSERT INTO T VALUES (1, STRING_TO_VECTOR('[1,-0.5,1e-30]'), STRING_TO_VECTOR('[9]')), (2, NULL, NULL)",
        ],
    ),
    of(
        true,
        "addresses as keys",
        "(a INET6, b INET4, u UUID, PRIMARY KEY (a, b, u))",
        &[
            "INSERT INTO T VALUES ('::1', '1.2.3.4', UUID()), ('2001:db8::', '0.0.0.0', '123e4567-e89b-12d3-a456-426655440000')",
        ],
    ),
    of(
        true,
        "system-versioned",
        "(id INT PRIMARY KEY, v INT, KEY (v)) WITH SYSTEM VERSIONING",
        &[
            "INSERT INTO T VALUES (1, 1), (2, 2), (3, 3)",
            "UPDATE T SET v = 9 WHERE id = 1",
            "DELETE FROM T WHERE id = 2",
        ],
    ),
    of(
        true,
        "system-versioned with its own columns",
        "(id INT PRIMARY KEY, v INT WITHOUT SYSTEM VERSIONING, w INT, since TIMESTAMP(6) GENERATED ALWAYS AS ROW START, till TIMESTAMP(6) GENERATED ALWAYS AS ROW END, \
         PERIOD FOR SYSTEM_TIME (since, till)) WITH SYSTEM VERSIONING PARTITION BY SYSTEM_TIME (PARTITION h HISTORY, PARTITION n CURRENT)",
        &[
            "INSERT INTO T (id, v, w) VALUES (1, 1, 1), (2, 2, 2)",
            "UPDATE T SET w = 9 WHERE id = 1",
            "DELETE FROM T WHERE id = 2",
        ],
    ),
    of(
        true,
        "true for a time",
        "(id INT NOT NULL, a DATE NOT NULL, b DATE NOT NULL, PERIOD FOR p (a, b), PRIMARY KEY (id, p WITHOUT OVERLAPS))",
        &["INSERT INTO T VALUES (1, '2020-01-01', '2021-01-01'), (1, '2021-01-01', '2022-01-01')"],
    ),
    odd(
        "checked",
        "(id INT PRIMARY KEY, `a``b` INT CHECK (`a``b` > 0), `c.d` VARCHAR(9) DEFAULT '\\\\`', CONSTRAINT `k ``) x` CHECK (id < 100 AND `c.d` <> ') ENGINE'))",
        &["INSERT INTO T VALUES (1, 2, 'x'), (2, NULL, NULL)"],
    ),
];

/// Brings a table back under another name, and says what differs then by the server's own word.
async fn back(url: &str, database: &str, name: &str, again: &str) -> Result<(), String> {
    let store = store(&[url.to_owned()], &[]);
    let (from, to) = (named(database, name), named(database, again));
    let cut =
        store.open_cut(std::slice::from_ref(&from), &Default::default()).await.map_err(|e| e.to_string())?;
    let scanned = digest(cut.as_ref(), &from).await;
    let proof = cut
        .prove(&from, &ProofRequest { full: true, ranges: vec![] })
        .await
        .map_err(|e| e.to_string())?
        .unwrap();
    if proof.ranges.first().map(|range| range.digest) != Some(scanned) {
        return Err(format!("nothing is proven: {}", proof.method));
    }
    let load = loaded(&store, cut.as_ref(), &from, &to, LoadMode::Create).await.map_err(|e| e.to_string())?;
    let beside = load.open_cut().await.map_err(|e| e.to_string())?;
    if digest(beside.as_ref(), &to).await != scanned {
        return Err("other rows are read back".into());
    }
    beside.release().await.unwrap();
    load.publish().await.map_err(|e| e.to_string())?;
    cut.release().await.unwrap();
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    let mut both = vec![];
    for name in [name, again] {
        let place = format!("{}.{}", quoted(database), quoted(name));
        let create = rows(url, &format!("SHOW CREATE TABLE {place}")).await?.remove(0)[1].clone().unwrap();
        let create = create.replacen(&format!("TABLE {} (", quoted(name)), "TABLE T (", 1);
        // Indexes are made after the rows, some of them in another order.
        let lines = create.lines().map(|line| match line.split_once(" CHECK (") {
            // Names of checks are others, because those of a database's tables must differ.
            Some((name, check)) if name.starts_with("  CONSTRAINT ") => format!("  CHECK ({check}"),
            _ => line.to_owned(),
        });
        let mut lines: Vec<String> = lines.map(|line| line.trim_end_matches(',').to_owned()).collect();
        lines.sort_unstable();
        both.push((lines.join("\n"), values(url, database, name).await));
    }
    if both[0] != both[1] {
        return Err(format!("it was\n{:?}\nand is\n{:?}", both[0], both[1]));
    }
    Ok(())
}

#[tokio::test]
async fn odd_tables_come_back_as_the_server_writes_and_sums_them() {
    let mut wrong = vec![];
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("odd"));
        run(url, &[&format!("CREATE DATABASE {database} CHARACTER SET utf8mb4")]).await;
        for (at, odd) in ODD.iter().enumerate() {
            if odd.only.is_some_and(|mariadb| mariadb != (kind == MARIADB_URLS)) {
                continue;
            }
            let (name, again) = (format!("t{at}"), format!("again{at}"));
            let place = format!("{database}.{name}");
            let mut sql = vec!["SET NAMES utf8mb4".to_owned()];
            if odd.name == "a key that the server made" {
                sql.push("SET SESSION sql_generate_invisible_primary_key = ON".into());
            }
            sql.push(format!("CREATE TABLE {place} {}", odd.create));
            sql.extend(odd.fill.iter().map(|fill| {
                let fill = fill.replacen("INTO T ", &format!("INTO {place} "), 1).replacen(
                    "UPDATE T ",
                    &format!("UPDATE {place} "),
                    1,
                );
                fill.replacen("FROM T ", &format!("FROM {place} "), 1)
            }));
            let made =
                keepfast_mysql::testing::run(url, &sql.iter().map(String::as_str).collect::<Vec<_>>()).await;
            let found = match made {
                Ok(()) => back(url, &database, &name, &again).await,
                Err(e) => Err(format!("it cannot be made: {e}")),
            };
            if let Err(why) = found {
                wrong.push(format!("{kind}: {}: {why}", odd.name));
            }
        }
        if kind == MARIADB_URLS {
            // What was true before stays with the replaced table: a backup is of one moment.
            let at = ODD.iter().position(|odd| odd.name == "system-versioned").unwrap();
            let history = format!("SELECT COUNT(*) FROM {database}.again{at} FOR SYSTEM_TIME ALL");
            assert_eq!(value(url, &history).await.unwrap(), "2");
        }
        run(url, &[&format!("DROP DATABASE {database}")]).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn names_may_have_any_character_and_any_length() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let url = &urls[0];
        let database = format!("{} `.d", fresh("näm"));
        let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
        run(url, &[&format!("CREATE DATABASE {}", quoted(&database))]).await;
        let long = "ü".repeat(64);
        for (at, name) in ["a`b", "c.d", "e f", "%_", "'\"\\", "-- x", "名前", "``", &long, "CamelCase", "$1"]
            .into_iter()
            .enumerate()
        {
            let place = format!("{}.{}", quoted(&database), quoted(name));
            run(
                url,
                &[
                    &format!(
                        "CREATE TABLE {place} ({} INT PRIMARY KEY, {} TEXT, {} INT, KEY {} (k))",
                        quoted(name),
                        quoted("x`.y"),
                        "k",
                        quoted(&long[..60])
                    ),
                    &format!("INSERT INTO {place} VALUES (1, 'a', 1), (2, NULL, 2)"),
                ],
            )
            .await;
            back(url, &database, name, &format!("again `{at}"))
                .await
                .unwrap_or_else(|e| panic!("{kind}: '{name}': {e}"));
            // Replaced, its own name has the new rows, and the old ones stand under a name that is no longer than a name may be.
            let (store, table) = (store(&urls[..1], &[]), named(&database, name));
            let published = restored((&store, &table), (&store, &table), LoadMode::Replace).await;
            let kept = published.replaced[0].clone().unwrap();
            assert!(kept.table.chars().count() <= 64, "{}", kept.table);
            assert_eq!(values(url, &database, &kept.table).await, values(url, &database, name).await);
            store.undo(&published.undo).await.unwrap();
        }
        run(url, &[&format!("DROP DATABASE {}", quoted(&database))]).await;
    }
}

/// Two shards, each of which counts its own rows from 1.
async fn counted_alone(urls: &[String], key: &[&str]) -> (MySqlStore, String) {
    let prefix = fresh("own");
    for (at, url) in urls.iter().take(2).enumerate() {
        let place = format!("{prefix}_{at}.t");
        run(
            url,
            &[
                &format!("CREATE DATABASE {prefix}_{at}"),
                &format!("CREATE DATABASE {prefix}_{at}_again"),
                &format!("CREATE TABLE {place} (id INT PRIMARY KEY, user INT NOT NULL, v INT)"),
                &format!("INSERT INTO {place} VALUES (1, {at}, 5), (2, {at} + 2, 6)"),
            ],
        )
        .await;
    }
    let table = |shards: String| ShardedTable {
        shards,
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        shard_rule: Some("user % 2".into()),
        ..ShardedTable::default()
    };
    let store = MySqlStore::new(&Options {
        urls: urls[..2].to_vec(),
        tables: [
            ("t".to_owned(), table(format!("{prefix}_{{0..1}}.t"))),
            ("again".to_owned(), table(format!("{prefix}_{{0..1}}_again.t"))),
        ]
        .into(),
        sessions: 2,
        ..Options::default()
    });
    (store.unwrap(), prefix)
}

/// Rows and shards of a table at a cut.
async fn found(cut: &dyn OpenCut, table: &TableName) -> (usize, usize) {
    let (batches, shards) = read(cut, table, 1).await;
    (batches.iter().map(|batch| batch.num_rows()).sum(), shards)
}

#[tokio::test]
async fn rows_of_one_key_in_two_shards_are_all_read_and_never_made_one() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        // Each shard's own key is not that of the table: both rows are read, each with its shard, and whoever brings shards together finds it.
        let (store, prefix) = counted_alone(&urls, &[]).await;
        let (table, one) = (TableName::bare("t"), named(&format!("{prefix}_0"), "one"));
        let cut = cut_of(&store, std::slice::from_ref(&table)).await;
        assert_eq!(found(cut.as_ref(), &table).await, (4, 2));
        // A table that cannot hold both refuses them, and nothing is made.
        let refused = loaded(&store, cut.as_ref(), &table, &one, LoadMode::Create).await.map(drop);
        assert!(
            matches!(&refused, Err(StoreError::Row { reason, .. }) if reason.contains("Duplicate entry")),
            "{refused:?}"
        );
        assert!(matches!(store.describe(&one).await, Err(StoreError::NoTable { .. })));
        cut.release().await.unwrap();

        // With a key that tells them apart the table comes back as it was.
        let (store, _) = counted_alone(&urls, &["user", "id"]).await;
        let again = TableName::bare("again");
        let schema = store.describe(&table).await.unwrap().schema;
        assert_eq!(schema.key_names(), ["user", "id"]);
        restored((&store, &table), (&store, &again), LoadMode::Create).await;
        assert_eq!(digest_now(&store, &again).await, digest_now(&store, &table).await);

        // A key must have a value in each row.
        let (store, _) = counted_alone(&urls, &["id", "v"]).await;
        let error = store.describe(&table).await.unwrap_err().to_string();
        assert!(error.contains("'v'"), "{error}");
    }
}
