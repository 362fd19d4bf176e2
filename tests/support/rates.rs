//! Whether a limit is kept.

/// A mebibyte.
pub const MIB: f64 = 1_048_576.0;
/// What a limit may be missed by.
const TOLERANCE: f64 = 0.03;
/// Shares of streams may differ by this.
const SHARES: f64 = 0.10;
/// Measurements of one limit at most.
const ATTEMPTS: usize = 4;

/// Asserts that what `measure` returns keeps the limit. More than it must never come through. Less, or unequal shares,
/// may be the machine's doing, which pauses for longer than a burst makes up for: that is measured again.
#[track_caller]
pub fn assert_keeps(limit: f64, mut measure: impl FnMut() -> Vec<f64>) {
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let rates = measure();
        let error = rates.iter().sum::<f64>() / limit - 1.0;
        assert!(error < TOLERANCE, "{error:+.3} over {limit}: {rates:?}");
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        if error > -TOLERANCE && 1.0 - least / most < SHARES {
            return;
        }
        seen.push(rates);
    }
    panic!("{limit} is not kept: {seen:?}");
}
