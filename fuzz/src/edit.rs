//! Edits of a file that a real writer made: each is a few bytes of the input, so that a fuzzer's small mutations are
//! small changes deep inside a format.

/// Reads edits from an input; what it lacks is zero.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Edits applied at most.
const MOST: usize = 64;

/// Applies the edits of `script` to `bytes`.
///
/// An edit is an operation, a place (from the end when the operation's top bit is set, so that a footer is as near as
/// a header), and what the operation takes.
pub(crate) fn edited(mut bytes: Vec<u8>, script: &[u8]) -> Vec<u8> {
    let mut script = Script(script);
    for _ in 0..MOST {
        if script.is_empty() || bytes.is_empty() {
            break;
        }
        let operation = script.byte();
        let at = script.number() % bytes.len();
        let at = if operation & 0x80 == 0 { at } else { bytes.len() - 1 - at };
        match operation % 6 {
            0 => bytes[at] = script.byte(),
            1 => bytes[at] ^= 1 << (script.byte() % 8),
            2 => {
                let end = bytes.len().min(at + 1 + usize::from(script.byte()));
                drop(bytes.drain(at..end));
            }
            3 => {
                let length = usize::from(script.byte() % 16);
                let new: Vec<u8> = (0..length).map(|_| script.byte()).collect();
                drop(bytes.splice(at..at, new));
            }
            // The largest number that a variable-length one can say, in place of what stands there.
            4 => {
                let length = 1 + usize::from(script.byte() % 9);
                let end = bytes.len().min(at + length);
                let mut largest = vec![0xff; length];
                largest.push(script.byte() & 0x7f);
                drop(bytes.splice(at..end, largest));
            }
            _ => {
                let from = script.number() % bytes.len();
                let end = bytes.len().min(from + 1 + usize::from(script.byte()));
                let copied = bytes[from..end].to_vec();
                drop(bytes.splice(at..at, copied));
            }
        }
    }
    bytes
}

/// A Parquet file whose footer has been edited, with the length of the footer made right again.
pub(crate) fn footer_edited(file: &[u8], script: &[u8]) -> Vec<u8> {
    let Some((rest, tail)) = file.split_last_chunk::<8>() else { return file.to_vec() };
    let length = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]) as usize;
    let Some((values, footer)) = rest.split_at_checked(rest.len().wrapping_sub(length)) else {
        return file.to_vec();
    };
    let footer = edited(footer.to_vec(), script);
    [values, &footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}
