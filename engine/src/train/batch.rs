//! Sequences to flat batches: what the model reads, and which of its predictions carry loss.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ops::Layout;

/// A sequence of which some tokens are to be predicted.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sequence {
    /// Tokens that are only read. The model computes them once for all sequences of a batch that begin with the same.
    pub prompt: Vec<u32>,
    /// Tokens behind the prompt.
    pub completion: Vec<u32>,
    /// Of each token of the completion, whether the model is to predict it: false for what tools and users wrote.
    pub loss_mask: Vec<bool>,
}

impl Sequence {
    /// A prompt and a completion that carries loss as a whole.
    pub fn new(prompt: Vec<u32>, completion: Vec<u32>) -> Self {
        let loss_mask = vec![true; completion.len()];
        Self { prompt, completion, loss_mask }
    }

    /// Tokens of both parts.
    pub fn len(&self) -> usize {
        self.prompt.len() + self.completion.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens that carry loss. The first token of a sequence is never predicted.
    pub fn loss_tokens(&self) -> usize {
        let first = usize::from(self.prompt.is_empty());
        self.loss_mask.iter().skip(first).filter(|carries| **carries).count()
    }
}

/// Sequences as the model reads them: flat, without padding, equal prompts once.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Tokens to read, `[tokens]`. A sequence's last token is left out, as nothing is predicted from it.
    pub tokens: Vec<u32>,
    /// Where sequences lie in `tokens`.
    pub layout: Arc<Layout>,
    /// For each prediction that carries loss, the place in `tokens` from which it is made, `[n]`. Sequence by sequence.
    pub sources: Vec<u32>,
    /// For each, the token that should come, `[n]`.
    pub targets: Vec<u32>,
    /// For each sequence, how many of the `n` are its own.
    pub sequence_lengths: Vec<usize>,
}

impl Batch {
    /// Lays sequences out. Prompts that several share come first and once.
    pub fn new(sequences: &[&Sequence]) -> Self {
        let mut batch = Self {
            tokens: Vec::new(),
            layout: Arc::default(),
            sources: Vec::new(),
            targets: Vec::new(),
            sequence_lengths: Vec::new(),
        };
        let mut layout = Layout::new();
        let mut prompts: HashMap<&[u32], usize> = HashMap::new();
        for sequence in sequences {
            let prompt = &sequence.prompt[..];
            let parent = (!prompt.is_empty()).then(|| {
                *prompts.entry(prompt).or_insert_with(|| {
                    batch.tokens.extend(prompt);
                    layout.push(prompt.len(), None)
                })
            });
            let completion = &sequence.completion;
            let start = batch.tokens.len();
            let read = completion.len().saturating_sub(1);
            if read > 0 {
                batch.tokens.extend(&completion[..read]);
                layout.push(read, parent);
            }
            // From where a completion's token is predicted: the first from the prompt's end, the others from the one before.
            let end_of_prompt = parent.map(|parent| {
                let segment = layout.segments()[parent];
                segment.start + segment.len - 1
            });
            let sources = std::iter::once(end_of_prompt).chain((0..read).map(|i| Some(start + i)));
            let before = batch.sources.len();
            for ((source, &target), &carries) in sources.zip(completion).zip(&sequence.loss_mask) {
                if let (Some(source), true) = (source, carries) {
                    batch.sources.push(source as u32);
                    batch.targets.push(target);
                }
            }
            batch.sequence_lengths.push(batch.sources.len() - before);
        }
        batch.layout = layout.shared();
        batch
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prompts_are_read_once_and_predictions_know_their_source() {
        let first = Sequence::new(vec![1, 2, 3], vec![4, 5, 6]);
        let second = Sequence { loss_mask: vec![true, false], ..Sequence::new(vec![1, 2, 3], vec![7, 8]) };
        let third = Sequence::new(vec![9], vec![10]);
        let batch = Batch::new(&[&first, &second, &third]);
        assert_eq!(batch.tokens, [1, 2, 3, 4, 5, 7, 9]);
        assert_eq!(batch.sources, [2, 3, 4, 2, 6]);
        assert_eq!(batch.targets, [4, 5, 6, 7, 10]);
        assert_eq!(batch.sequence_lengths, [3, 1, 1]);
        assert_eq!(batch.layout.positions(), [0, 1, 2, 3, 4, 3, 0]);
    }

    #[test]
    fn a_first_token_is_never_predicted() {
        let whole = Sequence::new(vec![], vec![5, 6, 7]);
        assert_eq!(whole.loss_tokens(), 2);
        let batch = Batch::new(&[&whole]);
        assert_eq!((batch.tokens, batch.sources, batch.targets), (vec![5, 6], vec![0, 1], vec![6, 7]));
    }

    proptest! {
        #[test]
        fn predictions_are_those_of_the_plain_sequence(
            lengths in prop::collection::vec((0usize..6, 1usize..8, 0u32..3), 1..6),
            mask in prop::collection::vec(any::<bool>(), 48),
        ) {
            let sequences: Vec<Sequence> = lengths
                .iter()
                .enumerate()
                .map(|(index, &(prompt, completion, kind))| Sequence {
                    prompt: (0..prompt as u32).map(|i| kind * 10 + i).collect(),
                    completion: (0..completion as u32).map(|i| 100 + i).collect(),
                    loss_mask: mask[index * 8..index * 8 + completion].to_vec(),
                })
                .collect();
            let references: Vec<&Sequence> = sequences.iter().collect();
            let batch = Batch::new(&references);
            prop_assert_eq!(batch.tokens.len(), batch.layout.tokens());
            let positions = batch.layout.positions();
            let mut next = 0;
            for (sequence, &count) in sequences.iter().zip(&batch.sequence_lengths) {
                prop_assert_eq!(count, sequence.loss_tokens());
                let whole = [&sequence.prompt[..], &sequence.completion].concat();
                for at in 1..whole.len() {
                    let carries = at >= sequence.prompt.len() && sequence.loss_mask[at - sequence.prompt.len()];
                    if carries {
                        let source = batch.sources[next] as usize;
                        prop_assert_eq!(batch.targets[next], whole[at]);
                        prop_assert_eq!(batch.tokens[source], whole[at - 1]);
                        prop_assert_eq!(positions[source], at - 1);
                        next += 1;
                    }
                }
            }
            prop_assert_eq!(next, batch.targets.len());
        }
    }
}
