//! Sampling against Hugging Face transformers' logits warpers, frozen by `tests/parity/sampling_vectors.py`.

use parl_mt::generation::{Sampler, SamplingOptions, SequenceRng};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    options: SamplingOptions,
    logits: Vec<f32>,
    kept: Vec<u32>,
    probabilities: Vec<f64>,
    logps: Vec<f64>,
    entropy: f64,
}

#[test]
fn the_same_tokens_are_kept_with_the_same_probabilities() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../data/parity/sampling.json")).unwrap();
    assert!(cases.len() > 20);
    for (index, case) in cases.iter().enumerate() {
        let mut sampler = Sampler::new(case.options).unwrap();
        let (kept, probabilities): (Vec<_>, Vec<_>) =
            sampler.distribution(&case.logits, None).unwrap().into_iter().unzip();
        assert_eq!(kept, case.kept, "case {index}: {:?}", case.options);
        for (ours, theirs) in probabilities.iter().zip(&case.probabilities) {
            assert!((ours - theirs).abs() < 1e-6, "case {index}: {ours} is not {theirs}");
        }
        for sequence in 0..20 {
            let sampled = sampler.sample(&case.logits, None, &mut SequenceRng::new(1, sequence)).unwrap();
            assert!((f64::from(sampled.logp) - case.logps[sampled.token as usize]).abs() < 1e-5, "case {index}");
            assert!((f64::from(sampled.entropy) - case.entropy).abs() < 1e-5, "case {index}");
        }
    }
}
