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
            Some(&id) if tokenizer.is_special(id) => {
                Ok(Arc::new(Self { tokenizer, template, reply_end, reply_end_ids }))
            }
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
            return Err(TextError::Order {
                message: "an assistant's message is added with push_reply or push_sampled",
            });
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
            return Err(TextError::Order {
                message: "no reply is open: call open_reply and sample from its tokens first",
            });
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value as Json, json};

    use super::*;
    use crate::text::tokenizer::TokenizerTrainer;
    use crate::tool::ToolCall;

    fn encoder() -> Arc<ChatEncoder> {
        static ENCODER: std::sync::OnceLock<Arc<ChatEncoder>> = std::sync::OnceLock::new();
        let encoder = ENCODER.get_or_init(|| {
            let text =
                "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n<|im_start|>tool\n<|im_start|>system\n".repeat(9);
            let tokenizer =
                TokenizerTrainer::new(600).train([text.as_str(), include_str!("sequence.rs")]).expect("trains");
            ChatEncoder::new(tokenizer, ChatTemplate::default()).expect("they fit")
        });
        encoder.clone()
    }

    fn text() -> impl Strategy<Value = String> {
        "[a-c0-9 \n\"'\\\\{}\\[\\]é🙂\r\t]{0,12}"
    }

    fn literal() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            (-1e9..1e9).prop_map(Json::from),
            text().prop_map(Json::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
                prop::collection::vec(("[a-z]{1,3}", inner), 0..3)
                    .prop_map(|entries| Json::Object(entries.into_iter().collect())),
            ]
        })
    }

    fn call() -> impl Strategy<Value = ToolCall> {
        ("[a-z]{1,5}", prop::collection::vec(("p_[a-z]{1,4}", literal()), 0..3))
            .prop_map(|(name, arguments)| ToolCall::new(name, arguments.into_iter().collect::<Map<_, _>>()))
    }

    /// Turns with steps: a reply with calls, its results; at last a reply without.
    fn conversation() -> impl Strategy<Value = Vec<Message>> {
        let step = (text(), prop::collection::vec((call(), text()), 1..3));
        let turn = (text(), prop::collection::vec(step, 0..3), text());
        (prop::option::of(text()), prop::collection::vec(turn, 1..3)).prop_map(|(system, turns)| {
            let mut messages: Vec<_> = system.into_iter().map(|text| Message::new(Role::System, text)).collect();
            for (question, steps, answer) in turns {
                messages.push(Message::user(question));
                for (said, calls) in steps {
                    let (calls, results): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
                    messages.push(Message { tool_calls: calls, ..Message::new(Role::Assistant, said) });
                    messages.extend(results.into_iter().map(|result| Message::new(Role::Tool, result)));
                }
                messages.push(Message::new(Role::Assistant, answer));
            }
            messages
        })
    }

    fn tools() -> Vec<ToolSpec> {
        let parameters = json!({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]});
        vec![ToolSpec { name: "f".into(), description: "Does f.".into(), parameters, response: None }]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn our_template_only_appends(messages in conversation()) {
            let template = ChatTemplate::default();
            template.check_prefix_preserving(&messages, &tools()).expect("only appends");
            // Message by message too, which is more than the check asks for.
            for end in 1..messages.len() {
                let before = template.render(&messages[..end], &[], false).expect("renders").text;
                prop_assert!(template.render(&messages[..=end], &[], false).expect("renders").text.starts_with(&before));
            }
        }

        #[test]
        fn tokens_with_loss_are_what_the_assistant_said(messages in conversation()) {
            let encoder = encoder();
            let sequence = encoder.encode(&messages, &tools()).expect("encodes");
            let rendered = encoder.template().render(&messages, &tools(), false).expect("renders");
            prop_assert_eq!(sequence.ids.len(), sequence.loss_mask.len());
            prop_assert_eq!(encoder.tokenizer().decode(&sequence.ids), rendered.text.as_str());
            let said: Vec<_> =
                sequence.replies().into_iter().map(|reply| encoder.tokenizer().decode(&sequence.ids[reply])).collect();
            let blocks: Vec<_> = rendered.generation.iter().map(|range| &rendered.text[range.clone()]).collect();
            prop_assert_eq!(&said, &blocks);
            let replies: Vec<_> = messages.iter().filter(|message| message.role == Role::Assistant).collect();
            prop_assert_eq!(said.len(), replies.len());
            for (said, reply) in said.iter().zip(replies) {
                prop_assert!(said.starts_with(&reply.content) && said.ends_with("<|im_end|>"));
                if reply.tool_calls.is_empty() {
                    prop_assert_eq!(said, &format!("{}<|im_end|>", reply.content));
                }
            }
        }

        #[test]
        fn call_lines_read_back_as_the_calls(call in call()) {
            let message = Message { tool_calls: vec![call.clone()], ..Message::new(Role::Assistant, "") };
            let text = ChatTemplate::default().render(&[message], &[], false).expect("renders").text;
            let line = text.split_once("<tool_call>").and_then(|(_, rest)| rest.rsplit_once("</tool_call>")).expect("a call").0;
            prop_assert!(!line.contains('\n'));
            let read = ToolCall::from_text(line);
            prop_assert_eq!(&read.name, &call.name);
            prop_assert_eq!(&read.arguments, &call.arguments, "{}", line);
        }

        #[test]
        fn sampled_tokens_are_kept(ids in prop::collection::vec(3_u32..600, 1..20), is_ended: bool) {
            let encoder = encoder();
            let vocab = u32::try_from(encoder.tokenizer().vocab_size()).expect("small");
            let mut ids: Vec<u32> = ids.into_iter().map(|id| id % (vocab - 3) + 3).collect();
            if is_ended {
                ids.push(encoder.end_id());
            }
            let mut tokens = ChatTokens::new(encoder.clone(), tools());
            tokens.push(&[Message::user("go")]).expect("fits");
            let prompt = tokens.open_reply().expect("opens").to_vec();
            prop_assert_eq!(tokens.open_reply().expect("is open"), &prompt[..]);
            tokens.push_sampled(&ids, Message::new(Role::Assistant, "understood otherwise")).expect("fits");
            tokens.push(&[Message::new(Role::Tool, "done")]).expect("fits");
            let sequence = tokens.into_sequence();
            prop_assert!(sequence.ids.starts_with(&prompt));
            prop_assert_eq!(sequence.loss_ids(), ids.clone());
            prop_assert_eq!(sequence.replies(), vec![prompt.len()..prompt.len() + ids.len()]);
            let rest = encoder.tokenizer().decode(&sequence.ids[prompt.len() + ids.len()..]);
            let end = if is_ended { "" } else { "<|im_end|>" };
            prop_assert_eq!(rest, format!("{end}\n<|im_start|>tool\ndone<|im_end|>\n"));
        }
    }

    #[test]
    fn a_demonstration_and_a_sampled_reply_give_the_same_tokens() {
        let encoder = encoder();
        let reply = Message::new(Role::Assistant, "\nfour");
        let demonstrated = encoder.encode(&[Message::user("2+2?"), reply.clone()], &[]).expect("encodes");
        let mut tokens = ChatTokens::new(encoder.clone(), Vec::new());
        tokens.push(&[Message::user("2+2?")]).expect("fits");
        tokens.open_reply().expect("opens");
        let sampled = [encoder.tokenizer().encode("\nfour").expect("encodes"), vec![encoder.end_id()]].concat();
        tokens.push_sampled(&sampled, reply).expect("fits");
        assert_eq!(tokens.sequence(), &demonstrated);
    }

    #[test]
    fn wrong_order_is_refused_and_changes_nothing() {
        let mut tokens = ChatTokens::new(encoder(), Vec::new());
        let reply = Message::new(Role::Assistant, "a");
        assert!(matches!(tokens.push(std::slice::from_ref(&reply)), Err(TextError::Order { .. })));
        assert!(matches!(tokens.push_sampled(&[5], reply), Err(TextError::Order { .. })));
        tokens.push(&[Message::user("b")]).expect("fits");
        tokens.open_reply().expect("opens");
        let before = tokens.sequence().clone();
        assert!(matches!(tokens.push(&[Message::user("c")]), Err(TextError::Order { .. })));
        assert!(matches!(tokens.push_sampled(&[5], Message::user("c")), Err(TextError::Order { .. })));
        assert_eq!(tokens.sequence(), &before);
        assert_eq!(tokens.messages().len(), 1);
    }

    #[test]
    fn a_template_needs_an_end_token_of_the_tokenizer() {
        let tokenizer = encoder().tokenizer().clone();
        let template = ChatTemplate::new("{% for m in messages %}{{ m.content }}</end>{% endfor %}").expect("compiles");
        let error = ChatEncoder::new(tokenizer, template).expect_err("no end token");
        assert!(matches!(&error, TextError::NoEndToken { found } if found == "</end>"), "{error}");
    }
}
