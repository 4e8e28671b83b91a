//! Keys and values kept while tokens are generated.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};

use super::{Transformer, token_tensor};
use crate::ops::{self, Layout};

/// Keys and values of one layer.
#[derive(Debug)]
struct LayerCache {
    /// Of the prompts, `[prompt_tokens, key_value_heads * head_dim]`: each prompt is there once, whatever the number of
    /// rows that continue it.
    prompt_key: Tensor<2>,
    prompt_value: Tensor<2>,
    /// Of the tokens generated since, `[rows, max_new_tokens, key_value_heads * head_dim]`: a row is read in the order of
    /// memory. `None` only while it is being written to: its tensor is then uniquely owned, and burn writes in place.
    own_key: Option<Tensor<3>>,
    own_value: Option<Tensor<3>>,
}

/// What a batch of rows has seen: prompts, shared by the rows that continue them, and what each row generated.
///
/// Made by [`Transformer::prefill`], fed by [`Transformer::decode`].
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    /// Of each row, where its prompt lies: `(start, len)`.
    prompts: Arc<[(usize, usize)]>,
    /// Tokens that every row has generated so far.
    own_len: usize,
    /// Room for generated tokens.
    capacity: usize,
}

impl KvCache {
    /// Rows being generated.
    pub fn rows(&self) -> usize {
        self.prompts.len()
    }

    /// Tokens that every row has generated so far.
    pub fn generated(&self) -> usize {
        self.own_len
    }

    /// Keeps these rows, in this order. Memory is freed only for what rows generated; prompts stay.
    pub fn keep_rows(&mut self, rows: &[usize]) {
        let indices: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        for layer in &mut self.layers {
            for own in [&mut layer.own_key, &mut layer.own_value] {
                let tensor = own.take().expect("only `append` takes it");
                let indices = Tensor::<1, Int>::from_data(TensorData::from(&indices[..]), &tensor.device());
                *own = Some(tensor.select(0, indices));
            }
        }
        self.prompts = rows.iter().map(|&row| self.prompts[row]).collect();
    }
}

impl LayerCache {
    /// Writes a step's keys and values, `[rows, key_value_heads * head_dim]`.
    fn append(&mut self, step: usize, key: Tensor<2>, value: Tensor<2>) {
        let [rows, width] = key.dims();
        for (own, new) in [(&mut self.own_key, key), (&mut self.own_value, value)] {
            let tensor = own.take().expect("only `append` takes it");
            *own = Some(tensor.slice_assign([0..rows, step..step + 1, 0..width], new.unsqueeze_dim(1)));
        }
    }
}

impl Transformer {
    /// Reads prompts, each once, for rows that continue them.
    ///
    /// `rows[i]` is the prompt that row `i` continues; `max_new_tokens` is the room for what rows will generate.
    /// Returns the logits after each prompt, `[prompts, vocab_size]`, and the cache. For models without autodiff
    /// ([`Module::valid`](burn::module::Module::valid)).
    ///
    /// Panics for empty prompts and where a sequence can become longer than `max_position_embeddings`.
    pub fn prefill(&self, prompts: &[&[u32]], rows: &[usize], max_new_tokens: usize) -> (Tensor<2>, KvCache) {
        assert!(prompts.iter().all(|prompt| !prompt.is_empty()), "a prompt needs at least one token");
        let device = self.device();
        let layout = Layout::of_lengths(prompts.iter().map(|prompt| prompt.len())).shared();
        self.check_length(layout.longest() + max_new_tokens);
        let tokens = token_tensor(&prompts.concat(), &device);
        let width = self.config.num_key_value_heads * self.config.head_dim;
        let mut layers = Vec::with_capacity(self.layers.len());
        let hidden = self.forward_seen(tokens, &layout, |_, key, value| {
            let own = || Some(Tensor::zeros([rows.len(), max_new_tokens, width], &device));
            let (prompt_key, prompt_value) = (key.clone(), value.clone());
            layers.push(LayerCache { prompt_key, prompt_value, own_key: own(), own_value: own() });
        });
        let last: Vec<i32> = layout.segments().iter().map(|s| (s.start + s.len - 1) as i32).collect();
        let last = hidden.select(0, Tensor::from_data(TensorData::from(&last[..]), &device));
        let place = |&prompt: &usize| (layout.segments()[prompt].start, layout.segments()[prompt].len);
        let prompts = rows.iter().map(place).collect();
        (self.logits(last), KvCache { layers, prompts, own_len: 0, capacity: max_new_tokens })
    }

    /// Adds one token to every row, `tokens[row]`; returns the logits after it, `[rows, vocab_size]`.
    ///
    /// Panics where the cache is full.
    pub fn decode(&self, tokens: &[u32], cache: &mut KvCache) -> Tensor<2> {
        assert_eq!(tokens.len(), cache.rows(), "one token per row");
        assert!(cache.own_len < cache.capacity, "the cache has room for {} new tokens", cache.capacity);
        let step = cache.own_len;
        let positions: Arc<[usize]> = cache.prompts.iter().map(|(_, len)| len + step).collect();
        let (layers, prompts) = (&mut cache.layers, &cache.prompts);
        let hidden = self.run(token_tensor(tokens, &self.device()), &positions, |index, query, key, value| {
            let layer = &mut layers[index];
            layer.append(step, key, value);
            let own = |own: &Option<Tensor<3>>| own.clone().expect("`append` put it back");
            let (own_key, own_value) = (own(&layer.own_key), own(&layer.own_value));
            let (key, value) = (layer.prompt_key.clone(), layer.prompt_value.clone());
            ops::decode_attention(query, key, value, own_key, own_value, self.config.heads(), prompts, step + 1)
        });
        cache.own_len += 1;
        self.logits(hidden)
    }
}
