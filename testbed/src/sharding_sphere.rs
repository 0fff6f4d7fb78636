//! ShardingSphere-Proxy from Maven's packages, over two servers: what is written through it in one transaction is an XA transaction on both.

use crate::Missing;
use crate::process::{Server, free_port, full, private_folder, random_word};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What Maven is told to fetch.
const POM: &str = "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
    <groupId>x</groupId><artifactId>x</artifactId><version>1</version><packaging>jar</packaging><dependencies>\
    <dependency><groupId>org.apache.shardingsphere</groupId><artifactId>shardingsphere-proxy-bootstrap</artifactId><version>5.1.0</version></dependency>\
    <dependency><groupId>mysql</groupId><artifactId>mysql-connector-java</artifactId><version>8.0.28</version></dependency>\
    </dependencies></project>\n";

/// How rows are spread.
const RULES: &str = "\
rules:
- !SHARDING
  tables:
    accounts:
      actualDataNodes: ds_${0..1}.accounts
      databaseStrategy:
        standard:
          shardingColumn: id
          shardingAlgorithmName: by_id
    orders:
      actualDataNodes: ds_${0..1}.orders_${0..3}
      databaseStrategy:
        standard:
          shardingColumn: user_id
          shardingAlgorithmName: by_user
      tableStrategy:
        standard:
          shardingColumn: order_id
          shardingAlgorithmName: by_order
  shardingAlgorithms:
    by_id:
      type: INLINE
      props:
        algorithm-expression: ds_${id % 2}
    by_user:
      type: INLINE
      props:
        algorithm-expression: ds_${user_id % 2}
    by_order:
      type: MOD
      props:
        sharding-count: 4
";

/// A running proxy; it stops when this is dropped.
#[derive(Debug)]
pub struct ShardingProxy {
    server: Server,
    port: u16,
    password: String,
    tables: String,
}

impl ShardingProxy {
    /// Fetches the proxy where it is not in `cache` yet, and starts one over a database of each of two servers, given as URL and name. Its
    /// database `shop` has their table `accounts` as one, of which even `id` stand in the first one, and `orders` of four tables in each: of its
    /// `user_id` and `order_id` the one chooses the database and the other the table.
    ///
    /// # Errors
    /// [`Missing`] says why there is none.
    pub fn start(cache: &Path, shards: &[(String, String); 2]) -> Result<Self, Missing> {
        let cache = &full(cache)?;
        std::fs::create_dir_all(cache).map_err(|e| Missing::Failed(format!("{}: {e}", cache.display())))?;
        let programs = fetch(cache)?;
        let folder = private_folder(cache, "sharding-sphere-run")?;
        let (port, password) = (free_port()?, random_word()?);
        let mut sources = String::new();
        for (at, (url, database)) in shards.iter().enumerate() {
            let (user, place) = url
                .strip_prefix("mysql://")
                .and_then(|url| url.split_once('@'))
                .and_then(|(who, place)| Some((who.split_once(':')?, place)))
                .ok_or_else(|| Missing::Failed("a server's URL has no user and password".into()))?;
            sources += &format!(
                "  ds_{at}:\n    url: \"jdbc:mysql://{place}/{database}?useSSL=false&allowPublicKeyRetrieval=true\"\n    username: {}\n    \
                 password: \"{}\"\n    maxPoolSize: 20\n    minPoolSize: 1\n",
                user.0, user.1
            );
        }
        let tables = format!("schemaName: shop\ndataSources:\n{sources}{RULES}");
        let server = format!(
            "rules:\n  - !AUTHORITY\n    users:\n      - root@%:{password}\n    provider:\n      type: ALL_PRIVILEGES_PERMITTED\n  \
             - !TRANSACTION\n    defaultType: XA\n    providerType: Atomikos\n"
        );
        let failed = |e: std::io::Error| Missing::Failed(format!("the configuration of a proxy: {e}"));
        std::fs::create_dir(folder.join("conf")).map_err(failed)?;
        std::fs::write(folder.join("conf/config-shop.yaml"), &tables).map_err(failed)?;
        std::fs::write(folder.join("conf/server.yaml"), server).map_err(failed)?;
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "--add-opens=java.base/java.lang=ALL-UNNAMED", "-cp"]);
        // The configuration is found as a part of the programs.
        command.arg(format!(".:{}/*", programs.display()));
        command.args(["org.apache.shardingsphere.proxy.Bootstrap", &port.to_string(), "/conf"]);
        // It keeps the log of its transactions where it runs.
        command.current_dir(&folder);
        Ok(Self { server: Server::start(command, folder, port)?, port, password, tables })
    }

    /// A program that runs the statements of its standard input in the proxy's database, up to the first that fails. It speaks an older form of the
    /// protocol than our own connections do.
    ///
    /// # Errors
    /// [`Missing`] when Debian's packages cannot be had.
    pub fn client(&self, cache: &Path) -> Result<Command, Missing> {
        let mut command = crate::mysql::client(cache)?;
        command.env("MYSQL_PWD", &self.password).arg("--no-defaults").arg(format!("--port={}", self.port));
        command.args(["--user=root", "--host=127.0.0.1", "--skip-ssl", "shop"]);
        Ok(command)
    }

    /// What it was told of the servers and their tables.
    pub fn tables(&self) -> &str {
        &self.tables
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.server.id()
    }
}

/// The folder of its programs, fetched once.
fn fetch(cache: &Path) -> Result<PathBuf, Missing> {
    let programs = cache.join("sharding-sphere-5.1.0");
    if programs.is_dir() {
        return Ok(programs);
    }
    for tool in ["java", "mvn"] {
        let there = Command::new(tool).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !there.is_ok_and(|status| status.success()) {
            return Err(Missing::Tool(format!(
                "{tool}, which a ShardingSphere-Proxy needs, is not installed"
            )));
        }
    }
    eprintln!("   fetching ShardingSphere-Proxy from Maven, once");
    let failed = |why: String| Missing::Failed(format!("ShardingSphere-Proxy cannot be had: {why}"));
    // Built beside its place and moved there, so that what stands there is whole.
    let unfinished = private_folder(cache, "sharding-sphere")?;
    std::fs::write(unfinished.join("pom.xml"), POM).map_err(|e| failed(e.to_string()))?;
    let fetched = Command::new("mvn")
        .args([
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=programs",
        ])
        .current_dir(&unfinished)
        .output()
        .map_err(|e| failed(e.to_string()));
    let moved = fetched.and_then(|output| {
        let _ = std::fs::rename(unfinished.join("programs"), &programs);
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.lines().rev().take(3).collect::<Vec<_>>().join(" | ");
        if output.status.success() && programs.is_dir() { Ok(()) } else { Err(failed(last)) }
    });
    let _ = std::fs::remove_dir_all(&unfinished);
    moved.map(|()| programs)
}
