//! Why something cannot be opened or made, grouped by what the caller can do.

use keepfast_model::{Class, Code, Coded};

/// Why something cannot be opened or made. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Nobody gave a key, and one is needed.
    #[error("{what} is encrypted, and no passphrase or identity was given")]
    Locked {
        /// What cannot be opened.
        what: String,
    },
    /// Nobody gave a passphrase, and encryption begins with one.
    #[error("encryption in {what} needs a passphrase or a recipient, and there is none yet")]
    NoCredential {
        /// Where encryption was to begin.
        what: String,
    },
    /// None of the given passphrases and identities opens it.
    #[error("none of the given passphrases and identities opens {what} (its recipients: {recipients})")]
    WrongKey {
        /// What cannot be opened.
        what: String,
        /// Names of those who can open it.
        recipients: String,
    },
    /// A public key or an identity cannot be read.
    #[error("{what} is not one that age made: {reason}")]
    NotAgeKey {
        /// What was expected, without its text where that is secret.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// Sealed bytes are not what was sealed, or belong elsewhere.
    #[error("sealed bytes were changed, or belong to something else")]
    Sealed,
    /// A key file contradicts itself.
    #[error("the key file is not one that its vault key made: {reason}")]
    Forged {
        /// What does not fit.
        reason: String,
    },
    /// The key was dropped on purpose.
    #[error(
        "the key of {what} is not in the key file: it was dropped, and what it encrypted is gone for good"
    )]
    Shredded {
        /// The table or column.
        what: String,
    },
    /// No recipient has this name.
    #[error("there is no recipient '{name}' (there are: {known})")]
    NoRecipient {
        /// The name.
        name: String,
        /// Names that exist.
        known: String,
    },
    /// A recipient has this name already.
    #[error("there is a recipient '{name}' already")]
    RecipientExists {
        /// The name.
        name: String,
    },
    /// Without it nobody could open the vault.
    #[error("'{name}' is the last recipient: without it nobody could read what is encrypted")]
    LastRecipient {
        /// The name.
        name: String,
    },
    /// A new vault key must be wrapped for a passphrase that is not known.
    #[error(
        "a new vault key needs the passphrases of all recipients that have one, and that of {names} was not given"
    )]
    PassphraseNeeded {
        /// The recipients.
        names: String,
    },
    /// The passphrase guards nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// Costs of a passphrase's hash are beyond what is reasonable.
    #[error("the key file asks for {what} to hash a passphrase")]
    Cost {
        /// What it asks for.
        what: String,
    },
    /// A message is larger than the cipher takes.
    #[error("a message is larger than the cipher takes")]
    TooLarge,
    /// The system gave no random bytes.
    #[error("no random bytes: {source}")]
    Random {
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

impl KeyError {
    /// The same, about `what`, where it says what cannot be opened.
    #[must_use]
    pub fn of(self, what: &str) -> Self {
        let what = what.to_owned();
        match self {
            Self::Locked { .. } => Self::Locked { what },
            Self::NoCredential { .. } => Self::NoCredential { what },
            Self::WrongKey { recipients, .. } => Self::WrongKey { what, recipients },
            other => other,
        }
    }
}

impl Coded for KeyError {
    fn code(&self) -> Code {
        Code(match self {
            Self::Locked { .. } => 240,
            Self::NoCredential { .. } => 255,
            Self::WrongKey { .. } => 241,
            Self::NotAgeKey { .. } => 242,
            Self::Sealed => 243,
            Self::Forged { .. } => 244,
            Self::Shredded { .. } => 245,
            Self::NoRecipient { .. } => 246,
            Self::RecipientExists { .. } => 247,
            Self::LastRecipient { .. } => 248,
            Self::PassphraseNeeded { .. } => 249,
            Self::EmptyPassphrase => 250,
            Self::Cost { .. } => 251,
            Self::TooLarge => 252,
            Self::Random { .. } => 234,
        })
    }

    fn class(&self) -> Class {
        match self {
            Self::TooLarge => Class::Bug,
            _ => Class::Fix,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Locked { .. } => {
                "Set KEEPFAST_PASSPHRASE, or give --passphrase-file FILE or --identity FILE."
            }
            Self::NoCredential { .. } => {
                "Set KEEPFAST_PASSPHRASE or give --passphrase-file FILE; `keepfast key add --recipient age1…` adds a public key."
            }
            Self::WrongKey { .. } => "Give the passphrase or the identity of one of these recipients.",
            Self::NotAgeKey { .. } => {
                "A public key begins with age1; an identity file holds a line that begins with AGE-SECRET-KEY-1."
            }
            Self::Sealed | Self::Forged { .. } => {
                "Somebody or something changed it: run `keepfast verify`, and restore from another copy of the vault."
            }
            Self::Shredded { .. } => "Restore from a copy of the vault that still has the key, if there is one; `restore --skip-shredded` brings back a table's other columns.",
            Self::NoRecipient { .. } | Self::RecipientExists { .. } => "`keepfast key list` shows the recipients.",
            Self::LastRecipient { .. } => "Add another recipient first.",
            Self::PassphraseNeeded { .. } => {
                "Give each of them with --passphrase-file, or remove the recipient: `keepfast key remove NAME`."
            }
            Self::EmptyPassphrase => "Choose a passphrase that cannot be guessed.",
            Self::Cost { .. } => "The file was damaged or made to exhaust memory; use another copy of the vault.",
            Self::TooLarge => "This is a defect of Keepfast; please report it with the code.",
            Self::Random { .. } => "Check the system's source of random bytes, then run the command again.",
        }
        .to_owned()
    }
}
