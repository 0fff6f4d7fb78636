//! Other bytes for the same rows: a Parquet file with a few random bytes that no reader looks at.
//!
//! The name of an object that a prune condemned is dead for ever, since whoever deletes it may come late. Rows that
//! come back under the same identity are stored under another name, and the name follows from the bytes. Parquet
//! addresses everything from the file's start and finds its footer from the end, so bytes between them move nothing.

use bytes::{Bytes, BytesMut};

const MAGIC: &[u8] = b"PAR1";
/// The magic of a file whose footer is encrypted.
const MAGIC_ENCRYPTED: &[u8] = b"PARE";
/// Bytes of the footer's length and the closing magic.
const TAIL: usize = 8;

/// The file with the salt before its footer; none when it is not a Parquet file.
pub(crate) fn salted(file: &[u8], salt: &[u8; 16]) -> Option<Bytes> {
    let tail = file.len().checked_sub(TAIL)?;
    let framed = |magic| file.starts_with(magic) && file.ends_with(magic);
    if !framed(MAGIC) && !framed(MAGIC_ENCRYPTED) {
        return None;
    }
    let length = u32::from_le_bytes(file[tail..tail + 4].try_into().ok()?) as usize;
    let footer = tail.checked_sub(length).filter(|at| *at >= MAGIC.len())?;
    let mut out = BytesMut::with_capacity(file.len() + salt.len());
    out.extend_from_slice(&file[..footer]);
    out.extend_from_slice(salt);
    out.extend_from_slice(&file[footer..]);
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_parquet_file_is_not_salted() {
        for bytes in [&b""[..], b"PAR1", b"PAR1\xff\xff\xff\xffPAR1", b"PAR1....\x09\0\0\0PAR1"] {
            assert!(salted(bytes, &[0; 16]).is_none());
        }
        let file = b"PAR1pagesfoot\x04\0\0\0PAR1";
        assert_eq!(
            salted(file, b"0123456789abcdef").expect("a file"),
            &b"PAR1pages0123456789abcdeffoot\x04\0\0\0PAR1"[..]
        );
    }
}
