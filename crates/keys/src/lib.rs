//! Secrets of Keepfast: keys that are wiped from memory, authenticated encryption, and the key file of a vault or store.
//!
//! Invariant: nothing in this crate shows a secret, in no `Debug`, error or log. No I/O: callers store what they are given.
//!
//! A chain of keys leads to every byte: a passphrase or a public key ([`recipient`]) wraps the *vault key*, that wraps one key a table
//! and one a secret column ([`keyring`]), those wrap a random *data key* a file. So who may read is changed by a new key file, and data
//! stay as they are. Bytes of all of it: `docs/format.md`, section 8.

mod copied;
mod credentials;
mod error;
pub mod file;
pub mod hex;
mod keyring;
mod random;
mod recipient;
mod sealed;
mod secret;
mod stream;

pub use credentials::Credentials;
pub use error::KeyError;
pub use file::KeyFile;
pub use keyring::{Keyring, TableKey};
pub use random::{Random, SystemRandom};
pub use recipient::{Cost, NewRecipient, Recipient};
pub use sealed::{OVERHEAD, open, seal};
pub use secret::{Passphrase, SecretKey};
pub use stream::{SealedReader, SealedWriter};

/// Result of this crate's calls.
pub type Result<T, E = KeyError> = std::result::Result<T, E>;
