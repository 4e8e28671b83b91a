//! Conversations as token ids that only ever grow.
//!
//! A conversation is never tokenised as a whole. Each piece that joins it (the messages up to a reply, the opening of a reply, what was
//! said, what closes it) is tokenised alone and appended. So the ids that a model sampled stay as sampled, and a
//! demonstration is cut into tokens in the same places as a reply that is sampled: training and sampling see the same ids.
//!
//! This is for byte-level tokenizers. One that puts a space in front of every text (SentencePiece in Llama 2) would do so before each
//! piece.

use std::ops::Range;
use std::sync::Arc;

use super::error::TextError;
use super::template::{ChatTemplate, suffix_of};
use super::tokenizer::Tokenizer;
use crate::message::{Message, Role};
use crate::tool::ToolSpec;

/// Token ids, and which of them carry loss.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSequence {
    /// The tokens. Shape `[tokens]`.
    pub ids: Vec<u32>,
    /// Whether the model said this token: an assistant's text or the token that ends it. Shape `[tokens]`.
    ///
    /// `loss_mask[i]` is about predicting `ids[i]`, from the tokens before it.
    pub loss_mask: Vec<bool>,
}

impl TokenSequence {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Appends tokens that all carry loss, or none of them.
    pub fn extend(&mut self, ids: &[u32], has_loss: bool) {
        self.ids.extend_from_slice(ids);
        self.loss_mask.resize(self.ids.len(), has_loss);
    }

    /// Where the tokens with loss are: one range for each reply, in order.
    pub fn replies(&self) -> Vec<Range<usize>> {
        let mut start = 0;
        let mut replies = Vec::new();
        for run in self.loss_mask.chunk_by(|left, right| left == right) {
            if run[0] {
                replies.push(start..start + run.len());
            }
            start += run.len();
        }
        replies
    }

    /// The tokens with loss.
    pub fn loss_ids(&self) -> Vec<u32> {
        self.ids.iter().zip(&self.loss_mask).filter(|&(_, &has_loss)| has_loss).map(|(&id, _)| id).collect()
    }
}

/// A tokenizer and a chat template that fit together.
#[derive(Debug)]
pub struct ChatEncoder {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    /// What the template writes after an assistant's text.
    reply_end: String,
    /// Its tokens. The first is the one that a model must learn to say.
    reply_end_ids: Vec<u32>,
}

impl ChatEncoder {
    /// Finds out how the template ends a reply. An error if that does not begin with a special token of the tokenizer: nothing
    /// could tell a model to stop.
    pub fn new(tokenizer: Tokenizer, template: ChatTemplate) -> Result<Arc<Self>, TextError> {
        const PROBE: &str = "the reply";
        let conversation = [Message::user("the question"), Message::new(Role::Assistant, PROBE)];
        let text = template.render(&conversation, &[], false)?.text;
        let reply_end = text.rsplit_once(PROBE).map(|(_, end)| end.to_owned()).unwrap_or_default();
        let reply_end_ids = tokenizer.encode(&reply_end)?;
        match reply_end_ids.first() {
            Some(&id) if tokenizer.is_special(id) => Ok(Arc::new(Self { tokenizer, template, reply_end, reply_end_ids })),
            _ => Err(TextError::NoEndToken { found: reply_end }),
        }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The token that ends a reply: sampling stops at it.
    pub fn end_id(&self) -> u32 {
        self.reply_end_ids[0]
    }

    /// The tokens of a whole demonstration; its replies carry loss.
    pub fn encode(self: &Arc<Self>, messages: &[Message], tools: &[ToolSpec]) -> Result<TokenSequence, TextError> {
        let mut tokens = ChatTokens::new(self.clone(), tools.to_vec());
        for group in messages.chunk_by(|left, right| left.role != Role::Assistant && right.role != Role::Assistant) {
            match group {
                [reply] if reply.role == Role::Assistant => tokens.push_reply(reply.clone())?,
                context => tokens.push(context)?,
            }
        }
        Ok(tokens.into_sequence())
    }
}

/// A conversation that grows together with its tokens.
///
/// ```
/// # use parl_mt::message::{Message, Role};
/// # use parl_mt::text::{ChatTemplate, ChatTokens, TokenizerTrainer, sequence::ChatEncoder};
/// let tokenizer = TokenizerTrainer::new(300).train(["user assistant"])?;
/// let encoder = ChatEncoder::new(tokenizer, ChatTemplate::default())?;
/// let mut tokens = ChatTokens::new(encoder.clone(), Vec::new());
/// tokens.push(&[Message::user("2+2?")])?;
/// let prompt = tokens.open_reply()?;
/// # let _ = prompt;
/// // … sample from a model until `encoder.end_id()` …
/// let sampled = [encoder.tokenizer().encode("4")?, vec![encoder.end_id()]].concat();
/// tokens.push_sampled(&sampled, Message::new(Role::Assistant, "4"))?;
/// assert_eq!(tokens.sequence().loss_ids(), sampled);
/// # Ok::<(), parl_mt::text::TextError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTokens {
    encoder: Arc<ChatEncoder>,
    tools: Vec<ToolSpec>,
    messages: Vec<Message>,
    /// The messages rendered, with the opening of a reply if one is open.
    text: String,
    sequence: TokenSequence,
    is_reply_open: bool,
}

impl ChatTokens {
    /// An empty conversation. The tools stand at its start, so all of them must be known by then; announce later ones in a
    /// message.
    pub fn new(encoder: Arc<ChatEncoder>, tools: Vec<ToolSpec>) -> Self {
        Self {
            encoder,
            tools,
            messages: Vec::new(),
            text: String::new(),
            sequence: TokenSequence::default(),
            is_reply_open: false,
        }
    }

    /// Adds what others said, without loss. Give all messages up to the next reply at once: templates may put them
    /// into one block, as Qwen2.5's does with results.
    pub fn push(&mut self, messages: &[Message]) -> Result<(), TextError> {
        if self.is_reply_open {
            return Err(TextError::Order { message: "a reply is open: add it with push_sampled or push_reply first" });
        }
        if messages.iter().any(|message| message.role == Role::Assistant) {
            return Err(TextError::Order { message: "an assistant's message is added with push_reply or push_sampled" });
        }
        let mut all = self.messages.clone();
        all.extend_from_slice(messages);
        let text = self.encoder.template.render(&all, &self.tools, false)?.text;
        self.append(&text, all.len() - 1)?;
        (self.text, self.messages) = (text, all);
        Ok(())
    }

    /// Opens a reply, if none is open; all tokens so far are then the prompt to sample from.
    pub fn open_reply(&mut self) -> Result<&[u32], TextError> {
        if !self.is_reply_open {
            let text = self.encoder.template.render(&self.messages, &self.tools, true)?.text;
            self.append(&text, self.messages.len())?;
            (self.text, self.is_reply_open) = (text, true);
        }
        Ok(&self.sequence.ids)
    }

    /// Adds the reply that was sampled after [`Self::open_reply`]: `ids` as sampled, with loss, and what the template writes after them
    /// (the end token too, if it was not sampled), without.
    ///
    /// `message` is what the ids were understood as; the template needs it for later messages, and it is never tokenised.
    pub fn push_sampled(&mut self, ids: &[u32], message: Message) -> Result<(), TextError> {
        if !self.is_reply_open {
            return Err(TextError::Order { message: "no reply is open: call open_reply and sample from its tokens first" });
        }
        let text = self.close(message)?;
        let end = &self.encoder.reply_end_ids;
        let is_ended = ids.last() == end.first();
        self.sequence.extend(ids, true);
        self.sequence.extend(&end[usize::from(is_ended)..], false);
        self.text = text;
        Ok(())
    }

    /// Adds a reply as a demonstration: its text and its end token carry loss.
    pub fn push_reply(&mut self, message: Message) -> Result<(), TextError> {
        self.open_reply()?;
        let before = self.text.len();
        let text = self.close(message)?;
        let encoder = &self.encoder;
        let Some(said) = text[before..].strip_suffix(&encoder.reply_end) else {
            return Err(TextError::NoEndToken { found: text[before..].to_owned() });
        };
        let (end, rest) = encoder.reply_end_ids.split_at(1);
        self.sequence.extend(&encoder.tokenizer.encode(said)?, true);
        self.sequence.extend(end, true);
        self.sequence.extend(rest, false);
        self.text = text;
        Ok(())
    }

    /// The messages so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The tokens so far.
    pub fn sequence(&self) -> &TokenSequence {
        &self.sequence
    }

    /// The tokens.
    pub fn into_sequence(self) -> TokenSequence {
        self.sequence
    }

    /// Takes a reply's message; the text with it, which must continue what was there.
    fn close(&mut self, message: Message) -> Result<String, TextError> {
        if message.role != Role::Assistant {
            return Err(TextError::Order { message: "a reply is an assistant's message; add others with push" });
        }
        self.messages.push(message);
        let rendered = self.encoder.template.render(&self.messages, &self.tools, false);
        let checked = rendered.and_then(|rendered| {
            suffix_of(&rendered.text, &self.text, self.messages.len() - 1)?;
            Ok(rendered.text)
        });
        match checked {
            Ok(text) => {
                self.is_reply_open = false;
                Ok(text)
            }
            Err(error) => {
                self.messages.pop();
                Err(error)
            }
        }
    }

    /// Appends the tokens of what `text` has beyond the text so far.
    fn append(&mut self, text: &str, message: usize) -> Result<(), TextError> {
        let suffix = suffix_of(text, &self.text, message)?;
        self.sequence.extend(&self.encoder.tokenizer.encode(suffix)?, false);
        Ok(())
    }
}
