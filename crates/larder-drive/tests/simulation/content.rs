//! What decides a history: numbers of one seed, and contents that tell by themselves what they are.

/// SplitMix64. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Numbers of one seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// The content of this number: mostly small, at times a few chunks.
pub fn content(number: u64) -> Vec<u8> {
    let mut dice = Dice::new(number);
    let length = 8 + if dice.once_in(8) { 200_000 + dice.below(200_000) } else { dice.below(2000) };
    let mut bytes = number.to_le_bytes().to_vec();
    while (bytes.len() as u64) < length {
        bytes.extend_from_slice(&dice.next().to_le_bytes());
    }
    bytes
}

/// The number of a content; nothing for bytes that nobody ever wrote.
pub fn number_of(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(bytes.get(..8)?.try_into().expect("8 bytes"));
    (content(number) == bytes).then_some(number)
}
