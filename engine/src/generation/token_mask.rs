//! Which tokens may come next: one bit per token id.

/// A set of token ids of a vocabulary, as bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenMask {
    words: Vec<u64>,
    vocab_size: usize,
}

impl TokenMask {
    /// No token of `vocab_size`.
    pub fn none(vocab_size: usize) -> Self {
        Self { words: vec![0; vocab_size.div_ceil(64)], vocab_size }
    }

    /// Every token of `vocab_size`.
    pub fn all(vocab_size: usize) -> Self {
        let mut mask = Self { words: vec![u64::MAX; vocab_size.div_ceil(64)], vocab_size };
        if let (Some(last), rest @ 1..) = (mask.words.last_mut(), vocab_size % 64) {
            *last = (1 << rest) - 1;
        }
        mask
    }

    /// Number of tokens that the mask speaks of: the length of a row of logits.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Adds a token. Panics if it is not in the vocabulary.
    pub fn allow(&mut self, token: u32) {
        assert!((token as usize) < self.vocab_size, "token {token} of a vocabulary of {}", self.vocab_size);
        self.words[token as usize / 64] |= 1 << (token % 64);
    }

    /// Whether the token is in the set; false outside the vocabulary.
    pub fn is_allowed(&self, token: u32) -> bool {
        self.words.get(token as usize / 64).is_some_and(|word| word >> (token % 64) & 1 == 1)
    }

    /// Number of tokens in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The tokens of the set, ascending.
    pub fn tokens(&self) -> impl Iterator<Item = u32> + '_ {
        (0_u32..).step_by(64).zip(&self.words).flat_map(|(first, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.wrapping_sub(1);
                (bit < 64).then(|| first + bit)
            })
        })
    }

    /// 64 tokens a word, the lowest id in the lowest bit.
    pub fn words(&self) -> &[u64] {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_a_set_of_token_ids() {
        for vocab_size in [0, 1, 63, 64, 65, 130] {
            assert_eq!(TokenMask::all(vocab_size).count(), vocab_size);
            assert_eq!(TokenMask::all(vocab_size).tokens().count(), vocab_size);
            assert_eq!(TokenMask::none(vocab_size).count(), 0);
        }
        let mut mask = TokenMask::none(130);
        for token in [129, 0, 64, 63] {
            mask.allow(token);
        }
        assert_eq!(mask.tokens().collect::<Vec<_>>(), [0, 63, 64, 129]);
        assert!(mask.is_allowed(64) && !mask.is_allowed(65) && !mask.is_allowed(1000));
    }
}
