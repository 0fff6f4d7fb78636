//! Parquet's metadata, the footer and the headers of pages, walked before it is believed.
//!
//! A list states its length, and the decoder makes room for that many entries before it reads one: a few bytes that
//! state two thousand million row groups would end the process, and as many entries of nothing keep it busy for minutes.
//! Here the metadata, which is Thrift's compact protocol, is walked without making room for anything. Invariant: what passes
//! holds at least a byte for each entry that a list of it states, fields of the kinds that the decoder takes them for, and a
//! schema whose elements have the children that they state, no deeper than a decoder can follow.

mod shapes;

use shapes::{FILE, FILE_CRYPTO, PAGE, SCHEMA_ELEMENT, Shape};

/// Structures inside each other at most; a Parquet footer has about ten.
const DEEPEST: u32 = 64;

/// Elements of a schema inside each other at most; a list of a list of a list has about ten.
const SCHEMA_DEEPEST: usize = 128;

/// Bytes of a page's values at most, before compression: the decoder makes room for what a page's header states. The longest value
/// that stores hold has 1 GiB, and the rest of its page is small. Segments with more are never written.
pub(crate) const PAGE_MAX: u64 = (1 << 30) + (64 << 20);

/// Why a file's footer cannot be one; nothing when its lists are as long as they say.
///
/// `tail` is the end of a file, with all of its footer; a file that states a longer footer is left to the decoder.
pub fn footer_fault(tail: &[u8]) -> Option<&'static str> {
    let (rest, frame) = tail.split_last_chunk::<8>()?;
    let length = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    let footer = rest.len().checked_sub(length).map(|start| &rest[start..])?;
    let mut walk = Walk(footer);
    // An encrypted footer begins with what tells its keys, and the rest of it is authenticated.
    let walked = match frame.ends_with(b"PARE") {
        true => walk.fields(FILE_CRYPTO, |_, _| Ok(false), DEEPEST),
        false => walk.footer(),
    };
    walked.err()
}

/// The length of the footer that a file with these last eight bytes states.
pub fn footer_length(frame: [u8; 8]) -> u64 {
    u64::from(u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]))
}

/// Bytes of the page that begins here, its header among them; none where more than `bytes` is needed to tell.
///
/// # Errors
///
/// Why the page's header cannot be decoded.
pub fn page_length(bytes: &[u8]) -> Result<Option<u64>, &'static str> {
    let mut walk = Walk(bytes);
    match walk.page() {
        Ok(stored) => Ok(Some(stored.saturating_add((bytes.len() - walk.0.len()) as u64))),
        Err(CUT_OFF | TOO_LONG) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Why the headers of a column's pages, which are not encrypted, cannot be decoded; none where nothing speaks against it.
pub(crate) fn pages_fault(mut column: &[u8]) -> Option<&'static str> {
    while !column.is_empty() {
        let mut walk = Walk(column);
        match walk.page().and_then(|stored| walk.skip(stored)) {
            Ok(()) => column = walk.0,
            Err(fault) => return Some(fault),
        }
    }
    None
}

/// What has not been walked yet.
struct Walk<'a>(&'a [u8]);

const CUT_OFF: &str = "its metadata is cut off";
const TOO_LONG: &str = "a list in its metadata states more entries than there can be";
const OTHER_KIND: &str = "a field of its metadata is of another kind";

type Walked<T = ()> = Result<T, &'static str>;

impl Walk<'_> {
    fn byte(&mut self) -> Walked<u8> {
        let (first, rest) = self.0.split_first().ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(*first)
    }

    fn skip(&mut self, bytes: u64) -> Walked {
        let bytes = usize::try_from(bytes).map_err(|_| CUT_OFF)?;
        self.0 = self.0.get(bytes..).ok_or(CUT_OFF)?;
        Ok(())
    }

    /// A number of variable length.
    fn number(&mut self) -> Walked<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("its metadata holds a number that does not end")
    }

    /// The fields of a structure, which must be of the kinds that they have: the decoder takes them for such whatever is stated, and
    /// would read other lists than those that were counted. `own` walks over a field's value and says so, or leaves it.
    fn fields(
        &mut self,
        shapes: &[Shape],
        mut own: impl FnMut(&mut Self, usize) -> Walked<bool>,
        deeper: u32,
    ) -> Walked {
        let mut number = 0_usize;
        loop {
            let header = self.byte()?;
            let kind = header & 0x0f;
            if kind == 0 {
                return Ok(());
            }
            // The field's number stands apart where it is far from the one before.
            let apart = header >> 4 == 0;
            number = match apart {
                true => usize::try_from(signed(self.number()?)).map_err(|_| OTHER_KIND)?,
                false => number + usize::from(header >> 4),
            };
            let shape = number.checked_sub(1).and_then(|at| shapes.get(at)).unwrap_or(&Shape::Free);
            let fits = !apart || matches!(shape, Shape::Free);
            if !fits || number > i16::MAX as usize || !shape.is(kind) {
                return Err(OTHER_KIND);
            }
            // Booleans of a structure stand in the field's own byte.
            if kind > 2 && !own(self, number)? {
                self.value(kind, shape, deeper)?;
            }
        }
    }

    fn footer(&mut self) -> Walked {
        let schema = |walk: &mut Self, number| match number {
            2 => walk.schema().map(|()| true),
            _ => Ok(false),
        };
        self.fields(FILE, schema, DEEPEST)
    }

    /// A page's header; gives the length of the page behind it.
    fn page(&mut self) -> Walked<u64> {
        let (mut values, mut stored) = (-1, -1);
        let lengths = |walk: &mut Self, number| {
            match number {
                2 => values = signed(walk.number()?),
                3 => stored = signed(walk.number()?),
                _ => return Ok(false),
            }
            Ok(true)
        };
        self.fields(PAGE, lengths, DEEPEST)?;
        match (u64::try_from(values), u64::try_from(stored)) {
            (Ok(values), _) if values > PAGE_MAX => Err("a page states more values than a page can hold"),
            (Ok(_), Ok(stored)) => Ok(stored),
            _ => Err("a page states no length"),
        }
    }

    /// The elements of the schema, which stand in the order of a walk through their tree. The decoder makes room for the children
    /// that each states, and calls itself for them.
    fn schema(&mut self) -> Walked {
        let length = self.list(&Shape::Fields(SCHEMA_ELEMENT))?.0;
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
            let counted = |walk: &mut Self, number| {
                if number == 5 {
                    children = signed(walk.number()?);
                }
                Ok(number == 5)
            };
            self.fields(SCHEMA_ELEMENT, counted, DEEPEST)?;
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

    fn value(&mut self, kind: u8, shape: &Shape, deeper: u32) -> Walked {
        let deeper = deeper.checked_sub(1).ok_or("its metadata is nested too deep")?;
        match kind {
            3 => self.skip(1),
            4..=6 => self.number().map(drop),
            7 => self.skip(8),
            8 => {
                let length = self.number()?;
                self.skip(length)
            }
            9 | 10 => {
                let entry = if let Shape::List(entry) = shape { entry } else { &Shape::Free };
                let (length, kind) = self.list(entry)?;
                (0..length).try_for_each(|_| self.value(kind, entry, deeper))
            }
            12 => {
                let shapes = if let Shape::Fields(shapes) = shape { shapes } else { &[][..] };
                self.fields(shapes, |_, _| Ok(false), deeper)
            }
            _ => Err("its metadata holds a value of a kind that Parquet has not"),
        }
    }

    /// The number of a list's entries, and their kind.
    fn list(&mut self, entry: &Shape) -> Walked<(u64, u8)> {
        let header = self.byte()?;
        let kind = header & 0x0f;
        let length = match header >> 4 {
            15 => self.number()?,
            short => u64::from(short),
        };
        match length {
            // Some writers state no kind for an empty list.
            0 => Ok((0, kind)),
            _ if !entry.is(kind) => Err(OTHER_KIND),
            _ if length > self.0.len() as u64 => Err(TOO_LONG),
            _ => Ok((length, kind)),
        }
    }
}

impl Shape {
    /// Whether a value of this shape is stated as of this kind.
    fn is(self, kind: u8) -> bool {
        match self {
            Self::Bool => matches!(kind, 1 | 2),
            Self::Byte => kind == 3,
            Self::I16 => kind == 4,
            Self::I32 => kind == 5,
            Self::I64 => kind == 6,
            Self::Double => kind == 7,
            Self::Bytes => kind == 8,
            Self::List(_) => kind == 9,
            Self::Fields(_) => kind == 12,
            Self::Free => true,
        }
    }
}

/// A signed number, which stands with its sign in the lowest bit.
fn signed(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
