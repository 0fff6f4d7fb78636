//! Numbers and texts of the protocol, read from bytes that a server sent.

use super::WireError;

const ENDS: WireError = WireError::Malformed("a message ends early");

/// Bytes that are read from the front. Each value of each row passes here, hence the hints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], WireError> {
        let Some((taken, rest)) = self.0.split_at_checked(bytes) else { return Err(ENDS) };
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some((taken, rest)) = self.0.split_first_chunk() else { return Err(ENDS) };
        self.0 = rest;
        Ok(*taken)
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    #[inline]
    pub fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A number of variable length.
    #[inline]
    pub fn number(&mut self) -> Result<u64, WireError> {
        match self.u8()? {
            small @ 0..=0xfa => Ok(small.into()),
            0xfc => Ok(self.u16()?.into()),
            0xfd => {
                let [a, b, c] = self.array()?;
                Ok(u32::from_le_bytes([a, b, c, 0]).into())
            }
            0xfe => self.u64(),
            _ => Err(WireError::Malformed("a length is none")),
        }
    }

    /// Bytes with their length before them.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_| ENDS)?)
    }

    /// As [`Self::bytes`], or NULL.
    #[inline]
    pub fn nullable(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        if self.0.first() == Some(&0xfb) {
            self.0 = &self.0[1..];
            return Ok(None);
        }
        self.bytes().map(Some)
    }

    /// Bytes up to a zero, which is taken too.
    pub fn until_zero(&mut self) -> Result<&'a [u8], WireError> {
        let end = self.0.iter().position(|b| *b == 0).ok_or(WireError::Malformed("a text does not end"))?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }
}

/// Text of a server for people.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes a number of variable length.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=0xfa => out.push(number as u8),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend((number as u16).to_le_bytes());
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend(&number.to_le_bytes()[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend(number.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_what_is_cut_off_is_an_error() {
        for number in [0, 0xfa, 0xfb, 0xffff, 0x1_0000, 0xff_ffff, 0x100_0000, u64::MAX] {
            let mut bytes = vec![];
            put_number(&mut bytes, number);
            assert_eq!(Reader(&bytes).number().unwrap(), number);
            assert!(Reader(&bytes[..bytes.len() - 1]).number().is_err());
        }
        assert!(Reader(&[0xff]).number().is_err());
        assert!(Reader(&[5, 1, 2]).bytes().is_err());
        assert_eq!(Reader(&[0xfb, 9]).nullable().unwrap(), None);
    }
}
