//! Toy tasks: copying and addition, made from a seed and checked by a program.
//!
//! Small enough to be learnt in minutes on a CPU, hard enough that a broken loss shows. Texts only: tokens are made
//! elsewhere.

use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Which task, and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToyTask {
    /// Repeat a string: `cabd=` to `cabd`.
    Copy {
        /// Symbols in a string at least.
        min_length: usize,
        /// Symbols in a string at most.
        max_length: usize,
        /// How many different symbols there are, letters from `a` on; at most 26.
        symbols: usize,
    },
    /// Add two numbers: `17+5=` to `22`.
    Addition {
        /// Digits of each number at most; at most 9.
        digits: usize,
    },
}

/// A question and its only right answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Example {
    /// What the model reads.
    pub prompt: String,
    /// What it should write, before the token that ends it.
    pub answer: String,
}

/// Examples to learn from, and others to be tested on: no prompt is in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToyData {
    /// To learn from; a prompt may repeat where there are few.
    pub train: Vec<Example>,
    /// Held out; no prompt repeats.
    pub eval: Vec<Example>,
}

impl ToyTask {
    /// Examples by seed: `eval` held out first, at most half of all there are, then `train` others.
    ///
    /// Panics for sizes that make no task: no symbols, more than 26, no digits, more than 9, lengths out of order.
    pub fn examples(&self, train: usize, eval: usize, seed: u64) -> ToyData {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut held_out = HashSet::new();
        let mut data = ToyData { train: Vec::with_capacity(train), eval: Vec::new() };
        let most = usize::try_from(self.count() / 2).unwrap_or(usize::MAX);
        while data.eval.len() < eval.min(most) {
            let example = self.example(&mut random);
            if held_out.insert(example.prompt.clone()) {
                data.eval.push(example);
            }
        }
        while data.train.len() < train {
            let example = self.example(&mut random);
            if !held_out.contains(&example.prompt) {
                data.train.push(example);
            }
        }
        data
    }

    /// How many different prompts there are.
    fn count(&self) -> u128 {
        match *self {
            Self::Copy { min_length, max_length, symbols } => {
                (min_length..=max_length).map(|length| (symbols as u128).saturating_pow(length as u32)).sum()
            }
            Self::Addition { digits } => 10u128.pow(2 * digits as u32),
        }
    }

    fn example(&self, random: &mut ChaCha8Rng) -> Example {
        let mut below = |count: u64| random.next_u64() % count;
        match *self {
            Self::Copy { min_length, max_length, symbols } => {
                assert!((1..=26).contains(&symbols) && min_length <= max_length, "sizes of a copying task");
                let length = min_length as u64 + below((max_length - min_length + 1) as u64);
                let answer: String = (0..length).map(|_| char::from(b'a' + below(symbols as u64) as u8)).collect();
                Example { prompt: format!("{answer}="), answer }
            }
            Self::Addition { digits } => {
                assert!((1..=9).contains(&digits), "sizes of an addition task");
                let (left, right) = (below(10u64.pow(digits as u32)), below(10u64.pow(digits as u32)));
                Example { prompt: format!("{left}+{right}="), answer: (left + right).to_string() }
            }
        }
    }
}

/// Names of the rewards that [`rewards`] gives, in its order.
pub const REWARD_NAMES: [&str; 2] = ["exact", "graded"];

/// Rewards of a completion: `exact`, 1 for the right answer; `graded`, the share of its characters that stand in the right
/// place, counted from the end (as digits of a sum are), over the longer of both lengths. An unfinished completion earns
/// nothing.
pub fn rewards(answer: &str, completion: &str, finished: bool) -> [f64; 2] {
    if !finished {
        return [0.0; 2];
    }
    let right = answer.bytes().rev().zip(completion.bytes().rev()).filter(|(answer, found)| answer == found).count();
    let longer = answer.len().max(completion.len()).max(1);
    [f64::from(u8::from(answer == completion)), right as f64 / longer as f64]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKS: [ToyTask; 3] = [
        ToyTask::Copy { min_length: 1, max_length: 6, symbols: 8 },
        ToyTask::Addition { digits: 2 },
        ToyTask::Copy { min_length: 1, max_length: 1, symbols: 4 },
    ];

    #[test]
    fn what_is_held_out_is_never_trained_on() {
        for task in TASKS {
            let data = task.examples(300, 40, 5);
            assert_eq!(data, task.examples(300, 40, 5));
            assert_ne!(data.train, task.examples(300, 40, 6).train);
            let held_out: HashSet<&String> = data.eval.iter().map(|example| &example.prompt).collect();
            assert_eq!(held_out.len(), data.eval.len());
            assert!(data.train.len() == 300 && !data.train.iter().any(|example| held_out.contains(&example.prompt)));
        }
        assert_eq!(TASKS[2].examples(3, 40, 5).eval.len(), 2, "half of the four prompts");
    }

    #[test]
    fn answers_are_right() {
        for example in TASKS[1].examples(50, 10, 1).train {
            let (left, right) = example.prompt.trim_end_matches('=').split_once('+').unwrap();
            let sum: u64 = left.parse::<u64>().unwrap() + right.parse::<u64>().unwrap();
            assert_eq!(example.answer, sum.to_string());
            assert_eq!(rewards(&example.answer, &sum.to_string(), true), [1.0, 1.0]);
        }
    }

    #[test]
    fn half_right_is_worth_something_and_rambling_nothing() {
        assert_eq!(rewards("46", "56", true), [0.0, 0.5]);
        assert_eq!(rewards("146", "46", true), [0.0, 2.0 / 3.0]);
        assert_eq!(rewards("46", "461", true), [0.0, 0.0]);
        assert_eq!(rewards("46", "46", false), [0.0, 0.0], "the end is part of the answer");
        assert_eq!(rewards("46", "", true), [0.0, 0.0]);
        // Repeating digits does not pay: the longer text is what counts.
        assert!(rewards("46", "46464646", true)[1] < 0.3);
    }
}
