//! Random numbers that can be had again: `LARDER_TEST_SEED` repeats a run.

pub use super::splitmix::Random;

impl Random {
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
        Random::new(seed)
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
