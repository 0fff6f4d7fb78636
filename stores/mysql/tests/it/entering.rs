//! Ways to enter a server: certificates, sockets, and how accounts prove themselves.

use crate::common::*;
use keepfast_mysql::{MySqlStore, Options};
use keepfast_store::{Store, StoreError};
use keepfast_testbed::cache_folder;
use keepfast_testbed::mysql::{ADMIN, Kind, MARIADB_URLS, MySql};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PASSWORD: &str = "only-for-this-test 'ü%";

/// The URL of a server with another user and with options.
fn entry(url: &str, user: &str, password: &str, options: &str) -> String {
    let mut parsed = url::Url::parse(url).unwrap();
    parsed.set_username(user).unwrap();
    parsed.set_password(Some(password)).unwrap();
    format!("{parsed}{options}")
}

/// Whether a server can be entered; why not, with all causes.
async fn entered(url: &str) -> Result<(), (StoreError, String)> {
    let store =
        MySqlStore::new(&Options { urls: vec![url.to_owned()], sessions: 1, ..Options::default() }).unwrap();
    match store.list_tables(Some("mysql")).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let why = format!("{error}: {}", std::error::Error::source(&error).unwrap());
            assert!(!why.contains("only-for-this-test"), "{why}");
            Err((error, why))
        }
    }
}

/// Runs openssl in a folder; false where there is none.
fn openssl(folder: &Path, arguments: &str) -> bool {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(arguments.split(' ')).stdin(Stdio::null());
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(_) => false,
    }
}

/// Two authorities, and two certificates by the first one: of this machine, and of another.
fn certificates(folder: &Path) -> bool {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    for name in ["authority", "stranger"] {
        if !openssl(folder, &format!("{new} -keyout {name}.key -out {name}.pem -subj /CN={name}")) {
            return false;
        }
    }
    for (name, host) in [("here", "IP:127.0.0.1"), ("elsewhere", "DNS:db.example")] {
        openssl(
            folder,
            &format!(
                "{new} -keyout {name}.key -out {name}.pem -subj /CN={name} -CA authority.pem -CAkey authority.key \
                 -addext subjectAltName={host} -addext basicConstraints=critical,CA:FALSE"
            ),
        );
    }
    true
}

/// A server that has a certificate; MariaDB reads it when it starts, MySQL when it is told to.
async fn with_certificate(kind: &str, url: &str, folder: &Path, name: &str) -> (Option<MySql>, String) {
    let path = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
    if kind == MARIADB_URLS {
        let exe = std::env::current_exe().unwrap();
        let release = exe.parent().and_then(Path::parent).unwrap();
        let options = [format!("--ssl-cert={}", path("pem")), format!("--ssl-key={}", path("key"))];
        let server = MySql::start_with(&cache_folder(release), Kind::MariaDb, 7, &options).unwrap();
        let url = server.url();
        return (Some(server), url);
    }
    let authority = folder.join("authority.pem").display().to_string();
    set(url, &[authority, path("pem"), path("key")]).await;
    (None, url.to_owned())
}

/// Gives a MySQL server an authority, a certificate and a key.
async fn set(url: &str, files: &[String; 3]) {
    let [ca, cert, key] = files;
    run(
        url,
        &[
            &format!("SET GLOBAL ssl_ca = '{ca}'"),
            &format!("SET GLOBAL ssl_cert = '{cert}'"),
            &format!("SET GLOBAL ssl_key = '{key}'"),
            "ALTER INSTANCE RELOAD TLS",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_certificate_counts_if_a_named_authority_gave_it_to_this_host() {
    let folder = tempfile::tempdir().unwrap();
    if !certificates(folder.path()) {
        skipped("openssl, which makes certificates, is not installed");
        return;
    }
    let ca = |name: &str| format!("?ca={}", folder.path().join(format!("{name}.pem")).display());
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let before = files_of(&urls[0]).await;
        for name in ["here", "elsewhere"] {
            let (_server, url) = with_certificate(kind, &urls[0], folder.path(), name).await;
            // Over the loopback address nobody's certificate is asked for, and TLS is used.
            entered(&url).await.unwrap();
            let schema = if kind == MARIADB_URLS { "information_schema" } else { "performance_schema" };
            let cipher = format!(
                "SELECT variable_value FROM {schema}.session_status WHERE variable_name = 'Ssl_cipher'"
            );
            let cipher = value(&url, &cipher).await.unwrap();
            assert!(!cipher.is_empty(), "{kind}: no TLS");
            let named = entered(&format!("{url}{}", ca("authority"))).await;
            match name {
                "here" => named.unwrap(),
                _ => {
                    let (error, why) = named.unwrap_err();
                    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
                    assert!(why.contains("certificate"), "{why}");
                }
            }
            let (error, why) = entered(&format!("{url}{}", ca("stranger"))).await.unwrap_err();
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
            assert!(why.contains("certificate"), "{why}");
            let (_, why) = entered(&format!("{url}{}", ca("nobody"))).await.unwrap_err();
            assert!(why.contains("nobody.pem"), "{why}");
        }
        if let (Some(before), true) = (before, kind != MARIADB_URLS) {
            set(&urls[0], &before).await;
        }
    }
}

/// Authority, certificate and key that a server has; none where it has none.
async fn files_of(url: &str) -> Option<[String; 3]> {
    let of = async |name: &str| value(url, &format!("SELECT @@{name}")).await;
    Some([of("ssl_ca").await?, of("ssl_cert").await?, of("ssl_key").await?])
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_an_authority_is_named() {
    let Some(urls) = servers(MARIADB_URLS) else { return };
    if files_of(&urls[0]).await.is_some_and(|[_, cert, _]| !cert.is_empty()) {
        skipped("the MariaDB server has TLS");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    if !certificates(folder.path()) {
        skipped("openssl, which makes certificates, is not installed");
        return;
    }
    let (_, why) =
        entered(&format!("{}?ca={}/authority.pem", urls[0], folder.path().display())).await.unwrap_err();
    assert!(why.contains("no TLS") && why.contains("tls=off"), "{why}");
}

#[tokio::test]
async fn a_unix_socket_is_a_way_in() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let socket = value(&urls[0], "SELECT @@socket").await.unwrap();
        let password = url::Url::parse(&urls[0]).unwrap().password().unwrap().to_owned();
        let way = |path: &str| format!("mysql://{ADMIN}:{password}@localhost?socket={path}");
        entered(&way(&socket)).await.unwrap();
        let who = value(&way(&socket), "SELECT USER()").await.unwrap();
        assert_eq!(who, format!("{ADMIN}@localhost"));
        let gone = PathBuf::from(&socket).with_extension("gone");
        let (error, why) = entered(&way(&gone.display().to_string())).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(why.contains(".gone"), "{why}");
    }
}

#[tokio::test]
async fn accounts_prove_themselves_and_no_password_passes_where_others_can_listen() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, user) = (&urls[0], fresh("kf_enter"));
        let method = if kind == MARIADB_URLS { "mysql_native_password" } else { "caching_sha2_password" };
        let literal = PASSWORD.replace('\'', "''");
        let by = match kind == MARIADB_URLS {
            true => format!("VIA {method} USING PASSWORD('{literal}')"),
            false => format!("WITH {method} BY '{literal}'"),
        };
        run(url, &[&format!("CREATE USER {user}@'127.0.0.1' IDENTIFIED {by}")]).await;
        let way = |options: &str| entry(url, &user, PASSWORD, options);
        let ear = Ear::begin(url).await;
        let heard = |options: &str| entry(&ear.url(url), &user, PASSWORD, options);
        // The server does not know a new account yet: MySQL must be told the password, and sends a key for it.
        entered(&heard("?tls=off")).await.unwrap();
        let first = ear.taken();
        assert_eq!(asks_for_key(&first), kind != MARIADB_URLS);
        // From now on a challenge is enough.
        entered(&heard("?tls=off")).await.unwrap();
        let second = ear.taken();
        assert!(!asks_for_key(&second));
        assert!(first.len() > 100 && second.len() > 100, "nothing was heard");
        if kind != MARIADB_URLS {
            with_a_key_of_a_file(url, &ear, &heard("?tls=off")).await;
        }
        entered(&way("")).await.unwrap();
        for wrong in ["another one", ""] {
            for options in ["", "?tls=off"] {
                let (error, why) = entered(&entry(url, &user, wrong, options)).await.unwrap_err();
                assert!(matches!(error, StoreError::Denied { .. }), "{kind}: {options}: {why}");
            }
        }
        for said in [first, second, ear.taken()] {
            assert!(!said.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()), "it was heard");
        }
        run(url, &[&format!("DROP USER {user}@'127.0.0.1'")]).await;
    }
}

/// The file of the server's own key counts, and no other; it is not asked for one then.
async fn with_a_key_of_a_file(url: &str, ear: &Ear, way: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (folder.path().join("own.pem"), folder.path().join("other.pem"));
    let rows = keepfast_mysql::testing::rows(url, "SHOW STATUS LIKE 'Caching_sha2_password_rsa_public_key'");
    std::fs::write(&own, rows.await.unwrap()[0][1].clone().unwrap()).unwrap();
    let forget = "FLUSH PRIVILEGES";
    run(url, &[forget]).await;
    entered(&format!("{way}&public_key={}", own.display())).await.unwrap();
    assert!(!asks_for_key(&ear.taken()));
    let (_, why) = {
        run(url, &[forget]).await;
        entered(&format!("{way}&public_key={}", other.display())).await.unwrap_err()
    };
    assert!(why.contains("other.pem"), "{why}");
    if openssl(folder.path(), "genrsa -out other.key 2048") {
        openssl(folder.path(), "rsa -in other.key -pubout -out other.pem");
        run(url, &[forget]).await;
        assert!(entered(&format!("{way}&public_key={}", other.display())).await.is_err());
    }
}

/// Whether a client asks for a key: a message of one byte, 2, with the fourth number of the greeting.
fn asks_for_key(said: &[u8]) -> bool {
    said.windows(5).any(|message| message == [1, 0, 0, 3, 2])
}

/// Somebody on the way to a server who hears what clients say.
struct Ear {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Ear {
    async fn begin(url: &str) -> Self {
        let server = url::Url::parse(url).unwrap().port().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, heard) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<u8>>>::default());
        let all = heard.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut said, mut back) = client.into_split();
                let (mut answers, mut on) =
                    TcpStream::connect(("127.0.0.1", server)).await.unwrap().into_split();
                tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
                let all = all.clone();
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(read @ 1..) = said.read(&mut bytes).await {
                        all.lock().unwrap().extend(&bytes[..read]);
                        if on.write_all(&bytes[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { port, heard }
    }

    fn url(&self, url: &str) -> String {
        let mut parsed = url::Url::parse(url).unwrap();
        parsed.set_port(Some(self.port)).unwrap();
        parsed.into()
    }

    /// What was heard since it was asked last.
    fn taken(&self) -> Vec<u8> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}
