//! What decides a history: numbers of one seed, and contents that tell by themselves what they are.

pub use crate::splitmix::Random as Dice;

impl Dice {
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
