//! From logits to a token: temperature, top-k, top-p, min-p, on the host and from one seed per sequence.
//!
//! # Which distribution
//! Let `z = logits / temperature`. The steps, in the order of Hugging Face transformers (`LogitsProcessorList`):
//!
//! 1. the mask of a grammar: other tokens get `-inf`;
//! 2. temperature;
//! 3. top-k: tokens with `z` below the k-th largest go (all tokens that tie with the k-th stay);
//! 4. top-p: in descending order, a token stays if the mass of those before it is less than `top_p`. The token that
//!    crosses stays, so at least one does. Mass is that of the survivors of step 3, renormalised. Ties: lowest id first
//!    (in transformers their order is not defined);
//! 5. min-p: tokens with less than `min_p` times the largest probability go.
//!
//! A token is drawn from the renormalised rest (one that is e⁸⁷ times less probable than the first never is). What is *reported* of it ([`Sampled::logp`], [`Sampled::entropy`]) refers
//! to `softmax(z)` over the whole vocabulary, without mask and truncation: TRL's `per_token_logps`, which it recomputes
//! from `logits / temperature`, so that training sees the policy's own probability.
//!
//! # Reproducible
//! One draw of a [`SequenceRng`] makes one token. Draws depend on the seed, the sequence and their number alone, so a
//! sequence's tokens are the same in any batch. Exponentials are computed here with IEEE additions and multiplications
//! in a fixed order: equal logits give equal tokens on every target.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use super::TokenMask;

/// How tokens are chosen. The default is TRL's for GRPO: the model's own distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingOptions {
    /// Divides the logits: below 1 sharpens the distribution, above 1 flattens it. 0 is greedy decoding: the token with
    /// the largest logit, on ties the lowest id; the other options have no effect then. Default: 1.
    pub temperature: f32,
    /// Keep the `top_k` most probable tokens. Default: 0, keep all.
    pub top_k: u32,
    /// Keep the smallest set of most probable tokens whose probabilities sum to at least `top_p`. Default: 1, keep all.
    pub top_p: f32,
    /// Keep tokens with at least `min_p` times the probability of the most probable one. Default: 0, keep all.
    pub min_p: f32,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 }
    }
}

impl SamplingOptions {
    /// The most probable token each time.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Whether the temperature is 0.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Refuses values outside their range.
    pub fn validate(&self) -> Result<(), SampleError> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(SampleError::Option { name: "temperature", value: self.temperature, range: "0 or more" });
        }
        for (name, value) in [("top_p", self.top_p), ("min_p", self.min_p)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(SampleError::Option { name, value, range: "between 0 and 1" });
            }
        }
        Ok(())
    }
}

/// Why no token could be drawn.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// An option outside its range.
    #[error("{name} is {value}: it must be {range}")]
    Option {
        /// Which option.
        name: &'static str,
        /// Its value.
        value: f32,
        /// What it may be.
        range: &'static str,
    },
    /// The model gave a logit that is no finite number.
    #[error("the logit of token {token} is {value}: training has probably diverged (lower the learning rate)")]
    NotFinite {
        /// The first such token.
        token: u32,
        /// `NaN` or an infinity.
        value: f32,
    },
    /// No logits at all.
    #[error("there are no logits to sample from")]
    Empty,
    /// The mask forbids every token.
    #[error("no token is allowed: the vocabulary has no token that the grammar can go on with")]
    NothingAllowed,
    /// The mask is for another vocabulary.
    #[error("the mask is for {mask} tokens, but there are {logits} logits")]
    MaskLength {
        /// Tokens in the mask.
        mask: usize,
        /// Logits in the row.
        logits: usize,
    },
}

/// The random numbers of one sequence. Three numbers are its whole state: keep them in a checkpoint and go on from there.
///
/// The i-th draw is words `2 i` and `2 i + 1` of the ChaCha8 stream number `sequence` under the key `seed` (little
/// endian, then zeros).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceRng {
    seed: u64,
    sequence: u64,
    draws: u64,
}

impl SequenceRng {
    /// The numbers of sequence `sequence` under `seed`. Sequences are independent; what numbers them is up to the caller
    /// (for example their index among all rollouts of a run).
    pub fn new(seed: u64, sequence: u64) -> Self {
        Self { seed, sequence, draws: 0 }
    }

    /// Draws made so far.
    pub fn draws(&self) -> u64 {
        self.draws
    }

    /// The next number, uniform in [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(self.sequence);
        rng.set_word_pos(2 * u128::from(self.draws));
        self.draws += 1;
        (rng.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }
}

/// A token and how probable it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled {
    /// Its id.
    pub token: u32,
    /// Natural logarithm of its probability under `softmax(logits / temperature)` over the whole vocabulary: without
    /// mask and truncation. At temperature 0: under `softmax(logits)`.
    pub logp: f32,
    /// As `logp`, but renormalised over the tokens that the mask allows (still without truncation). Equals `logp` where
    /// there is no mask.
    pub masked_logp: f32,
    /// Entropy in nats of the distribution that `logp` refers to.
    pub entropy: f32,
}

/// Draws tokens from rows of logits. Holds the options and buffers, nothing of a sequence: one sampler serves a batch.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplingOptions,
    /// Logits with `-inf` for what the mask forbids; only filled where there is a mask.
    masked: Vec<f32>,
    row: Row,
    candidates: Vec<Candidate>,
}

/// A token that is left after truncation.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: f32,
    /// Probability relative to the most probable token.
    weight: f32,
    token: u32,
}

impl Sampler {
    /// A sampler with these options.
    pub fn new(options: SamplingOptions) -> Result<Self, SampleError> {
        options.validate()?;
        Ok(Self { options, masked: Vec::new(), row: Row::default(), candidates: Vec::new() })
    }

    /// The options.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// Draws the next token of a sequence from its logits (one per token of the vocabulary), among the allowed ones.
    /// Takes one number from `rng`, or none when greedy.
    pub fn sample(
        &mut self,
        logits: &[f32],
        allowed: Option<&TokenMask>,
        rng: &mut SequenceRng,
    ) -> Result<Sampled, SampleError> {
        let (full, masked) = self.prepare(logits, allowed)?;
        let token = if self.options.is_greedy() {
            argmax(if allowed.is_some() { &self.masked } else { logits })
        } else {
            let uniform = rng.uniform();
            if self.truncate(logits, allowed.is_some(), masked.sum) {
                self.draw_candidate(uniform)
            } else {
                self.row.draw(uniform * masked.sum)
            }
        };
        let score = logits[token as usize];
        Ok(Sampled {
            token,
            logp: full.logp(score) as f32,
            masked_logp: masked.logp(score) as f32,
            entropy: full.entropy() as f32,
        })
    }

    /// The distribution that [`Sampler::sample`] draws from: tokens that can come with their probabilities, most
    /// probable first.
    pub fn distribution(
        &mut self,
        logits: &[f32],
        allowed: Option<&TokenMask>,
    ) -> Result<Vec<(u32, f64)>, SampleError> {
        let (_, masked) = self.prepare(logits, allowed)?;
        let scores = if allowed.is_some() { &self.masked } else { logits };
        if self.options.is_greedy() {
            return Ok(vec![(argmax(scores), 1.0)]);
        }
        if !self.truncate(logits, allowed.is_some(), masked.sum) {
            let scores = if allowed.is_some() { &self.masked } else { logits };
            self.candidates.clear();
            self.row.collect(scores, f32::NEG_INFINITY, 0.0, &mut self.candidates);
        }
        self.candidates.sort_unstable_by(most_probable_first);
        let total = total_weight(&self.candidates);
        Ok(self.candidates.iter().map(|kept| (kept.token, f64::from(kept.weight) / total)).collect())
    }

    /// Computes the weights that are drawn from; returns the statistics of the whole vocabulary and of the allowed part.
    fn prepare(&mut self, logits: &[f32], allowed: Option<&TokenMask>) -> Result<(Softmax, Softmax), SampleError> {
        if logits.is_empty() {
            return Err(SampleError::Empty);
        }
        check_finite(logits)?;
        // Greedy decoding reports the model's own distribution, and any positive temperature has the same largest token.
        let temperature = if self.options.is_greedy() { 1.0 } else { self.options.temperature };
        let full = self.row.softmax(logits, temperature);
        let Some(mask) = allowed else { return Ok((full, full)) };
        if mask.vocab_size() != logits.len() {
            return Err(SampleError::MaskLength { mask: mask.vocab_size(), logits: logits.len() });
        }
        if mask.words().iter().all(|&word| word == 0) {
            return Err(SampleError::NothingAllowed);
        }
        self.masked.clear();
        self.masked.resize(logits.len(), f32::NEG_INFINITY);
        for ((scores, logits), &word) in self.masked.chunks_mut(64).zip(logits.chunks(64)).zip(mask.words()) {
            match word {
                0 => {}
                u64::MAX => scores.copy_from_slice(logits),
                word => {
                    for (bit, (score, &logit)) in scores.iter_mut().zip(logits).enumerate() {
                        *score = if word >> bit & 1 == 1 { logit } else { f32::NEG_INFINITY };
                    }
                }
            }
        }
        // Again, because relative to the largest logit of all, those that are allowed may have vanished.
        let masked = self.row.softmax(&self.masked, temperature);
        Ok((full, masked))
    }

    /// Puts the tokens that survive truncation into `candidates`, in an order that does not depend on how they were
    /// found; false where nothing is to be truncated. `sum` is the weight of all.
    fn truncate(&mut self, logits: &[f32], is_masked: bool, sum: f64) -> bool {
        let SamplingOptions { top_k, top_p, min_p, .. } = self.options;
        let scores = if is_masked { &self.masked } else { logits };
        let top_k = if (1..scores.len()).contains(&(top_k as usize)) { Some(top_k as usize) } else { None };
        if top_k.is_none() && top_p >= 1.0 && min_p <= 0.0 {
            return false;
        }
        let candidates = &mut self.candidates;
        candidates.clear();

        // Most tokens are far from being kept; do not even collect those.
        let (mut least_score, mut least_weight) = (f32::NEG_INFINITY, 0.0);
        if let Some(top_k) = top_k {
            least_score = self.row.least_of_top(top_k);
        } else {
            // All tokens that weigh this or less sum to 1 - top_p at most. A little less, for the rounding of sums.
            let outside = (1.0 - f64::from(top_p)) * sum / scores.len() as f64 * 0.999;
            least_weight = min_p.max(outside as f32);
        }
        self.row.collect(scores, least_score, least_weight, candidates);

        let mut total = sum;
        if let Some(top_k) = top_k {
            if candidates.len() > top_k {
                let (_, kth, _) = candidates.select_nth_unstable_by(top_k - 1, most_probable_first);
                let least = kth.score;
                candidates.retain(|kept| kept.score >= least);
            }
            candidates.sort_unstable_by(most_probable_first);
            total = total_weight(candidates);
        }
        if top_p < 1.0 {
            keep_nucleus(candidates, f64::from(top_p) * total);
        }
        // The most probable token weighs 1.
        candidates.retain(|kept| kept.weight >= min_p);
        true
    }

    fn draw_candidate(&self, uniform: f64) -> u32 {
        let target = uniform * total_weight(&self.candidates);
        let mut reached = 0.0;
        let crossing = self.candidates.iter().find(|kept| {
            reached += f64::from(kept.weight);
            reached > target
        });
        crossing.or(self.candidates.last()).expect("the most probable token always stays").token
    }
}

fn total_weight(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|kept| f64::from(kept.weight)).sum()
}

fn most_probable_first(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.score.total_cmp(&a.score).then(a.token.cmp(&b.token))
}

/// Keeps, in descending order, the tokens before which there is less than `mass`; at least one.
fn keep_nucleus(candidates: &mut Vec<Candidate>, mass: f64) {
    // Sorts only as far as needed: mostly, few tokens hold the mass.
    let (mut sorted, mut step) = (0, 64);
    let mut before = 0.0;
    while sorted < candidates.len() {
        let rest = &mut candidates[sorted..];
        let count = step.min(rest.len());
        if count < rest.len() {
            rest.select_nth_unstable_by(count - 1, most_probable_first);
        }
        rest[..count].sort_unstable_by(most_probable_first);
        for (index, kept) in rest[..count].iter().enumerate() {
            if before >= mass && sorted + index > 0 {
                candidates.truncate(sorted + index);
                return;
            }
            before += f64::from(kept.weight);
        }
        sorted += count;
        step *= 4;
    }
}

fn argmax(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (index, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = index;
        }
    }
    best as u32
}

fn check_finite(logits: &[f32]) -> Result<(), SampleError> {
    // The exponent's bits are all set in what is not finite; a maximum of integers is quick.
    let largest = logits.iter().fold(0, |largest, logit| largest.max(logit.to_bits() & 0x7fff_ffff));
    if f32::from_bits(largest).is_finite() {
        return Ok(());
    }
    let token = logits.iter().position(|logit| !logit.is_finite()).expect("there is one");
    Err(SampleError::NotFinite { token: token as u32, value: logits[token] })
}

/// What is known of a softmax without its terms.
#[derive(Clone, Copy, Debug)]
struct Softmax {
    temperature: f64,
    max: f32,
    /// Sum of the weights `exp((logit - max) / temperature)`.
    sum: f64,
    /// Sum of weight times `(logit - max) / temperature`.
    weighted: f64,
}

impl Softmax {
    fn logp(&self, score: f32) -> f64 {
        (f64::from(score) - f64::from(self.max)) / self.temperature - self.sum.ln()
    }

    fn entropy(&self) -> f64 {
        // -Σ p ln p with ln p = exponent - ln(sum). Rounding must not make it negative.
        (self.sum.ln() - self.weighted / self.sum).max(0.0)
    }
}

/// Elements that are summed in single precision before they go into a double: short, so that nothing is lost.
const BLOCK: usize = 256;
const LANES: usize = 16;

/// Exponentials of one row, with sums per block of [`BLOCK`].
#[derive(Clone, Debug, Default)]
struct Row {
    weights: Vec<f32>,
    block_sums: Vec<f64>,
    block_maxima: Vec<f32>,
    /// For selecting among the block maxima.
    scratch: Vec<f32>,
}

impl Row {
    /// Fills the weights `exp((score - max) / temperature)`; scores are finite or `-inf`, at least one is finite.
    fn softmax(&mut self, scores: &[f32], temperature: f32) -> Softmax {
        self.block_maxima.clear();
        self.block_maxima.extend(scores.chunks(BLOCK).map(block_max));
        let max = self.block_maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // Every weight is written below.
        self.weights.resize(scores.len(), 0.0);
        self.block_sums.clear();
        let (mut sum, mut weighted) = (0.0, 0.0);
        for (scores, weights) in scores.chunks(BLOCK).zip(self.weights.chunks_mut(BLOCK)) {
            let (block_sum, block_weighted) = block_exp(scores, weights, max, temperature);
            self.block_sums.push(block_sum);
            sum += block_sum;
            weighted += block_weighted;
        }
        Softmax { temperature: f64::from(temperature), max, sum, weighted }
    }

    /// A score that at least `count` tokens reach; `-inf` if the block maxima cannot tell.
    fn least_of_top(&mut self, count: usize) -> f32 {
        if count > self.block_maxima.len() {
            return f32::NEG_INFINITY;
        }
        self.scratch.clone_from(&self.block_maxima);
        *self.scratch.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1
    }

    /// Appends the tokens with at least this score and weight, by id. Those whose weight vanished are left out.
    fn collect(&self, scores: &[f32], least_score: f32, least_weight: f32, candidates: &mut Vec<Candidate>) {
        let blocks = scores.chunks(BLOCK).zip(self.weights.chunks(BLOCK)).zip(&self.block_maxima);
        for (block, ((scores, weights), &max)) in blocks.enumerate() {
            if max < least_score {
                continue;
            }
            for (index, (&score, &weight)) in scores.iter().zip(weights).enumerate() {
                if score >= least_score && weight >= least_weight && weight > 0.0 {
                    candidates.push(Candidate { score, weight, token: (block * BLOCK + index) as u32 });
                }
            }
        }
    }

    /// The token at which the running sum of weights first exceeds `target`, which is less than their sum.
    fn draw(&self, target: f64) -> u32 {
        let mut reached = 0.0;
        // Where rounding leaves the target just out of reach, the last token with any weight is meant.
        let mut last = 0;
        for ((block, weights), &sum) in self.weights.chunks(BLOCK).enumerate().zip(&self.block_sums) {
            if sum <= 0.0 {
                continue;
            }
            let before = reached;
            reached += sum;
            let is_here = reached > target;
            let mut within = before;
            for (index, &weight) in weights.iter().enumerate() {
                if weight > 0.0 {
                    last = (block * BLOCK + index) as u32;
                    within += f64::from(weight);
                    if is_here && within > target {
                        return last;
                    }
                }
            }
            if is_here {
                return last;
            }
        }
        last
    }
}

fn block_max(scores: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &score) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, score);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

/// Weights of one block; their sum, and the sum of each times its exponent.
fn block_exp(scores: &[f32], weights: &mut [f32], max: f32, temperature: f32) -> (f64, f64) {
    let mut sums = [0.0_f32; LANES];
    let mut weighted = [0.0_f32; LANES];
    for (scores, weights) in scores.chunks(LANES).zip(weights.chunks_mut(LANES)) {
        // As a slice of known length, the loop becomes vector code.
        if let (Ok(scores), Ok(weights)) =
            (<&[f32; LANES]>::try_from(scores), <&mut [f32; LANES]>::try_from(&mut *weights))
        {
            for lane in 0..LANES {
                let (exponent, weight) = exp_of_negative((scores[lane] - max) / temperature);
                weights[lane] = weight;
                sums[lane] += weight;
                weighted[lane] += weight * exponent;
            }
        } else {
            for (lane, (score, weight)) in scores.iter().zip(weights).enumerate() {
                let (exponent, value) = exp_of_negative((score - max) / temperature);
                *weight = value;
                sums[lane] += value;
                weighted[lane] += value * exponent;
            }
        }
    }
    let total = |lanes: [f32; LANES]| lanes.iter().map(|&lane| f64::from(lane)).sum();
    (total(sums), total(weighted))
}

/// Below this, `exp` leaves the normal single precision numbers: taken as 0.
const LEAST_EXPONENT: f32 = -87.0;

/// `exp(exponent)` for an exponent of 0 or less, exact to about one unit in the last place, and 0 below -87. Also gives
/// the exponent, at least -87, so that multiplying the two is never `0 × inf`.
///
/// The method is that of Cephes' `expf`: `exp(x) = 2ⁿ exp(r)` with `|r| ≤ ln(2) / 2` and a polynomial for `exp(r)`. No
/// branches and no library function: compilers make vector code of it, and every target computes the same bits.
#[inline]
#[allow(clippy::excessive_precision, reason = "the constants as published")]
fn exp_of_negative(exponent: f32) -> (f32, f32) {
    const LN_2_HIGH: f32 = 0.693359375;
    const LN_2_LOW: f32 = -2.12194440e-4;
    /// Adding it rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = if exponent > LEAST_EXPONENT { exponent } else { LEAST_EXPONENT };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.9875691500e-4;
    p = p * r + 1.3981999507e-3;
    p = p * r + 8.3334519073e-3;
    p = p * r + 4.1665795894e-2;
    p = p * r + 1.6666665459e-1;
    p = p * r + 5.0000001201e-1;
    p = p * r * r + r + 1.0;
    // The low bits of `shifted` hold n; moved into the exponent's place they are the power of two.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    let value = p * power;
    (x, if exponent > LEAST_EXPONENT { value } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::rand_core::RngCore;

    use super::*;

    /// The rules of the module's text, literally and slowly, in double precision.
    fn reference(logits: &[f32], allowed: Option<&TokenMask>, options: &SamplingOptions) -> Vec<(u32, f64)> {
        let mut scored: Vec<(u32, f64)> = (0_u32..)
            .zip(logits)
            .filter(|(token, _)| allowed.is_none_or(|mask| mask.is_allowed(*token)))
            .map(|(token, &logit)| (token, f64::from(logit) / f64::from(options.temperature)))
            .collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if let Some(&(_, kth)) = scored.get((options.top_k as usize).wrapping_sub(1)) {
            scored.retain(|&(_, score)| score >= kth);
        }
        let largest = scored[0].1;
        for (_, score) in &mut scored {
            *score = (*score - largest).exp();
        }
        let total: f64 = scored.iter().map(|(_, weight)| weight).sum();
        if options.top_p < 1.0 {
            let mut before = 0.0;
            let kept = scored.iter().take_while(|(_, weight)| {
                let stays = before < f64::from(options.top_p) * total;
                before += weight;
                stays
            });
            let count = kept.count().max(1);
            scored.truncate(count);
        }
        scored.retain(|&(_, weight)| weight >= f64::from(options.min_p) && weight > f64::from(LEAST_EXPONENT).exp());
        let total: f64 = scored.iter().map(|(_, weight)| weight).sum();
        scored.iter().map(|&(token, weight)| (token, weight / total)).collect()
    }

    fn random_logits(seed: u64, count: usize, spread: f64) -> Vec<f32> {
        let mut rng = SequenceRng::new(seed, 7);
        (0..count).map(|_| ((rng.uniform() + rng.uniform() + rng.uniform() - 1.5) * spread) as f32).collect()
    }

    fn sampler(options: SamplingOptions) -> Sampler {
        Sampler::new(options).unwrap()
    }

    #[test]
    fn exponentials_are_exact() {
        assert_eq!(exp_of_negative(0.0), (0.0, 1.0));
        assert_eq!(exp_of_negative(f32::NEG_INFINITY), (LEAST_EXPONENT, 0.0));
        for step in 0..200_000 {
            let x = -86.99 * step as f32 / 200_000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp_of_negative(x).1) - exact).abs() / exact;
            assert!(error < 1.6e-7, "exp({x}) is off by {error}");
        }
    }

    #[test]
    fn reports_the_unmasked_distribution() {
        // softmax([1, 2, 3, 4] / 2), by hand: weights e^-1.5, e^-1, e^-0.5, 1.
        let weights = [-1.5_f64, -1.0, -0.5, 0.0].map(f64::exp);
        let sum: f64 = weights.iter().sum();
        let entropy = -weights.iter().map(|weight| weight / sum * (weight / sum).ln()).sum::<f64>();
        let mut mask = TokenMask::none(4);
        mask.allow(0);
        mask.allow(2);
        let options = SamplingOptions { temperature: 2.0, top_k: 1, ..SamplingOptions::default() };
        let sampled = sampler(options).sample(&[1.0, 2.0, 3.0, 4.0], Some(&mask), &mut SequenceRng::new(1, 0)).unwrap();
        assert_eq!(sampled.token, 2);
        assert!((f64::from(sampled.logp) - (weights[2] / sum).ln()).abs() < 1e-6);
        assert!((f64::from(sampled.masked_logp) - (weights[2] / (weights[0] + weights[2])).ln()).abs() < 1e-6);
        assert!((f64::from(sampled.entropy) - entropy).abs() < 1e-6);
    }

    #[test]
    fn greedy_takes_the_largest_and_on_ties_the_lowest_id() {
        let mut greedy = sampler(SamplingOptions::greedy());
        let mut rng = SequenceRng::new(1, 0);
        let mut logits = vec![0.5; 700];
        logits[300] = 2.0;
        logits[600] = 2.0;
        let sampled = greedy.sample(&logits, None, &mut rng).unwrap();
        assert_eq!(sampled.token, 300);
        assert_eq!(rng.draws(), 0);
        // Temperature 1 is what its probability refers to.
        let expected = 2.0 - (2.0 * 2.0_f64.exp() + 698.0 * 0.5_f64.exp()).ln();
        assert!((f64::from(sampled.logp) - expected).abs() < 1e-6);
        let mut mask = TokenMask::all(700);
        mask = mask.tokens().filter(|&token| token != 300).fold(TokenMask::none(700), |mut mask, token| {
            mask.allow(token);
            mask
        });
        assert_eq!(greedy.sample(&logits, Some(&mask), &mut rng).unwrap().token, 600);
        assert_eq!(greedy.distribution(&logits, None).unwrap(), [(300, 1.0)]);
    }

    #[test]
    fn mistakes_are_typed() {
        let mut rng = SequenceRng::new(1, 0);
        let mut plain = sampler(SamplingOptions::default());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = plain.sample(&[0.0, bad, 1.0], None, &mut rng).unwrap_err();
            assert!(matches!(error, SampleError::NotFinite { token: 1, .. }), "{error}");
        }
        assert_eq!(plain.sample(&[], None, &mut rng), Err(SampleError::Empty));
        assert_eq!(plain.sample(&[0.0], Some(&TokenMask::none(1)), &mut rng), Err(SampleError::NothingAllowed));
        assert_eq!(
            plain.sample(&[0.0], Some(&TokenMask::all(2)), &mut rng),
            Err(SampleError::MaskLength { mask: 2, logits: 1 })
        );
        assert_eq!(rng.draws(), 0);
        for options in [
            SamplingOptions { temperature: -1.0, ..SamplingOptions::default() },
            SamplingOptions { temperature: f32::NAN, ..SamplingOptions::default() },
            SamplingOptions { top_p: 1.5, ..SamplingOptions::default() },
            SamplingOptions { min_p: -0.1, ..SamplingOptions::default() },
        ] {
            assert!(matches!(Sampler::new(options), Err(SampleError::Option { .. })));
        }
    }

    #[test]
    fn the_nucleus_keeps_the_token_that_crosses() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let logits = [8.0_f32, 4.0, 2.0, 2.0].map(f32::ln);
        let kept = |top_p| {
            let options = SamplingOptions { top_p, ..SamplingOptions::default() };
            let kept = sampler(options).distribution(&logits, None).unwrap();
            kept.into_iter().map(|(token, _)| token).collect::<Vec<_>>()
        };
        assert_eq!(kept(0.0), [0]);
        assert_eq!(kept(0.49), [0]);
        assert_eq!(kept(0.51), [0, 1]);
        assert_eq!(kept(0.76), [0, 1, 2]);
        assert_eq!(kept(0.99), [0, 1, 2, 3]);
        assert_eq!(kept(1.0), [0, 1, 2, 3]);
    }

    #[test]
    fn ties_with_the_kth_token_stay() {
        let options = SamplingOptions { top_k: 2, ..SamplingOptions::default() };
        let kept = sampler(options).distribution(&[1.0, 3.0, 1.0, 1.0, 0.0], None).unwrap();
        assert_eq!(kept.iter().map(|kept| kept.0).collect::<Vec<_>>(), [1, 0, 2, 3]);
    }

    /// Pearson's statistic over the tokens that are expected at least 5 times, and their number.
    fn chi_square(options: SamplingOptions, logits: &[f32], allowed: Option<&TokenMask>) -> (f64, usize) {
        const DRAWS: u64 = 20_000;
        let mut sampler = sampler(options);
        let mut counts = vec![0_u32; logits.len()];
        for sequence in 0..DRAWS {
            let mut rng = SequenceRng::new(42, sequence);
            counts[sampler.sample(logits, allowed, &mut rng).unwrap().token as usize] += 1;
        }
        let expected = reference(logits, allowed, &options);
        let cells: Vec<_> = expected.iter().filter(|(_, p)| p * DRAWS as f64 >= 5.0).collect();
        let statistic = cells
            .iter()
            .map(|&&(token, p)| {
                let expected = p * DRAWS as f64;
                (f64::from(counts[token as usize]) - expected).powi(2) / expected
            })
            .sum();
        (statistic, cells.len())
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits = random_logits(3, 300, 6.0);
        let mut mask = TokenMask::none(300);
        (0..300).step_by(7).for_each(|token| mask.allow(token));
        let plain = SamplingOptions::default();
        for (options, allowed) in [
            (plain, None),
            (SamplingOptions { temperature: 0.5, ..plain }, None),
            (SamplingOptions { top_k: 20, ..plain }, None),
            (SamplingOptions { top_p: 0.7, ..plain }, None),
            (SamplingOptions { min_p: 0.2, ..plain }, None),
            (plain, Some(&mask)),
            (SamplingOptions { temperature: 1.3, top_k: 30, top_p: 0.9, min_p: 0.02 }, Some(&mask)),
        ] {
            let (statistic, cells) = chi_square(options, &logits, allowed);
            // Mean `cells`, standard deviation √(2 cells): five of them never happen by chance.
            let bound = cells as f64 + 5.0 * (2.0 * cells as f64).sqrt();
            assert!(cells > 2 && statistic < bound, "{options:?}: χ² {statistic:.0} for {cells} tokens");
        }
    }

    #[test]
    fn a_sequence_does_not_depend_on_its_batch() {
        let rows: Vec<_> = (0..30).map(|seed| random_logits(seed, 500, 8.0)).collect();
        let mut shared = sampler(SamplingOptions { top_p: 0.9, ..SamplingOptions::default() });
        let alone: Vec<Vec<u32>> = (0..4)
            .map(|sequence| {
                let mut rng = SequenceRng::new(5, sequence);
                let mut own = sampler(*shared.options());
                rows.iter().map(|row| own.sample(row, None, &mut rng).unwrap().token).collect()
            })
            .collect();
        let mut rngs: Vec<_> = (0..4).map(|sequence| SequenceRng::new(5, sequence)).collect();
        let mut together = vec![Vec::new(); 4];
        for (step, row) in rows.iter().enumerate() {
            for offset in 0..4 {
                let sequence = (step + offset) % 4;
                // A copy that went through a checkpoint goes on in the same way.
                let kept = serde_json::to_string(&rngs[sequence]).unwrap();
                rngs[sequence] = serde_json::from_str(&kept).unwrap();
                together[sequence].push(shared.sample(row, None, &mut rngs[sequence]).unwrap().token);
            }
        }
        assert_eq!(alone, together);
        assert!(alone[0] != alone[1] && alone[1] != alone[2]);
    }

    /// The numbers themselves are part of the contract: a run's tokens must not change with a release.
    #[test]
    fn random_numbers_are_fixed() {
        let mut rng = SequenceRng::new(42, 3);
        let drawn: Vec<_> = (0..3).map(|_| (rng.uniform() * 1e9) as u64).collect();
        // The same words read straight from ChaCha8.
        let mut key = [0; 32];
        key[0] = 42;
        let mut stream = ChaCha8Rng::from_seed(key);
        stream.set_stream(3);
        let expected: Vec<_> =
            (0..3).map(|_| ((stream.next_u64() >> 11) as f64 / 2_f64.powi(53) * 1e9) as u64).collect();
        assert_eq!(drawn, expected);
        assert_eq!(drawn, [456_762_128, 671_962_289, 871_822_051]);
    }

    #[test]
    fn extreme_logits_are_no_trouble() {
        let mut rng = SequenceRng::new(1, 1);
        let logits = [f32::MAX, f32::MIN, 0.0];
        for temperature in [f32::MIN_POSITIVE, 1e-20, 1.0, 1e30] {
            let mut hot = sampler(SamplingOptions { temperature, ..SamplingOptions::default() });
            let sampled = hot.sample(&logits, None, &mut rng).unwrap();
            assert_eq!((sampled.token, sampled.logp, sampled.entropy), (0, 0.0, 0.0));
        }
        // What is allowed has a vanishing share: it is drawn all the same.
        let mut mask = TokenMask::none(3);
        mask.allow(1);
        let mut plain = sampler(SamplingOptions { top_p: 0.5, ..SamplingOptions::default() });
        let sampled = plain.sample(&[500.0, -500.0, 0.0], Some(&mask), &mut rng).unwrap();
        assert_eq!((sampled.token, sampled.logp, sampled.masked_logp), (1, -1000.0, 0.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn tokens_lie_in_the_truncated_set(
            seed in any::<u64>(),
            vocab_size in 1_usize..1200,
            spread in 0.0..20.0_f64,
            temperature in 0.3..3.0_f32,
            top_k in prop_oneof![Just(0_u32), 1..80_u32],
            top_p in prop_oneof![Just(1.0_f32), 0.0..1.0_f32],
            min_p in prop_oneof![Just(0.0_f32), 0.0..1.0_f32],
            every in 0..5_usize,
        ) {
            // Coarse values, so that there are ties.
            let logits: Vec<_> =
                random_logits(seed, vocab_size, spread).iter().map(|logit| (logit * 8.0).round() / 8.0).collect();
            let mask = (every > 0).then(|| {
                let mut mask = TokenMask::none(vocab_size);
                (0..vocab_size as u32).step_by(every).for_each(|token| mask.allow(token));
                mask
            });
            let options = SamplingOptions { temperature, top_k, top_p, min_p };
            let mut sampler = sampler(options);
            let kept = sampler.distribution(&logits, mask.as_ref()).unwrap();
            let expected = reference(&logits, mask.as_ref(), &options);
            // Rounding decides about a token at the very edge; here and there one more or less.
            prop_assert!(kept.len().abs_diff(expected.len()) <= 1, "{} kept, not {}", kept.len(), expected.len());
            for ((token, p), (expected_token, expected_p)) in kept.iter().zip(&expected) {
                prop_assert_eq!(token, expected_token);
                if kept.len() == expected.len() {
                    prop_assert!((p - expected_p).abs() < 1e-5);
                }
            }
            let mut rng = SequenceRng::new(seed, 1);
            for _ in 0..20 {
                let sampled = sampler.sample(&logits, mask.as_ref(), &mut rng).unwrap();
                prop_assert!(kept.iter().any(|&(token, _)| token == sampled.token));
                prop_assert!(sampled.logp <= sampled.masked_logp && sampled.masked_logp <= 0.0);
                prop_assert!((0.0..=(vocab_size as f32).ln() + 1e-3).contains(&sampled.entropy));
            }
        }
    }
}
