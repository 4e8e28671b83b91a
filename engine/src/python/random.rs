//! CPython's `random.Random`: the Mersenne Twister MT19937, seeded by `init_by_array`, with CPython's way of drawing
//! integers and floats. The same seed gives the same numbers as Python, draw for draw.

use std::sync::{Arc, Mutex, PoisonError};

use num_bigint::{BigInt, BigUint};
use num_traits::{One, ToPrimitive};

use super::exception::{Exception, Result};
use super::value::Value;

const N: usize = 624;
const M: usize = 397;

/// A generator with CPython's sequence. Most worlds never draw, so the state is made with the first number, and copies
/// share it until they draw.
#[derive(Clone, PartialEq, Eq)]
pub struct Random {
    seed: BigInt,
    drawing: Option<Arc<Twister>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Twister {
    state: [u32; N],
    index: usize,
}

impl std::fmt::Debug for Random {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Random").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Random {
    /// `random.Random(seed)` for a non-negative or negative int (CPython takes the absolute value).
    pub fn new(seed: impl Into<BigInt>) -> Self {
        Self { seed: seed.into(), drawing: None }
    }

    /// `random.Random(value)` for a scenario's `random_seed`; kinds of seed that no scenario uses are refused.
    pub fn from_value(seed: &Value) -> Result<Self> {
        seed.to_int().map(Self::new).ok_or_else(|| {
            Exception::type_error("The only supported seed types are: None,\nint, float, str, bytes, and bytearray.")
        })
    }

    fn next_u32(&mut self) -> u32 {
        let Self { seed, drawing } = self;
        Arc::make_mut(drawing.get_or_insert_with(|| Twister::shared(seed))).next_u32()
    }

    /// `random.random()`: a float in [0, 1) with 53 random bits.
    pub fn random(&mut self) -> f64 {
        let high = f64::from(self.next_u32() >> 5);
        let low = f64::from(self.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// `random.getrandbits(bits)`: words fill from the low end, the last one is shifted right.
    pub fn getrandbits(&mut self, bits: u64) -> BigUint {
        let words = bits.div_ceil(32);
        let digits = (0..words)
            .map(|word| {
                let left = bits - word * 32;
                if left < 32 { self.next_u32() >> (32 - left) } else { self.next_u32() }
            })
            .collect();
        BigUint::new(digits)
    }

    /// `random.randint(low, high)`: both ends included, by rejection sampling.
    ///
    /// Panics when `low > high`: worlds draw from constant ranges.
    pub fn randint(&mut self, low: i64, high: i64) -> i64 {
        assert!(low <= high, "empty range for randint({low}, {high})");
        let width = BigUint::from(high.abs_diff(low)) + BigUint::one();
        let bits = width.bits();
        loop {
            let drawn = self.getrandbits(bits);
            if drawn < width {
                return low.wrapping_add_unsigned(drawn.to_u64().expect("below a u64 width"));
            }
        }
    }

    /// `random.uniform(low, high)`
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.random()
    }
}

/// The states of some seeds before their first number. Worlds have three seeds in all, so making them again and again
/// would be half of the cost of a message sent.
static SEEDED: Mutex<Vec<(BigInt, Arc<Twister>)>> = Mutex::new(Vec::new());
const MAX_SEEDED: usize = 8;

impl Twister {
    fn shared(seed: &BigInt) -> Arc<Self> {
        // A panic elsewhere cannot leave the list half-changed.
        let mut seeded = SEEDED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, twister)) = seeded.iter().find(|(known, _)| known == seed) {
            return twister.clone();
        }
        let mut twister = Self::new(seed);
        twister.twist();
        let twister = Arc::new(twister);
        if seeded.len() < MAX_SEEDED {
            seeded.push((seed.clone(), twister.clone()));
        }
        twister
    }

    fn new(seed: &BigInt) -> Self {
        let key = seed.magnitude().to_u32_digits();
        // CPython seeds zero with the one-word key [0].
        let key = if key.is_empty() { vec![0] } else { key };
        let mut twister = Self { state: [0; N], index: N };
        twister.init_by_array(&key);
        twister
    }

    fn init_genrand(&mut self, seed: u32) {
        self.state[0] = seed;
        for i in 1..N {
            let previous = self.state[i - 1];
            self.state[i] = 1_812_433_253_u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        self.index = N;
    }

    fn init_by_array(&mut self, key: &[u32]) {
        self.init_genrand(19_650_218);
        let (mut i, mut j) = (1, 0);
        for _ in 0..N.max(key.len()) {
            let previous = self.state[i - 1];
            self.state[i] = (self.state[i] ^ (previous ^ (previous >> 30)).wrapping_mul(1_664_525))
                .wrapping_add(key[j])
                .wrapping_add(j as u32);
            i += 1;
            j += 1;
            if i >= N {
                self.state[0] = self.state[N - 1];
                i = 1;
            }
            if j >= key.len() {
                j = 0;
            }
        }
        for _ in 0..N - 1 {
            let previous = self.state[i - 1];
            self.state[i] =
                (self.state[i] ^ (previous ^ (previous >> 30)).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i += 1;
            if i >= N {
                self.state[0] = self.state[N - 1];
                i = 1;
            }
        }
        self.state[0] = 0x8000_0000;
    }

    /// Makes the next 624 words.
    fn twist(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if y & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
        }
        self.index = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.index >= N {
            self.twist();
        }
        let mut y = self.state[self.index];
        self.index += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors from CPython 3.11.
    #[test]
    fn draws_what_cpython_draws() {
        let mut message = Random::new(200_191);
        assert_eq!((0..3).map(|_| message.randint(10_000, 99_999)).collect::<Vec<_>>(), [67_410, 41_772, 24_547]);
        let mut bits = Random::new(200_191);
        let drawn: Vec<_> = (0..3).map(|_| bits.getrandbits(32).to_u64().unwrap()).collect();
        assert_eq!(drawn, [1_881_223_403, 1_041_125_569, 476_682_860]);
        let mut travel = Random::new(141_053);
        assert_eq!(travel.randint(1_000_000, 9_999_999), 3_426_812);
        assert_eq!(travel.randint(10_000_000, 99_999_999), 45_451_592);
        let mut card = Random::new(141_053);
        assert_eq!(card.randint(100_000_000_000, 999_999_999_999), 262_919_693_687);
        assert_eq!(card.randint(10_000, 99_999), 44_620);
        let mut vehicle = Random::new(141_053);
        assert_eq!(vehicle.uniform(-10.0, 40.0), 36.634_857_037_905_35);
        assert_eq!(vehicle.uniform(-10.0, 40.0), 31.299_689_286_997_52);
    }
}
