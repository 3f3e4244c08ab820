//! Random numbers that are the same for the same seed.

/// A small generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of one of many streams under one seed, which have nothing to do with each other.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(mixed(mixed(seed).wrapping_add(stream)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// A number in the range, all alike probable.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are left")]
    pub fn between(&mut self, range: std::ops::Range<f64>) -> f64 {
        let share = (self.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        range.start + share * (range.end - range.start)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: f64) -> bool {
        self.between(0.0..100.0) < percent
    }

    /// One of these.
    pub fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let at = self.bits() % items.len() as u64;
        &items[usize::try_from(at).expect("below a length")]
    }
}

fn mixed(bits: u64) -> u64 {
    let mut mixed = bits;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
