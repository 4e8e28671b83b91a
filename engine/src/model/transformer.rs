//! The layers. Everything works on flat batches of tokens; see [`Layout`].

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{ModelConfig, Precision};
use crate::ops::{self, Layout, RopeTable, TokenLogps};

/// A decoder-only transformer: RMSNorm, rotary positions, grouped-query attention, SwiGLU.
///
/// Field names are those of Hugging Face's checkpoints, so that a parameter's path is its name there.
#[derive(Module, Debug)]
pub struct Transformer {
    /// Token embeddings; also the output projection where they are tied.
    pub embed_tokens: Embedding,
    /// The layers, first to last.
    pub layers: Vec<Layer>,
    /// Norm behind the last layer.
    pub norm: Norm,
    /// Output projection, where it is not the embedding: `[vocab_size, hidden_size]`.
    pub lm_head: Option<Embedding>,
    /// Its shape.
    #[module(skip)]
    pub config: ModelConfig,
    #[module(skip)]
    rope: Arc<RopeTable>,
    /// What projections are multiplied in; the weights themselves, and all else, stay f32.
    #[module(skip)]
    compute: Precision,
}

/// A matrix with a row for each token.
#[derive(Module, Debug)]
pub struct Embedding {
    /// Shape `[vocab_size, hidden_size]`.
    pub weight: Param<Tensor<2>>,
}

/// RMSNorm.
#[derive(Module, Debug)]
pub struct Norm {
    /// Shape `[hidden_size]`.
    pub weight: Param<Tensor<1>>,
}

/// One layer.
#[derive(Module, Debug)]
pub struct Layer {
    /// Norm before attention.
    pub input_layernorm: Norm,
    /// Attention.
    pub self_attn: Attention,
    /// Norm before the feed-forward layer.
    pub post_attention_layernorm: Norm,
    /// Feed-forward layer.
    pub mlp: Mlp,
}

/// Projections of grouped-query attention. Weights are `[in, out]`, as in burn.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[hidden_size, heads * head_dim]`
    pub q_proj: Linear,
    /// `[hidden_size, key_value_heads * head_dim]`
    pub k_proj: Linear,
    /// `[hidden_size, key_value_heads * head_dim]`
    pub v_proj: Linear,
    /// `[heads * head_dim, hidden_size]`
    pub o_proj: Linear,
}

/// Feed-forward layer: `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[hidden_size, intermediate_size]`
    pub gate_proj: Linear,
    /// `[hidden_size, intermediate_size]`
    pub up_proj: Linear,
    /// `[intermediate_size, hidden_size]`
    pub down_proj: Linear,
}

impl ModelConfig {
    /// A model with fresh weights: normal with [`initializer_range`](Self::initializer_range), the projections into the
    /// residual stream smaller by `sqrt(2 * layers)`, norms 1, biases 0.
    ///
    /// Drawn on the host, in the order of the parameters' names: the same seed gives the same weights on every device.
    pub fn init(&self, seed: u64, device: &Device) -> Transformer {
        let mut draw = Draw { random: ChaCha8Rng::seed_from_u64(seed), device: device.clone() };
        let std = self.initializer_range;
        let residual = std / (2.0 * self.num_hidden_layers as f64).sqrt();
        let width = self.hidden_size;
        let query = self.num_attention_heads * self.head_dim;
        let key_value = self.num_key_value_heads * self.head_dim;
        let inner = self.intermediate_size;
        let embed_tokens = Embedding { weight: draw.matrix(self.vocab_size, width, std) };
        let layers = (0..self.num_hidden_layers)
            .map(|_| Layer {
                input_layernorm: draw.norm(width),
                self_attn: Attention {
                    q_proj: draw.linear(width, query, self.attention_bias, std),
                    k_proj: draw.linear(width, key_value, self.attention_bias, std),
                    v_proj: draw.linear(width, key_value, self.attention_bias, std),
                    o_proj: draw.linear(query, width, false, residual),
                },
                post_attention_layernorm: draw.norm(width),
                mlp: Mlp {
                    gate_proj: draw.linear(width, inner, false, std),
                    up_proj: draw.linear(width, inner, false, std),
                    down_proj: draw.linear(inner, width, false, residual),
                },
            })
            .collect();
        Transformer {
            embed_tokens,
            layers,
            norm: draw.norm(width),
            lm_head: (!self.tie_word_embeddings)
                .then(|| Embedding { weight: draw.matrix(self.vocab_size, width, std) }),
            rope: Arc::new(RopeTable::new(self.rope_theta, self.head_dim, self.max_position_embeddings)),
            config: self.clone(),
            compute: Precision::F32,
        }
    }
}

impl Transformer {
    /// Multiplies projections in this precision (mixed precision): inputs and weights are rounded for the product alone.
    /// Master weights, gradients, norms, attention and log-probabilities stay f32. On GPUs with tensor cores that is
    /// where the time goes; on a CPU it costs time. `f16` has no loss scaling here: prefer `bf16`, whose range is f32's.
    pub fn with_compute(mut self, precision: Precision) -> Self {
        self.compute = precision;
        self
    }

    /// Final hidden states of a flat batch, after the last norm: `[tokens, hidden_size]`.
    ///
    /// Panics where a sequence is longer than `max_position_embeddings`: callers check, as only they can cut.
    pub fn forward(&self, tokens: Tensor<1, Int>, layout: &Arc<Layout>) -> Tensor<2> {
        self.forward_seen(tokens, layout, |_, _, _| ())
    }

    /// [`Self::forward`]; tells each layer's keys (turned by their positions) and values, `[tokens, key_value_heads * head_dim]`.
    pub fn forward_seen(
        &self,
        tokens: Tensor<1, Int>,
        layout: &Arc<Layout>,
        mut seen: impl FnMut(usize, &Tensor<2>, &Tensor<2>),
    ) -> Tensor<2> {
        self.check_length(layout.longest());
        let positions: Arc<[usize]> = layout.positions().into();
        self.run(tokens, &positions, |index, query, key, value| {
            seen(index, &key, &value);
            ops::attention(query, key, value, self.config.heads(), layout)
        })
    }

    /// The layers around any attention: `attend(layer, query, key, value)`, the first two turned by position already.
    pub(super) fn run(
        &self,
        tokens: Tensor<1, Int>,
        positions: &Arc<[usize]>,
        mut attend: impl FnMut(usize, Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let epsilon = self.config.rms_norm_eps;
        let mut x = self.embed_tokens.weight.val().select(0, tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = ops::rms_norm(x.clone(), layer.input_layernorm.weight.val(), epsilon);
            let query = ops::rope(self.project(&layer.self_attn.q_proj, normed.clone()), &self.rope, positions);
            let key = ops::rope(self.project(&layer.self_attn.k_proj, normed.clone()), &self.rope, positions);
            let value = self.project(&layer.self_attn.v_proj, normed);
            x = x + self.project(&layer.self_attn.o_proj, attend(index, query, key, value));
            let normed = ops::rms_norm(x.clone(), layer.post_attention_layernorm.weight.val(), epsilon);
            let gate = self.project(&layer.mlp.gate_proj, normed.clone());
            x = x + self.project(&layer.mlp.down_proj, ops::swiglu(gate, self.project(&layer.mlp.up_proj, normed)));
        }
        ops::rms_norm(x, self.norm.weight.val(), epsilon)
    }

    /// Scores of all tokens for hidden states: `[tokens, hidden_size]` to `[tokens, vocab_size]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        hidden.matmul(self.output_weight().transpose())
    }

    /// Log-probabilities of `targets` under `softmax(logits / temperature)` for hidden states `[tokens, hidden_size]`,
    /// without the logits being kept.
    pub fn token_logps(&self, hidden: Tensor<2>, targets: Tensor<1, Int>, temperature: f32) -> TokenLogps {
        ops::token_logps(hidden, self.output_weight(), targets, temperature)
    }

    /// The device that its weights are on, autodiff included.
    pub fn device(&self) -> Device {
        self.embed_tokens.weight.val().device()
    }

    /// Panics when a sequence is too long for the rotary table.
    pub(super) fn check_length(&self, longest: usize) {
        let most = self.rope.positions();
        assert!(longest <= most, "a sequence of {longest} tokens in a model for {most}");
    }

    fn project(&self, linear: &Linear, x: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = (linear.weight.val(), linear.bias.as_ref().map(|bias| bias.val()));
        let low = match self.compute {
            Precision::F32 => return ops::linear(x, weight, bias),
            Precision::F16 => FloatDType::F16,
            Precision::Bf16 => FloatDType::BF16,
        };
        let product = x.cast(low).matmul(weight.cast(low)).cast(FloatDType::F32);
        match bias {
            Some(bias) => product + bias.unsqueeze(),
            None => product,
        }
    }

    fn output_weight(&self) -> Tensor<2> {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens).weight.val()
    }
}

/// Token ids as a tensor `[tokens]`.
pub fn token_tensor(tokens: &[u32], device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
    Tensor::from_data(TensorData::new(ids, [tokens.len()]), device)
}

/// Fresh weights from one stream of random numbers.
struct Draw {
    random: ChaCha8Rng,
    device: Device,
}

impl Draw {
    fn matrix(&mut self, rows: usize, columns: usize, std: f64) -> Param<Tensor<2>> {
        let values: Vec<f32> = (0..rows * columns).map(|_| (self.normal() * std) as f32).collect();
        Param::from_data(TensorData::new(values, [rows, columns]), &self.device)
    }

    fn linear(&mut self, input: usize, output: usize, bias: bool, std: f64) -> Linear {
        let bias = bias.then(|| Param::from_tensor(Tensor::zeros([output], &self.device)));
        Linear { weight: self.matrix(input, output, std), bias }
    }

    fn norm(&self, width: usize) -> Norm {
        Norm { weight: Param::from_tensor(Tensor::ones([width], &self.device)) }
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        // In (0, 1]: the logarithm of 0 is no number.
        let mut uniform = || ((self.random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
        radius * angle.cos()
    }
}
