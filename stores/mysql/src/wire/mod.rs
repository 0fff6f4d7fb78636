//! The client's side of the MySQL protocol: messages over a socket, the greeting, statements and their rows.
//!
//! Written here because rows go from the socket's buffer straight into columns, which no client library offers.

pub(crate) mod auth;
pub(crate) mod channel;
pub(crate) mod codec;
pub(crate) mod greeting;
pub(crate) mod reply;
mod seal;
pub(crate) mod tls;

use std::time::Duration;

/// Why a conversation with a server went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// The socket failed or was closed.
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// The server did not answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// The server sent what the protocol does not have.
    #[error("the server's answer is malformed: {0}")]
    Malformed(&'static str),
    /// The server refused, with its own words.
    #[error("error {code} ({state}): {message}")]
    Refused {
        /// The server's number.
        code: u16,
        /// SQLSTATE.
        state: String,
        /// The server's words.
        message: String,
    },
    /// The server wants something of the greeting that this client has not.
    #[error("{0}")]
    Greeting(String),
}

impl WireError {
    /// The server's number for what it refused.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}
