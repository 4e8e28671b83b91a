//! Where sequences lie in a flat batch of tokens.

use std::sync::Arc;

/// A run of tokens in a flat batch, which may continue another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of its first token in the flat batch.
    pub start: usize,
    /// How many tokens it has.
    pub len: usize,
    /// The segment it continues: all of that one's tokens (and of what that one continues) come before its own. Rollouts
    /// of one group name their prompt here, so that the prompt is computed once.
    pub parent: Option<usize>,
    /// Position of its first token in its sequence, from 0: the tokens of all its ancestors.
    pub position: usize,
}

/// Where sequences lie in a flat batch `[tokens]`: no padding between them, and a prefix that several share is there once.
///
/// A token sees the tokens of its own segment up to itself, and all tokens of its segment's ancestors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    segments: Vec<Segment>,
    tokens: usize,
}

impl Layout {
    /// A layout without tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Independent sequences of these lengths, one after the other.
    pub fn of_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut layout = Self::new();
        for len in lengths {
            layout.push(len, None);
        }
        layout
    }

    /// Adds a segment behind the last one; returns its index.
    ///
    /// Panics if `parent` is not there yet.
    pub fn push(&mut self, len: usize, parent: Option<usize>) -> usize {
        let position = parent.map_or(0, |parent| self.segments[parent].position + self.segments[parent].len);
        self.segments.push(Segment { start: self.tokens, len, parent, position });
        self.tokens += len;
        self.segments.len() - 1
    }

    /// All segments, in the order of the flat batch.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Tokens in the flat batch.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The token ranges that a segment's first token sees before itself, as `(start, len)`, root first.
    pub fn context(&self, segment: usize) -> Vec<(usize, usize)> {
        let mut ranges = Vec::new();
        let mut next = self.segments[segment].parent;
        while let Some(parent) = next {
            ranges.push((self.segments[parent].start, self.segments[parent].len));
            next = self.segments[parent].parent;
        }
        ranges.reverse();
        ranges
    }

    /// Position of each token in its sequence, `[tokens]`.
    pub fn positions(&self) -> Vec<usize> {
        self.segments.iter().flat_map(|segment| segment.position..segment.position + segment.len).collect()
    }

    /// The longest sequence, ancestors included.
    pub fn longest(&self) -> usize {
        self.segments.iter().map(|segment| segment.position + segment.len).max().unwrap_or(0)
    }

    /// For operators, which keep it until their backward pass.
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_there_once() {
        let mut layout = Layout::new();
        let prompt = layout.push(3, None);
        let first = layout.push(2, Some(prompt));
        let second = layout.push(1, Some(prompt));
        let reply = layout.push(2, Some(second));
        assert_eq!(layout.tokens(), 8);
        assert_eq!(layout.positions(), [0, 1, 2, 3, 4, 3, 4, 5]);
        assert_eq!(layout.context(prompt), []);
        assert_eq!(layout.context(first), [(0, 3)]);
        assert_eq!(layout.context(reply), [(0, 3), (5, 1)]);
        assert_eq!(layout.longest(), 6);
    }
}
