//! A secret for whoever has a server's private key: RSA with OAEP over SHA-1, as `caching_sha2_password` has it (RFC 8017, 7.1.1).
//!
//! Only what needs no private key is here. The arithmetic takes the same time whatever the secret is, and each sealing has its own random
//! seed, so that a listener learns nothing of what is sent again and again.

use super::WireError;
use crypto_bigint::modular::runtime_mod::{DynResidue, DynResidueParams};
use crypto_bigint::{Encoding, U64, U4096};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// Bytes of a SHA-1.
const HASH: usize = 20;
/// Bytes of a modulus: 2048 to 4096 bits.
const SHORTEST: usize = 256;
const LONGEST: usize = 512;
/// Bytes of a key as PEM at most: those of 4096 bits have 800.
const PEM: usize = 16 << 10;
/// The kind of key: `rsaEncryption` without parameters.
const RSA: [u8; 13] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// What only the owner of the key reads. `pem` is a public key as servers send it.
///
/// # Errors
/// `Malformed` for what is no RSA key, `Greeting` for keys that are too short or too long, and for secrets that a key has no room for.
pub(super) fn seal(secret: &[u8], pem: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut seed = [0; HASH];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| WireError::Greeting("this system has no random numbers to encrypt with".into()))?;
    PublicKey::of_pem(pem)?.seal(secret, seed)
}

/// A public key of RSA.
struct PublicKey {
    /// Odd, and without zeros at its front.
    modulus: Vec<u8>,
    exponent: u64,
}

impl PublicKey {
    fn of_pem(pem: &[u8]) -> Result<Self, WireError> {
        const NO_KEY: WireError = WireError::Malformed("its public key is no RSA key in PEM form");
        if pem.len() > PEM {
            return Err(NO_KEY);
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| NO_KEY)?;
        let (modulus, exponent) = parts(der.as_ref()).ok_or(NO_KEY)?;
        if !(SHORTEST..=LONGEST).contains(&modulus.len()) {
            return Err(WireError::Greeting(format!(
                "its public key has {} bits; this client takes 2048 to 4096",
                modulus.len() * 8
            )));
        }
        let exponent = exponent.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        if modulus.last().is_none_or(|last| last % 2 == 0) || exponent % 2 == 0 || exponent < 3 {
            return Err(NO_KEY);
        }
        Ok(Self { modulus: modulus.to_vec(), exponent })
    }

    fn seal(&self, secret: &[u8], seed: [u8; HASH]) -> Result<Vec<u8>, WireError> {
        let size = self.modulus.len();
        let room = size - 2 * HASH - 2;
        if secret.len() > room {
            return Err(WireError::Greeting(format!(
                "its account wants a password that its public key has no room for: {room} bytes at most; use TLS"
            )));
        }
        // 0, the masked seed, and masked: the hash of no label, zeros, 1, the secret.
        let mut padded = Zeroizing::new(vec![0; size]);
        let (head, data) = padded.split_at_mut(1 + HASH);
        data[..HASH].copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, b"").as_ref());
        let at = data.len() - secret.len();
        data[at - 1] = 1;
        data[at..].copy_from_slice(secret);
        mask(&seed, data);
        head[1..].copy_from_slice(&seed);
        mask(data, &mut head[1..]);
        let modulus = DynResidueParams::new(&number(&self.modulus));
        let power = DynResidue::new(&number(&padded), modulus).pow(&U64::from_u64(self.exponent));
        Ok(power.retrieve().to_be_bytes()[LONGEST - size..].to_vec())
    }
}

/// At most [`LONGEST`] bytes, the highest first.
fn number(bytes: &[u8]) -> U4096 {
    let mut whole = Zeroizing::new([0; LONGEST]);
    whole[LONGEST - bytes.len()..].copy_from_slice(bytes);
    U4096::from_be_slice(whole.as_slice())
}

/// Masks bytes with hashes of a seed and a counter.
fn mask(seed: &[u8], bytes: &mut [u8]) {
    for (bytes, n) in bytes.chunks_mut(HASH).zip(0_u32..) {
        let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        context.update(seed);
        context.update(&n.to_be_bytes());
        bytes.iter_mut().zip(context.finish().as_ref()).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// Modulus and exponent of a SubjectPublicKeyInfo, without zeros at their front; none where it is of another kind.
fn parts(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (whole, rest) = element(der, 0x30)?;
    let (kind, key) = element(whole, 0x30)?;
    let (bits, end) = element(key, 0x03)?;
    let (key, more) = element(bits.strip_prefix(&[0])?, 0x30)?;
    let (modulus, key) = element(key, 0x02)?;
    let (exponent, last) = element(key, 0x02)?;
    let whole = kind == RSA && [rest, end, more, last].iter().all(|left| left.is_empty());
    let positive = |bytes: &[u8]| bytes.first().is_some_and(|first| *first < 0x80);
    (whole && positive(modulus) && positive(exponent) && trim(exponent).len() <= 8)
        .then(|| (trim(modulus), trim(exponent)))
}

fn trim(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]
}

/// The contents of the first element, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match bytes.strip_prefix(&[tag])? {
        [short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest),
        [0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAnFErbkUmxbzfHyKzQcTC
9iO3VeAvPCSOpRJsyRBGelWN4g2Rr2hMUgm5lUxlXIryeqnRGlrFNDn5PbbwF0PK
QMj2+WX976u59NFrBUJxaz4JawL9PV8hKJif++EkwHYS9g43vYxgp3XwD0fzoxvN
cfGoQqZxUwqBESH5q918C27pUaCW2/ybuoN+LCx0aH2N7SrlONYTuqMFB1sx5VU1
dl1gV5lPsLuD4yLul9aui+wDcWfFX5aeMSlG7+VVd3HGZej3awpD+6D7mVWlUcy8
UT2r7fCykLZPMrXRj8qEbK4G+hLdxtk8qBaIgecOvvPE1uflatJx2hO+dHGqlex7
FwIDAQAB
-----END PUBLIC KEY-----
";
    const SHORT: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDEEu/iaTwPMEmQHMO1sLTNvs2b
5+HAxGokFpsxwXLgDO1nethkVPYBpKb4ayGfXfTJQzSEOdUcQEJZK/lU28tc740+
smyAqa3/jhe4mCTt+3V7aGm09KnW0M/nD51fevM4tI928U+GtJH45hZ8yF9qCVAV
L0t/rLdhQpYkz/qaAwIDAQAB
-----END PUBLIC KEY-----
";

    #[test]
    fn a_secret_is_sealed_as_another_program_does() {
        let seed: Vec<u8> = (1..=20).collect();
        let key = PublicKey::of_pem(KEY.as_bytes()).unwrap();
        let sealed = key.seal(b"only-for-this-test\0", seed.try_into().unwrap()).unwrap();
        let hash = digest(&ring::digest::SHA256, &sealed);
        let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        // Its private key's owner read the secret in it.
        assert_eq!(hex, "3f7cfe3144df138d4a405699c01aaca74ea4be7792429c5d44aee4266ed20796");
        assert_eq!(sealed.len(), 256);
        assert_ne!(seal(b"a", KEY.as_bytes()).unwrap(), seal(b"a", KEY.as_bytes()).unwrap());
        assert!(key.seal(&[1; 214], [0; 20]).is_ok() && key.seal(&[1; 215], [0; 20]).is_err());
    }

    #[test]
    fn what_is_no_key_or_a_short_one_is_refused() {
        let refused = |pem: &[u8]| seal(b"a", pem).unwrap_err().to_string();
        assert!(refused(SHORT.as_bytes()).contains("1024 bits"));
        let der = SubjectPublicKeyInfoDer::from_pem_slice(KEY.as_bytes()).unwrap();
        for cut in 0..der.as_ref().len() {
            assert_eq!(parts(&der.as_ref()[..cut]), None, "{cut}");
        }
        assert!(parts(&[der.as_ref(), &[0]].concat()).is_none());
        for other in [&b""[..], b"-----BEGIN PUBLIC KEY-----", &[0xff; 40], &[b'-'; 20 << 10]] {
            assert!(refused(other).contains("no RSA key"), "{other:?}");
        }
    }
}
