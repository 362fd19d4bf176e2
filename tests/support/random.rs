//! Random numbers that can be had again: `LARDER_TEST_SEED` repeats a run.

/// SplitMix64. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Numbers of one seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Numbers of `LARDER_TEST_SEED`, else of the kernel's; prints the seed.
    pub fn seeded() -> Random {
        let seed = super::setting("LARDER_TEST_SEED").map(|text| text.parse().expect("a seed is a number"));
        let seed = seed.unwrap_or_else(|| {
            let mut bytes = [0; 4];
            let mut file = std::fs::File::open("/dev/urandom").expect("/dev/urandom");
            std::io::Read::read_exact(&mut file, &mut bytes).expect("never ends");
            u64::from(u32::from_le_bytes(bytes))
        });
        println!("LARDER_TEST_SEED={seed}");
        Random(seed)
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

    /// Bytes that do not compress and occur nowhere else.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}
