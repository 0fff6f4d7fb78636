//! Tables of MySQL and MariaDB servers as a user backs them up and brings them back.

use crate::run::{Folder, document};
use keepfast_mysql::testing;

/// URLs of two servers of a kind; none where the run has none, which is said and counted.
fn servers(kind: &str) -> Option<[String; 2]> {
    let urls = std::env::var(kind).unwrap_or_default();
    let urls: Vec<String> = urls.split_whitespace().map(str::to_owned).collect();
    let found = urls.try_into().ok();
    if found.is_none() {
        eprintln!("SKIPPED: {kind} names no servers");
    }
    found
}

const KINDS: [&str; 2] = ["KEEPFAST_TEST_MARIADB", "KEEPFAST_TEST_MYSQL"];

fn run(url: &str, statements: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(testing::run(url, statements)).unwrap();
}

fn value(url: &str, sql: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows = runtime.block_on(testing::rows(url, sql)).unwrap();
    rows[0].last().unwrap().clone().unwrap()
}

/// A URL without its password, and the password.
fn parted(url: &str) -> (String, String) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (user, host) = rest.split_once('@').unwrap();
    let (user, password) = user.split_once(':').unwrap();
    (format!("{scheme}://{user}@{host}"), password.to_owned())
}

#[test]
fn a_table_of_a_server_is_backed_up_lost_restored_and_undone() {
    for kind in KINDS {
        let Some([server, _]) = servers(kind) else { continue };
        let (folder, database) = (Folder::new(), format!("cli_{}", std::process::id()));
        let (url, password) = parted(&server);
        folder.write("password.txt", &password);
        folder.write(
            "keepfast.toml",
            &format!("[stores.shop]\nurl = \"{url}\"\npassword_file = \"password.txt\"\n"),
        );
        let orders = format!("`{database}`.orders");
        let mut rows = String::new();
        for id in 0..2000 {
            rows += &format!(
                "{}({id}, 'customer {}', {}.25, '0000-00-00')",
                if id > 0 { ", " } else { "" },
                id % 97,
                id
            );
        }
        run(
            &server,
            &[
                &format!("DROP DATABASE IF EXISTS `{database}`"),
                &format!("CREATE DATABASE `{database}`"),
                &format!(
                    "CREATE TABLE {orders} (id BIGINT PRIMARY KEY, who VARCHAR(80), amount DECIMAL(12,2), day DATE, KEY by_who (who))"
                ),
                "SET sql_mode = ''",
                &format!("INSERT INTO {orders} VALUES {rows}"),
            ],
        );
        let sum = format!("CHECKSUM TABLE {orders}");
        let before = value(&server, &sum);
        let table = format!("shop.{database}.orders");
        let made = folder.json(&["backup", &table, "--to", "b"]);
        assert_eq!(
            (&made["tables"][0]["rows"], &made["cut"]["exactness"]),
            (&2000.into(), &"exact".into()),
            "{made}"
        );
        folder.ok(&["verify", "b"]);
        folder.ok(&["verify", "b", "--level", "content", "--against", &table]);
        run(&server, &[&format!("UPDATE {orders} SET who = 'nobody' WHERE id < 100")]);
        let differs = folder.run(&["verify", "b", "--level", "content", "--against", &table]);
        assert_eq!(differs.code, 3, "{differs:?}");
        let restored = document(&folder.ok(&["restore", &table, "--from", "b", "--json"]));
        assert_eq!(value(&server, &sum), before);
        assert!(value(&server, &format!("SHOW CREATE TABLE {orders}")).contains("`by_who`"));
        folder.ok(&["undo", restored["restore"].as_str().unwrap()]);
        assert_eq!(value(&server, &format!("SELECT COUNT(*) FROM {orders} WHERE who = 'nobody'")), "100");
        // The password is nowhere.
        for args in
            [&["backup", &table, "--to", "b", "--dry-run", "-vv"][..], &["show", "b"], &["list", "-vv"]]
        {
            let run = folder.run(args);
            assert!(!run.out.contains(&password) && !run.err.contains(&password), "{run:?}");
        }
    }
}

#[test]
fn a_table_of_shards_on_two_servers_is_one_table_and_says_how_exact_its_moment_is() {
    for kind in KINDS {
        let Some(servers) = servers(kind) else { continue };
        let (folder, prefix) = (Folder::new(), format!("cli_shop_{}", std::process::id()));
        for (at, server) in servers.iter().enumerate() {
            let database = format!("{prefix}_{at}");
            let mut sql =
                vec![format!("DROP DATABASE IF EXISTS {database}"), format!("CREATE DATABASE {database}")];
            for n in 0..2 {
                sql.push(format!("CREATE TABLE {database}.orders_{n} (id INT PRIMARY KEY, amount INT)"));
                let rows: Vec<String> =
                    (0..50).map(|i| format!("({}, 2)", at * 1000 + n * 100 + i)).collect();
                sql.push(format!("INSERT INTO {database}.orders_{n} VALUES {}", rows.join(",")));
            }
            run(server, &sql.iter().map(String::as_str).collect::<Vec<_>>());
        }
        folder.write(
            "keepfast.toml",
            &format!(
                "[stores.shop]\nurl = [\"{}\", \"{}\"]\n[stores.shop.tables.orders]\nshards = \"{prefix}_{{0..1}}.orders_{{0..1}}\"\n",
                servers[0], servers[1]
            ),
        );
        let made = folder.json(&["backup", "shop.main.orders", "--to", "b"]);
        assert_eq!(
            (&made["tables"][0]["rows"], &made["cut"]["exactness"]),
            (&200.into(), &"bounded".into()),
            "{made}"
        );
        folder.ok(&["verify", "b", "--level", "compare"]);
        let sum = folder.json(&["query", "SELECT sum(amount) AS s FROM backup('b', 'shop.main.orders')"]);
        assert!(sum.to_string().contains("400"), "{sum}");
    }
}
