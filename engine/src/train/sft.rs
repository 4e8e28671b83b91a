//! Supervised fine-tuning: `L = -1/N Σ log π(token | what came before)` over the `N` tokens that carry loss.

use indexmap::IndexMap;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::TrainError;
use super::batch::{Batch, Sequence};
use super::optimizer::AdamWOptions;
use super::policy::{Policy, token_logps};
use super::schedule::Schedule;
use crate::model::Transformer;
use crate::platform;

/// How to fine-tune.
#[derive(Clone, Debug, PartialEq)]
pub struct SftOptions {
    /// Sequences that the model reads at once.
    pub batch_size: usize,
    /// Fill each pass up to this many tokens instead, with as many sequences as fit. Nothing is padded in either case.
    pub packed_tokens: Option<usize>,
    /// Passes whose gradients are added up before an update.
    pub gradient_accumulation_steps: usize,
    /// Draw the order of the data anew for each epoch.
    pub shuffle: bool,
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Constants of AdamW.
    pub optimizer: AdamWOptions,
    /// Decides the order of the data.
    pub seed: u64,
    /// Compute cheap operators again instead of keeping their results.
    pub gradient_checkpointing: bool,
}

/// Trains on given sequences.
pub struct SftTrainer {
    policy: Policy,
    options: SftOptions,
    data: Vec<Sequence>,
    passes: Passes,
    /// Steps made.
    step: u64,
    /// Tokens read so far, those of all steps.
    num_tokens: u64,
}

/// What a held-out set says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss of a token, in nats.
    pub loss: f64,
    /// Tokens that it is the mean of.
    pub tokens: usize,
}

impl SftTrainer {
    /// Starts at step 0. Sequences without a token that carries loss are left out.
    pub fn new(model: &Transformer, data: Vec<Sequence>, options: SftOptions) -> Result<Self, TrainError> {
        let policy = Policy::new(model, options.optimizer, options.gradient_checkpointing);
        Self::resume(policy, data, options, 0, 0)
    }

    /// Goes on behind `step` steps.
    pub fn resume(
        policy: Policy,
        mut data: Vec<Sequence>,
        options: SftOptions,
        step: u64,
        num_tokens: u64,
    ) -> Result<Self, TrainError> {
        data.retain(|sequence| sequence.loss_tokens() > 0);
        if data.is_empty() {
            return Err(TrainError::NoData);
        }
        let limit = policy.model().config.max_position_embeddings;
        if let Some(longest) = data.iter().map(Sequence::len).max().filter(|longest| *longest > limit) {
            return Err(TrainError::SequenceTooLong { longest, limit });
        }
        let passes = Passes::new(&options, &data);
        Ok(Self { policy, options, data, passes, step, num_tokens })
    }

    /// The model and its optimizer.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Steps made.
    pub fn step_number(&self) -> u64 {
        self.step
    }

    /// Tokens read so far.
    pub fn num_tokens(&self) -> u64 {
        self.num_tokens
    }

    /// One update. Returns its metrics under TRL's names. Yields between passes.
    ///
    /// The order of the data is a new permutation for each epoch, drawn from the seed and the epoch's number, so what a step
    /// learns from depends on its number alone.
    pub async fn step(&mut self) -> Result<IndexMap<String, f64>, TrainError> {
        let begun = platform::now();
        let accumulated = self.options.gradient_accumulation_steps.max(1) as u64;
        let first = self.step * accumulated;
        let passes: Vec<Vec<usize>> =
            (first..first + accumulated).map(|pass| self.passes.get(pass, &self.data).to_vec()).collect();
        let targets: usize = passes.iter().flatten().map(|&index| self.data[index].loss_tokens()).sum();
        let mut read = 0;
        let mut sums = Vec::new();
        for pass in &passes {
            let sequences: Vec<&Sequence> = pass.iter().map(|&index| &self.data[index]).collect();
            let batch = Batch::new(&sequences);
            let logps = self.policy.token_logps(&batch, 1.0);
            let loss = logps.logps.sum().neg().div_scalar(targets as f32);
            sums.push(loss.clone().detach().inner());
            sums.push(logps.entropy.sum().detach().inner());
            self.policy.backward(&loss);
            read += batch.tokens.len();
            platform::yield_now().await;
        }
        let sums: Vec<f64> = read_all(sums).await?;
        let loss: f64 = sums.iter().step_by(2).sum();
        if !loss.is_finite() {
            self.policy.discard_gradients();
            return Err(TrainError::Diverged { step: self.step + 1, loss });
        }
        let learning_rate = self.options.schedule.learning_rate(self.step);
        let grad_norm = self.policy.update(learning_rate).await;
        self.step += 1;
        self.num_tokens += read as u64;
        let seconds = platform::now() - begun;
        Ok([
            ("loss", loss),
            ("entropy", sums.iter().skip(1).step_by(2).sum::<f64>() / targets as f64),
            ("grad_norm", grad_norm),
            ("learning_rate", learning_rate),
            ("epoch", self.passes.epoch_after(self.step * accumulated)),
            ("num_tokens", self.num_tokens as f64),
            ("step_time", seconds),
            ("tokens_per_second", read as f64 / seconds.max(1e-9)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into())
    }

    /// Mean loss on sequences that it was not trained on.
    pub async fn evaluate(&self, sequences: &[Sequence]) -> Result<Evaluation, TrainError> {
        evaluate(&self.policy.inference(), sequences, self.options.batch_size).await
    }
}

/// Mean loss of a model (without autodiff) on sequences, `batch_size` of them at once. Yields between passes.
pub async fn evaluate(
    model: &Transformer,
    sequences: &[Sequence],
    batch_size: usize,
) -> Result<Evaluation, TrainError> {
    let sequences: Vec<&Sequence> = sequences.iter().filter(|sequence| sequence.loss_tokens() > 0).collect();
    let mut sums = Vec::new();
    let mut tokens = 0;
    for pass in sequences.chunks(batch_size.max(1)) {
        let batch = Batch::new(pass);
        sums.push(token_logps(model, &batch, 1.0).logps.sum());
        tokens += batch.targets.len();
        platform::yield_now().await;
    }
    if tokens == 0 {
        return Err(TrainError::NoData);
    }
    let sum: f64 = read_all(sums).await?.iter().sum();
    Ok(Evaluation { loss: -sum / tokens as f64, tokens })
}

/// Which sequences each pass reads: the epochs' passes, one after the other.
struct Passes {
    batch_size: usize,
    packed_tokens: Option<usize>,
    seed: Option<u64>,
    epoch: u64,
    /// Number of the epoch's first pass.
    first: u64,
    /// The epoch's passes.
    passes: Vec<Vec<usize>>,
}

impl Passes {
    fn new(options: &SftOptions, data: &[Sequence]) -> Self {
        let (batch_size, packed_tokens) = (options.batch_size.max(1), options.packed_tokens);
        let seed = options.shuffle.then_some(options.seed);
        let mut passes = Self { batch_size, packed_tokens, seed, epoch: 0, first: 0, passes: Vec::new() };
        passes.passes = passes.of_epoch(data);
        passes
    }

    /// Passes only go forward.
    fn get(&mut self, pass: u64, data: &[Sequence]) -> &[usize] {
        assert!(pass >= self.first, "passes only go forward");
        while pass - self.first >= self.passes.len() as u64 {
            self.first += self.passes.len() as u64;
            self.epoch += 1;
            self.passes = self.of_epoch(data);
        }
        &self.passes[(pass - self.first) as usize]
    }

    /// Epochs that `passes` passes are.
    fn epoch_after(&self, passes: u64) -> f64 {
        self.epoch as f64 + (passes - self.first) as f64 / self.passes.len() as f64
    }

    fn of_epoch(&self, data: &[Sequence]) -> Vec<Vec<usize>> {
        let order = match self.seed {
            Some(seed) => permutation(data.len(), seed, self.epoch),
            None => (0..data.len()).collect(),
        };
        let Some(room) = self.packed_tokens else {
            return order.chunks(self.batch_size).map(<[usize]>::to_vec).collect();
        };
        let mut passes: Vec<Vec<usize>> = Vec::new();
        let mut tokens = 0;
        for index in order {
            let len = data[index].len();
            match passes.last_mut() {
                Some(pass) if tokens + len <= room => {
                    pass.push(index);
                    tokens += len;
                }
                _ => {
                    passes.push(vec![index]);
                    tokens = len;
                }
            }
        }
        passes
    }
}

/// Reads scalars from the device at once.
pub(super) async fn read_all(scalars: Vec<burn::tensor::Tensor<1>>) -> Result<Vec<f64>, TrainError> {
    let data = burn::tensor::Tensor::cat(scalars, 0).into_data_async().await;
    Ok(data.map_err(|error| TrainError::Device(format!("{error:?}")))?.iter::<f64>().collect())
}

/// `0..count` in an order that the seed and the epoch decide (Fisher and Yates).
pub(super) fn permutation(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        // The bias of a remainder is below 2⁻³² for any data that fits into memory.
        order.swap(last, (random.next_u64() % (last as u64 + 1)) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_passes_hold_every_sequence_once_and_what_fits() {
        let data: Vec<Sequence> = (1..=9).map(|len| Sequence::new(vec![0], vec![1; len])).collect();
        let options = crate::train::tests::sft_options(1);
        let mut passes = Passes::new(&SftOptions { packed_tokens: Some(15), ..options }, &data);
        for epoch in 0..3 {
            let (first, count) = (passes.first, passes.passes.len() as u64);
            assert!(passes.passes.iter().all(|pass| pass.iter().map(|&i| data[i].len()).sum::<usize>() <= 15));
            let mut all = passes.passes.concat();
            all.sort_unstable();
            assert_eq!(all, (0..9).collect::<Vec<_>>());
            assert_eq!(passes.epoch_after(first + count), (epoch + 1) as f64);
            passes.get(first + count, &data);
        }
    }

    #[test]
    fn epochs_have_orders_of_their_own() {
        let (first, second) = (permutation(20, 1, 0), permutation(20, 1, 1));
        assert_ne!(first, second);
        assert_eq!(first, permutation(20, 1, 0));
        let mut sorted = second;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
    }
}
