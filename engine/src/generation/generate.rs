//! Batched decoding, a token per step for every sequence that is not finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Tensor;

use super::sampler::{SampleError, Sampler, SamplingOptions, SequenceRng};
use super::{Constraint, TokenMask};
use crate::model::{KvCache, Transformer};
use crate::platform;

/// A prompt and the sequences that continue it. The prompt is computed once.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Token ids of the prompt; at least one.
    pub prompt: Vec<u32>,
    /// A number for each sequence. Together with [`GenerationOptions::seed`] it decides the random numbers that the
    /// sequence gets: same number, same tokens, whatever else is in the batch.
    pub sequences: Vec<u64>,
}

/// How to generate.
#[derive(Clone)]
pub struct GenerationOptions {
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// At most that many tokens a sequence, the stop token included.
    pub max_new_tokens: usize,
    /// Tokens that end a sequence. They are part of the completion: the model chose to stop.
    pub stop_tokens: Vec<u32>,
    /// Of all random numbers.
    pub seed: u64,
    /// Makes the constraint of each sequence (a grammar of function calls, say). Default: none.
    pub constraint: Option<Arc<dyn Fn() -> Box<dyn Constraint> + Send + Sync>>,
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token.
    Stop,
    /// `max_new_tokens` were generated.
    Length,
    /// Somebody cancelled.
    Cancelled,
}

/// What a model wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Sampled tokens, the stop token included.
    pub tokens: Vec<u32>,
    /// Of each token, its log-probability under `softmax(logits / temperature)`, in nats: TRL's `per_token_logps`.
    pub per_token_logps: Vec<f32>,
    /// Of each token, the entropy in nats of the distribution it was drawn from (before top-k, top-p, min-p and masks).
    pub entropy: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// Why nothing was generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// A prompt without tokens.
    #[error("prompt {index} is empty: start it with a token, such as the one that begins a text.")]
    EmptyPrompt {
        /// Which of the prompts.
        index: usize,
    },
    /// Prompt and completion do not fit.
    #[error(
        "prompt {index} has {prompt} tokens; with {new} new ones that is more than the model's {limit} positions. Shorten the prompt or lower max_new_tokens."
    )]
    TooLong {
        /// Which of the prompts.
        index: usize,
        /// Its tokens.
        prompt: usize,
        /// `max_new_tokens`.
        new: usize,
        /// `max_position_embeddings`.
        limit: usize,
    },
    /// No token could be drawn.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The device failed.
    #[error("the device could not be read: {0}. Try `--device flex`.")]
    Device(String),
}

/// Tells a generation in progress to stop. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Stops what watches it before its next token.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was told to.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A token that a step added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NewToken {
    /// Index of its group.
    pub group: usize,
    /// Index of its sequence in the group.
    pub sequence: usize,
    /// The token.
    pub token: u32,
    /// Its log-probability.
    pub logp: f32,
    /// Entropy where it was drawn.
    pub entropy: f32,
    /// Set with the sequence's last token.
    pub finish_reason: Option<FinishReason>,
}

/// A batch being generated. [`step`](Self::step) is the unit: between two of them the caller may draw, pause or stop.
pub struct Generation<'m> {
    model: &'m Transformer,
    options: GenerationOptions,
    sampler: Sampler,
    sequences: Vec<Sequence>,
    /// Sequences in the cache, by row; finished ones stay until enough of them are there to make compacting pay.
    rows: Vec<usize>,
    cache: KvCache,
    /// What the next tokens are drawn from, and of each row, the row in it.
    logits: Tensor<2>,
    logits_row: Vec<usize>,
    groups: usize,
}

/// A sequence being generated.
struct Sequence {
    group: usize,
    index: usize,
    random: SequenceRng,
    constraint: Option<Box<dyn Constraint>>,
    tokens: Vec<u32>,
    per_token_logps: Vec<f32>,
    entropy: Vec<f32>,
    finish_reason: Option<FinishReason>,
}

impl<'m> Generation<'m> {
    /// Reads the prompts. The model must be without autodiff ([`valid`](burn::module::Module::valid)).
    pub fn start(
        model: &'m Transformer,
        groups: &[Group],
        options: &GenerationOptions,
    ) -> Result<Self, GenerationError> {
        let limit = model.config.max_position_embeddings;
        for (index, group) in groups.iter().enumerate() {
            let (prompt, new) = (group.prompt.len(), options.max_new_tokens);
            if prompt == 0 {
                return Err(GenerationError::EmptyPrompt { index });
            }
            if prompt + new > limit {
                return Err(GenerationError::TooLong { index, prompt, new, limit });
            }
        }
        let sampler = Sampler::new(options.sampling)?;
        let sequences: Vec<Sequence> = groups
            .iter()
            .enumerate()
            .flat_map(|(group, of)| of.sequences.iter().enumerate().map(move |(index, number)| (group, index, number)))
            .map(|(group, index, &number)| Sequence {
                group,
                index,
                random: SequenceRng::new(options.seed, number),
                constraint: options.constraint.as_ref().map(|make| make()),
                tokens: Vec::new(),
                per_token_logps: Vec::new(),
                entropy: Vec::new(),
                finish_reason: (options.max_new_tokens == 0).then_some(FinishReason::Length),
            })
            .collect();
        let prompts: Vec<&[u32]> = groups.iter().map(|group| &group.prompt[..]).collect();
        let logits_row: Vec<usize> = sequences.iter().map(|sequence| sequence.group).collect();
        let (logits, cache) = model.prefill(&prompts, &logits_row, options.max_new_tokens);
        let rows = (0..sequences.len()).collect();
        let options = options.clone();
        Ok(Self { model, options, sampler, sequences, rows, cache, logits, logits_row, groups: groups.len() })
    }

    /// Whether all sequences are finished.
    pub fn is_done(&self) -> bool {
        self.sequences.iter().all(|sequence| sequence.finish_reason.is_some())
    }

    /// Adds a token to every sequence that is not finished.
    pub async fn step(&mut self) -> Result<Vec<NewToken>, GenerationError> {
        if self.is_done() {
            return Ok(Vec::new());
        }
        let [_, vocabulary] = self.logits.dims();
        let data = self.logits.clone().into_data_async().await;
        let data = data.map_err(|error| GenerationError::Device(format!("{error:?}")))?.convert::<f32>();
        let logits = data.as_slice::<f32>().expect("converted");
        let mut new = Vec::new();
        for (row, &index) in self.rows.iter().enumerate() {
            let sequence = &mut self.sequences[index];
            if sequence.finish_reason.is_some() {
                continue;
            }
            let from = self.logits_row[row] * vocabulary;
            let allowed: Option<&TokenMask> = sequence.constraint.as_mut().map(|constraint| constraint.allowed());
            let sampled = self.sampler.sample(&logits[from..from + vocabulary], allowed, &mut sequence.random)?;
            if let Some(constraint) = &mut sequence.constraint {
                constraint.accept(sampled.token);
            }
            sequence.tokens.push(sampled.token);
            sequence.per_token_logps.push(sampled.logp);
            sequence.entropy.push(sampled.entropy);
            sequence.finish_reason = if self.options.stop_tokens.contains(&sampled.token) {
                Some(FinishReason::Stop)
            } else {
                (sequence.tokens.len() == self.options.max_new_tokens).then_some(FinishReason::Length)
            };
            new.push(NewToken {
                group: sequence.group,
                sequence: sequence.index,
                token: sampled.token,
                logp: sampled.logp,
                entropy: sampled.entropy,
                finish_reason: sequence.finish_reason,
            });
        }
        if !self.is_done() {
            self.compact();
            // A finished row repeats its last token until the next compaction; nobody reads what comes of it.
            let last = |&index: &usize| *self.sequences[index].tokens.last().expect("each row has drawn one");
            let tokens: Vec<u32> = self.rows.iter().map(last).collect();
            self.logits = self.model.decode(&tokens, &mut self.cache);
            self.logits_row = (0..self.rows.len()).collect();
        }
        Ok(new)
    }

    /// Ends all sequences that are not finished.
    pub fn cancel(&mut self) {
        for sequence in &mut self.sequences {
            sequence.finish_reason.get_or_insert(FinishReason::Cancelled);
        }
    }

    /// What was written, by group and sequence. Sequences that are not finished count as cancelled.
    pub fn into_completions(self) -> Vec<Vec<Completion>> {
        let mut groups: Vec<Vec<Completion>> = (0..self.groups).map(|_| Vec::new()).collect();
        for sequence in self.sequences {
            groups[sequence.group].push(Completion {
                tokens: sequence.tokens,
                per_token_logps: sequence.per_token_logps,
                entropy: sequence.entropy,
                finish_reason: sequence.finish_reason.unwrap_or(FinishReason::Cancelled),
            });
        }
        groups
    }

    /// Drops finished rows once they are a quarter: copying the cache costs about as much as some steps.
    fn compact(&mut self) {
        let live: Vec<usize> =
            (0..self.rows.len()).filter(|&row| self.sequences[self.rows[row]].finish_reason.is_none()).collect();
        if live.len() * 4 <= self.rows.len() * 3 {
            self.cache.keep_rows(&live);
            self.rows = live.iter().map(|&row| self.rows[row]).collect();
        }
    }
}

/// Generates all groups to their end, yielding between tokens. `seen` is told of every step; `cancel` is looked at
/// before each.
pub async fn generate(
    model: &Transformer,
    groups: &[Group],
    options: &GenerationOptions,
    cancel: &Cancel,
    mut seen: impl FnMut(&[NewToken]),
) -> Result<Vec<Vec<Completion>>, GenerationError> {
    let mut generation = Generation::start(model, groups, options)?;
    while !generation.is_done() {
        if cancel.is_cancelled() {
            generation.cancel();
            break;
        }
        seen(&generation.step().await?);
        platform::yield_now().await;
    }
    Ok(generation.into_completions())
}
