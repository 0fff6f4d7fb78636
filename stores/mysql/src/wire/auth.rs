//! Proving a password without sending it.

use super::WireError;
use super::channel::Channel;
use super::codec::Reader;
use super::reply::refused;
use super::seal::seal;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use std::path::Path;
use zeroize::Zeroizing;

const NATIVE: &str = "mysql_native_password";
const SHA2: &str = "caching_sha2_password";

/// What answers a challenge by a method; an error for methods that this client has not.
pub(crate) fn answer(method: &str, password: &str, challenge: &[u8]) -> Result<Vec<u8>, WireError> {
    if password.is_empty() {
        return Ok(vec![]);
    }
    // Challenges end with a zero that does not count.
    let challenge = challenge.get(..20).unwrap_or(challenge);
    match method {
        NATIVE => Ok(native(password, challenge)),
        SHA2 => Ok(sha2(password, challenge)),
        other => Err(WireError::Greeting(format!(
            "its account proves itself by {other}; this client knows {NATIVE} and {SHA2}"
        ))),
    }
}

/// SHA1(password) xor SHA1(challenge, SHA1(SHA1(password))).
fn native(password: &str, challenge: &[u8]) -> Vec<u8> {
    let sha1 = |parts: &[&[u8]]| {
        let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        parts.iter().for_each(|part| context.update(part));
        context.finish()
    };
    let once = sha1(&[password.as_bytes()]);
    let twice = sha1(&[once.as_ref()]);
    xor(once.as_ref(), sha1(&[challenge, twice.as_ref()]).as_ref())
}

/// SHA256(password) xor SHA256(SHA256(SHA256(password)), challenge).
fn sha2(password: &str, challenge: &[u8]) -> Vec<u8> {
    let sha256 = |parts: &[&[u8]]| {
        let mut context = Context::new(&SHA256);
        parts.iter().for_each(|part| context.update(part));
        context.finish()
    };
    let once = sha256(&[password.as_bytes()]);
    let twice = sha256(&[once.as_ref()]);
    xor(once.as_ref(), sha256(&[twice.as_ref(), challenge]).as_ref())
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

/// Goes on where the server says more of a method: `caching_sha2_password` may want the password itself. Where others can listen it is
/// sealed for the owner of a key: that of a file, else the one that the server sends.
pub(crate) async fn go_on(
    channel: &mut Channel,
    (method, challenge): (&str, &[u8]),
    password: &str,
    server_key: Option<&Path>,
    more: &[u8],
) -> Result<(), WireError> {
    match (method, more) {
        (SHA2, [3]) => Ok(()),
        (SHA2, [4]) => {
            let mut secret = Zeroizing::new(password.as_bytes().to_vec());
            secret.push(0);
            if channel.is_private() {
                return channel.write(&secret).await;
            }
            let key = match server_key {
                Some(path) => std::fs::read(path).map_err(|e| {
                    WireError::Greeting(format!("the server's public key in {}: {e}", path.display()))
                })?,
                None => sent_key(channel).await?,
            };
            let challenge = challenge.get(..20).unwrap_or(challenge);
            // Seen again, it is of no use.
            secret.iter_mut().zip(challenge.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            channel.write(&seal(&secret, &key)?).await
        }
        _ => Err(WireError::Malformed("it says more than its method has")),
    }
}

/// Asks a server for its public key.
async fn sent_key(channel: &mut Channel) -> Result<Vec<u8>, WireError> {
    channel.write(&[2]).await?;
    match channel.read().await?.split_first() {
        Some((1, key)) => Ok(key.to_vec()),
        Some((0xff, rest)) => Err(refused(Reader(rest))),
        _ => Err(WireError::Malformed("it sends no public key")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_answer_challenges_as_servers_expect() {
        // SHA1(x) xor SHA1(c + SHA1(SHA1(x))), checked with another program.
        let challenge: Vec<u8> = (1..=20).collect();
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(answer(NATIVE, "secret", &challenge).unwrap()),
            "b32bb3a583e1340c0a1108d58b1be49781ad8c2f"
        );
        assert_eq!(
            hex(answer(SHA2, "secret", &challenge).unwrap()),
            "746ebe205d56a0707acb3e796e834e0dd7b1d61743b26bd5202c7a623230c7c9"
        );
        assert!(answer(NATIVE, "", &challenge).unwrap().is_empty());
        assert!(answer("client_ed25519", "secret", &challenge).is_err());
    }
}
