//! Which tokens of a vocabulary a grammar allows.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use super::machine::{self, Frame, Inner, Part};
use super::{Grammar, GrammarState};
use crate::generation::{Constraint, TokenMask};

/// The bytes of each token, arranged as a trie.
#[derive(Debug)]
pub struct TokenVocabulary {
    /// The texts one after the other; token `t` has `bytes[starts[t]..starts[t + 1]]`.
    bytes: Vec<u8>,
    starts: Vec<u32>,
    end_tokens: Vec<u32>,
    /// In depth-first order.
    nodes: Vec<Node>,
    /// Tokens of the nodes, in their order.
    tokens: Vec<u32>,
    depth: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    byte: u8,
    /// Number of bytes from the root, this one included.
    depth: u32,
    /// The next node that does not start with the bytes of this one.
    skip: u32,
    /// Range in `tokens`: texts that end here.
    tokens: (u32, u32),
}

impl TokenVocabulary {
    /// From the bytes of each token by id, `None` for special tokens (and for ids that the model has but the tokenizer
    /// has not): they never come within a grammar. Tokens without a byte do not either. `end_tokens` end the text where
    /// the grammar can end.
    ///
    /// Whatever the tokenizer, a byte must be spelled by some token of its own where a grammar is to be followed at all
    /// times; byte-level vocabularies have these.
    pub fn new(token_bytes: &[Option<Vec<u8>>], end_tokens: &[u32]) -> Self {
        let mut bytes = Vec::new();
        let mut starts = vec![0];
        for token in token_bytes {
            bytes.extend(token.iter().flatten());
            starts.push(bytes.len() as u32);
        }
        let mut sorted: Vec<(&[u8], u32)> = (0..)
            .zip(token_bytes)
            .filter_map(|(token, bytes)| Some((bytes.as_deref()?, token)))
            .filter(|(bytes, _)| !bytes.is_empty())
            .collect();
        sorted.sort_unstable();

        let mut nodes: Vec<Node> = Vec::new();
        let mut tokens = Vec::with_capacity(sorted.len());
        // Nodes of the text before, from the root.
        let mut path: Vec<usize> = Vec::new();
        let mut before: &[u8] = &[];
        let close = |nodes: &mut Vec<Node>, path: &mut Vec<usize>, depth: usize| {
            let skip = nodes.len() as u32;
            for index in path.drain(depth..) {
                nodes[index].skip = skip;
            }
        };
        for (text, token) in sorted {
            let common = before.iter().zip(text).take_while(|(a, b)| a == b).count();
            close(&mut nodes, &mut path, common);
            for (index, &byte) in text.iter().enumerate().skip(common) {
                path.push(nodes.len());
                let at = tokens.len() as u32;
                nodes.push(Node { byte, depth: index as u32 + 1, skip: 0, tokens: (at, at) });
            }
            tokens.push(token);
            let last = *path.last().expect("the text is not empty");
            nodes[last].tokens.1 = tokens.len() as u32;
            before = text;
        }
        close(&mut nodes, &mut path, 0);
        let depth = nodes.iter().map(|node| node.depth as usize).max().unwrap_or(0);
        Self { bytes, starts, end_tokens: end_tokens.to_vec(), nodes, tokens, depth }
    }

    /// Number of tokens.
    pub fn size(&self) -> usize {
        self.starts.len() - 1
    }

    /// A token's bytes; empty for special tokens and outside the vocabulary.
    pub fn bytes(&self, token: u32) -> &[u8] {
        let token = token as usize;
        match (self.starts.get(token), self.starts.get(token + 1)) {
            (Some(&start), Some(&end)) => &self.bytes[start as usize..end as usize],
            _ => &[],
        }
    }

    /// Whether the token ends a text.
    pub fn is_end(&self, token: u32) -> bool {
        self.end_tokens.contains(&token)
    }

    /// Visits the tokens of the trie, `advance` telling at each node (by its depth and byte) whether to go on below it.
    fn visit(&self, mut advance: impl FnMut(usize, u8, &[u32]) -> bool) {
        let mut index = 0;
        while let Some(node) = self.nodes.get(index) {
            let tokens = &self.tokens[node.tokens.0 as usize..node.tokens.1 as usize];
            index = if advance(node.depth as usize, node.byte, tokens) { index + 1 } else { node.skip as usize };
        }
    }
}

impl GrammarState {
    /// Goes on by a token. False, and nothing changes, where it may not come. An end token changes nothing: it is
    /// accepted where the text can end.
    pub fn advance_token(&mut self, vocabulary: &TokenVocabulary, token: u32) -> bool {
        if vocabulary.is_end(token) {
            return self.can_end();
        }
        let bytes = vocabulary.bytes(token);
        !bytes.is_empty() && self.advance_all(bytes)
    }
}

/// Masks kept for states that come again; more are forgotten all at once. Of a vocabulary of 32,000, 4 KiB each.
const MAX_CACHED: usize = 2048;

/// The masks of one grammar over one vocabulary.
///
/// A mask is found by walking the trie of the vocabulary with the state, so that tokens with the same beginning share
/// the work and refused beginnings cost nothing more. Within strings and free text almost every token may come: what
/// stays within is found once for all strings, and only tokens that contain the end are tried in their place.
#[derive(Debug)]
pub struct TokenMasks {
    grammar: Grammar,
    vocabulary: Arc<TokenVocabulary>,
    cache: FxHashMap<Vec<Frame>, Arc<TokenMask>>,
    /// By the frame of the text and the part of the grammar that it stands in.
    within: FxHashMap<(Frame, Frame), Within>,
    /// One stack per depth of the trie.
    stacks: Vec<Vec<Frame>>,
}

/// What may come in a string or free text, wherever that is.
#[derive(Debug)]
struct Within {
    /// Tokens after which it goes on.
    stays: TokenMask,
    /// Tokens with its end in them.
    leaves: Vec<u32>,
}

impl TokenMasks {
    /// For states of this grammar.
    pub fn new(grammar: &Grammar, vocabulary: Arc<TokenVocabulary>) -> Self {
        let stacks = vec![Vec::new(); vocabulary.depth + 1];
        Self { grammar: grammar.clone(), vocabulary, cache: FxHashMap::default(), within: FxHashMap::default(), stacks }
    }

    /// The vocabulary.
    pub fn vocabulary(&self) -> &Arc<TokenVocabulary> {
        &self.vocabulary
    }

    /// The tokens that may come next: those whose bytes the grammar takes, and the end tokens where it can end. Panics
    /// if the state is of another grammar.
    pub fn mask(&mut self, state: &GrammarState) -> Arc<TokenMask> {
        assert!(state.grammar.is_same(&self.grammar), "a state of another grammar");
        if let Some(mask) = self.cache.get(&state.stack) {
            return Arc::clone(mask);
        }
        let mut mask = self.compute(&state.stack);
        if state.can_end() {
            self.vocabulary.end_tokens.iter().for_each(|&token| mask.allow(token));
        }
        let mask = Arc::new(mask);
        if self.cache.len() >= MAX_CACHED {
            self.cache.clear();
        }
        self.cache.insert(state.stack.clone(), Arc::clone(&mask));
        mask
    }

    fn compute(&mut self, stack: &[Frame]) -> TokenMask {
        let parts = &self.grammar.parts;
        if let Some(&frame) = stack.last()
            && machine::is_self_contained(frame)
        {
            let vocabulary = &self.vocabulary;
            let within =
                self.within.entry((frame, stack[0])).or_insert_with(|| Within::new(parts, stack, frame, vocabulary));
            let mut mask = within.stays.clone();
            let try_out = &mut self.stacks[0];
            for &token in &within.leaves {
                try_out.clear();
                try_out.extend_from_slice(stack);
                if vocabulary.bytes(token).iter().all(|&byte| machine::advance(parts, try_out, byte)) {
                    mask.allow(token);
                }
            }
            return mask;
        }
        let mut mask = TokenMask::none(self.vocabulary.size());
        let stacks = &mut self.stacks;
        stacks[0].clear();
        stacks[0].extend_from_slice(stack);
        self.vocabulary.visit(|depth, byte, tokens| {
            let (above, below) = stacks.split_at_mut(depth);
            below[0].clone_from(&above[depth - 1]);
            let is_accepted = machine::advance(parts, &mut below[0], byte);
            if is_accepted {
                tokens.iter().for_each(|&token| mask.allow(token));
            }
            is_accepted
        });
        mask
    }
}

/// Holds one sequence to a grammar. Sequences of one grammar share its masks.
#[derive(Clone, Debug)]
pub struct GrammarConstraint {
    masks: Arc<Mutex<TokenMasks>>,
    vocabulary: Arc<TokenVocabulary>,
    state: GrammarState,
    allowed: Arc<TokenMask>,
}

impl GrammarConstraint {
    /// From the beginning of the grammar that the masks are of.
    pub fn new(masks: &Arc<Mutex<TokenMasks>>) -> Self {
        let mut locked = masks.lock().unwrap_or_else(PoisonError::into_inner);
        let state = GrammarState::new(&locked.grammar);
        let allowed = locked.mask(&state);
        let vocabulary = Arc::clone(&locked.vocabulary);
        Self { masks: Arc::clone(masks), vocabulary, state, allowed }
    }

    /// Where the sequence is.
    pub fn state(&self) -> &GrammarState {
        &self.state
    }
}

impl Constraint for GrammarConstraint {
    fn allowed(&mut self) -> &TokenMask {
        &self.allowed
    }

    /// Panics if the token was not allowed.
    fn accept(&mut self, token: u32) {
        assert!(self.state.advance_token(&self.vocabulary, token), "token {token} was not allowed");
        self.allowed = self.masks.lock().unwrap_or_else(PoisonError::into_inner).mask(&self.state);
    }
}

impl Within {
    fn new(parts: &[Part], stack: &[Frame], frame: Frame, vocabulary: &TokenVocabulary) -> Self {
        let mut within = Self { stays: TokenMask::none(vocabulary.size()), leaves: Vec::new() };
        // Per depth; nothing where the text is left.
        let mut frames = vec![Some(frame); vocabulary.depth + 1];
        vocabulary.visit(|depth, byte, tokens| {
            frames[depth] = match frames[depth - 1].map(|frame| machine::advance_within(parts, stack, frame, byte)) {
                Some(Inner::Refuses) => return false,
                Some(Inner::Stays(frame)) => Some(frame),
                Some(Inner::Leaves) | None => None,
            };
            match frames[depth] {
                Some(_) => tokens.iter().for_each(|&token| within.stays.allow(token)),
                None => within.leaves.extend(tokens),
            }
            true
        });
        within
    }
}
