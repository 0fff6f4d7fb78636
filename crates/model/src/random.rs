//! A tiny generator of numbers (SplitMix64): the same seed gives the same numbers on every machine.

/// Numbers that follow from a seed alone. For tests and scripted faults, never for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator for this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for one place among many, independent of its neighbours.
    pub fn at(seed: u64, row: u64, column: u64) -> Self {
        let mut outer = Self(seed ^ 0x5851_f42d_4c95_7f2d);
        let mut row = Self(outer.next().wrapping_add(row));
        let mut column = Self(row.next().wrapping_add(column));
        Self(column.next())
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// Whether one of so many, which comes up at random, did.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// The next 128 bits.
    pub fn next_u128(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }
}
