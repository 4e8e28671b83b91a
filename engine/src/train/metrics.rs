//! What is measured while training: names (TRL's), units and meanings.
//!
//! Each constant below is a name in [`Metrics`]; [`METRICS`] is the same as a table, for the page and for `parl runs show`. A mean
//! "over tokens" is over the tokens that carry loss: for GRPO the sampled ones.

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name, its unit and its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricInfo {
    /// The name in events, such as `reward_std`. `{name}` stands for the name of a reward.
    pub name: &'static str,
    /// The unit; empty for plain numbers.
    pub unit: &'static str,
    /// What it is, in one sentence.
    pub meaning: &'static str,
}

macro_rules! metrics {
    ($( $constant:ident = $name:literal, $unit:literal, $meaning:literal; )*) => {
        $(
            #[doc = $meaning]
            #[doc = concat!("\n\nUnit: ", $unit)]
            pub const $constant: &str = $name;
        )*

        /// Every metric, in the order in which they are shown.
        pub const METRICS: &[MetricInfo] = &[$( MetricInfo { name: $name, unit: $unit, meaning: $meaning }, )*];
    };
}

metrics! {
    LOSS = "loss", "nats", "The loss that the update minimised: for SFT the mean negative log-probability over tokens.";
    REWARD = "reward", "", "Mean reward of the completions of the step, before any scaling.";
    REWARD_STD = "reward_std", "", "Standard deviation (n - 1) of the rewards of all completions of the step.";
    REWARDS_MEAN = "rewards/{name}/mean", "", "Mean of one reward term.";
    REWARDS_STD = "rewards/{name}/std", "", "Standard deviation (n - 1) of one reward term.";
    FRAC_REWARD_ZERO_STD = "frac_reward_zero_std", "share",
        "Share of the completions whose group has equal rewards and so teaches nothing.";
    COMPLETIONS_MEAN_LENGTH = "completions/mean_length", "tokens", "Mean length of the completions.";
    COMPLETIONS_MIN_LENGTH = "completions/min_length", "tokens", "Length of the shortest completion.";
    COMPLETIONS_MAX_LENGTH = "completions/max_length", "tokens", "Length of the longest completion.";
    COMPLETIONS_MEAN_TERMINATED_LENGTH = "completions/mean_terminated_length", "tokens",
        "Mean length of the completions that ended by themselves.";
    COMPLETIONS_MIN_TERMINATED_LENGTH = "completions/min_terminated_length", "tokens",
        "Length of the shortest completion that ended by itself.";
    COMPLETIONS_MAX_TERMINATED_LENGTH = "completions/max_terminated_length", "tokens",
        "Length of the longest completion that ended by itself.";
    COMPLETIONS_CLIPPED_RATIO = "completions/clipped_ratio", "share",
        "Share of the completions that were cut at the length limit.";
    DROPPED_GROUPS = "dynamic_sampling/dropped_groups", "groups",
        "Groups with equal rewards in whose place dynamic sampling drew others.";
    CLIP_RATIO_LOW_MEAN = "clip_ratio/low_mean", "share",
        "Share of tokens with a negative advantage whose ratio is below 1 - epsilon, so that they are clipped.";
    CLIP_RATIO_HIGH_MEAN = "clip_ratio/high_mean", "share",
        "Share of tokens with a positive advantage whose ratio is above 1 + epsilon_high, so that they are clipped.";
    CLIP_RATIO_REGION_MEAN = "clip_ratio/region_mean", "share", "Share of tokens that are clipped on either side.";
    ENTROPY = "entropy", "nats", "Mean entropy of the model's distribution over tokens.";
    KL = "kl", "nats", "Mean of exp(d) - d - 1 over tokens, d = log reference - log policy: an estimate of KL(policy, reference).";
    MEAN_TOKEN_ACCURACY = "mean_token_accuracy", "share", "Share of tokens to which the model gives the highest probability.";
    GRAD_NORM = "grad_norm", "", "Norm of all gradients together, before clipping.";
    LEARNING_RATE = "learning_rate", "", "Learning rate of the update.";
    EPOCH = "epoch", "epochs", "How often the data has been gone through.";
    ROLLOUT_TIME = "rollout_time", "s", "Time that sampling and scoring took in this step.";
    STEP_TIME = "step_time", "s", "Time that the step took, generation included.";
    NUM_TOKENS = "num_tokens", "tokens", "Tokens that the model has been trained on since the run began, prompts included.";
    TOKENS_PER_SECOND = "tokens_per_second", "tokens/s", "Tokens of the step by its time.";
    MEMORY = "memory", "bytes", "The most memory that the process has held so far, where the system tells it.";
    EVAL_LOSS = "eval_loss", "nats", "Mean negative log-probability over the tokens of the examples held out.";
    EVAL_REWARD = "eval_reward", "", "Mean reward on the examples held out, with greedy completions.";
}

/// The name of a reward term's mean: `rewards/{name}/mean`.
pub fn reward_mean(name: &str) -> String {
    REWARDS_MEAN.replace("{name}", name)
}

/// The name of a reward term's standard deviation: `rewards/{name}/std`.
pub fn reward_std(name: &str) -> String {
    REWARDS_STD.replace("{name}", name)
}

/// What is known of a metric by its name in an event. What is measured on held-out examples has the name of the same metric
/// in training after `eval_`.
pub fn info(name: &str) -> Option<&'static MetricInfo> {
    known(name).or_else(|| known(name.strip_prefix("eval_")?))
}

fn known(name: &str) -> Option<&'static MetricInfo> {
    METRICS.iter().find(|metric| match metric.name.split_once("{name}") {
        None => metric.name == name,
        Some((start, end)) => name.len() > start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
    })
}

/// Values by name, in the order in which they were set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(IndexMap<String, f64>);

impl Metrics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a value; a name that is there keeps its place.
    pub fn set(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), value);
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, &value)| (name.as_str(), value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>> FromIterator<(N, f64)> for Metrics {
    fn from_iter<I: IntoIterator<Item = (N, f64)>>(values: I) -> Self {
        Self(values.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

// JSON has no infinity and no NaN, but a loss that has become one of them must show: they are written as text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum JsonNumber {
    Finite(f64),
    Other(String),
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, &value)| {
            let value =
                if value.is_finite() { JsonNumber::Finite(value) } else { JsonNumber::Other(value.to_string()) };
            (name, value)
        }))
    }
}

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = IndexMap::<String, JsonNumber>::deserialize(deserializer)?;
        let number = |value| match value {
            JsonNumber::Finite(value) => Ok(value),
            // Only what is written above; other text is a mistake in the file.
            JsonNumber::Other(text) if ["NaN", "inf", "-inf"].contains(&text.as_str()) => {
                text.parse().map_err(serde::de::Error::custom)
            }
            JsonNumber::Other(text) => Err(serde::de::Error::custom(format!("{text:?} is not a number"))),
        };
        values.into_iter().map(|(name, value)| Ok((name, number(value)?))).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_does_not_know_survive() {
        let metrics: Metrics =
            [("loss", f64::NAN), ("grad_norm", f64::INFINITY), ("kl", f64::NEG_INFINITY), ("reward", 0.1 + 0.2)]
                .into_iter()
                .collect();
        let json = serde_json::to_string(&metrics).unwrap();
        assert_eq!(json, r#"{"loss":"NaN","grad_norm":"inf","kl":"-inf","reward":0.30000000000000004}"#);
        let read: Metrics = serde_json::from_str(&json).unwrap();
        assert!(read.get("loss").unwrap().is_nan());
        assert_eq!(read.get("kl"), Some(f64::NEG_INFINITY));
        assert_eq!(read.get("reward"), Some(0.1 + 0.2));
        assert!(serde_json::from_str::<Metrics>(r#"{"loss": "1.5"}"#).is_err());
    }

    #[test]
    fn a_reward_term_has_the_meaning_of_its_pattern() {
        assert_eq!(info(&reward_mean("format")).unwrap().meaning, "Mean of one reward term.");
        assert_eq!(info(&reward_std("a/b")).unwrap().name, REWARDS_STD);
        assert_eq!(info("rewards//mean"), None);
        assert_eq!(info(TOKENS_PER_SECOND).unwrap().unit, "tokens/s");
        assert_eq!(info("eval_rewards/exact/mean").unwrap().name, REWARDS_MEAN);
        assert_eq!(info(EVAL_LOSS).unwrap().name, EVAL_LOSS);
        assert_eq!(info("nothing"), None);
    }
}
