//! Starts MariaDB and MySQL servers and prints how to reach them, until standard input ends.
//!
//!     cargo run --release -p keepfast-testbed --example mysql -- FOLDER [mariadb|mysql|mysql80|dump-tools]…

#![allow(clippy::print_stdout, reason = "a command line program talks on stdout")]

use keepfast_testbed::mysql::{DUMP_TOOLS, Kind, MARIADB_URLS, MYSQL_URLS, MYSQL80_URLS, MySql, dump_tools};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(folder) = arguments.next().map(PathBuf::from) else {
        eprintln!("name a folder for what is fetched once");
        return ExitCode::from(2);
    };
    let mut servers = vec![];
    for (id, name) in (1..).zip(arguments) {
        let kind = match name.to_str() {
            Some("dump-tools") => {
                match dump_tools(&folder) {
                    Ok(tools) => println!("export {DUMP_TOOLS}='{}'", tools.root().display()),
                    Err(missing) => eprintln!("{missing}"),
                }
                continue;
            }
            Some("mysql") => Kind::MySql,
            Some("mysql80") => Kind::MySql80,
            _ => Kind::MariaDb,
        };
        match MySql::start(&folder, kind, id) {
            Ok(server) => servers.push(server),
            Err(missing) => eprintln!("{missing}"),
        }
    }
    let names = [(Kind::MariaDb, MARIADB_URLS), (Kind::MySql, MYSQL_URLS), (Kind::MySql80, MYSQL80_URLS)];
    for (kind, name) in names {
        let urls: Vec<String> = servers.iter().filter(|s| s.kind() == kind).map(MySql::url).collect();
        println!("export {name}='{}'", urls.join(" "));
    }
    let _ = std::io::stdin().read_to_end(&mut vec![]);
    ExitCode::SUCCESS
}
