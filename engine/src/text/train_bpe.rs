//! Learning the merges of a byte pair encoding.
//!
//! Hugging Face's trainer walks hash maps with random seeds; where two ways lead to the same token, its merges can come out in
//! another order on another run. Ours gives the same merges for the same words, always and everywhere: words are sorted, and
//! among equally frequent pairs the one with the smaller ids wins (which is Hugging Face's rule as well).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

type Pair = (u32, u32);

/// The pairs to merge, in order, each with the token that it makes.
///
/// `words` maps a word, as tokens of one character each, to its count. `tokens` holds the vocabulary so far by id and grows up to
/// `vocab_size`; pairs seen fewer than `min_frequency` times are left alone.
pub(super) fn learn_merges(
    words: &BTreeMap<Vec<u32>, u64>,
    tokens: &mut Vec<String>,
    vocab_size: usize,
    min_frequency: u64,
) -> Vec<Pair> {
    let mut ids: FxHashMap<String, u32> = FxHashMap::default();
    for (token, id) in tokens.iter().zip(0..) {
        ids.insert(token.clone(), id);
    }
    let mut words: Vec<(Vec<u32>, u64)> = words.iter().map(|(word, &count)| (word.clone(), count)).collect();
    let mut pairs = PairCounts::default();
    for (index, (word, count)) in words.iter().enumerate() {
        for pair in word.windows(2) {
            pairs.add((pair[0], pair[1]), *count, index);
        }
    }
    let mut merges = Vec::new();
    while tokens.len() < vocab_size {
        let Some((pair, occurrences)) = pairs.take_most_frequent(min_frequency.max(1)) else { break };
        let merged_text = format!("{}{}", tokens[pair.0 as usize], tokens[pair.1 as usize]);
        let merged = *ids.entry(merged_text).or_insert_with_key(|text| {
            tokens.push(text.clone());
            u32::try_from(tokens.len() - 1).expect("a vocabulary fits into u32")
        });
        merges.push(pair);
        for index in occurrences {
            let (word, count) = &mut words[index];
            for pair in word.windows(2) {
                pairs.remove((pair[0], pair[1]), *count, index);
            }
            merge(word, pair, merged);
            for pair in word.windows(2) {
                pairs.add((pair[0], pair[1]), *count, index);
            }
        }
    }
    merges
}

/// Replaces each occurrence of the pair, from left to right.
fn merge(word: &mut Vec<u32>, pair: Pair, merged: u32) {
    let mut kept = 0;
    let mut read = 0;
    while read < word.len() {
        let found = read + 1 < word.len() && (word[read], word[read + 1]) == pair;
        word[kept] = if found { merged } else { word[read] };
        read += if found { 2 } else { 1 };
        kept += 1;
    }
    word.truncate(kept);
}

/// How often each pair occurs and in which words, with the most frequent one at hand.
#[derive(Default)]
struct PairCounts {
    counts: FxHashMap<Pair, u64>,
    words: FxHashMap<Pair, BTreeSet<usize>>,
    ranked: BTreeSet<(u64, Reverse<Pair>)>,
}

impl PairCounts {
    fn add(&mut self, pair: Pair, count: u64, word: usize) {
        let before = self.counts.get(&pair).copied().unwrap_or(0);
        self.set(pair, before, before + count);
        self.words.entry(pair).or_default().insert(word);
    }

    fn remove(&mut self, pair: Pair, count: u64, word: usize) {
        // A pair that was just taken is no longer here.
        let Some(&before) = self.counts.get(&pair) else { return };
        self.set(pair, before, before - count);
        // The word may hold the pair several times: all of them are removed before any is added.
        if let Some(words) = self.words.get_mut(&pair) {
            words.remove(&word);
        }
    }

    fn set(&mut self, pair: Pair, before: u64, after: u64) {
        self.ranked.remove(&(before, Reverse(pair)));
        if after == 0 {
            self.counts.remove(&pair);
        } else {
            self.counts.insert(pair, after);
            self.ranked.insert((after, Reverse(pair)));
        }
    }

    fn take_most_frequent(&mut self, at_least: u64) -> Option<(Pair, BTreeSet<usize>)> {
        let &(count, Reverse(pair)) = self.ranked.last()?;
        if count < at_least {
            return None;
        }
        self.ranked.pop_last();
        self.counts.remove(&pair);
        Some((pair, self.words.remove(&pair).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_pair_is_merged_first_and_smaller_ids_break_ties() {
        let mut tokens: Vec<String> = ["a", "b", "c"].map(String::from).into();
        // ab 5 times, bc 5 times, ca once.
        let words = BTreeMap::from([(vec![0, 1, 2], 4), (vec![0, 1], 1), (vec![1, 2, 0], 1)]);
        let merges = learn_merges(&words, &mut tokens, 6, 1);
        assert_eq!(merges, [(0, 1), (3, 2), (1, 2)]);
        assert_eq!(tokens, ["a", "b", "c", "ab", "abc", "bc"]);
    }

    #[test]
    fn overlapping_pairs_are_merged_from_the_left() {
        let mut word = vec![7, 7, 7, 1, 7, 7];
        merge(&mut word, (7, 7), 9);
        assert_eq!(word, [9, 7, 1, 9]);
    }
}
