//! The configuration of a run: typed sections, read from TOML, changed by `section.key=value`, checked, written back.
//!
//! Names and defaults are those of TRL 1.16 (`SFTConfig`, `GRPOConfig`) and of `transformers.TrainingArguments` where they have
//! the option; where ours differs, the option says so. [`options`] lists every option with kind, limits, default and
//! meaning, for help texts and forms.

mod options;
mod read;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use options::{
    ANY, BELOW_ONE, NOT_NEGATIVE, ONE_OR_MORE, OptionValue, POSITIVE, POSITIVE_SHARE, Range, Refused, SHARE, Section,
    TWO_OR_MORE, choice, full_name, named_values, or_list, section, toml_text,
};

use super::grpo::{LossType, ScaleRewards};
use super::schedule::ScheduleKind;
use crate::device::DeviceChoice;
use crate::model::{Precision, Preset};

pub use options::OptionInfo;
pub use read::{ConfigError, Place, Problem};

choice! {
    /// How the model learns.
    pub enum Method {
        /// Supervised fine-tuning: the loss is the mean negative log-probability of the tokens to learn.
        Sft = "sft",
        /// Group relative policy optimisation: reinforcement learning from the rewards of a group of samples.
        Grpo = "grpo",
    }
}

choice! {
    /// Toy tasks that are made from the seed and checked by a program.
    pub enum ToyTask {
        /// Repeat a string of symbols.
        Copy = "copy",
        /// Add two whole numbers.
        Addition = "addition",
    }
}

choice! {
    /// Which tokens share an advantage.
    pub enum AdvantageLevel {
        /// All tokens of a trajectory have that of the trajectory's reward.
        Trajectory = "trajectory",
        /// The tokens of a turn have that of the turn's reward, compared with the same turn of the group's others.
        Turn = "turn",
    }
}

named_values! { Precision: F32 = "f32", F16 = "f16", Bf16 = "bf16" }
named_values! { Preset: Nano = "nano", Micro = "micro", Mini = "mini" }
named_values! { ScheduleKind: Cosine = "cosine", Constant = "constant", Linear = "linear" }
named_values! { LossType: Grpo = "grpo", DrGrpo = "dr_grpo", Dapo = "dapo", Gspo = "gspo" }
named_values! { ScaleRewards: Group = "group", Batch = "batch", None = "none" }

impl OptionValue for DeviceChoice {
    fn kind() -> String {
        or_list(Self::names())
    }
    fn from_toml(value: &toml::Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
    fn to_toml(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.name().to_owned()))
    }
    fn names() -> &'static [&'static str] {
        Self::NAMES
    }
}

section! {
    /// The run as a whole.
    pub struct RunOptions in "run" {
        /// Everything random follows from it: weights, data order, sampling.
        seed: u64 = 0, ANY;
        /// Where tensors are computed. `auto` takes a GPU where this program was built for one and finds one, else `flex` (CPU).
        device: DeviceChoice = DeviceChoice::Auto, ANY;
        /// What projections are multiplied in. `bf16` is for GPUs: it costs time on a CPU. Weights and updates stay f32.
        precision: Precision = Precision::F32, ANY;
        /// Name of the run, and of its folder below `dir`. Without one: method, task or file, model and seed.
        name: Option<String> = None, ANY;
        /// Folder that holds runs.
        dir: String = "runs".to_owned(), ANY;
    }
}

section! {
    /// The model to train.
    pub struct ModelOptions in "model" {
        /// Architecture to start from random weights; ignored where `path` is given.
        preset: Preset = Preset::Nano, ANY;
        /// Folder with `config.json` and `model.safetensors` in Hugging Face's format to start from; a checkpoint of a run is one.
        path: Option<String> = None, ANY;
    }
}

section! {
    /// What is learned from: a toy task or a file, one of them.
    pub struct DataOptions in "data" {
        /// A toy task; its sizes are in `[task]`.
        task: Option<ToyTask> = None, ANY;
        /// A JSON Lines file of conversations, `{"messages": [...], "tools": [...]}`, or texts, `{"text": "..."}`.
        path: Option<String> = None, ANY;
        /// Another such file to evaluate on. Without one, `eval_examples` are taken out of the data.
        eval_path: Option<String> = None, ANY;
        /// How many examples of a toy task are made for training.
        examples: usize = 4096, ONE_OR_MORE;
        /// How many examples are held out for evaluation.
        eval_examples: usize = 64, NOT_NEGATIVE;
        /// Whether the order of the examples is drawn anew in each epoch.
        shuffle: bool = true, ANY;
    }
}

section! {
    /// Sizes of the toy tasks.
    pub struct TaskOptions in "task" {
        /// `addition`: digits of each number at most.
        digits: usize = 2, ONE_OR_MORE;
        /// `copy`: symbols in a string at least.
        min_length: usize = 2, ONE_OR_MORE;
        /// `copy`: symbols in a string at most.
        max_length: usize = 8, ONE_OR_MORE;
        /// `copy`: how many different symbols there are (letters from `a` on).
        symbols: usize = 10, Range { words: "from 1 to 26", holds: |x| (1.0..=26.0).contains(&x) };
    }
}

section! {
    /// Text to tokens.
    pub struct TokenizerOptions in "tokenizer" {
        /// A `tokenizer.json`. Without one: the one in `model.path`, else a byte-level BPE is trained on the data.
        path: Option<String> = None, ANY;
        /// Size of the vocabulary of a tokenizer that is trained here: 256 bytes, special tokens, and merges.
        vocab_size: usize = 512, Range { words: "300 or more", holds: |x| x >= 300.0 };
        /// A file with a chat template (Jinja). Without one: that of the tokenizer's folder, else our own.
        chat_template: Option<String> = None, ANY;
    }
}

section! {
    /// AdamW, with the gradient clipped to a global norm before.
    pub struct OptimizerOptions in "optimizer" {
        /// Peak learning rate.
        learning_rate: f64 = 1e-3, NOT_NEGATIVE;
        /// Decay of the mean of gradients: `m ← beta1·m + (1 - beta1)·g`.
        beta1: f64 = 0.9, BELOW_ONE;
        /// Decay of the mean of squared gradients: `v ← beta2·v + (1 - beta2)·g²`.
        beta2: f64 = 0.95, BELOW_ONE;
        /// Added to the divisor: `θ ← θ - learning_rate · m̂ / (√v̂ + eps)`.
        eps: f64 = 1e-8, POSITIVE;
        /// Decoupled: `θ ← θ - learning_rate · weight_decay · θ`.
        weight_decay: f64 = 0.0, NOT_NEGATIVE;
        /// Where the norm of all gradients together is above this, all are scaled down to it. 0 turns clipping off.
        max_grad_norm: f64 = 1.0, NOT_NEGATIVE;
    }
}

section! {
    /// The learning rate over the run, as a factor on `optimizer.learning_rate`.
    pub struct ScheduleOptions in "schedule" {
        /// Steps in which the factor rises to 1 linearly: the first has `1/warmup_steps`.
        warmup_steps: u64 = 10, ANY;
        /// The course afterwards, with `t` going from 0 to 1: `cosine` is `min_ratio + (1 - min_ratio)·(1 + cos(π·t))/2`, `linear`
        /// is `1 - (1 - min_ratio)·t`, `constant` is 1.
        kind: ScheduleKind = ScheduleKind::Cosine, ANY;
        /// The factor on the last step.
        min_ratio: f64 = 0.1, SHARE;
    }
}

section! {
    /// Supervised fine-tuning; used with `method = "sft"`.
    pub struct SftOptions in "sft" {
        /// Sequences in one forward and backward pass (TRL: `per_device_train_batch_size`).
        batch_size: usize = 16, ONE_OR_MORE;
        /// Passes whose gradients are added up before one update.
        gradient_accumulation_steps: usize = 1, ONE_OR_MORE;
        /// Updates to make.
        max_steps: u64 = 1000, ONE_OR_MORE;
        /// Fill each sequence of `max_length` tokens with several examples, which do not see each other.
        packing: bool = false, ANY;
        /// Tokens in a sequence at most; longer examples are cut at the end.
        max_length: usize = 256, TWO_OR_MORE;
        /// Updates between evaluations; 0 evaluates never.
        eval_every: u64 = 100, ANY;
        /// Stop after this many evaluations in a row without a better `eval_loss`; 0 never stops early.
        early_stopping_patience: u64 = 0, ANY;
        /// Compute activations again in the backward pass: less memory, about a third more time.
        gradient_checkpointing: bool = false, ANY;
    }
}

section! {
    /// Group relative policy optimisation; used with `method = "grpo"`.
    ///
    /// For each prompt a group of `G = num_generations` completions `o_i` is sampled and rewarded with `r_i`. The loss of token
    /// `t` of completion `i`, with the ratio `ρ = π(o_it) / π_old(o_it)` and the advantage `A = (r_i - mean(r)) / (std(r) + 1e-4)`, is
    /// `l_it = -min(ρ·A, clip(ρ, 1 - epsilon, 1 + epsilon_high)·A) + beta·KL_it`; `loss_type` says how they make one loss.
    pub struct GrpoOptions in "grpo" {
        /// Completions sampled for each prompt: `G`.
        num_generations: usize = 8, TWO_OR_MORE;
        /// Completions in one forward and backward pass (TRL: `per_device_train_batch_size`).
        batch_size: usize = 64, ONE_OR_MORE;
        /// Passes whose gradients are added up before one update.
        gradient_accumulation_steps: usize = 1, ONE_OR_MORE;
        /// Updates to make.
        max_steps: u64 = 200, ONE_OR_MORE;
        /// Completions sampled at once: `batch_size · steps_per_generation`. Give this or `steps_per_generation`.
        generation_batch_size: Option<usize> = None, ONE_OR_MORE;
        /// Passes for which one generation lasts; above `gradient_accumulation_steps` the later updates are off-policy.
        /// Without it: `gradient_accumulation_steps`.
        steps_per_generation: Option<usize> = None, ONE_OR_MORE;
        /// How often each generation is used, `μ` in the paper. From the second time on `ρ` differs from 1.
        num_iterations: usize = 1, ONE_OR_MORE;
        /// Weight of `KL_it = exp(d) - d - 1`, `d = log π_ref(o_it) - log π(o_it)`, which holds the policy near the model that
        /// training started from. 0 needs no reference model.
        beta: f64 = 0.0, NOT_NEGATIVE;
        /// Multiply `KL_it` by `ρ`, which makes its gradient that of the reverse KL divergence, without bias (DeepSeek-V3.2). Without it
        /// the KL term is the one of the GRPO paper.
        use_bias_correction_kl: bool = true, ANY;
        /// Lower clip limit: `ρ` counts as at least `1 - epsilon` where `A < 0`.
        epsilon: f64 = 0.2, BELOW_ONE;
        /// Upper clip limit: `ρ` counts as at most `1 + epsilon_high` where `A > 0`. Without it: `epsilon`. DAPO uses 0.28.
        epsilon_high: Option<f64> = None, NOT_NEGATIVE;
        /// How token losses make one loss: `grpo` is `1/G Σ_i 1/|o_i| Σ_t l_it`, `dr_grpo` is `1/(G·max_completion_length) Σ l_it`,
        /// `dapo` is `1/Σ|o_i| Σ l_it`, `gspo` is `grpo` with `ρ_i = exp(1/|o_i| Σ_t log ρ_it)` for the whole completion.
        loss_type: LossType = LossType::Dapo, ANY;
        /// What `r_i - mean(r)` is divided by: the standard deviation of the `group` or of the `batch` (with `n - 1`, plus 1e-4),
        /// or `none`.
        scale_rewards: ScaleRewards = ScaleRewards::Group, ANY;
        /// Whether a `trajectory` has one advantage or each `turn` of it has its own.
        advantage_level: AdvantageLevel = AdvantageLevel::Trajectory, ANY;
        /// With `turn`: by how much what comes after a turn counts for it, `G_t = Σ_u≥t turn_gamma^(u-t)·r_u`; 0 only the turn's own
        /// reward, 1 all that follows.
        turn_gamma: f64 = 1.0, SHARE;
        /// Sample other prompts in place of groups whose rewards are all equal (their advantages are 0), as in DAPO.
        dynamic_sampling: bool = false, ANY;
        /// With `dynamic_sampling`: rounds of sampling in all; groups that are equal after the last are kept.
        dynamic_sampling_max_rounds: usize = 4, ONE_OR_MORE;
        /// Completions that were cut at `max_completion_length` carry no loss.
        mask_truncated_completions: bool = false, ANY;
        /// Logits are divided by it before sampling, and in `log π` too.
        temperature: f64 = 1.0, POSITIVE;
        /// Keep the most probable tokens that together reach this probability; 1 keeps all.
        top_p: f64 = 1.0, POSITIVE_SHARE;
        /// Keep this many most probable tokens; 0 keeps all.
        top_k: usize = 0, ANY;
        /// Keep tokens with at least this share of the most probable token's probability; 0 keeps all.
        min_p: f64 = 0.0, SHARE;
        /// Tokens in a completion at most.
        max_completion_length: usize = 256, ONE_OR_MORE;
        /// Updates between evaluations; 0 evaluates never.
        eval_every: u64 = 0, ANY;
        /// Compute activations again in the backward pass: less memory, about a third more time.
        gradient_checkpointing: bool = false, ANY;
    }
}

section! {
    /// Low-rank adapters: `W + alpha/rank · B·A`, with only `A` and `B` trained.
    pub struct LoraOptions in "lora" {
        /// Rank of the adapters; 0 trains all weights.
        rank: usize = 0, ANY;
        /// Scale of the adapters; `alpha/rank` stands before `B·A`.
        alpha: f64 = 16.0, POSITIVE;
        /// Layers that get adapters, by the last part of their name in Hugging Face's format.
        targets: Vec<String> = ["q_proj", "k_proj", "v_proj", "o_proj"].map(str::to_owned).to_vec(), ANY;
    }
}

section! {
    /// What is kept, so that a run can be resumed.
    pub struct CheckpointOptions in "checkpoint" {
        /// Updates between checkpoints; the last update always has one. 0 makes only that.
        every: u64 = 100, ANY;
        /// How many of the latest checkpoints stay; the best evaluated one stays besides.
        keep: usize = 2, ONE_OR_MORE;
    }
}

section! {
    /// What is written while training.
    pub struct LogOptions in "log" {
        /// Updates between two samples of rollouts in `traces/`; 0 writes none.
        traces_every: u64 = 10, ANY;
        /// Groups in a sample.
        traces_groups: usize = 1, ONE_OR_MORE;
    }
}

/// Everything that says how a run goes. [`RunConfig::parse`] gives one that is checked and complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// How the model learns.
    pub method: Method,
    /// The run as a whole.
    pub run: RunOptions,
    /// The model to train.
    pub model: ModelOptions,
    /// What is learned from.
    pub data: DataOptions,
    /// Sizes of the toy tasks.
    pub task: TaskOptions,
    /// Text to tokens.
    pub tokenizer: TokenizerOptions,
    /// AdamW and clipping.
    pub optimizer: OptimizerOptions,
    /// The learning rate over the run.
    pub schedule: ScheduleOptions,
    /// Supervised fine-tuning.
    pub sft: SftOptions,
    /// Group relative policy optimisation.
    pub grpo: GrpoOptions,
    /// Low-rank adapters.
    pub lora: LoraOptions,
    /// What is kept.
    pub checkpoint: CheckpointOptions,
    /// What is written while training.
    pub log: LogOptions,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            method: Method::Sft,
            run: RunOptions::default(),
            model: ModelOptions::default(),
            data: DataOptions::default(),
            task: TaskOptions::default(),
            tokenizer: TokenizerOptions::default(),
            optimizer: OptimizerOptions::default(),
            schedule: ScheduleOptions::default(),
            sft: SftOptions::default(),
            grpo: GrpoOptions::default(),
            lora: LoraOptions::default(),
            checkpoint: CheckpointOptions::default(),
            log: LogOptions::default(),
        }
    }
}

/// Calls `$do!(field: Type)` for each section, in the order in which they are written.
macro_rules! for_each_section {
    ($do:ident) => {
        $do!(run: RunOptions);
        $do!(model: ModelOptions);
        $do!(data: DataOptions);
        $do!(task: TaskOptions);
        $do!(tokenizer: TokenizerOptions);
        $do!(optimizer: OptimizerOptions);
        $do!(schedule: ScheduleOptions);
        $do!(sft: SftOptions);
        $do!(grpo: GrpoOptions);
        $do!(lora: LoraOptions);
        $do!(checkpoint: CheckpointOptions);
        $do!(log: LogOptions);
    };
}
use for_each_section;

/// The most tokens that one update can be made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokensPerStep {
    /// Sequences (SFT) or completions (GRPO) in one update.
    pub sequences: usize,
    /// Tokens in all of them at most. For GRPO only sampled tokens: prompts come on top.
    pub tokens: usize,
}

/// Every option, section by section.
pub fn options() -> Vec<OptionInfo> {
    let mut all = vec![OptionInfo {
        name: "method".to_owned(),
        kind: Method::kind(),
        range: "",
        default: "\"sft\"".to_owned(),
        meaning: "How the model learns: supervised fine-tuning, or reinforcement learning from rewards.".to_owned(),
    }];
    macro_rules! add {
        ($field:ident: $Section:ty) => {
            all.extend(<$Section>::options());
        };
    }
    for_each_section!(add);
    all
}

impl RunConfig {
    /// Updates to make.
    pub fn max_steps(&self) -> u64 {
        match self.method {
            Method::Sft => self.sft.max_steps,
            Method::Grpo => self.grpo.max_steps,
        }
    }

    /// Name of the run's folder below `run.dir`: `run.name`, or one made from method, data, model and seed.
    pub fn name(&self) -> String {
        if let Some(name) = &self.run.name {
            return name.clone();
        }
        let stem = |path: &String| {
            let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            last.split('.').next().unwrap_or_default().to_owned()
        };
        let data = match (&self.data.task, &self.data.path) {
            (Some(task), _) => task.name().to_owned(),
            (None, Some(path)) => stem(path),
            (None, None) => "data".to_owned(),
        };
        let model = self.model.path.as_ref().map_or_else(|| self.model.preset.name().to_owned(), stem);
        format!("{}-{data}-{model}-seed{}", self.method.name(), self.run.seed)
    }

    /// How much one update is made from.
    pub fn tokens_per_step(&self) -> TokensPerStep {
        let (sequences, length) = match self.method {
            Method::Sft => (self.sft.batch_size * self.sft.gradient_accumulation_steps, self.sft.max_length),
            Method::Grpo => {
                (self.grpo.batch_size * self.grpo.gradient_accumulation_steps, self.grpo.max_completion_length)
            }
        };
        TokensPerStep { sequences, tokens: sequences * length }
    }

    /// The configuration as TOML, complete but for the other method's section: what [`RunConfig::parse`] reads back.
    pub fn to_toml(&self) -> String {
        let mut text = format!("method = {:?}\n", self.method.name());
        macro_rules! write_section {
            ($field:ident: $Section:ty) => {
                let name = <$Section as Section>::NAME;
                let other_method = match self.method {
                    Method::Sft => "grpo",
                    Method::Grpo => "sft",
                };
                if name != other_method {
                    text.push_str(&format!("\n[{name}]\n"));
                    for (key, value) in self.$field.values() {
                        text.push_str(&format!("{key} = {}\n", toml_text(&value)));
                    }
                }
            };
        }
        for_each_section!(write_section);
        text
    }
}

impl GrpoOptions {
    /// Upper clip limit: `epsilon_high`, or `epsilon`.
    pub fn epsilon_high(&self) -> f64 {
        self.epsilon_high.unwrap_or(self.epsilon)
    }

    /// Passes for which one generation lasts.
    pub fn steps_per_generation(&self) -> usize {
        self.steps_per_generation
            .or_else(|| Some((self.generation_batch_size? / self.batch_size).max(1)))
            .unwrap_or(self.gradient_accumulation_steps)
    }

    /// Groups sampled at once.
    pub fn groups_per_generation(&self) -> usize {
        self.generation_batch_size() / self.num_generations
    }

    /// Updates that one pass over a generation makes.
    pub fn updates_per_generation(&self) -> usize {
        self.steps_per_generation() / self.gradient_accumulation_steps
    }

    /// Completions sampled at once.
    pub fn generation_batch_size(&self) -> usize {
        self.generation_batch_size.unwrap_or_else(|| self.batch_size * self.steps_per_generation())
    }
}
