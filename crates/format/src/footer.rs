//! A Parquet footer's lists, counted before they are believed.
//!
//! A list in the footer states its length, and the decoder makes room for that many entries before it reads one: a
//! few bytes that state two thousand million row groups would end the process. Here the footer, which is Thrift's
//! compact protocol, is walked without making room for anything. Invariant: a footer that passes holds at least a
//! byte for each entry that a list of it states, and a schema whose elements have the children that they state, no deeper than
//! a decoder can follow.

/// Structures inside each other at most; a Parquet footer has about ten.
const DEEPEST: u32 = 64;

/// Elements of a schema inside each other at most; a list of a list of a list has about ten.
const SCHEMA_DEEPEST: usize = 128;

/// Why a file's footer cannot be one; nothing when its lists are as long as they say.
///
/// `tail` is the end of a file, with all of its footer; a file that states a longer footer is left to the decoder.
pub fn footer_fault(tail: &[u8]) -> Option<&'static str> {
    let (rest, frame) = tail.split_last_chunk::<8>()?;
    let length = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    let footer = rest.len().checked_sub(length).map(|start| &rest[start..])?;
    let mut walk = Walk(footer);
    // An encrypted footer begins with what tells its keys, and the rest of it is authenticated.
    if frame.ends_with(b"PARE") { walk.structure(DEEPEST) } else { walk.metadata() }.err()
}

/// The length of the footer that a file with these last eight bytes states.
pub fn footer_length(frame: [u8; 8]) -> u64 {
    u64::from(u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]))
}

/// Why the headers of a column's pages, which are not encrypted, cannot be decoded; none where nothing speaks against it.
pub(crate) fn pages_fault(column: &[u8]) -> Option<&'static str> {
    let mut walk = Walk(column);
    while !walk.0.is_empty() {
        if let Err(fault) = walk.page() {
            return Some(fault);
        }
    }
    None
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

    /// The fields of a structure, each by its number and kind; `each` walks over its value.
    fn fields(
        &mut self,
        mut each: impl FnMut(&mut Self, i64, u8) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        let mut number = 0_i64;
        loop {
            let header = self.byte()?;
            if header & 0x0f == 0 {
                return Ok(());
            }
            // The field's number stands apart where it is far from the one before.
            number = match header >> 4 {
                0 => signed(self.number()?),
                more => number.wrapping_add(i64::from(more)),
            };
            each(self, number, header & 0x0f)?;
        }
    }

    fn structure(&mut self, deeper: u32) -> Result<(), &'static str> {
        self.fields(|walk, _, kind| walk.field(kind, deeper))
    }

    fn field(&mut self, kind: u8, deeper: u32) -> Result<(), &'static str> {
        // Booleans of a structure stand in the field's own byte.
        if kind > 2 { self.value(kind, deeper) } else { Ok(()) }
    }

    /// The footer itself. Its fields must be of the kinds that they have: the decoder takes them for such whatever is stated, and
    /// would read other lists than those that were counted.
    fn metadata(&mut self) -> Result<(), &'static str> {
        self.fields(|walk, number, kind| match (number, kind) {
            (2, 9) => walk.schema(),
            (1, 5) | (3, 6) | (4 | 5 | 7, 9) | (6 | 9, 8) | (8, 12) => walk.field(kind, DEEPEST),
            (1..=9, _) => Err("a field of its footer is of another kind"),
            _ => walk.field(kind, DEEPEST),
        })
    }

    /// A page's header, and the page.
    fn page(&mut self) -> Result<(), &'static str> {
        let mut stored = -1;
        self.fields(|walk, number, kind| match (number, kind) {
            (3, 5) => walk.number().map(|n| stored = signed(n)),
            (1 | 2 | 4, 5) | (5..=8, 12) => walk.field(kind, DEEPEST),
            (1..=8, _) => Err("a field of a page's header is of another kind"),
            _ => walk.field(kind, DEEPEST),
        })?;
        self.skip(u64::try_from(stored).map_err(|_| "a page states no length")?)
    }

    /// The elements of the schema, which stand in the order of a walk through their tree. The decoder makes room for the children
    /// that each states, and calls itself for them.
    fn schema(&mut self) -> Result<(), &'static str> {
        let (length, kind) = self.list_header()?;
        if kind != 12 && length > 0 {
            return Err("its schema is none");
        }
        // Children that are still to come, of each element around the next one.
        let mut around: Vec<u64> = vec![];
        let mut stated = 0_u64;
        for _ in 0..length {
            while around.last() == Some(&0) {
                around.pop();
            }
            if let Some(coming) = around.last_mut() {
                *coming -= 1;
            }
            let mut children = 0;
            self.fields(|walk, number, kind| match (number, kind) {
                (5, 5) => walk.number().map(|n| children = signed(n)),
                (1..=3 | 6..=9, 5) | (4, 8) | (10, 12) => walk.field(kind, DEEPEST),
                (1..=10, _) => Err("its schema is none"),
                _ => walk.field(kind, DEEPEST),
            })?;
            let children = u64::try_from(children).unwrap_or(u64::MAX);
            stated = stated.saturating_add(children);
            if stated >= length {
                return Err("its schema states more elements than there are");
            }
            if children > 0 {
                around.push(children);
            }
            if around.len() > SCHEMA_DEEPEST {
                return Err("its schema is nested too deep");
            }
        }
        Ok(())
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
        let (length, kind) = self.list_header()?;
        self.entries(length, &[kind], deeper)
    }

    /// The number of a list's entries, and their kind.
    fn list_header(&mut self) -> Result<(u64, u8), &'static str> {
        let header = self.byte()?;
        let length = match header >> 4 {
            15 => self.number()?,
            short => u64::from(short),
        };
        if length > self.0.len() as u64 {
            return Err("a list in its footer states more entries than there can be");
        }
        Ok((length, header & 0x0f))
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

/// A signed number, which stands with its sign in the lowest bit.
fn signed(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
