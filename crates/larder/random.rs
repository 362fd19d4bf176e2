//! Random bytes: the only place that asks the system for them.

/// Fills `bytes` with unpredictable bytes.
pub fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("getrandom(2) fails only on kernels without it");
}

/// A random array.
pub fn array<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}
