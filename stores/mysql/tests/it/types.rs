//! Tables of every type, made from a seed: read, loaded again and compared by the server's own checksum and by ours.

use crate::common::*;
use crate::loading::loaded;
use keepfast_model::random::Random;
use keepfast_store::{CutOptions, LoadMode, ProofRequest, Store};
use keepfast_testbed::mysql::MARIADB_URLS;
use std::collections::BTreeSet;

/// Names a seed to be used in place of a new one.
const SEED: &str = "KEEPFAST_TEST_SEED";
/// Tables of each kind of server.
const TABLES: u64 = 12;
const ROWS: u64 = 60;

/// A type, and values of it as SQL; some servers alone have it.
struct Kind {
    sql: &'static str,
    values: fn(&mut Random) -> String,
    /// Whether a key may hold it.
    keyed: bool,
    only: Option<bool>,
}

fn one(random: &mut Random, of: &[&str]) -> String {
    of[random.below(of.len() as u64) as usize].to_owned()
}

fn digits(random: &mut Random, whole: u64, part: u64) -> String {
    let number = |random: &mut Random, n: u64| -> String {
        (0..n).map(|_| char::from(b'0' + random.below(10) as u8)).collect()
    };
    let sign = if random.one_in(2) { "-" } else { "" };
    let shown = random.below(whole + 1);
    format!("{sign}0{}.{}", number(random, shown), number(random, part))
}

fn bits(random: &mut Random, n: u32) -> String {
    let number = random.next() >> (64 - n);
    match random.below(4) {
        0 => "0".into(),
        1 => (u64::MAX >> (64 - n)).to_string(),
        _ => number.to_string(),
    }
}

/// A number with sign of so many bits, its ends among them.
fn signed(random: &mut Random, n: u32) -> String {
    match random.below(5) {
        0 => (i64::MIN >> (64 - n)).to_string(),
        1 => (i64::MAX >> (64 - n)).to_string(),
        _ => ((random.next() as i64) >> (64 - n)).to_string(),
    }
}

fn bytes(random: &mut Random, most: u64) -> String {
    let length = if random.one_in(4) { 0 } else { random.below(most) };
    let hex: String = (0..length)
        .map(|_| match random.below(6) {
            // What files of rows give a meaning.
            0 => format!("{:02x}", b"\\\t\n\r\0'\"N,"[random.below(9) as usize]),
            _ => format!("{:02x}", random.next() as u8),
        })
        .collect();
    format!("x'{hex}'")
}

fn text(random: &mut Random, alphabet: &[&str], most: u64) -> String {
    let length = random.below(most);
    let text: String = (0..length).map(|_| one(random, alphabet)).collect();
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

const ASCII: [&str; 12] = ["a", "B", " ", "z", "9", "\\", "'", "\t", "\n", ",", "N", "\0"];
const LATIN: [&str; 6] = ["é", "ß", "a", "ÿ", "€", "\\"];
const CHINESE: [&str; 6] = ["中", "文", "a", "\\", "国", "\t"];
const WIDE: [&str; 8] = ["😀", "☃", "é", "a", "A", "\u{301}", "\u{0}", "𝄞"];

fn floats(random: &mut Random, double: bool) -> String {
    let number = f64::from_bits(random.next());
    match random.below(6) {
        0 => one(
            random,
            &["0", "-1e-200 * 1e-200", "1.17549435e-38", "1e-45", "3.4028234e38", "16777217", "0.1"],
        ),
        1 if double => one(
            random,
            &[
                "5e-324",
                "1.7976931348623157e308",
                "2.2250738585072014e-308",
                "1e15",
                "1e16",
                "123456789012345678",
            ],
        ),
        _ if double && number.is_finite() => format!("{number:e}"),
        _ => format!("{:e}", f32::from_bits((random.next() as u32) & 0xff7f_ffff)),
    }
}

fn moment(random: &mut Random) -> String {
    match random.below(6) {
        0 => one(
            random,
            &[
                "'0000-00-00 00:00:00'",
                "'2020-00-00 10:11:12'",
                "'2024-02-30 01:02:03.5'",
                "'0000-05-05 00:00:00'",
            ],
        ),
        1 => one(
            random,
            &[
                "'1000-01-01 00:00:00'",
                "'9999-12-31 23:59:59.999999'",
                "'0001-01-01 00:00:00.000001'",
                "'1582-10-10 12:00:00'",
            ],
        ),
        _ => format!(
            "'{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}'",
            1 + random.below(9999),
            1 + random.below(12),
            1 + random.below(28),
            random.below(24),
            random.below(60),
            random.below(60),
            random.below(1_000_000)
        ),
    }
}

fn time(random: &mut Random) -> String {
    match random.below(4) {
        0 => one(
            random,
            &[
                "'-838:59:59'",
                "'838:59:59'",
                "'-00:00:00.000001'",
                "'24:00:00'",
                "'00:00:00'",
                "'23:59:59.999999'",
            ],
        ),
        _ => format!(
            "'{}{}:{:02}:{:02}.{:06}'",
            one(random, &["", "-"]),
            random.below(838),
            random.below(60),
            random.below(60),
            random.below(1_000_000)
        ),
    }
}

fn json(random: &mut Random) -> String {
    one(
        random,
        &[
            "'null'",
            "'{}'",
            "'[]'",
            "'{\"a\": [1, 2.50, \"é\\\\t😀\"], \"b\": {\"c\": null}}'",
            "'-0.0'",
            "'1e300'",
            "'18446744073709551615'",
            "'\"\"'",
            "'\"\\\\\\\\ \\\\\" \\\\u0001\"'",
        ],
    )
}

fn shape(random: &mut Random) -> String {
    one(
        random,
        &[
            "ST_GeomFromText('POINT(1 2)')",
            "ST_GeomFromText('POINT(-0.5 1e300)', 4326 * 0)",
            "ST_GeomFromText('LINESTRING(0 0,1 1,2 1)')",
            "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')",
        ],
    )
}

const fn kind(sql: &'static str, keyed: bool, values: fn(&mut Random) -> String) -> Kind {
    Kind { sql, values, keyed, only: None }
}

const fn only(mariadb: bool, sql: &'static str, values: fn(&mut Random) -> String) -> Kind {
    Kind { sql, values, keyed: false, only: Some(mariadb) }
}

/// Every type and its oddities.
const TYPES: &[Kind] = &[
    kind("TINYINT", true, |r| signed(r, 8)),
    kind("TINYINT UNSIGNED", true, |r| bits(r, 8)),
    kind("BOOLEAN", false, |r| bits(r, 1)),
    kind("SMALLINT", true, |r| signed(r, 16)),
    kind("SMALLINT UNSIGNED ZEROFILL", false, |r| bits(r, 16)),
    kind("MEDIUMINT", true, |r| signed(r, 24)),
    kind("MEDIUMINT UNSIGNED", true, |r| bits(r, 24)),
    kind("INT", true, |r| signed(r, 32)),
    kind("INT(9) UNSIGNED ZEROFILL", true, |r| bits(r, 32)),
    kind("BIGINT", true, |r| signed(r, 64)),
    kind("BIGINT UNSIGNED", true, |r| bits(r, 64)),
    kind("BIT(1)", false, |r| bits(r, 1)),
    kind("BIT(13)", true, |r| bits(r, 13)),
    kind("BIT(64)", true, |r| bits(r, 64)),
    kind("YEAR", true, |r| one(r, &["0", "1901", "2155", "2024"])),
    kind("DECIMAL(10,2)", true, |r| digits(r, 7, 2)),
    kind("DECIMAL(9,0) ZEROFILL", false, |r| bits(r, 20)),
    kind("DECIMAL(38,10)", true, |r| digits(r, 27, 10)),
    kind("DECIMAL(65,30)", false, |r| digits(r, 34, 30)),
    kind("DECIMAL(65,0)", false, |r| digits(r, 64, 0)),
    kind("FLOAT", false, |r| floats(r, false)),
    kind("DOUBLE", false, |r| floats(r, true)),
    kind("DATE", false, moment),
    kind("TIME", false, time),
    kind("TIME(3)", false, time),
    kind("TIME(6)", false, time),
    kind("DATETIME", false, moment),
    kind("DATETIME(2)", false, moment),
    kind("DATETIME(6)", false, moment),
    kind("TIMESTAMP(6) NULL", false, |r| {
        one(
            r,
            &[
                "'0000-00-00 00:00:00'",
                "'1970-01-01 00:00:01'",
                "'2038-01-19 03:14:07.999999'",
                "'2024-03-31 02:30:00.5'",
            ],
        )
    }),
    kind("CHAR(8)", true, |r| text(r, &ASCII, 8)),
    kind("VARCHAR(30)", true, |r| text(r, &WIDE, 30)),
    kind("VARCHAR(30) COLLATE utf8mb4_bin", true, |r| text(r, &WIDE, 30)),
    kind("VARCHAR(30) CHARACTER SET latin1", true, |r| text(r, &LATIN, 30)),
    kind("CHAR(10) CHARACTER SET gbk", true, |r| text(r, &CHINESE, 10)),
    kind("VARCHAR(20) CHARACTER SET ucs2", false, |r| text(r, &CHINESE, 20)),
    kind("VARCHAR(20) CHARACTER SET utf8mb3", false, |r| text(r, &CHINESE, 20)),
    kind("VARCHAR(20) CHARACTER SET ascii", true, |r| text(r, &ASCII, 20)),
    kind("TINYTEXT", false, |r| text(r, &ASCII, 60)),
    kind("MEDIUMTEXT CHARACTER SET gbk", false, |r| text(r, &CHINESE, 60)),
    kind("LONGTEXT", false, |r| text(r, &WIDE, 3000)),
    kind("BINARY(4)", true, |r| bytes(r, 4)),
    kind("VARBINARY(40)", true, |r| bytes(r, 40)),
    kind("TINYBLOB", false, |r| bytes(r, 60)),
    kind("LONGBLOB", false, |r| bytes(r, 3000)),
    kind("ENUM('x','y','é,''')", false, |r| one(r, &["'x'", "'y'", "'é,'''"])),
    kind("SET('p','q','z z')", false, |r| one(r, &["''", "'p'", "'p,q'", "'p,q,z z'"])),
    kind("JSON", false, json),
    kind("GEOMETRY", false, shape),
    kind("LINESTRING", false, |_| "ST_GeomFromText('LINESTRING(0 0,1 1,2 1)')".into()),
    only(true, "UUID", |r| format!("'{:08x}-1111-4222-8333-{:012x}'", r.next() as u32, r.next() >> 16)),
    only(true, "INET6", |r| one(r, &["'::1'", "'2001:db8::ff00:42:8329'", "'::ffff:1.2.3.4'"])),
    only(true, "INET4", |r| one(r, &["'0.0.0.0'", "'10.1.2.255'"])),
    only(true, "VARCHAR(500) COMPRESSED", |r| text(r, &ASCII, 500)),
    only(false, "INT INVISIBLE", |r| signed(r, 32)),
    only(false, "VECTOR(3)", |r| {
        one(r, &["STRING_TO_VECTOR('[1,2,3]')", "STRING_TO_VECTOR('[-0.5,1e30,0]')"])
    }),
];

fn has_shape(columns: &[&Kind]) -> bool {
    columns.iter().any(|column| ["GEOMETRY", "LINESTRING"].contains(&column.sql))
}

/// Makes a table and its rows; says what it is.
async fn make(url: &str, place: &str, random: &mut Random, mariadb: bool) -> String {
    let types: Vec<&Kind> = TYPES.iter().filter(|k| k.only.is_none_or(|only| only == mariadb)).collect();
    let columns: Vec<&Kind> =
        (0..4 + random.below(9)).map(|_| types[random.below(types.len() as u64) as usize]).collect();
    let name = |at: usize| format!("`{}{at}`", ["c", "odd ``name", "Größe "][at % 3]);
    let keyed: Vec<usize> = (0..columns.len()).filter(|at| columns[*at].keyed).take(2).collect();
    // No key, a number, a column of any type before a number, or a unique index that is no primary key.
    let key = match (random.below(4), keyed.first()) {
        (0, _) => String::new(),
        (1, _) | (_, None) => ", PRIMARY KEY (id)".into(),
        (2, Some(at)) => format!(", PRIMARY KEY ({}, id)", name(*at)),
        (_, Some(at)) => format!(", UNIQUE KEY u (id, {})", name(*at)),
    };
    let mut parts = vec!["id INT NOT NULL".to_owned()];
    for (at, column) in columns.iter().enumerate() {
        let null = if key.contains(&name(at)) { " NOT NULL" } else { "" };
        parts.push(format!("{} {}{null}", name(at), column.sql));
    }
    if random.one_in(3) {
        parts.push("doubled BIGINT GENERATED ALWAYS AS (id * 2) VIRTUAL".into());
    }
    if random.one_in(3) {
        parts.push("halved BIGINT GENERATED ALWAYS AS (id / 2) STORED".into());
    }
    let options = match random.below(4) {
        // MySQL keeps no shapes in partitions.
        0 if !key.is_empty() && !has_shape(&columns) => " PARTITION BY HASH (id) PARTITIONS 3",
        1 => " ROW_FORMAT=COMPRESSED",
        _ => "",
    };
    let create = format!("CREATE TABLE {place} ({}{key}){options}", parts.join(", "));
    let mut statements =
        vec!["SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'".to_owned(), create.clone()];
    for id in 0..ROWS {
        let values: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| match random.one_in(7) && !key.contains(&name(at)) {
                true => "NULL".into(),
                false => (column.values)(random),
            })
            .collect();
        let names: Vec<String> = (0..columns.len()).map(name).collect();
        statements.push(format!(
            "INSERT INTO {place} (id, {}) VALUES ({id}, {})",
            names.join(", "),
            values.join(", ")
        ));
        // A bag holds a row twice.
        if key.is_empty() && random.one_in(5) {
            statements.push(statements[statements.len() - 1].clone());
        }
    }
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    keepfast_mysql::testing::run(url, &statements).await.unwrap_or_else(|e| panic!("{e}\n{create}"));
    create
}

#[tokio::test]
async fn generated_tables_come_back_as_the_servers_checksum_says() {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(clock.as_nanos() as u64);
    eprintln!("{SEED}={seed}");
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("made"));
        run(url, &[&format!("CREATE DATABASE {database}")]).await;
        let store = store(&urls[..1], &[]);
        for number in 0..TABLES {
            let mut random = Random::at(seed, number, u64::from(kind == MARIADB_URLS));
            let (name, again) = (format!("t {number}"), format!("again {number}"));
            let place = |name: &str| format!("`{database}`.`{name}`");
            let create = make(url, &place(&name), &mut random, kind == MARIADB_URLS).await;
            let what = format!("{SEED}={seed}, table {number}: {create}");
            let (from, to) = (named(&database, &name), named(&database, &again));
            let options = CutOptions::default();
            let cut = store
                .open_cut(std::slice::from_ref(&from), &options)
                .await
                .unwrap_or_else(|e| panic!("{e}: {what}"));
            let scanned = digest(cut.as_ref(), &from).await;
            let proof = cut.prove(&from, &ProofRequest { full: true, ranges: vec![] }).await;
            let proof = proof.unwrap_or_else(|e| panic!("{e}: {what}")).unwrap();
            assert_eq!(proof.ranges.len(), 1, "{}: {what}", proof.method);
            assert_eq!(proof.ranges[0].digest, scanned, "{what}");
            let load = loaded(&store, cut.as_ref(), &from, &to, LoadMode::Create).await;
            let load = load.unwrap_or_else(|e| panic!("{e}: {what}"));
            let beside = load.open_cut().await.unwrap();
            assert_eq!(digest(beside.as_ref(), &to).await, scanned, "{what}");
            beside.release().await.unwrap();
            load.publish().await.unwrap();
            cut.release().await.unwrap();
            assert_eq!(values(url, &database, &again).await, values(url, &database, &name).await, "{what}");
            let places = format!("{}, {}", place(&name), place(&again));
            // MariaDB sums bytes that nobody wrote where a partitioned table has virtual columns: one table has other sums each time.
            let mut sums = [BTreeSet::new(), BTreeSet::new()];
            for _ in 0..if kind == MARIADB_URLS { 3 } else { 1 } {
                let both = keepfast_mysql::testing::rows(url, &format!("CHECKSUM TABLE {places}")).await;
                for (sums, mut row) in sums.iter_mut().zip(both.unwrap()) {
                    sums.insert(row.remove(1));
                }
                run(url, &[&format!("FLUSH TABLES {places}")]).await;
            }
            let steady = sums.iter().all(|sums| sums.len() == 1);
            assert!(sums[0] == sums[1] || !steady && kind == MARIADB_URLS, "{sums:?}: {what}");
        }
    }
}

/// The server's own sums over every value of a table.
pub(crate) async fn values(url: &str, database: &str, table: &str) -> Vec<Option<String>> {
    let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
    let text = |name: &str| format!("'{}'", name.replace('\\', "\\\\").replace('\'', "''"));
    let (of_database, of_table) = (text(database), text(table));
    let sql = format!(
        "SELECT column_name, data_type FROM information_schema.columns \
         WHERE table_schema = {of_database} AND table_name = {of_table} \
         AND IFNULL(generation_expression, '') NOT IN ('ROW START', 'ROW END') ORDER BY ordinal_position"
    );
    let columns = keepfast_mysql::testing::rows(url, &sql).await.unwrap();
    let values = columns.iter().map(|row| {
        let name = quoted(row[0].as_ref().unwrap());
        let value = match row[1].as_deref() {
            Some("float" | "double") => format!("CAST(JSON_ARRAY({name} * 1e0) AS CHAR)"),
            Some("bit") => format!("{name} + 0"),
            Some("json") => format!("CAST({name} AS CHAR)"),
            _ => name,
        };
        format!("IFNULL(HEX(CAST({value} AS BINARY)), 'NULL')")
    });
    let text = format!("SHA2(CONCAT_WS(',', {}), 256)", values.collect::<Vec<_>>().join(", "));
    let sql = format!(
        "SELECT COUNT(*), SUM(CAST(CONV(LEFT({text}, 15), 16, 10) AS DECIMAL(20))), \
         SUM(CAST(CONV(RIGHT({text}, 15), 16, 10) AS DECIMAL(20))) FROM {}.{}",
        quoted(database),
        quoted(table)
    );
    keepfast_mysql::testing::rows(url, &sql).await.unwrap().remove(0)
}
