//! What a model looks like: one type for Qwen2.5, Llama, SmolLM2 and our small presets.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::ops::Heads;

/// Architectures whose checkpoints can be read and written. They differ in the bias of the query, key and value
/// projections alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelType {
    /// Qwen2 and Qwen2.5: biased query, key and value projections.
    Qwen2,
    /// Llama and SmolLM2: no biases.
    Llama,
}

/// Our own sizes, small enough for a CPU or a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// About 0.3 million parameters with a vocabulary of 1,024: for tests and the page.
    Nano,
    /// About 1 million.
    Micro,
    /// About 5 million.
    Mini,
}

impl Preset {
    /// All of them, smallest first.
    pub const ALL: [Self; 3] = [Self::Nano, Self::Micro, Self::Mini];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nano => "nano",
            Self::Micro => "micro",
            Self::Mini => "mini",
        }
    }
}

/// Shape of a decoder-only transformer. Field names are those of Hugging Face's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Architecture.
    pub model_type: ModelType,
    /// Tokens that it knows.
    pub vocab_size: usize,
    /// Width of the residual stream, `d_model`.
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Bias of the query, key and value projections.
    pub attention_bias: bool,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
}

/// A `config.json` that this engine cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON.
    #[error("config.json is not valid JSON: {0}. Copy it again from the model's repository.")]
    Json(#[from] serde_json::Error),
    /// A field is missing or of the wrong type.
    #[error("config.json has no usable `{field}`: expected {expected}, found {found}.")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Something this engine does not implement.
    #[error(
        "config.json asks for {what}, which is not supported. Supported are Qwen2/Qwen2.5 and Llama/SmolLM2 models {remedy}."
    )]
    Unsupported {
        /// What it is.
        what: String,
        /// What to choose instead.
        remedy: &'static str,
    },
}

impl ModelConfig {
    /// One of our sizes for a vocabulary. Llama's architecture with tied embeddings, so that any Hugging Face tool reads it.
    pub fn preset(preset: Preset, vocab_size: usize) -> Self {
        let (hidden_size, intermediate_size, layers, heads, key_value_heads) = match preset {
            Preset::Nano => (64, 176, 4, 4, 2),
            Preset::Micro => (128, 352, 5, 4, 2),
            Preset::Mini => (256, 704, 7, 8, 4),
        };
        Self {
            model_type: ModelType::Llama,
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: key_value_heads,
            head_dim: hidden_size / heads,
            attention_bias: false,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            max_position_embeddings: 4096,
            tie_word_embeddings: true,
            initializer_range: 0.02,
        }
    }

    /// Reads Hugging Face's `config.json`.
    pub fn from_hugging_face(text: &str) -> Result<Self, ConfigError> {
        let value: Value = serde_json::from_str(text)?;
        let empty = Map::new();
        let fields = value.as_object().unwrap_or(&empty);
        let number = |field: &'static str| -> Result<usize, ConfigError> {
            optional_number(fields, field)?.ok_or_else(|| wrong(fields, field, "a whole number"))
        };
        let model_type = match fields.get("model_type").and_then(Value::as_str) {
            Some("qwen2") => ModelType::Qwen2,
            Some("llama") => ModelType::Llama,
            Some(other) => {
                return Err(ConfigError::Unsupported { what: format!("the architecture `{other}`"), remedy: "today" });
            }
            None => return Err(wrong(fields, "model_type", "\"qwen2\" or \"llama\"")),
        };
        let flag = |field: &str, default: bool| fields.get(field).and_then(Value::as_bool).unwrap_or(default);
        if fields.get("hidden_act").and_then(Value::as_str).is_some_and(|name| name != "silu") {
            return Err(ConfigError::Unsupported {
                what: format!("hidden_act {}", fields["hidden_act"]),
                remedy: "with silu",
            });
        }
        if flag("use_sliding_window", false) {
            return Err(ConfigError::Unsupported { what: "sliding window attention".into(), remedy: "without it" });
        }
        if flag("mlp_bias", false) || (model_type == ModelType::Llama && flag("attention_bias", false)) {
            return Err(ConfigError::Unsupported { what: "biases in Llama".into(), remedy: "without them" });
        }
        // transformers 5 groups what belongs to rotary embeddings; version 4 had two fields.
        let rope = fields.get("rope_parameters").or_else(|| fields.get("rope_scaling")).and_then(Value::as_object);
        let kind = rope.and_then(|rope| rope.get("rope_type").or_else(|| rope.get("type"))).and_then(Value::as_str);
        if kind.is_some_and(|kind| kind != "default") {
            let what = format!("rotary embeddings of type `{}`", kind.unwrap_or_default());
            return Err(ConfigError::Unsupported { what, remedy: "with plain rotary embeddings" });
        }
        let theta = fields.get("rope_theta").or_else(|| rope.and_then(|rope| rope.get("rope_theta")));
        let float = |value: Option<&Value>, default: f64| value.and_then(Value::as_f64).unwrap_or(default);
        let hidden_size = number("hidden_size")?;
        let num_attention_heads = number("num_attention_heads")?;
        let num_key_value_heads = optional_number(fields, "num_key_value_heads")?.unwrap_or(num_attention_heads);
        let head_dim = optional_number(fields, "head_dim")?;
        if num_attention_heads == 0 || num_key_value_heads == 0 || num_attention_heads % num_key_value_heads != 0 {
            return Err(wrong(fields, "num_key_value_heads", "a divisor of num_attention_heads"));
        }
        let head_dim = head_dim.unwrap_or(hidden_size / num_attention_heads);
        if head_dim == 0 || head_dim % 2 != 0 {
            return Err(wrong(fields, "head_dim", "an even number"));
        }
        Ok(Self {
            model_type,
            vocab_size: number("vocab_size")?,
            hidden_size,
            intermediate_size: number("intermediate_size")?,
            num_hidden_layers: number("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            attention_bias: model_type == ModelType::Qwen2,
            rms_norm_eps: float(fields.get("rms_norm_eps"), 1e-6),
            rope_theta: float(theta, 10_000.0),
            max_position_embeddings: optional_number(fields, "max_position_embeddings")?.unwrap_or(2048),
            tie_word_embeddings: flag("tie_word_embeddings", false),
            initializer_range: float(fields.get("initializer_range"), 0.02),
        })
    }

    /// As Hugging Face's `config.json`.
    pub fn to_hugging_face(&self) -> Value {
        let (model_type, architecture) = match self.model_type {
            ModelType::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
            ModelType::Llama => ("llama", "LlamaForCausalLM"),
        };
        json!({
            "architectures": [architecture],
            "model_type": model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_parameters": { "rope_type": "default", "rope_theta": self.rope_theta },
            "max_position_embeddings": self.max_position_embeddings,
            "tie_word_embeddings": self.tie_word_embeddings,
            "initializer_range": self.initializer_range,
            "use_cache": true,
        })
    }

    /// The heads of its attention layers.
    pub fn heads(&self) -> Heads {
        Heads { query: self.num_attention_heads, key_value: self.num_key_value_heads, dim: self.head_dim }
    }

    /// Weights that training changes; a tied output projection counts once.
    pub fn num_parameters(&self) -> usize {
        let query = self.num_attention_heads * self.head_dim;
        let key_value = self.num_key_value_heads * self.head_dim;
        let bias = if self.attention_bias { query + 2 * key_value } else { 0 };
        let attention = self.hidden_size * (2 * query + 2 * key_value) + bias;
        let layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size;
        let embeddings = self.vocab_size * self.hidden_size * if self.tie_word_embeddings { 1 } else { 2 };
        embeddings + self.num_hidden_layers * layer + self.hidden_size
    }
}

fn optional_number(fields: &Map<String, Value>, field: &'static str) -> Result<Option<usize>, ConfigError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|number| usize::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(fields, field, "a whole number")),
        },
    }
}

fn wrong(fields: &Map<String, Value>, field: &'static str, expected: &'static str) -> ConfigError {
    let found = fields.get(field).map_or_else(|| "nothing".to_owned(), Value::to_string);
    ConfigError::Field { field, expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_the_promised_sizes() {
        let sizes = Preset::ALL.map(|preset| ModelConfig::preset(preset, 1024).num_parameters());
        assert!((200_000..400_000).contains(&sizes[0]), "{sizes:?}");
        assert!((800_000..1_300_000).contains(&sizes[1]), "{sizes:?}");
        assert!((4_000_000..6_000_000).contains(&sizes[2]), "{sizes:?}");
    }

    #[test]
    fn hugging_face_configs_survive_both_ways() {
        for model_type in [ModelType::Llama, ModelType::Qwen2] {
            let bias = model_type == ModelType::Qwen2;
            let config = ModelConfig { model_type, attention_bias: bias, ..ModelConfig::preset(Preset::Nano, 512) };
            let text = config.to_hugging_face().to_string();
            assert_eq!(ModelConfig::from_hugging_face(&text).unwrap(), config);
        }
    }

    #[test]
    fn what_cannot_run_is_refused_with_a_reason() {
        let refused = |text: &str| ModelConfig::from_hugging_face(text).unwrap_err().to_string();
        assert!(refused("{").contains("not valid JSON"));
        assert!(refused("[]").contains("no usable `model_type`"));
        assert!(refused(r#"{"model_type": "gpt2"}"#).contains("`gpt2`"));
        let mut config = ModelConfig::preset(Preset::Nano, 512).to_hugging_face();
        config["rope_parameters"] = json!({"rope_type": "llama3", "rope_theta": 1.0});
        assert!(refused(&config.to_string()).contains("`llama3`"));
        config["rope_parameters"] = Value::Null;
        config["num_key_value_heads"] = json!(3);
        assert!(refused(&config.to_string()).contains("divisor of num_attention_heads, found 3"));
        config["num_key_value_heads"] = json!(-1);
        assert!(refused(&config.to_string()).contains("found -1"));
    }
}
