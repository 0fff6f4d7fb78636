//! Tables of MySQL and MariaDB servers as a user backs them up and brings them back.

use crate::run::{Folder, document};
use keepfast_mysql::testing::{self, Session};
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// URLs of two servers of a kind; none where the run has none, which is said and counted.
fn servers(kind: &str) -> Option<[String; 2]> {
    let urls = std::env::var(kind).unwrap_or_default();
    let urls: Vec<String> = urls.split_whitespace().map(str::to_owned).collect();
    let found = urls.try_into().ok();
    if found.is_none() {
        keepfast_testbed::skipped(&format!("{kind} names no servers; `cargo xtask test` starts some"));
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
        let shards = "SELECT count(DISTINCT __keepfast_shard) AS n FROM shop.main.orders WHERE amount = 2";
        assert!(folder.json(&["query", shards]).to_string().contains('4'));
        let sum = folder.json(&["query", "SELECT sum(amount) AS s FROM backup('b', 'shop.main.orders')"]);
        assert!(sum.to_string().contains("400"), "{sum}");
    }
}

/// Writers of transfers. They come to the end of their transactions also where a test fails: a branch that nobody decides would stay.
struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<u32>>,
}

impl Writers {
    fn start(servers: &[String; 2], prefix: &str, writers: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |writer| {
            let (servers, prefix, stop) = (servers.clone(), prefix.to_owned(), stop.clone());
            std::thread::spawn(move || transfer(&servers, &prefix, writer, &stop))
        };
        Self { threads: (0..writers).map(start).collect(), stop }
    }

    /// How many moves they made.
    fn stop(mut self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        std::mem::take(&mut self.threads).into_iter().map(|writer| writer.join().unwrap()).sum()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|writer| drop(writer.join()));
    }
}

/// No name of a transaction is used twice.
static ROUND: AtomicU32 = AtomicU32::new(0);

/// Moves amounts between two servers by XA transactions until told to stop; says how many moves it made.
fn transfer(servers: &[String; 2], prefix: &str, writer: u32, stop: &AtomicBool) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut sessions =
            [Session::open(&servers[0]).await.unwrap(), Session::open(&servers[1]).await.unwrap()];
        let (mut moves, round) = (0, ROUND.fetch_add(1, Ordering::Relaxed));
        while !stop.load(Ordering::Relaxed) {
            let row = writer * 20 + moves % 20;
            let xid = |at: usize| format!("'{prefix}-{round}-{moves}','{at}'");
            for (at, session) in sessions.iter_mut().enumerate() {
                let (sign, row) = if at == 0 { ('-', row) } else { ('+', 1000 + row) };
                let update =
                    format!("UPDATE {prefix}_{at}.accounts SET amount = amount {sign} 7 WHERE id = {row}");
                let (start, end) = (format!("XA START {}", xid(at)), format!("XA END {}", xid(at)));
                session.run(&[&start, &update, &end, &format!("XA PREPARE {}", xid(at))]).await.unwrap();
            }
            for (at, session) in sessions.iter_mut().enumerate() {
                session.run(&[&format!("XA COMMIT {}", xid(at))]).await.unwrap();
            }
            moves += 1;
        }
        moves
    })
}

#[test]
fn each_backup_under_transfers_over_two_servers_comes_back_with_the_sum_and_is_what_was_proven() {
    for kind in KINDS {
        let Some(servers) = servers(kind) else { continue };
        for lock in ["barrier", "none"] {
            let (folder, prefix) = (Folder::new(), format!("cli_sum_{lock}_{}", std::process::id()));
            for (at, server) in servers.iter().enumerate() {
                let rows: Vec<String> = (0..100).map(|n| format!("({}, 1000)", at * 1000 + n)).collect();
                run(
                    server,
                    &[
                        &format!("DROP DATABASE IF EXISTS {prefix}_{at}"),
                        &format!("CREATE DATABASE {prefix}_{at}"),
                        &format!(
                            "CREATE TABLE {prefix}_{at}.accounts (id INT PRIMARY KEY, amount BIGINT NOT NULL)"
                        ),
                        &format!("INSERT INTO {prefix}_{at}.accounts VALUES {}", rows.join(",")),
                    ],
                );
            }
            folder.write(
                "keepfast.toml",
                &format!(
                    "[stores.shop]\nurl = [\"{}\", \"{}\"]\ntransactions = \"xa\"\nlock = \"{lock}\"\n[stores.shop.tables.accounts]\n\
                     shards = \"{prefix}_{{0..1}}.accounts\"\nshard_rule = \"id div 1000\"\n",
                    servers[0], servers[1]
                ),
            );
            let writers = Writers::start(&servers, &prefix, 3);
            let mut incremental = 0;
            for point in 0..6 {
                let mode = if point % 3 == 0 { "full" } else { "incremental" };
                let made = folder.json(&["backup", "shop.main.accounts", "--to", "b", "--mode", mode]);
                assert_eq!(made["cut"]["exactness"], "exact", "{made}");
                incremental += usize::from(made["tables"][0]["mode"] == "incremental");
            }
            let moves = writers.stop();
            assert!(
                moves > 6 && incremental == 4,
                "{kind}, {lock}: {moves} moves, {incremental} incremental points"
            );
            for point in 1..=6 {
                folder.ok(&["verify", "b", "--point", &point.to_string(), "--level", "compare"]);
            }
            let mut seen = vec![];
            for point in 1..=6 {
                let at = point.to_string();
                folder.ok(&["restore", "shop.main.accounts", "--from", "b", "--as-of", &at]);
                let part = |at: usize| {
                    let sql = format!("SELECT SUM(amount) FROM {prefix}_{at}.accounts");
                    value(&servers[at], &sql).parse::<i64>().unwrap()
                };
                let parts = [part(0), part(1)];
                assert_eq!(parts.iter().sum::<i64>(), 200_000, "{kind}, {lock}, point {point}: {parts:?}");
                seen.push(parts[0]);
            }
            assert!(
                seen.is_sorted_by(|a, b| a >= b) && seen[0] > seen[5],
                "money left the first server: {seen:?}"
            );
            // With the server's word on all of it.
            if lock == "barrier" {
                folder.ok(&[
                    "backup",
                    "shop.main.accounts",
                    "--to",
                    "b",
                    "--mode",
                    "full",
                    "--certify",
                    "full",
                ]);
                folder.ok(&["verify", "b", "--level", "content", "--against", "shop.main.accounts"]);
            }
        }
    }
}

/// Runs a statement as a transaction with a name of our own, and says the name.
fn run_named(server: &str, mariadb: bool, number: u32, statement: &str) -> String {
    let domain = std::process::id() * 10 + number;
    match mariadb {
        true => {
            run(server, &[&format!("SET SESSION gtid_domain_id = {domain}"), statement]);
            format!("{domain}-{}-1", value(server, "SELECT @@server_id"))
        }
        false => {
            let name = format!("11111111-2222-3333-4444-{domain:012}:1");
            run(server, &[&format!("SET SESSION gtid_next = '{name}'"), statement]);
            name
        }
    }
}

#[test]
fn moments_between_backups_come_back_by_time_and_by_transaction() {
    for (number, kind) in (0..).zip(KINDS) {
        let Some(servers) = servers(kind) else { continue };
        let (folder, prefix) = (Folder::new(), format!("cli_then_{}", std::process::id()));
        for (at, server) in servers.iter().enumerate() {
            let rows: Vec<String> = (0..100).map(|n| format!("({}, 1000)", at * 1000 + n)).collect();
            run(
                server,
                &[
                    &format!("DROP DATABASE IF EXISTS {prefix}_{at}"),
                    &format!("CREATE DATABASE {prefix}_{at}"),
                    &format!(
                        "CREATE TABLE {prefix}_{at}.accounts (id INT PRIMARY KEY, amount BIGINT NOT NULL)"
                    ),
                    &format!("INSERT INTO {prefix}_{at}.accounts VALUES {}", rows.join(",")),
                ],
            );
        }
        folder.write(
            "keepfast.toml",
            &format!(
                "[stores.shop]\nurl = [\"{}\", \"{}\"]\ntransactions = \"xa\"\n[stores.shop.tables.accounts]\n\
                 shards = \"{prefix}_{{0..1}}.accounts\"\nshard_rule = \"id div 1000\"\n",
                servers[0], servers[1]
            ),
        );
        let sums = || -> Vec<String> {
            let sum =
                |at: usize| value(&servers[at], &format!("SELECT SUM(amount) FROM {prefix}_{at}.accounts"));
            vec![sum(0), sum(1)]
        };
        let transfers = |millis: u64| {
            let writers = Writers::start(&servers, &prefix, 1);
            std::thread::sleep(std::time::Duration::from_millis(millis));
            assert!(writers.stop() > 0);
        };
        let table = "shop.main.accounts";
        folder.ok(&["backup", table, "--to", "b"]);
        transfers(300);
        // Logs have whole seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let (then, at_then) = (jiff::Timestamp::now().to_string(), sums());
        std::thread::sleep(std::time::Duration::from_millis(1100));
        transfers(300);
        folder.ok(&["backup", table, "--to", "b", "--mode", "incremental"]);
        transfers(300);
        let before_deletion = sums();
        assert_ne!(at_then, before_deletion);
        let deletion = format!("DELETE FROM {prefix}_1.accounts WHERE id < 1090");
        let name = run_named(&servers[1], kind == KINDS[0], number, &deletion);
        transfers(300);
        run(&servers[0], &[&format!("DROP TABLE {prefix}_0.accounts")]);
        // A table that is gone: its newest backup first, and then the changes before what went wrong.
        folder.ok(&["restore", table, "--from", "b"]);
        let made = folder.json(&["backup", table, "--to", "b", "--before-transaction", &name]);
        assert_eq!(
            (&made["cut"]["exactness"], &made["tables"][0]["mode"]),
            (&"exact".into(), &"incremental".into())
        );
        folder.ok(&["restore", table, "--from", "b"]);
        assert_eq!(sums(), before_deletion, "{kind}");
        // Before the newest point, too: from the point before it.
        let made = folder.json(&["backup", table, "--to", "b", "--until", &then]);
        assert_eq!(made["cut"]["at"].as_str().unwrap()[..19], then[..19], "{made}");
        folder.ok(&["verify", "b", "--level", "compare"]);
        folder.ok(&["restore", table, "--from", "b"]);
        assert_eq!(sums(), at_then, "{kind}");
        let shards = "SELECT __keepfast_shard AS shard, COUNT(*) AS n FROM backup('b', 'shop.main.accounts') GROUP BY 1 ORDER BY 1";
        let shards = folder.json(&["query", shards]).to_string();
        for at in 0..2 {
            assert!(shards.contains(&format!("{prefix}_{at}.accounts")), "{shards}");
        }
        // By a rule of the moment.
        folder.ok(&["restore", table, "--from", "b", "--shard-rule", "(id + 1000) div 1000 % 2"]);
        let mut swapped = at_then.clone();
        swapped.reverse();
        assert_eq!(sums(), swapped);
        let refused = folder.run(&["restore", table, "--from", "b", "--shard-rule", "amount / 2"]);
        assert!(refused.code == 1 && refused.err.contains("rule"), "{refused:?}");
        folder.ok(&["restore", table, "--from", "b"]);
        // Later points go on from it.
        transfers(200);
        folder.ok(&["backup", table, "--to", "b"]);
        let now = sums();
        folder.ok(&["restore", table, "--from", "b"]);
        assert_eq!(sums(), now);
        // What cannot be is refused.
        for (args, says) in [
            (["--until", "2000-01-01"], "before 2000-01-01"),
            (["--until", "2999-01-01"], "not over"),
            (["--before-transaction", "1-2-3"], "transaction '1-2-3'"),
        ] {
            let refused = folder.run(&[&["backup", table, "--to", "b"][..], &args[..]].concat());
            assert!(refused.code != 0 && refused.err.contains(says), "{refused:?}");
        }
    }
}

#[test]
fn a_password_is_asked_for_at_the_terminal_and_not_shown() {
    for kind in KINDS {
        let Some([server, _]) = servers(kind) else { continue };
        let (folder, database) = (Folder::new(), format!("cli_ask_{}", std::process::id()));
        run(
            &server,
            &[
                &format!("DROP DATABASE IF EXISTS {database}"),
                &format!("CREATE DATABASE {database}"),
                &format!("CREATE TABLE {database}.t (id INT PRIMARY KEY)"),
            ],
        );
        let (url, password) = parted(&server);
        folder.write("keepfast.toml", &format!("[stores.shop]\nurl = \"{url}\"\npassword_prompt = true\n"));
        let table = format!("shop.{database}.t");
        let refused = folder.run(&["backup", &table, "--to", "b"]);
        assert!(refused.code != 0 && refused.err.contains("at a terminal"), "{refused:?}");
        // A terminal of its own.
        let keepfast = folder.command(&["backup", &table, "--to", "b"]);
        let words: Vec<_> = std::iter::once(keepfast.get_program()).chain(keepfast.get_args()).collect();
        let line: Vec<String> = words.iter().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &line.join(" "), "/dev/null"]).current_dir(folder.path());
        script.envs(keepfast.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut terminal = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut typed, mut shown) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
        let mut said = vec![];
        let mut byte = [0];
        while !said.ends_with(b"Password of store shop: ") {
            assert_eq!(shown.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        // Nobody types so fast that the terminal still shows it.
        std::thread::sleep(std::time::Duration::from_millis(500));
        typed.write_all(format!("{password}\n").as_bytes()).unwrap();
        shown.read_to_end(&mut said).unwrap();
        let said = String::from_utf8_lossy(&said);
        assert!(terminal.wait().unwrap().success(), "{said}");
        assert!(said.contains("b@1") && !said.contains(&password), "{said}");
    }
}
