//! Authenticated encryption of small things: wrapped keys, manifests, parts of records, results of tasks.
//!
//! Every message has a key of its own: a keyed BLAKE3 of a random salt of 24 bytes under the key given. So any number of messages
//! may be sealed with one key, and the cipher (AES-256-GCM) never meets a nonce twice.
//!
//! ```text
//! 0x01 ‖ salt (24) ‖ ciphertext ‖ tag (16)
//! ```

use crate::random::{self, Random};
use crate::secret::SecretKey;
use crate::{KeyError, Result};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const SALT: usize = 24;
const TAG: usize = 16;
/// Bytes that sealing adds.
pub const OVERHEAD: usize = 1 + SALT + TAG;

/// Encrypts and authenticates a message. `context` says what it is and where it belongs; only the same context opens it.
///
/// # Errors
/// [`KeyError::Random`].
pub fn seal(key: &SecretKey, context: &[u8], message: &[u8], random: &dyn Random) -> Result<Vec<u8>> {
    let salt: [u8; SALT] = random::bytes(random)?;
    let mut out = Vec::with_capacity(message.len() + OVERHEAD);
    out.push(VERSION);
    out.extend_from_slice(&salt);
    out.extend_from_slice(message);
    let tag = cipher(key, &salt)
        .seal_in_place_separate_tag(nonce(), Aad::from(context), &mut out[1 + SALT..])
        .map_err(|_| KeyError::TooLarge)?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

/// What was sealed with this key and context.
///
/// # Errors
/// [`KeyError::Sealed`] for anything else.
pub fn open(key: &SecretKey, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let refuse = || KeyError::Sealed;
    let (version, rest) = sealed.split_first().ok_or_else(refuse)?;
    let (salt, rest) = rest.split_first_chunk::<SALT>().ok_or_else(refuse)?;
    if *version != VERSION {
        return Err(refuse());
    }
    let mut message = Zeroizing::new(rest.to_vec());
    let opened = cipher(key, salt).open_in_place(nonce(), Aad::from(context), &mut message);
    let length = opened.map_err(|_| refuse())?.len();
    message.truncate(length);
    Ok(message)
}

fn cipher(key: &SecretKey, salt: &[u8; SALT]) -> LessSafeKey {
    let mut hasher = blake3::Hasher::new_keyed(key.bytes());
    hasher.update(b"keepfast seal 1");
    hasher.update(salt);
    let message_key = SecretKey::new(*hasher.finalize().as_bytes());
    LessSafeKey::new(
        UnboundKey::new(&AES_256_GCM, message_key.bytes()).expect("a key of this cipher has 32 bytes"),
    )
}

/// The only nonce of a key that seals one message.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    #[test]
    fn any_change_of_message_key_or_context_is_found() {
        let key = SecretKey::random(&SystemRandom).unwrap();
        for message in [&b""[..], b"a", &[7; 1000]] {
            let sealed = seal(&key, b"here", message, &SystemRandom).unwrap();
            assert_eq!(sealed.len(), message.len() + OVERHEAD);
            assert_eq!(open(&key, b"here", &sealed).unwrap().as_slice(), message);
            assert!(open(&key, b"there", &sealed).is_err());
            assert!(open(&key.derive("other"), b"here", &sealed).is_err());
            for i in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[i] ^= 1;
                assert!(open(&key, b"here", &changed).is_err(), "byte {i}");
                assert!(open(&key, b"here", &sealed[..i]).is_err());
                assert!(open(&key, b"here", &sealed[i + 1..]).is_err());
            }
        }
    }

    #[test]
    fn one_message_is_sealed_differently_each_time() {
        let key = SecretKey::random(&SystemRandom).unwrap();
        let seal = || seal(&key, b"", b"message", &SystemRandom).unwrap();
        assert_ne!(seal(), seal());
    }
}
