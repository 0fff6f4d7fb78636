//! JSON objects that know when they were changed: the last member is a hash of everything before it.
//!
//! A record at the head of the log has no successor that names its hash, and `keepfast.json` has nobody; the seal
//! finds a flipped or lost byte in them. It proves nothing against somebody who writes a new one.

use bytes::Bytes;
use keepfast_model::Hash256;
use serde::Serialize;

const BEFORE: &[u8] = b",\"sum\":\"";
const AFTER: &[u8] = b"\"}\n";
const HEX: usize = 64;

/// The JSON of a non-empty object with its seal, and a newline.
pub(crate) fn seal<T: Serialize>(object: &T) -> serde_json::Result<Bytes> {
    let mut json = serde_json::to_vec(object)?;
    debug_assert!(json.len() > 2 && json.ends_with(b"}"));
    json.pop();
    let sum = Hash256::of(&json);
    json.extend_from_slice(BEFORE);
    json.extend_from_slice(sum.to_string().as_bytes());
    json.extend_from_slice(AFTER);
    Ok(json.into())
}

/// Whether the bytes are what was sealed. An error says what is wrong in words.
pub(crate) fn check(bytes: &[u8]) -> Result<(), &'static str> {
    let rest = bytes.strip_suffix(AFTER).ok_or("it is cut off")?;
    let (rest, sum) = rest.split_at_checked(rest.len().wrapping_sub(HEX)).ok_or("it is cut off")?;
    let json = rest.strip_suffix(BEFORE).ok_or("its checksum is missing")?;
    let sum =
        std::str::from_utf8(sum).ok().and_then(Hash256::from_hex).ok_or("its checksum is not a hash")?;
    // Upper-case digits would parse too, and are not what was written.
    if bytes[json.len() + BEFORE.len()..].iter().any(u8::is_ascii_uppercase) || Hash256::of(json) != sum {
        return Err("its bytes do not match its checksum");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_or_lost_byte_breaks_the_seal() {
        let sealed = seal(&serde_json::json!({"a": 1, "b": "text"})).expect("JSON");
        assert_eq!(check(&sealed), Ok(()));
        assert!(serde_json::from_slice::<serde_json::Value>(&sealed).is_ok());
        for i in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.to_vec();
                changed[i] ^= 1 << bit;
                assert!(check(&changed).is_err(), "byte {i} bit {bit}");
            }
            assert!(check(&sealed[..i]).is_err());
            assert!(check(&sealed[i + 1..]).is_err());
        }
    }
}
