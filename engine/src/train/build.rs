//! From a configuration and the bytes it names to a trainer, and from a checkpoint back to it.
//!
//! Reads no files: the command line reads them from disk, the page from wherever it has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::Module as _;
use burn::tensor::Device;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::TrainError;
use super::batch::Sequence;
use super::config::{self, AdvantageLevel as ConfigAdvantageLevel, Method, RunConfig};
use super::driver::{StepOutcome, Trainer};
use super::event::{self, EventSink, FinishReason, TrainEvent};
use super::grpo::prompts::{PromptSource, PromptTasks};
use super::grpo::trainer::{AdvantageLevel, GrpoOptions, GrpoTrainer, Progress, RolloutSource as _, Sampled};
use super::grpo::{LossOptions, RewardTable, RewardTerm};
use super::metrics::{self, Metrics};
use super::optimizer::{AdamW, AdamWOptions};
use super::policy::Policy;
use super::run_folder::{CheckpointFiles, sha256};
use super::schedule::Schedule;
use super::sft::{self, SftOptions, SftTrainer};
use super::toy::{self, Example, ToyTask};
use crate::generation::{
    Cancel, Completion, FinishReason as Ending, GenerationOptions, Group, SamplingOptions, generate,
};
use crate::message::Message;
use crate::model::{
    ConfigError, LoraError, LoraOptions, ModelConfig, Precision, Transformer, WeightsError, from_safetensors,
    to_safetensors,
};
use crate::platform;
use crate::text::tokenizer::{CONTROL_TOKENS, TAG_TOKENS};
use crate::text::{ChatEncoder, ChatTemplate, TextError, Tokenizer, TokenizerTrainer};
use crate::tool::ToolSpec;

/// The bytes of what a configuration names.
#[derive(Clone, Debug, Default)]
pub struct RunInputs {
    /// `data.path`.
    pub data: Option<Vec<u8>>,
    /// `data.eval_path`.
    pub eval_data: Option<Vec<u8>>,
    /// `tokenizer.path`, or `tokenizer.json` of `model.path`.
    pub tokenizer: Option<Vec<u8>>,
    /// `tokenizer.chat_template`, or `chat_template.jinja` of `model.path`.
    pub chat_template: Option<String>,
    /// `config.json` and `model.safetensors` of `model.path`.
    pub model: Option<(String, Vec<u8>)>,
}

/// Why a configuration makes no trainer.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A line of a data file.
    #[error("{file}:{line}: {message}")]
    Data {
        /// The option that names the file.
        file: &'static str,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// Options that do not go together.
    #[error("{0}")]
    Options(String),
    /// A file of a checkpoint is missing or does not read.
    #[error("the checkpoint's {file} {message}. Resume from another checkpoint: remove this one's folder.")]
    Checkpoint {
        /// Its name.
        file: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The tokenizer or the chat template.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The model's shape.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The model's weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Adapters.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// The trainer.
    #[error(transparent)]
    Train(#[from] TrainError),
}

/// A trainer, and what `run.json` tells about it.
pub struct BuiltRun {
    /// The trainer.
    pub trainer: RunTrainer,
    /// Parameters that are trained.
    pub parameters: u64,
    /// SHA-256 of each data file, or of a toy task's examples, by name.
    pub data_sha256: BTreeMap<String, String>,
    /// SHA-256 of `tokenizer.json`.
    pub tokenizer_sha256: String,
}

/// What a configuration trains.
pub struct RunTrainer {
    config: RunConfig,
    tokenizer: Arc<Tokenizer>,
    method: Trained,
    /// Examples of a toy task that are held out.
    toy_eval: Option<ToyTasks>,
    state: State,
}

enum Trained {
    Sft { trainer: Box<SftTrainer>, eval: Vec<Sequence> },
    Grpo { trainer: Box<GrpoTrainer<PromptSource<ToyTasks>>> },
}

/// What a checkpoint keeps besides weights and moments.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    progress: Progress,
    /// Updates of the optimizer; fewer than steps where a step had nothing to learn.
    optimizer_updates: u64,
    best_eval_loss: Option<f64>,
    /// Evaluations since the best one.
    without_improvement: u64,
}

const CONFIG_FILE: &str = "config.json";
const WEIGHTS_FILE: &str = "model.safetensors";
const REFERENCE_FILE: &str = "reference.safetensors";
/// With adapters, the weights above are merged ones. In folders of their own, which PEFT and transformers load: beside an
/// `adapter_config.json`, transformers would not take `model.safetensors` for a whole model.
const ADAPTER_CONFIG_FILE: &str = "adapter/adapter_config.json";
const ADAPTER_FILE: &str = "adapter/adapter_model.safetensors";
const BASE_CONFIG_FILE: &str = "base/config.json";
const BASE_FILE: &str = "base/model.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const TOKENIZER_FILE: &str = "tokenizer.json";
const STATE_FILE: &str = "trainer_state.json";

/// Builds what a configuration describes; from a checkpoint's files where there is one.
pub fn build(
    config: &RunConfig,
    inputs: &RunInputs,
    device: &Device,
    checkpoint: Option<&CheckpointFiles>,
) -> Result<BuiltRun, BuildError> {
    let files = checkpoint.map(Files);
    let data = Data::read(config, inputs)?;
    let tokenizer = match (&files, &inputs.tokenizer) {
        (Some(files), _) => Tokenizer::from_json(files.get(TOKENIZER_FILE)?)?,
        (None, Some(json)) => Tokenizer::from_json(json)?,
        (None, None) => data.train_tokenizer(config)?,
    };
    let lora = lora_options(config);
    if let Some(files) = &files {
        files.check_lora(lora.as_ref())?;
    }
    // What adapters are put on, if there are any.
    let base = match (&files, &inputs.model) {
        (Some(files), _) => files.model(if lora.is_some() { BASE_FILE } else { WEIGHTS_FILE }, device)?,
        (None, Some((shape, weights))) => {
            Transformer::from_host(&ModelConfig::from_hugging_face(shape)?, &from_safetensors(weights)?, device)?
        }
        (None, None) => ModelConfig::preset(config.model.preset, tokenizer.vocab_size()).init(config.run.seed, device),
    };
    if tokenizer.vocab_size() > base.config.vocab_size {
        return Err(BuildError::Options(format!(
            "the tokenizer has {} tokens, the model {}: take the tokenizer that the model was made for",
            tokenizer.vocab_size(),
            base.config.vocab_size
        )));
    }
    let model = match (&lora, &files) {
        (None, _) => base.clone(),
        (Some(options), None) => base.clone().with_lora(options, config.run.seed)?,
        (Some(options), Some(files)) => {
            base.clone().with_adapters_from_host(options, &from_safetensors(files.get(ADAPTER_FILE)?)?)?
        }
    };
    let model = model.with_compute(config.run.precision);
    let tokenizer = Arc::new(tokenizer);
    let state = match &files {
        Some(files) => files.state()?,
        None => State::default(),
    };
    let optimizer = AdamWOptions {
        beta1: config.optimizer.beta1,
        beta2: config.optimizer.beta2,
        eps: config.optimizer.eps,
        weight_decay: config.optimizer.weight_decay,
        max_grad_norm: config.optimizer.max_grad_norm,
    };
    let checkpointing = match config.method {
        Method::Sft => config.sft.gradient_checkpointing,
        Method::Grpo => config.grpo.gradient_checkpointing,
    };
    let policy = match &files {
        None => Policy::new(&model, optimizer, checkpointing),
        Some(files) => {
            let moments = from_safetensors(files.get(OPTIMIZER_FILE)?)?;
            let optimizer = AdamW::from_host(optimizer, state.optimizer_updates, &moments, device);
            Policy::with_optimizer(&model, optimizer, checkpointing)
        }
    };
    let schedule = Schedule {
        peak: config.optimizer.learning_rate,
        warmup_steps: config.schedule.warmup_steps,
        total_steps: config.max_steps(),
        kind: config.schedule.kind,
        min_ratio: config.schedule.min_ratio,
    };
    let parameters = policy.trained_parameters() as u64;
    let data_sha256 = data.hashes();
    let tokenizer_sha256 = tokenizer.content_hash();
    let toy_eval = data.toy_eval(&tokenizer)?;
    let method = match config.method {
        Method::Sft => {
            let options = SftOptions {
                batch_size: config.sft.batch_size,
                packed_tokens: config.sft.packing.then_some(config.sft.batch_size * config.sft.max_length),
                gradient_accumulation_steps: config.sft.gradient_accumulation_steps,
                shuffle: config.data.shuffle,
                schedule,
                optimizer,
                seed: config.run.seed,
                gradient_checkpointing: checkpointing,
            };
            let (train, eval) = data.sequences(config, inputs, &tokenizer)?;
            let progress = &state.progress;
            let trainer = SftTrainer::resume(policy, train, options, progress.step, progress.num_tokens)?;
            Trained::Sft { trainer: Box::new(trainer), eval }
        }
        Method::Grpo => {
            let Data::Toy { train, .. } = &data else {
                let text = "method = \"grpo\" needs a task that rewards answers: set data.task to copy or addition, or train on the file with method = \"sft\".";
                return Err(BuildError::Options(text.to_owned()));
            };
            let options = grpo_options(config, schedule, optimizer);
            let sampling = SamplingOptions {
                temperature: config.grpo.temperature as f32,
                top_k: u32::try_from(config.grpo.top_k).unwrap_or(u32::MAX),
                top_p: config.grpo.top_p as f32,
                min_p: config.grpo.min_p as f32,
            };
            let tasks = ToyTasks::new(train, &tokenizer)?;
            let generation = generation_options(sampling, config, &tasks);
            let source = PromptSource::new(tasks, generation, Cancel::default());
            let reference = match (&files, config.grpo.beta != 0.0) {
                (_, false) => None,
                // Adapters start as nothing: the frozen weights are the policy as it was.
                (_, true) if lora.is_some() => Some(base.valid()),
                (None, true) => Some(policy.inference()),
                (Some(files), true) => Some(files.model(REFERENCE_FILE, device)?),
            };
            // As the policy computes: otherwise the KL term is not 0 where both have the same weights.
            let reference = reference.map(|model| model.with_compute(config.run.precision));
            let trainer = GrpoTrainer::resume(policy, reference, source, options, state.progress.clone())?;
            Trained::Grpo { trainer: Box::new(trainer) }
        }
    };
    let trainer = RunTrainer { config: config.clone(), tokenizer, method, toy_eval, state };
    Ok(BuiltRun { trainer, parameters, data_sha256, tokenizer_sha256 })
}

/// The adapters of a run, if it has any.
fn lora_options(config: &RunConfig) -> Option<LoraOptions> {
    let config::LoraOptions { rank, alpha, targets } = &config.lora;
    (*rank > 0).then(|| LoraOptions { rank: *rank, alpha: *alpha, targets: targets.clone() })
}

fn grpo_options(config: &RunConfig, schedule: Schedule, optimizer: AdamWOptions) -> GrpoOptions {
    let grpo = &config.grpo;
    GrpoOptions {
        num_generations: grpo.num_generations,
        batch_size: grpo.batch_size,
        gradient_accumulation_steps: grpo.gradient_accumulation_steps,
        steps_per_generation: grpo.steps_per_generation(),
        loss: LossOptions {
            loss_type: grpo.loss_type,
            epsilon: grpo.epsilon,
            epsilon_high: grpo.epsilon_high,
            beta: grpo.beta,
            use_bias_correction_kl: grpo.use_bias_correction_kl,
        },
        scale_rewards: grpo.scale_rewards,
        advantage_level: match grpo.advantage_level {
            ConfigAdvantageLevel::Trajectory => AdvantageLevel::Trajectory,
            ConfigAdvantageLevel::Turn => AdvantageLevel::Turn { gamma: grpo.turn_gamma },
        },
        num_iterations: grpo.num_iterations,
        temperature: grpo.temperature as f32,
        max_completion_length: grpo.max_completion_length,
        mask_truncated_completions: grpo.mask_truncated_completions,
        max_resample_rounds: if grpo.dynamic_sampling { grpo.dynamic_sampling_max_rounds as u64 - 1 } else { 0 },
        schedule,
        optimizer,
        gradient_checkpointing: grpo.gradient_checkpointing,
    }
}

fn generation_options(sampling: SamplingOptions, config: &RunConfig, tasks: &ToyTasks) -> GenerationOptions {
    GenerationOptions {
        sampling,
        max_new_tokens: config.grpo.max_completion_length,
        stop_tokens: vec![tasks.end],
        seed: config.run.seed,
        constraint: None,
    }
}

/// What is learnt from, before tokens.
enum Data {
    Toy { train: Vec<Example>, eval: Vec<Example> },
    File { train: Vec<Record>, eval: Vec<Record>, hashes: BTreeMap<String, String> },
}

/// A line of a data file.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Record {
    Conversation {
        messages: Vec<Message>,
        #[serde(default)]
        tools: Vec<ToolSpec>,
    },
    Text {
        text: String,
    },
}

impl Data {
    fn read(config: &RunConfig, inputs: &RunInputs) -> Result<Self, BuildError> {
        let options = &config.data;
        if let Some(task) = options.task {
            let sizes = &config.task;
            let task = match task {
                config::ToyTask::Copy => {
                    ToyTask::Copy { min_length: sizes.min_length, max_length: sizes.max_length, symbols: sizes.symbols }
                }
                config::ToyTask::Addition => ToyTask::Addition { digits: sizes.digits },
            };
            let data = task.examples(options.examples, options.eval_examples, config.run.seed);
            return Ok(Self::Toy { train: data.train, eval: data.eval });
        }
        let Some(bytes) = &inputs.data else {
            let text = "there is nothing to learn from: set data.task = \"addition\" or data.path = \"FILE.jsonl\".";
            return Err(BuildError::Options(text.to_owned()));
        };
        let mut hashes = BTreeMap::from([("data.path".to_owned(), sha256(bytes))]);
        let mut train = records("data.path", bytes)?;
        let eval = match &inputs.eval_data {
            Some(bytes) => {
                hashes.insert("data.eval_path".to_owned(), sha256(bytes));
                records("data.eval_path", bytes)?
            }
            // The last ones, at most a tenth: a small file is for learning.
            None => train.split_off(train.len() - options.eval_examples.min(train.len() / 10)),
        };
        Ok(Self::File { train, eval, hashes })
    }

    fn hashes(&self) -> BTreeMap<String, String> {
        match self {
            Self::File { hashes, .. } => hashes.clone(),
            Self::Toy { train, eval } => {
                let text = |examples: &[Example]| {
                    examples.iter().map(|example| format!("{}{}\n", example.prompt, example.answer)).collect::<String>()
                };
                BTreeMap::from([("task".to_owned(), sha256((text(train) + &text(eval)).as_bytes()))])
            }
        }
    }

    /// A tokenizer of the data: bytes alone for toy tasks, whose symbols must not melt together.
    fn train_tokenizer(&self, config: &RunConfig) -> Result<Tokenizer, TextError> {
        match self {
            Self::Toy { .. } => {
                TokenizerTrainer::new(256 + CONTROL_TOKENS.len() + TAG_TOKENS.len()).train([] as [&str; 0])
            }
            Self::File { train, .. } => {
                let texts = train.iter().flat_map(|record| match record {
                    Record::Conversation { messages, .. } => {
                        messages.iter().map(|message| message.content.clone()).collect()
                    }
                    Record::Text { text } => vec![text.clone()],
                });
                TokenizerTrainer::new(config.tokenizer.vocab_size).train(texts)
            }
        }
    }

    fn toy_eval(&self, tokenizer: &Arc<Tokenizer>) -> Result<Option<ToyTasks>, BuildError> {
        match self {
            Self::Toy { eval, .. } if !eval.is_empty() => ToyTasks::new(eval, tokenizer).map(Some),
            _ => Ok(None),
        }
    }

    /// Sequences to learn from and sequences held out.
    fn sequences(
        &self,
        config: &RunConfig,
        inputs: &RunInputs,
        tokenizer: &Arc<Tokenizer>,
    ) -> Result<(Vec<Sequence>, Vec<Sequence>), BuildError> {
        let (mut train, mut eval) = match self {
            Self::Toy { train, eval } => {
                let of = |examples: &[Example]| -> Result<Vec<Sequence>, BuildError> {
                    Ok(ToyTasks::new(examples, tokenizer)?.sequences())
                };
                (of(train)?, of(eval)?)
            }
            Self::File { train, eval, .. } => {
                let template = match &inputs.chat_template {
                    Some(source) => ChatTemplate::new(source.clone())?,
                    None => ChatTemplate::default(),
                };
                let encoder = ChatEncoder::new(Tokenizer::clone(tokenizer), template)?;
                let of = |records: &[Record]| -> Result<Vec<Sequence>, BuildError> {
                    records.iter().map(|record| record.sequence(&encoder)).collect()
                };
                (of(train)?, of(eval)?)
            }
        };
        let most = config.sft.max_length;
        for sequence in train.iter_mut().chain(&mut eval) {
            let room = most.saturating_sub(sequence.prompt.len());
            sequence.completion.truncate(room);
            sequence.loss_mask.truncate(room);
        }
        Ok((train, eval))
    }
}

impl Record {
    fn sequence(&self, encoder: &Arc<ChatEncoder>) -> Result<Sequence, BuildError> {
        match self {
            Self::Conversation { messages, tools } => {
                let tokens = encoder.encode(messages, tools)?;
                let first = tokens.loss_mask.iter().position(|carries| *carries).unwrap_or(tokens.len());
                let (prompt, completion) = tokens.ids.split_at(first);
                let loss_mask = tokens.loss_mask[first..].to_vec();
                Ok(Sequence { prompt: prompt.to_vec(), completion: completion.to_vec(), loss_mask })
            }
            Self::Text { text } => {
                let tokenizer = encoder.tokenizer();
                let mut ids = tokenizer.encode(text)?;
                ids.extend(tokenizer.eos_id());
                Ok(Sequence::new(Vec::new(), ids))
            }
        }
    }
}

/// The records of a JSON Lines file.
fn records(file: &'static str, bytes: &[u8]) -> Result<Vec<Record>, BuildError> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_slice(line).map_err(|error| BuildError::Data {
                file,
                line: index + 1,
                message: format!(
                    "{error}; a line is {{\"messages\": [{{\"role\": …, \"content\": …}}, …]}} or {{\"text\": …}}"
                ),
            })
        })
        .collect()
}

/// A toy task's examples as tokens.
struct ToyTasks {
    tokenizer: Arc<Tokenizer>,
    examples: Vec<(Example, Sequence)>,
    end: u32,
}

/// What `graded` counts beside `exact`: enough to lead a policy that is right nowhere yet, too little to be worth a digit.
const GRADED_WEIGHT: f64 = 0.2;

impl ToyTasks {
    fn new(examples: &[Example], tokenizer: &Arc<Tokenizer>) -> Result<Self, BuildError> {
        let missing = || {
            BuildError::Options("the tokenizer has no token that ends a text: give one with an eos_token".to_owned())
        };
        let end = tokenizer.eos_id().ok_or_else(missing)?;
        let examples = examples
            .iter()
            .map(|example| {
                let completion = [tokenizer.encode(&example.answer)?, vec![end]].concat();
                Ok((example.clone(), Sequence::new(tokenizer.encode(&example.prompt)?, completion)))
            })
            .collect::<Result<_, TextError>>()?;
        Ok(Self { tokenizer: tokenizer.clone(), examples, end })
    }

    fn sequences(&self) -> Vec<Sequence> {
        self.examples.iter().map(|(_, sequence)| sequence.clone()).collect()
    }
}

impl PromptTasks for ToyTasks {
    fn count(&self) -> usize {
        self.examples.len()
    }

    fn prompt(&self, task: usize) -> (String, Vec<u32>) {
        let (example, sequence) = &self.examples[task];
        (example.prompt.clone(), sequence.prompt.clone())
    }

    fn reward_terms(&self) -> Vec<RewardTerm> {
        let [exact, graded] = toy::REWARD_NAMES.map(str::to_owned);
        vec![RewardTerm { name: exact, weight: 1.0 }, RewardTerm { name: graded, weight: GRADED_WEIGHT }]
    }

    fn rewards(&self, task: usize, completion: &Completion) -> Vec<Option<f64>> {
        let finished = completion.finish_reason == Ending::Stop;
        let text = &completion.tokens[..completion.tokens.len() - usize::from(finished)];
        toy::rewards(&self.examples[task].0.answer, &self.tokenizer.decode(text), finished).map(Some).into()
    }
}

impl RunTrainer {
    /// The model as it is, without autodiff.
    pub fn model(&self) -> Transformer {
        self.policy().inference()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn policy(&self) -> &Policy {
        match &self.method {
            Trained::Sft { trainer, .. } => trainer.policy(),
            Trained::Grpo { trainer } => trainer.policy(),
        }
    }

    /// Loss and rewards on what is held out.
    async fn evaluate(&mut self) -> Result<Metrics, TrainError> {
        let mut metrics = Metrics::new();
        let batch_size = self.config.sft.batch_size.max(16);
        let model = self.policy().inference();
        if let Trained::Sft { eval, .. } = &self.method
            && !eval.is_empty()
        {
            metrics.set(metrics::EVAL_LOSS, sft::evaluate(&model, eval, batch_size).await?.loss);
        }
        let Some(tasks) = &self.toy_eval else { return Ok(metrics) };
        let groups: Vec<Group> =
            (0..tasks.count()).map(|task| Group { prompt: tasks.prompt(task).1, sequences: vec![0] }).collect();
        let mut options = generation_options(SamplingOptions::greedy(), &self.config, tasks);
        // The right answer fits, and rambling is cut soon.
        let longest = tasks.examples.iter().map(|(_, sequence)| sequence.completion.len()).max().unwrap_or(1);
        options.max_new_tokens = options.max_new_tokens.min(2 * longest);
        let completions = generate(&model, &groups, &options, &Cancel::default(), |_| ()).await?;
        let mut table = RewardTable::new(tasks.reward_terms());
        for (task, completions) in completions.iter().enumerate() {
            table.push(tasks.rewards(task, &completions[0]));
        }
        for (name, value) in table.metrics().into_iter().filter(|(name, _)| !name.ends_with("std")) {
            metrics.set(format!("eval_{name}"), value);
        }
        Ok(metrics)
    }

    /// Notes an evaluation, for early stopping.
    fn note(&mut self, metrics: &Metrics) {
        let Some(loss) = metrics.get(metrics::EVAL_LOSS) else { return };
        if self.state.best_eval_loss.is_none_or(|best| loss < best) {
            self.state.best_eval_loss = Some(loss);
            self.state.without_improvement = 0;
        } else {
            self.state.without_improvement += 1;
        }
    }

    fn stopped_early(&self) -> bool {
        let patience = self.config.sft.early_stopping_patience;
        self.config.method == Method::Sft && patience > 0 && self.state.without_improvement >= patience
    }

    /// Some of a step's rollouts as texts.
    fn traces(&self, sampled: &Sampled, terms: &[RewardTerm]) -> Vec<event::RolloutGroup> {
        let mut advantages = sampled.advantages.iter();
        let texts = sampled.groups.iter().map(|group| {
            let rollouts = group.rollouts.iter().zip(advantages.by_ref()).map(|(rollout, &advantage)| {
                let written: Vec<u32> = rollout.samples.iter().flat_map(|s| &s.sequence.completion).copied().collect();
                let values = || rollout.rewards.iter().zip(terms).filter_map(|(value, term)| Some((term, (*value)?)));
                event::Rollout {
                    completion: self.tokenizer.decode(&written),
                    tokens: rollout.sampled_tokens() as u64,
                    truncated: rollout.truncated,
                    reward: values().map(|(term, value)| term.weight * value).sum(),
                    rewards: values().map(|(term, value)| (term.name.clone(), value)).collect(),
                    advantage: f64::from(advantage),
                }
            });
            let rollouts = rollouts.collect();
            let prompt = group.rollouts.first().and_then(|rollout| rollout.samples.first());
            let prompt = prompt.map(|sample| self.tokenizer.decode(&sample.sequence.prompt)).unwrap_or_default();
            event::RolloutGroup { prompt, rollouts }
        });
        texts.take(self.config.log.traces_groups).collect()
    }
}

impl Trainer for RunTrainer {
    async fn step(&mut self, sink: &mut dyn EventSink) -> Result<StepOutcome, TrainError> {
        let (values, sampled): (IndexMap<String, f64>, Option<Sampled>) = match &mut self.method {
            Trained::Sft { trainer, .. } => {
                let values = trainer.step().await?;
                self.state.progress.step = trainer.step_number();
                self.state.progress.num_tokens = trainer.num_tokens();
                (values, None)
            }
            Trained::Grpo { trainer } => {
                let step = trainer.step().await?;
                self.state.progress = trainer.progress().clone();
                (step.metrics, step.sampled)
            }
        };
        self.state.optimizer_updates = self.policy().updates();
        let step = self.state.progress.step;
        let mut metrics: Metrics = values.into_iter().collect();
        if let Some(bytes) = platform::peak_memory_bytes() {
            metrics.set(metrics::MEMORY, bytes as f64);
        }
        sink.emit(&TrainEvent::Step { step, metrics });
        let every = self.config.log.traces_every;
        if let (Some(sampled), true) = (&sampled, every > 0 && (step - 1).is_multiple_of(every)) {
            let terms = match &mut self.method {
                Trained::Grpo { trainer } => trainer.source().reward_terms(),
                Trained::Sft { .. } => Vec::new(),
            };
            sink.emit(&TrainEvent::Rollouts { step, groups: self.traces(sampled, &terms) });
        }
        let every = match self.config.method {
            Method::Sft => self.config.sft.eval_every,
            Method::Grpo => self.config.grpo.eval_every,
        };
        let is_last = step >= self.config.max_steps();
        if every > 0 && (step.is_multiple_of(every) || is_last) {
            let metrics = self.evaluate().await?;
            if !metrics.is_empty() {
                self.note(&metrics);
                sink.emit(&TrainEvent::Evaluated { step, metrics });
            }
        }
        Ok(self.finished().map_or(StepOutcome::Continue, StepOutcome::Finished))
    }

    async fn checkpoint(&self) -> Result<CheckpointFiles, TrainError> {
        let model = self.policy().inference();
        let json = |value: serde_json::Result<String>| value.expect("plain data").into_bytes();
        let shape = json(serde_json::to_string_pretty(&model.config.to_hugging_face()));
        let mut files: CheckpointFiles = vec![
            (CONFIG_FILE.to_owned(), shape.clone()),
            (WEIGHTS_FILE.to_owned(), to_safetensors(&model.to_host().await, Precision::F32)),
            (TOKENIZER_FILE.to_owned(), self.tokenizer.to_json().as_bytes().to_vec()),
            (OPTIMIZER_FILE.to_owned(), to_safetensors(&self.policy().optimizer_state().await, Precision::F32)),
            (STATE_FILE.to_owned(), json(serde_json::to_string(&self.state))),
        ];
        if let Some(options) = lora_options(&self.config) {
            let model = self.policy().model();
            let options = options.to_peft(self.config.model.path.as_deref());
            let adapters = model.adapters_to_host().await;
            files.push((ADAPTER_CONFIG_FILE.to_owned(), json(serde_json::to_string_pretty(&options))));
            files.push((ADAPTER_FILE.to_owned(), to_safetensors(&adapters, Precision::F32)));
            files.push((BASE_CONFIG_FILE.to_owned(), shape));
            files.push((BASE_FILE.to_owned(), to_safetensors(&model.base_to_host().await, Precision::F32)));
        } else if let Trained::Grpo { trainer } = &self.method
            && let Some(reference) = trainer.reference()
        {
            files.push((REFERENCE_FILE.to_owned(), to_safetensors(&reference.to_host().await, Precision::F32)));
        }
        Ok(files)
    }

    fn step_number(&self) -> u64 {
        self.state.progress.step
    }

    fn finished(&self) -> Option<FinishReason> {
        if self.state.progress.step >= self.config.max_steps() {
            Some(FinishReason::MaxSteps)
        } else {
            self.stopped_early().then_some(FinishReason::EarlyStopping)
        }
    }
}

/// A checkpoint's files by name.
struct Files<'a>(&'a CheckpointFiles);

impl Files<'_> {
    fn get(&self, file: &'static str) -> Result<&[u8], BuildError> {
        let found = self.0.iter().find(|(name, _)| name == file).map(|(_, bytes)| &bytes[..]);
        found.ok_or_else(|| BuildError::Checkpoint { file, message: "is missing".to_owned() })
    }

    fn model(&self, weights: &'static str, device: &Device) -> Result<Transformer, BuildError> {
        let shape = String::from_utf8_lossy(self.get(CONFIG_FILE)?);
        let config = ModelConfig::from_hugging_face(&shape)?;
        Ok(Transformer::from_host(&config, &from_safetensors(self.get(weights)?)?, device)?)
    }

    /// Refuses to go on with other adapters than those of the checkpoint.
    fn check_lora(&self, options: Option<&LoraOptions>) -> Result<(), BuildError> {
        let found = self.0.iter().find(|(name, _)| name == ADAPTER_CONFIG_FILE);
        let found = found.map(|(_, text)| LoraOptions::from_peft(&String::from_utf8_lossy(text))).transpose()?;
        if found.as_ref() == options {
            return Ok(());
        }
        let found = found.map_or("lora.rank = 0".to_owned(), |options| {
            format!(
                "lora.rank = {}, lora.alpha = {}, lora.targets = {:?}",
                options.rank, options.alpha, options.targets
            )
        });
        let text = format!("the run has other adapters than [lora] says: set {found}, or start a new run.");
        Err(BuildError::Options(text))
    }

    fn state(&self) -> Result<State, BuildError> {
        let damaged =
            |error: serde_json::Error| BuildError::Checkpoint { file: STATE_FILE, message: error.to_string() };
        serde_json::from_slice(self.get(STATE_FILE)?).map_err(damaged)
    }
}

#[cfg(test)]
mod tests;
