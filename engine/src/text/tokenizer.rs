//! Tokenizers: text to token ids and back.
//!
//! [`Tokenizer`] wraps Hugging Face's `tokenizers`, so that any `tokenizer.json` works, and adds what sampling and training need: the
//! exact bytes of each token, decoding while tokens arrive, and a hash of the content.
//!
//! [`TokenizerTrainer`] makes tokenizers for models trained from scratch: byte-level BPE as in GPT-2, each digit a token of its
//! own (as in SmolLM2 and Llama 1: sums can then be learned digit by digit), and the tokens of [`CONTROL_TOKENS`] and
//! [`TAG_TOKENS`].

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::error::TextError;
use super::train_bpe::learn_merges;

/// End of a text, and padding.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Start of a message; its role follows.
pub const MESSAGE_START: &str = "<|im_start|>";
/// End of a message. A model that samples it has finished its reply.
pub const MESSAGE_END: &str = "<|im_end|>";

/// Tokens that shape a conversation and never show in text: `special` in Hugging Face's sense, so that decoding can skip
/// them. Their names are those of ChatML, as Qwen2.5 and SmolLM2 use them.
pub const CONTROL_TOKENS: [&str; 3] = [END_OF_TEXT, MESSAGE_START, MESSAGE_END];

/// Tags of the method, one token each: progress awareness (`<summary>`, `<plan>`) and function calls. They are part of what a
/// model says (`special: false`, as Qwen2.5 has it for `<tool_call>`), so decoding keeps them. There are none around
/// results, because the role `tool` says as much.
pub const TAG_TOKENS: [&str; 6] = ["<summary>", "</summary>", "<plan>", "</plan>", "<tool_call>", "</tool_call>"];

/// What `tokenizer_config.json` says besides the vocabulary: the tokens with a purpose, and the chat template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerConfig {
    /// The token before a text, where the model wants one.
    pub bos_token: Option<String>,
    /// The token that ends a reply.
    pub eos_token: Option<String>,
    /// The token that fills up batches.
    pub pad_token: Option<String>,
    /// The chat template's source (the one named `default` where there are several).
    pub chat_template: Option<String>,
}

impl TokenizerConfig {
    /// Reads `tokenizer_config.json`; keys that are not needed here are left alone.
    pub fn from_json(bytes: &[u8]) -> Result<Self, TextError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Token {
            Text(String),
            Added { content: String },
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
            template: String,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Templates {
            One(String),
            Many(Vec<Named>),
        }
        #[derive(Deserialize)]
        struct File {
            bos_token: Option<Token>,
            eos_token: Option<Token>,
            pad_token: Option<Token>,
            chat_template: Option<Templates>,
        }
        let file: File =
            serde_json::from_slice(bytes).map_err(|error| TextError::TokenizerConfig { message: error.to_string() })?;
        let text = |token: Option<Token>| {
            token.map(|token| match token {
                Token::Text(content) | Token::Added { content } => content,
            })
        };
        let chat_template = match file.chat_template {
            None => None,
            Some(Templates::One(template)) => Some(template),
            Some(Templates::Many(templates)) => {
                templates.into_iter().find(|template| template.name == "default").map(|named| named.template)
            }
        };
        Ok(Self {
            bos_token: text(file.bos_token),
            eos_token: text(file.eos_token),
            pad_token: text(file.pad_token),
            chat_template,
        })
    }

    /// A `tokenizer_config.json` with which `transformers.AutoTokenizer.from_pretrained` loads the folder.
    pub fn to_json(&self) -> String {
        let mut file = serde_json::Map::new();
        file.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        // Decoding must give back the very text.
        file.insert("clean_up_tokenization_spaces".into(), json!(false));
        let entries = [
            ("bos_token", &self.bos_token),
            ("eos_token", &self.eos_token),
            ("pad_token", &self.pad_token),
            ("chat_template", &self.chat_template),
        ];
        for (key, value) in entries {
            if let Some(value) = value {
                file.insert(key.into(), json!(value));
            }
        }
        let mut text = serde_json::to_string_pretty(&Json::Object(file)).expect("strings and booleans serialize");
        text.push('\n');
        text
    }
}

/// Makes a byte-level BPE from texts.
///
/// The same texts (in any order) and settings give the same `tokenizer.json`, byte for byte, on every target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerTrainer {
    vocab_size: usize,
    min_frequency: u64,
    control_tokens: Vec<String>,
    tag_tokens: Vec<String>,
}

impl TokenizerTrainer {
    /// A trainer for at most `vocab_size` tokens, counting special tokens and the 256 single bytes.
    pub fn new(vocab_size: usize) -> Self {
        Self {
            vocab_size,
            min_frequency: 2,
            control_tokens: CONTROL_TOKENS.map(String::from).into(),
            tag_tokens: TAG_TOKENS.map(String::from).into(),
        }
    }

    /// How often a pair must occur to become a token. Default: 2.
    pub fn with_min_frequency(mut self, min_frequency: u64) -> Self {
        self.min_frequency = min_frequency;
        self
    }

    /// Adds tokens that decoding can skip, after [`CONTROL_TOKENS`].
    pub fn with_control_tokens(mut self, tokens: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.control_tokens.extend(tokens.into_iter().map(Into::into));
        self
    }

    /// Adds tokens that are part of the text, after [`TAG_TOKENS`].
    pub fn with_tag_tokens(mut self, tokens: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tag_tokens.extend(tokens.into_iter().map(Into::into));
        self
    }

    /// Learns a vocabulary. Texts may hold special tokens, as rendered conversations do: merges never cross them.
    ///
    /// Ids: control tokens from 0, tags, the 256 bytes, then merges by rank. Fewer tokens than asked for come out when the texts
    /// have no more pairs.
    pub fn train(&self, texts: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Tokenizer, TextError> {
        let special: Vec<&str> = self.control_tokens.iter().chain(&self.tag_tokens).map(String::as_str).collect();
        let least = special.len() + 256;
        if self.vocab_size < least {
            return Err(TextError::VocabularyTooSmall { asked: self.vocab_size, least });
        }
        let mut alphabet: Vec<char> = (0..=255).map(byte_to_char).collect();
        alphabet.sort_unstable();
        let first_id = u32::try_from(special.len()).expect("few special tokens");
        let ids: BTreeMap<char, u32> = alphabet.iter().copied().zip(first_id..).collect();

        let mut words: BTreeMap<Vec<u32>, u64> = BTreeMap::new();
        for text in texts {
            for part in split_at_tokens(text.as_ref(), &special) {
                let mut split = PreTokenizedString::from(part);
                let failed = |error: tokenizers::Error| TextError::Encode { message: error.to_string() };
                Digits::new(true).pre_tokenize(&mut split).map_err(failed)?;
                ByteLevel::new(false, true, true).pre_tokenize(&mut split).map_err(failed)?;
                for (word, _, _) in split.get_splits(OffsetReferential::Original, OffsetType::Byte) {
                    *words.entry(word.chars().map(|c| ids[&c]).collect()).or_default() += 1;
                }
            }
        }
        let mut tokens: Vec<String> = special.iter().map(|&token| token.to_owned()).collect();
        tokens.extend(alphabet.iter().map(char::to_string));
        let merges = learn_merges(&words, &mut tokens, self.vocab_size, self.min_frequency);

        let added = |(id, token): (usize, &&str)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": id < self.control_tokens.len(),
            })
        };
        let vocab: serde_json::Map<String, Json> =
            tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let merges: Vec<[&str; 2]> =
            merges.iter().map(|&(left, right)| [left, right].map(|id| tokens[id as usize].as_str())).collect();
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": special.iter().enumerate().map(added).collect::<Vec<_>>(),
            "normalizer": null,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level],
            },
            "post_processor": null,
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": merges,
            },
        });
        let file = serde_json::to_string_pretty(&file).expect("strings and numbers serialize");
        Tokenizer::from_json(file.as_bytes())
    }
}

/// The pieces of a text between special tokens.
fn split_at_tokens<'a>(text: &'a str, tokens: &[&str]) -> Vec<&'a str> {
    let mut parts = Vec::new();
    let mut rest = text;
    // The first token that occurs; the longest of those that start there.
    while let Some((start, token)) = tokens
        .iter()
        .filter_map(|token| Some((rest.find(token)?, *token)))
        .min_by_key(|(start, token)| (*start, usize::MAX - token.len()))
    {
        parts.push(&rest[..start]);
        rest = &rest[start + token.len()..];
    }
    parts.push(rest);
    parts.retain(|part| !part.is_empty());
    parts
}

/// The character that stands for a byte in a byte-level vocabulary: itself where it is printable, else the next free one
/// from U+0100 on. From GPT-2's `bytes_to_unicode`.
fn byte_to_char(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&byte| !is_printable(byte)).count();
    char::from_u32(256 + u32::try_from(before).expect("at most 256")).expect("below the surrogates")
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// How a vocabulary spells bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// A character for each byte (GPT-2, Llama 3, Qwen, SmolLM2, ours).
    ByteLevel,
    /// Text with `▁` for a space and `<0x0A>` for single bytes (Llama 2, SentencePiece).
    ByteFallback,
}

/// A tokenizer: Hugging Face's, with the bytes of its tokens at hand.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// `tokenizer.json`, as it was read.
    json: String,
    config: TokenizerConfig,
    eos_id: Option<u32>,
    pad_id: Option<u32>,
    /// The bytes of all tokens one after the other; token `id` has `starts[id]..starts[id + 1]`.
    bytes: Vec<u8>,
    starts: Vec<u32>,
    special: Vec<bool>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("eos", &self.config.eos_token)
            .field("pad", &self.config.pad_token)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Truncation and padding that it asks for are switched off.
    ///
    /// Without a configuration the end of a reply is `<|im_end|>`, `<|eot_id|>`, `<|endoftext|>` or `</s>`, and padding is
    /// `<|endoftext|>`, `<|finetune_right_pad_id|>`, `<pad>` or `<unk>`: the first that the vocabulary has. Give the
    /// model's own with [`Self::with_config`] where it has one.
    pub fn from_json(json: &[u8]) -> Result<Self, TextError> {
        let wrong = |message: String| TextError::Tokenizer { message };
        let text = std::str::from_utf8(json).map_err(|error| wrong(error.to_string()))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|error| wrong(error.to_string()))?;
        inner.with_truncation(None).map_err(|error| wrong(error.to_string()))?;
        inner.with_padding(None);

        let decoder = inner.get_decoder().map(serde_json::to_string).transpose();
        let decoder = decoder.map_err(|error| wrong(error.to_string()))?.unwrap_or_default();
        let spelling = if decoder.contains("\"ByteLevel\"") { Spelling::ByteLevel } else { Spelling::ByteFallback };
        let vocabulary = inner.get_vocab(true);
        let added = inner.get_added_tokens_decoder();
        let size = vocabulary.values().max().map_or(0, |&id| id as usize + 1);
        let mut texts: Vec<Option<&str>> = vec![None; size];
        for (token, &id) in &vocabulary {
            texts[id as usize] = Some(token);
        }
        let (mut bytes, mut starts, mut special) = (Vec::new(), vec![0], vec![false; size]);
        let byte_of: BTreeMap<char, u8> = (0..=255).map(|byte| (byte_to_char(byte), byte)).collect();
        for (id, text) in texts.into_iter().enumerate() {
            let added = added.get(&u32::try_from(id).expect("ids are u32"));
            special[id] = added.is_some_and(|token| token.special);
            match (added, text) {
                (Some(token), _) => bytes.extend_from_slice(token.content.as_bytes()),
                (None, Some(text)) => spell(text, spelling, &byte_of, &mut bytes),
                (None, None) => {}
            }
            starts.push(u32::try_from(bytes.len()).map_err(|error| wrong(error.to_string()))?);
        }

        let first = |candidates: &[&str]| {
            candidates.iter().find(|token| vocabulary.contains_key(**token)).map(|token| (*token).to_owned())
        };
        let config = TokenizerConfig {
            eos_token: first(&[MESSAGE_END, "<|eot_id|>", END_OF_TEXT, "</s>"]),
            pad_token: first(&[END_OF_TEXT, "<|finetune_right_pad_id|>", "<pad>", "<unk>"]),
            ..TokenizerConfig::default()
        };
        Self {
            inner,
            json: text.to_owned(),
            config: TokenizerConfig::default(),
            eos_id: None,
            pad_id: None,
            bytes,
            starts,
            special,
        }
        .with_config(config)
    }

    /// Takes the special tokens and the chat template from a configuration.
    pub fn with_config(mut self, config: TokenizerConfig) -> Result<Self, TextError> {
        let find = |token: &Option<String>, purpose| match token {
            None => Ok(None),
            Some(token) => match self.inner.token_to_id(token) {
                Some(id) => Ok(Some(id)),
                None => Err(TextError::MissingToken { token: token.clone(), purpose }),
            },
        };
        let (eos_id, pad_id) = (find(&config.eos_token, "ends a reply")?, find(&config.pad_token, "fills up batches")?);
        (self.eos_id, self.pad_id, self.config) = (eos_id, pad_id, config);
        Ok(self)
    }

    /// The special tokens and the chat template.
    pub fn config(&self) -> &TokenizerConfig {
        &self.config
    }

    /// `tokenizer.json`: the very text that this tokenizer was read from, or that training made.
    pub fn to_json(&self) -> &str {
        &self.json
    }

    /// SHA-256 of [`Self::to_json`], in hexadecimal: which tokenizer a run or a checkpoint was made with.
    pub fn content_hash(&self) -> String {
        Sha256::digest(self.json.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Rows that an embedding needs: one more than the highest id.
    pub fn vocab_size(&self) -> usize {
        self.special.len()
    }

    /// The id of a token by its spelling in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token that ends a reply.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos_id
    }

    /// The token that fills up batches.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad_id
    }

    /// Whether a token is one that decoding can skip. False for ids outside the vocabulary.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    /// Token ids of a text. Special tokens in the text become their ids; none are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(TextError::Encode { message: error.to_string() }),
        }
    }

    /// The text of tokens, control tokens included. Bytes that are no UTF-8 become U+FFFD; ids outside the vocabulary, nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.token_bytes(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// [`Self::decode`] without control tokens.
    pub fn decode_text(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> =
            ids.iter().filter(|&&id| !self.is_special(id)).flat_map(|&id| self.token_bytes(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes that a token adds to a text, which may be part of a character. Empty for ids outside the vocabulary.
    ///
    /// Exact for byte-level vocabularies. For SentencePiece ones each `▁` counts as a space, the one that decoding takes away
    /// at the start of a text too.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        match (self.starts.get(id as usize), self.starts.get(id as usize + 1)) {
            (Some(&start), Some(&end)) => &self.bytes[start as usize..end as usize],
            _ => &[],
        }
    }

    /// All tokens' bytes in the order of their ids.
    pub fn tokens(&self) -> impl Iterator<Item = &[u8]> {
        self.starts.windows(2).map(|range| &self.bytes[range[0] as usize..range[1] as usize])
    }
}

/// Appends the bytes that a token of the model's vocabulary stands for.
fn spell(token: &str, spelling: Spelling, byte_of: &BTreeMap<char, u8>, out: &mut Vec<u8>) {
    let start = out.len();
    match spelling {
        Spelling::ByteLevel => {
            for character in token.chars() {
                let Some(&byte) = byte_of.get(&character) else {
                    // Not spelled in bytes at all: the library's decoder takes such a token as it is.
                    out.truncate(start);
                    out.extend_from_slice(token.as_bytes());
                    return;
                };
                out.push(byte);
            }
        }
        Spelling::ByteFallback => {
            let byte = token.strip_prefix("<0x").and_then(|token| token.strip_suffix('>'));
            match byte.filter(|digits| digits.len() == 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(token.replace('\u{2581}', " ").as_bytes()),
            }
        }
    }
}

/// Text of tokens as they arrive: a character whose bytes are spread over tokens comes out with the last of them.
///
/// ```
/// # use parl_mt::text::{TokenDecoder, TokenizerTrainer};
/// let tokenizer = TokenizerTrainer::new(300).train(["plain words"])?;
/// let mut decoder = TokenDecoder::default();
/// let mut text = String::new();
/// for id in tokenizer.encode("naïve 🙂")? {
///     text += &decoder.push(&tokenizer, id);
/// }
/// text += &decoder.finish();
/// assert_eq!(text, "naïve 🙂");
/// # Ok::<(), parl_mt::text::TextError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenDecoder {
    /// The start of a character that is not complete yet: at most three bytes.
    pending: Vec<u8>,
}

impl TokenDecoder {
    /// The text that this token completes; empty while a character is incomplete. Bytes that can no longer become a
    /// character come out as U+FFFD.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        self.pending.extend_from_slice(tokenizer.token_bytes(id));
        let complete = match self.pending.utf8_chunks().last() {
            Some(last) if is_incomplete(last.invalid()) => self.pending.len() - last.invalid().len(),
            _ => self.pending.len(),
        };
        let rest = self.pending.split_off(complete);
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending = rest;
        text
    }

    /// Ends the text: U+FFFD for a character that stayed incomplete.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

/// Whether more bytes could make a character of these.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn corpus() -> Vec<String> {
        let mut texts: Vec<String> =
            include_str!("../message.rs").lines().chain(include_str!("../tool.rs").lines()).map(String::from).collect();
        texts.push("<|im_start|>assistant\n<summary>done</summary><plan>cd</plan><|im_end|>\n".repeat(20));
        texts
    }

    fn trained() -> &'static Tokenizer {
        static TRAINED: std::sync::OnceLock<Tokenizer> = std::sync::OnceLock::new();
        TRAINED.get_or_init(|| TokenizerTrainer::new(800).train(corpus()).expect("the corpus trains"))
    }

    #[test]
    fn training_gives_the_same_bytes_whatever_the_order_of_the_texts() {
        let mut texts = corpus();
        texts.reverse();
        let again = TokenizerTrainer::new(800).train(texts).expect("trains");
        assert_eq!(again.to_json(), trained().to_json());
        assert_eq!(again.content_hash(), trained().content_hash());
        let other = TokenizerTrainer::new(801).train(corpus()).expect("trains");
        assert_ne!(other.content_hash(), again.content_hash());
    }

    #[test]
    fn the_library_writes_the_same_file() {
        let written = trained().inner.to_string(true).expect("serializes");
        assert_eq!(written, trained().to_json());
    }

    #[test]
    fn merges_are_those_of_the_librarys_trainer() {
        use tokenizers::models::bpe::{BPE, BpeTrainer};
        use tokenizers::tokenizer::{AddedToken, Trainer};
        let special: Vec<&str> = CONTROL_TOKENS.iter().chain(&TAG_TOKENS).copied().collect();
        let mut trainer = BpeTrainer::builder()
            .vocab_size(800)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet((0..=255).map(byte_to_char).collect())
            .special_tokens(special.iter().map(|&token| AddedToken::from(token, true)).collect())
            .build();
        let texts = corpus();
        let parts: Vec<&str> = texts.iter().flat_map(|text| split_at_tokens(text, &special)).collect();
        trainer
            .feed(parts.iter(), |text| {
                let mut split = PreTokenizedString::from(text);
                Digits::new(true).pre_tokenize(&mut split)?;
                ByteLevel::new(false, true, true).pre_tokenize(&mut split)?;
                let words = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
                Ok(words.into_iter().map(|(word, _, _)| word.to_owned()).collect())
            })
            .expect("the corpus is text");
        let mut model = BPE::default();
        trainer.train(&mut model).expect("trains");
        let theirs: BTreeMap<String, u32> = model.get_vocab().into_iter().collect();
        let ours: BTreeMap<String, u32> = trained().inner.get_vocab(false).into_iter().collect();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn digits_stand_alone_and_tags_are_one_token() {
        let tokenizer = trained();
        let ids = tokenizer.encode("2024 <tool_call>f(x=13)</tool_call><|im_end|>").expect("encodes");
        let texts: Vec<_> = ids.iter().map(|&id| tokenizer.decode(&[id])).collect();
        assert_eq!(&texts[..6], ["2", "0", "2", "4", " ", "<tool_call>"]);
        assert_eq!(&texts[texts.len() - 5..], ["1", "3", ")", "</tool_call>", "<|im_end|>"]);
        assert_eq!(tokenizer.decode_text(&ids), "2024 <tool_call>f(x=13)</tool_call>");
        assert_eq!(tokenizer.eos_id(), tokenizer.token_id(MESSAGE_END));
        assert_eq!(tokenizer.pad_id(), Some(0));
        assert!(tokenizer.is_special(0) && !tokenizer.is_special(3) && !tokenizer.is_special(9999));
        assert!(tokenizer.vocab_size() <= 800);
        assert_eq!(tokenizer.tokens().count(), tokenizer.vocab_size());
    }

    #[test]
    fn each_byte_has_a_token_of_its_own() {
        let tokenizer = trained();
        for byte in 0..=255_u8 {
            let id = tokenizer.token_id(&byte_to_char(byte).to_string()).expect("the alphabet is complete");
            assert_eq!(tokenizer.token_bytes(id), [byte]);
        }
        assert_eq!(tokenizer.token_bytes(u32::MAX), b"");
    }

    #[test]
    fn a_tokenizer_is_read_back_as_it_was_written() {
        let config = TokenizerConfig { chat_template: Some("{{ 1 }}".into()), ..trained().config().clone() };
        let tokenizer = Tokenizer::from_json(trained().to_json().as_bytes())
            .and_then(|tokenizer| tokenizer.with_config(TokenizerConfig::from_json(config.to_json().as_bytes())?))
            .expect("reads");
        assert_eq!(tokenizer.to_json(), trained().to_json());
        assert_eq!(tokenizer.config(), &config);
        let text = "Some text, 12 words";
        assert_eq!(tokenizer.encode(text).expect("encodes"), trained().encode(text).expect("encodes"));
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let error = Tokenizer::from_json(b"{}").expect_err("no tokenizer").to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
        let error = TokenizerTrainer::new(100).train(["a"]).expect_err("too small").to_string();
        assert!(error.contains("100") && error.contains("265"), "{error}");
        let config = TokenizerConfig { eos_token: Some("<end>".into()), ..TokenizerConfig::default() };
        let error = trained().clone().with_config(config).expect_err("no such token").to_string();
        assert!(error.contains("<end>"), "{error}");
        let config = TokenizerConfig::from_json(
            br#"{"eos_token": {"content": "<e>"}, "chat_template": [{"name": "default", "template": "T"}], "x": 1}"#,
        );
        let config = config.expect("both spellings are read");
        assert_eq!((config.eos_token.as_deref(), config.chat_template.as_deref()), (Some("<e>"), Some("T")));
        assert!(TokenizerConfig::from_json(b"[").is_err());
    }

    #[test]
    fn sentencepiece_bytes_are_known_too() {
        let byte_of = BTreeMap::new();
        let bytes = |token: &str| {
            let mut out = Vec::new();
            spell(token, Spelling::ByteFallback, &byte_of, &mut out);
            out
        };
        assert_eq!(bytes("<0x0A>"), b"\n");
        assert_eq!(bytes("\u{2581}to"), b" to");
        assert_eq!(bytes("<0xZZ>"), b"<0xZZ>");
    }

    #[test]
    fn broken_bytes_come_out_at_once_and_open_ones_wait() {
        let tokenizer = trained();
        let id = |byte: u8| tokenizer.token_id(&byte_to_char(byte).to_string()).expect("a byte");
        let mut decoder = TokenDecoder::default();
        assert_eq!(decoder.push(tokenizer, id(0xC3)), "");
        assert_eq!(decoder.push(tokenizer, id(0xA9)), "é");
        assert_eq!(decoder.push(tokenizer, id(0xF0)), "");
        assert_eq!(decoder.push(tokenizer, id(b'a')), "\u{FFFD}a");
        assert_eq!(decoder.push(tokenizer, id(0xE2)), "");
        assert_eq!(decoder.push(tokenizer, id(0x82)), "");
        assert_eq!(decoder.finish(), "\u{FFFD}");
        assert_eq!(decoder.finish(), "");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC*|[ \\t\\r\\n0-9a-z<>|_/]*|(<\\|im_end\\|>|</?plan>|é|🙂|\u{0}| |\r\n)*") {
            let tokenizer = trained();
            let ids = tokenizer.encode(&text).expect("any text encodes");
            prop_assert_eq!(&tokenizer.decode(&ids), &text);
            prop_assert_eq!(&tokenizer.inner.decode(&ids, false).expect("decodes"), &text);
            let mut decoder = TokenDecoder::default();
            let mut streamed: String = ids.iter().map(|&id| decoder.push(tokenizer, id)).collect();
            streamed += &decoder.finish();
            prop_assert_eq!(&streamed, &text);
        }

        #[test]
        fn streaming_any_tokens_gives_what_decoding_gives(ids in prop::collection::vec(0_u32..800, 0..40)) {
            let tokenizer = trained();
            let mut decoder = TokenDecoder::default();
            let mut streamed: String = ids.iter().map(|&id| decoder.push(tokenizer, id)).collect();
            streamed += &decoder.finish();
            prop_assert_eq!(streamed, tokenizer.decode(&ids));
        }
    }
}
