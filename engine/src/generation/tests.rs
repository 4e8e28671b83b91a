//! Batched decoding: what a sequence gets must not depend on its company.

use burn::tensor::Device;

use super::*;
use crate::model::{ModelConfig, Preset, Transformer};

fn model() -> Transformer {
    let shape = ModelConfig::preset(Preset::Nano, 48);
    ModelConfig { num_hidden_layers: 2, max_position_embeddings: 64, initializer_range: 0.15, ..shape }
        .init(5, &Device::flex())
}

fn options() -> GenerationOptions {
    GenerationOptions {
        sampling: SamplingOptions::default(),
        max_new_tokens: 20,
        stop_tokens: vec![3],
        seed: 11,
        constraint: None,
    }
}

fn run(groups: &[Group], options: &GenerationOptions) -> Vec<Vec<Completion>> {
    pollster::block_on(generate(&model(), groups, options, &Cancel::default(), |_| ())).unwrap()
}

fn group(prompt: &[u32], sequences: &[u64]) -> Group {
    Group { prompt: prompt.to_vec(), sequences: sequences.to_vec() }
}

#[test]
fn company_and_order_change_nothing() {
    let (first, second) = (group(&[5, 6, 7, 8], &[0, 1, 2, 3, 4, 5]), group(&[9, 10], &[6, 7]));
    let together = run(&[first.clone(), second.clone()], &options());
    assert_eq!(together.iter().map(Vec::len).collect::<Vec<_>>(), [6, 2]);
    let mut other_order = run(&[second, group(&[5, 6, 7, 8], &[5, 4, 3, 2, 1, 0])], &options());
    other_order.reverse();
    other_order[0].reverse();
    let tokens = |groups: &[Vec<Completion>]| -> Vec<Vec<u32>> {
        groups.iter().flatten().map(|completion| completion.tokens.clone()).collect()
    };
    assert_eq!(tokens(&together), tokens(&other_order));
    for (index, completion) in together[0].iter().enumerate() {
        let alone = run(&[group(&[5, 6, 7, 8], &[index as u64])], &options()).remove(0).remove(0);
        assert_eq!(alone.tokens, completion.tokens);
        for (alone, together) in alone.per_token_logps.iter().zip(&completion.per_token_logps) {
            assert!((alone - together).abs() < 1e-4);
        }
    }
    let lengths: Vec<usize> = together.iter().flatten().map(|c| c.tokens.len()).collect();
    assert!(lengths.iter().any(|length| *length < 20) && lengths.contains(&20), "some stop, some do not: {lengths:?}");
}

#[test]
fn log_probabilities_are_those_of_the_whole_sequence() {
    use crate::train::batch::{Batch, Sequence};
    let model = model();
    let options = GenerationOptions {
        sampling: SamplingOptions { temperature: 0.7, top_k: 20, ..SamplingOptions::default() },
        ..options()
    };
    let completion = run(&[group(&[5, 6, 7], &[9])], &options).remove(0).remove(0);
    let sequence = Sequence::new(vec![5, 6, 7], completion.tokens.clone());
    let found = crate::train::policy::token_logps(&model, &Batch::new(&[&sequence]), 0.7);
    let (logps, entropy) = (found.logps.into_data(), found.entropy.into_data());
    for (ours, whole) in completion.per_token_logps.iter().zip(logps.iter::<f32>()) {
        assert!((ours - whole).abs() < 1e-4, "{ours} and {whole}");
    }
    for (ours, whole) in completion.entropy.iter().zip(entropy.iter::<f32>()) {
        assert!((ours - whole).abs() < 1e-4, "{ours} and {whole}");
    }
}

#[test]
fn a_cancel_is_heard_within_a_token() {
    let cancel = Cancel::default();
    let mut steps = 0;
    let model = model();
    let groups = [group(&[5], &[0, 1])];
    let options = GenerationOptions { stop_tokens: vec![], ..options() };
    let work = generate(&model, &groups, &options, &cancel, |_| {
        steps += 1;
        if steps == 3 {
            cancel.cancel();
        }
    });
    let completions = pollster::block_on(work).unwrap();
    assert_eq!(steps, 3);
    for completion in &completions[0] {
        assert_eq!((completion.tokens.len(), completion.finish_reason), (3, FinishReason::Cancelled));
    }
}

#[test]
fn constraints_are_kept() {
    struct Even(TokenMask);
    impl Constraint for Even {
        fn allowed(&mut self) -> &TokenMask {
            &self.0
        }
        fn accept(&mut self, token: u32) {
            assert_eq!(token % 2, 0);
        }
    }
    let make = || {
        let mut mask = TokenMask::none(48);
        (0..48).step_by(2).for_each(|token| mask.allow(token));
        Box::new(Even(mask)) as Box<dyn Constraint>
    };
    let options = GenerationOptions { constraint: Some(std::sync::Arc::new(make)), ..options() };
    let completions = run(&[group(&[5, 6], &[0, 1, 2])], &options);
    assert!(completions[0].iter().flat_map(|completion| &completion.tokens).all(|token| token % 2 == 0));
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let refused = |prompt: &[u32]| {
        let groups = [group(prompt, &[0])];
        Generation::start(&model(), &groups, &options()).err().unwrap().to_string()
    };
    assert!(refused(&[]).contains("prompt 0 is empty"));
    assert!(refused(&[1; 50]).contains("has 50 tokens; with 20 new ones that is more than the model's 64 positions"));
}
