//! Where a server is: `mysql://user@host:port/database?…`, without the password.

use crate::wire::tls::Trust;
use keepfast_store::StoreError;
use std::fmt;
use std::path::PathBuf;
use url::{Host, Url};
use zeroize::Zeroizing;

const PORT: u16 = 3306;

/// One server.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub user: String,
    pub host: String,
    pub port: u16,
    /// A Unix socket in place of host and port.
    pub socket: Option<PathBuf>,
    /// Whose certificate it must have; none sends everything in clear.
    pub trust: Option<Trust>,
    /// The file of its public key, for a first way in without TLS; none takes the one that it sends.
    pub server_key: Option<PathBuf>,
    /// The database that names without one mean.
    pub database: Option<String>,
    /// Whether what is written here stands in the server's binary log too.
    pub binlog: bool,
}

/// An address, and the password where its URL has one.
#[derive(Debug)]
pub(crate) struct Located {
    pub address: Address,
    pub password: Option<Zeroizing<String>>,
}

impl Address {
    /// Reads a URL. Options: `socket=PATH`, `tls=off`, `public_key=FILE`, `ca=FILE`, `binlog=off`.
    pub fn parse(text: &str) -> Result<Located, StoreError> {
        let refuse = |reason: &str| StoreError::Unsupported {
            store: "a MySQL store".into(),
            what: format!("be opened by this URL: {reason}; the form is mysql://user@host:port/database"),
        };
        let url = Url::parse(text).map_err(|e| refuse(&e.to_string()))?;
        if !matches!(url.scheme(), "mysql" | "mariadb") {
            return Err(refuse("its scheme is another one"));
        }
        let (host, loopback) = match url.host() {
            None => ("localhost".to_owned(), true),
            // Schemes of their own have hosts as text, numbers among them.
            Some(Host::Domain(name)) => {
                let number: Option<std::net::IpAddr> = name.parse().ok();
                (name.to_owned(), name == "localhost" || number.is_some_and(|n| n.is_loopback()))
            }
            Some(Host::Ipv4(number)) => (number.to_string(), number.is_loopback()),
            Some(Host::Ipv6(number)) => (number.to_string(), number.is_loopback()),
        };
        let plain = |text: &str| percent(text).ok_or_else(|| refuse("a part of it is not UTF-8"));
        let database = plain(url.path().trim_matches('/'))?;
        let mut address = Self {
            user: plain(url.username())?,
            host: if loopback && host == "localhost" { "127.0.0.1".into() } else { host },
            port: url.port().unwrap_or(PORT),
            socket: None,
            trust: Some(if loopback { Trust::Loopback } else { Trust::System }),
            server_key: None,
            database: (!database.is_empty()).then_some(database),
            binlog: true,
        };
        for (name, value) in url.query_pairs() {
            match (name.as_ref(), value.as_ref()) {
                ("socket", path) => address.socket = Some(path.into()),
                ("tls", "off") => address.trust = None,
                ("public_key", path) => address.server_key = Some(path.into()),
                ("binlog", "off") => address.binlog = false,
                ("ca", path) => address.trust = Some(Trust::File(path.into())),
                _ => return Err(refuse(&format!("it has no option '{name}' with this value"))),
            }
        }
        if address.user.is_empty() {
            return Err(refuse("it names no user"));
        }
        let password = url.password().map(plain).transpose()?.map(Zeroizing::new);
        Ok(Located { address, password })
    }

    /// Where the server is, whoever enters it.
    pub fn place(&self) -> String {
        match &self.socket {
            Some(path) => path.display().to_string(),
            None => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Text whose other bytes stand as `%41`.
fn percent(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        let hex = more.get(..2).filter(|_| *first == b'%').and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mysql://{}@{}", self.user, self.place())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_a_server_is_and_who_is_trusted() {
        let far = Address::parse("mysql://bk@db.example:3307/shop").unwrap();
        assert_eq!((far.address.port, far.address.trust), (3307, Some(Trust::System)));
        assert_eq!(far.address.database.as_deref(), Some("shop"));
        let near = Address::parse("mysql://bk:ge%2Fheim@127.0.0.1").unwrap();
        assert_eq!((near.address.port, near.address.trust.clone()), (3306, Some(Trust::Loopback)));
        assert_eq!(near.password.as_deref().map(String::as_str), Some("ge/heim"));
        assert!(!format!("{near:?} {}", near.address).contains("heim") || near.password.is_some());
        assert_eq!(near.address.to_string(), "mysql://bk@127.0.0.1:3306");
        assert!(near.address.binlog && !Address::parse("mysql://bk@h?binlog=off").unwrap().address.binlog);
        assert_eq!(Address::parse("mysql://bk@h?tls=off").unwrap().address.trust, None);
        let file = Address::parse("mysql://bk@h?ca=/etc/ca.pem").unwrap().address.trust;
        assert_eq!(file, Some(Trust::File("/etc/ca.pem".into())));
        let key = Address::parse("mysql://bk@h?tls=off&public_key=/etc/key.pem").unwrap().address.server_key;
        assert_eq!(key, Some("/etc/key.pem".into()));
        for wrong in ["mysql://h", "http://a@h", "mysql://a@h?tls=maybe", "mysql://a@h:99999"] {
            let error = Address::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("mysql://user@host"), "{error}");
        }
    }
}
