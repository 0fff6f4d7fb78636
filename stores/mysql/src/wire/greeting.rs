//! The first exchange: the server says who it is, the client who it is and that it knows the password.

use super::channel::Channel;
use super::codec::{Reader, put_number, text};
use super::reply::{can, done, refused};
use super::{WireError, auth};
use rustls::pki_types::ServerName;
use std::path::Path;
use tokio_rustls::TlsConnector;

/// How the client presents itself.
#[allow(missing_debug_implementations, reason = "it holds a password")]
pub(crate) struct Greeting<'a> {
    pub user: &'a str,
    pub password: &'a str,
    pub database: Option<&'a str>,
    /// What encrypts, and the name in the server's certificate; none sends everything in clear.
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Whether a server that cannot encrypt is refused.
    pub tls_required: bool,
    /// The file of its public key, by which a password is sealed where others can listen; none takes the one that it sends.
    pub server_key: Option<&'a Path>,
}

/// Longest packet that the client takes: the server's own limit counts.
const PACKET: u32 = 1 << 30;
/// utf8mb4 with a binary order.
const UTF8MB4: u8 = 46;

const WANTED: u32 = can::LONG_PASSWORD
    | can::LONG_FLAG
    | can::LOCAL_FILES
    | can::PROTOCOL_41
    | can::TRANSACTIONS
    | can::SECURE_CONNECTION
    | can::PLUGIN_AUTH
    | can::PLUGIN_AUTH_LENENC
    | can::DEPRECATE_EOF;

struct Hello {
    version: String,
    able: u32,
    challenge: Vec<u8>,
    method: String,
}

/// Makes the first exchange. The password itself is not sent but where the connection is private.
pub(crate) async fn greet(channel: &mut Channel, greeting: Greeting<'_>) -> Result<(), WireError> {
    let hello = hello(channel.read().await?)?;
    let mut flags = WANTED;
    if greeting.database.is_some() {
        flags |= can::CONNECT_WITH_DB;
    }
    let missing = (can::PROTOCOL_41 | can::PLUGIN_AUTH | can::DEPRECATE_EOF) & !hello.able;
    if missing != 0 {
        return Err(WireError::Greeting(format!("server version {} is too old", hello.version)));
    }
    // What it can do beyond that is nothing that we rely on.
    flags &= hello.able | can::LONG_PASSWORD;
    let encrypts = hello.able & can::SSL != 0;
    let mut head = vec![];
    match greeting.tls {
        Some((connector, name)) if encrypts => {
            flags |= can::SSL;
            put_head(&mut head, flags);
            channel.write(&head).await?;
            channel.wrap(|socket| async move { connector.connect(name, socket).await }).await?;
        }
        Some(_) if greeting.tls_required => {
            return Err(WireError::Greeting(
                "the server has no TLS; `tls=off` in the URL goes on without".into(),
            ));
        }
        _ => put_head(&mut head, flags),
    }
    let answer = auth::answer(&hello.method, greeting.password, &hello.challenge);
    // The method is the server's default; that of the account may be another one.
    let (method, answer) = match answer {
        Ok(answer) => (hello.method, answer),
        Err(_) => ("mysql_native_password".to_owned(), vec![]),
    };
    let mut message = head;
    message.extend(greeting.user.as_bytes());
    message.push(0);
    put_number(&mut message, answer.len() as u64);
    message.extend(answer);
    if let Some(database) = greeting.database {
        message.extend(database.as_bytes());
        message.push(0);
    }
    message.extend(method.as_bytes());
    message.push(0);
    channel.write(&message).await?;
    prove(channel, (method, hello.challenge), greeting.password, greeting.server_key).await
}

/// Answers until the server is content.
async fn prove(
    channel: &mut Channel,
    (mut method, mut challenge): (String, Vec<u8>),
    password: &str,
    server_key: Option<&Path>,
) -> Result<(), WireError> {
    // Each method has at most three steps.
    for _ in 0..8 {
        let message = channel.read().await?.to_vec();
        match message.first() {
            Some(0x00) => return done(&message).map(drop),
            Some(0x01) => {
                auth::go_on(channel, (&method, &challenge), password, server_key, &message[1..]).await?;
            }
            Some(0xfe) => {
                let mut reader = Reader(&message[1..]);
                method = text(reader.until_zero()?);
                challenge = reader.0.to_vec();
                let answer = auth::answer(&method, password, &challenge)?;
                channel.write(&answer).await?;
            }
            Some(0xff) => return Err(refused(Reader(&message[1..]))),
            _ => return Err(WireError::Malformed("an answer to a password is of no known kind")),
        }
    }
    Err(WireError::Malformed("it asks for ever"))
}

fn put_head(out: &mut Vec<u8>, flags: u32) {
    out.extend(flags.to_le_bytes());
    out.extend(PACKET.to_le_bytes());
    out.push(UTF8MB4);
    out.extend([0; 23]);
}

fn hello(message: &[u8]) -> Result<Hello, WireError> {
    let mut reader = Reader(message);
    match reader.u8()? {
        10 => {}
        0xff => return Err(refused(reader)),
        _ => return Err(WireError::Greeting("it does not speak the MySQL protocol".into())),
    }
    let version = text(reader.until_zero()?);
    // MariaDB says 5.5.5 first, for old replicas.
    let version = version.strip_prefix("5.5.5-").map_or(version.clone(), str::to_owned);
    // The number of the connection.
    reader.u32()?;
    let mut challenge = reader.take(8)?.to_vec();
    reader.take(1)?;
    let mut able = u32::from(reader.u16()?);
    reader.take(3)?;
    able |= u32::from(reader.u16()?) << 16;
    let length = usize::from(reader.u8()?);
    reader.take(10)?;
    challenge.extend(reader.take(length.saturating_sub(8).max(13))?);
    let method = match able & can::PLUGIN_AUTH {
        0 => "mysql_native_password".to_owned(),
        // Some servers do not end it with a zero.
        _ => text(reader.0.split(|b| *b == 0).next().unwrap_or_default()),
    };
    Ok(Hello { version, able, challenge, method })
}
