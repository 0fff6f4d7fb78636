//! A Parquet footer's lists, counted before they are believed.
//!
//! A list in the footer states its length, and the decoder makes room for that many entries before it reads one: a
//! few bytes that state two thousand million row groups would end the process. Here the footer, which is Thrift's
//! compact protocol, is walked without making room for anything. Invariant: a footer that passes holds at least a
//! byte for each entry that a list of it states.

/// Structures inside each other at most; a Parquet footer has about ten.
const DEEPEST: u32 = 64;

/// Why a file's footer cannot be one; nothing when its lists are as long as they say.
///
/// `tail` is the end of a file, with all of its footer; a file that states a longer footer is left to the decoder.
pub fn footer_fault(tail: &[u8]) -> Option<&'static str> {
    let (rest, frame) = tail.split_last_chunk::<8>()?;
    let length = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    let footer = rest.len().checked_sub(length).map(|start| &rest[start..])?;
    Walk(footer).structure(DEEPEST).err()
}

/// The length of the footer that a file with these last eight bytes states.
pub fn footer_length(frame: [u8; 8]) -> u64 {
    u64::from(u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]))
}

/// What has not been walked yet.
struct Walk<'a>(&'a [u8]);

const CUT_OFF: &str = "its footer is cut off";

impl Walk<'_> {
    fn byte(&mut self) -> Result<u8, &'static str> {
        let (first, rest) = self.0.split_first().ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(*first)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), &'static str> {
        let bytes = usize::try_from(bytes).map_err(|_| CUT_OFF)?;
        self.0 = self.0.get(bytes..).ok_or(CUT_OFF)?;
        Ok(())
    }

    /// A number of variable length.
    fn number(&mut self) -> Result<u64, &'static str> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("its footer holds a number that does not end")
    }

    fn structure(&mut self, deeper: u32) -> Result<(), &'static str> {
        loop {
            let field = self.byte()?;
            if field & 0x0f == 0 {
                return Ok(());
            }
            // The field's number stands apart where it is far from the one before.
            if field >> 4 == 0 {
                self.number()?;
            }
            // Booleans of a structure stand in the field's own byte.
            if field & 0x0f > 2 {
                self.value(field & 0x0f, deeper)?;
            }
        }
    }

    fn value(&mut self, kind: u8, deeper: u32) -> Result<(), &'static str> {
        let deeper = deeper.checked_sub(1).ok_or("its footer is nested too deep")?;
        match kind {
            1..=3 => self.skip(1),
            4..=6 => self.number().map(drop),
            7 => self.skip(8),
            8 => {
                let length = self.number()?;
                self.skip(length)
            }
            9 | 10 => self.list(deeper),
            11 => {
                let length = self.number()?;
                if length == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                self.entries(length, &[kinds >> 4, kinds & 0x0f], deeper)
            }
            12 => self.structure(deeper),
            13 => self.skip(16),
            _ => Err("its footer holds a value of no known kind"),
        }
    }

    fn list(&mut self, deeper: u32) -> Result<(), &'static str> {
        let header = self.byte()?;
        let length = match header >> 4 {
            15 => self.number()?,
            short => u64::from(short),
        };
        if length == 0 {
            return Ok(());
        }
        self.entries(length, &[header & 0x0f], deeper)
    }

    fn entries(&mut self, length: u64, kinds: &[u8], deeper: u32) -> Result<(), &'static str> {
        if length > self.0.len() as u64 {
            return Err("a list in its footer states more entries than there can be");
        }
        for _ in 0..length {
            for kind in kinds {
                self.value(*kind, deeper)?;
            }
        }
        Ok(())
    }
}
