//! The automaton: a stack of frames, each a small machine of its own.
//!
//! A frame takes a byte, hands it to a child, or ends, after which its parent goes on. Frames are decided by the next
//! byte alone: there is never more than one way to go on, so one stack is the whole state.

use std::sync::Arc;

/// How deep values without a schema nest, as the number of frames below them (two for a list in a list, three for an
/// object in an object).
pub const MAX_DEPTH: usize = 24;

/// Most digits of an integer, or before the point.
const MAX_DIGITS: u8 = 18;
/// Most digits after the point: enough for the zeros and the 17 digits of what `repr` writes without an exponent.
const MAX_FRACTION_DIGITS: u8 = 22;
/// Most digits of an exponent: together with the digits it stays in the range of a double.
const MAX_EXPONENT_DIGITS: u8 = 2;

/// One after the other they are the grammar.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Literal(Arc<[u8]>),
    Until(Arc<Tag>),
    Text,
    Calls(Arc<Calls>),
}

impl Part {
    pub(super) fn until(tag: &[u8]) -> Self {
        // Knuth, Morris and Pratt: how much of the tag is still matched when the next byte does not fit.
        let mut fallback = vec![0; tag.len()];
        let mut matched = 0;
        for index in 1..tag.len() {
            while matched > 0 && tag[index] != tag[matched] {
                matched = fallback[matched - 1];
            }
            if tag[index] == tag[matched] {
                matched += 1;
            }
            fallback[index] = matched;
        }
        Self::Until(Arc::new(Tag { bytes: tag.to_vec(), fallback }))
    }
}

/// The literal that ends free text.
#[derive(Debug)]
pub(super) struct Tag {
    bytes: Vec<u8>,
    fallback: Vec<usize>,
}

/// Tables of the calls of some tools. Fields named by a plural are indexed by the ids in frames.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Whether values are written as in Python.
    pub is_python: bool,
    pub max_calls: Option<u32>,
    /// What opens the calls; with it, whether that is all.
    pub opening: Choice,
    /// Per tool, what comes before its arguments: in the order of `tool_fields`.
    pub names: u32,
    /// Per tool, its arguments.
    pub tool_fields: Vec<u32>,
    /// What comes after a call: the separator or the end.
    pub after: Choice,
    /// What comes after the last call.
    pub after_last: Choice,
    /// Sets of words, each sorted and without repeats.
    pub words: Vec<Vec<Vec<u8>>>,
    pub values: Vec<ValueSpec>,
    pub fields: Vec<FieldsSpec>,
    pub arrays: Vec<ArraySpec>,
}

/// A choice between words of which some end the calls.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub words: u32,
    /// Per word.
    pub is_end: Vec<bool>,
}

/// What a value may be. Its first byte tells which of these it is.
#[derive(Clone, Debug, Default)]
pub(super) struct ValueSpec {
    /// `True`, `None`, members of an enum: words.
    pub literals: Option<u32>,
    pub string: bool,
    pub number: Option<NumberKind>,
    pub array: Option<u32>,
    pub object: Option<ObjectSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum NumberKind {
    Integer,
    Float,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectSpec {
    /// Known keys: fields.
    Fields(u32),
    /// Any keys with such values.
    Map { value: u32 },
}

/// Arguments of a tool, or an object with known keys.
#[derive(Clone, Debug)]
pub(super) struct FieldsSpec {
    /// Keys with what follows them (`folder=`).
    pub keys: u32,
    /// Per key.
    pub values: Vec<u32>,
    /// Bit per key.
    pub required: u64,
    /// What ends it.
    pub close: u32,
    pub may_be_empty: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ArraySpec {
    pub item: u32,
    pub min: u32,
    pub max: Option<u32>,
}

/// Words that all tables have.
pub(super) const COMMA: u32 = 0;
pub(super) const COLON: u32 = 1;
/// The value that may be anything.
pub(super) const ANY: u32 = 0;

/// One level of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Frame {
    /// Before or within this part of the grammar.
    Sequence {
        part: u32,
    },
    /// Within a literal.
    Literal {
        part: u32,
        at: u32,
    },
    /// In free text; so many bytes of the tag are matched.
    Until {
        part: u32,
        matched: u32,
        utf8: Utf8,
    },
    Text {
        utf8: Utf8,
    },
    Calls {
        phase: CallsPhase,
        count: u32,
    },
    /// Within one of the words `low..high` of a set, which all start with the `at` bytes so far.
    Word {
        words: u32,
        low: u32,
        high: u32,
        at: u32,
        excluded: u64,
    },
    Fields {
        fields: u32,
        phase: FieldsPhase,
        used: u64,
    },
    Array {
        array: u32,
        phase: ListPhase,
        count: u32,
    },
    Map {
        value: u32,
        phase: ListPhase,
    },
    /// Before a value.
    Value {
        value: u32,
    },
    String {
        quote: u8,
        phase: StringPhase,
        is_key: bool,
    },
    Number {
        kind: NumberKind,
        phase: NumberPhase,
        digits: u8,
    },
}

/// Where two names are alike, the second is for while a child is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CallsPhase {
    Opening,
    Name,
    Arguments { tool: u32 },
    InArguments,
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FieldsPhase {
    /// Before the brace of an object.
    Open,
    /// Before the first key or the end.
    First,
    InKey,
    Value {
        key: u32,
    },
    InValue,
    Between,
    InComma,
    NextKey,
    InClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ListPhase {
    Open,
    First,
    InKey,
    Colon,
    InColon,
    Value,
    InValue,
    Between,
    InComma,
    Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum StringPhase {
    /// Before the quote.
    Open,
    Text(Utf8),
    Escape,
    /// So many hexadecimal digits to come; the first of four, and then the second, must not make a surrogate.
    Hex {
        left: u8,
        surrogate: Surrogate,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Surrogate {
    Impossible,
    FirstDigit,
    SecondDigit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum NumberPhase {
    Start,
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

/// Within a character of several bytes: how many are to come and the range of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Utf8 {
    left: u8,
    low: u8,
    high: u8,
}

impl Utf8 {
    pub(super) const BOUNDARY: Self = Self { left: 0, low: 0, high: 0 };

    fn advance(self, byte: u8) -> Option<Self> {
        let more = |left, low, high| Some(Self { left, low, high });
        if self.left > 0 {
            return match self.left {
                _ if !(self.low..=self.high).contains(&byte) => None,
                1 => Some(Self::BOUNDARY),
                left => more(left - 1, 0x80, 0xbf),
            };
        }
        // The Unicode standard, table 3-7.
        match byte {
            0x00..=0x7f => Some(Self::BOUNDARY),
            0xc2..=0xdf => more(1, 0x80, 0xbf),
            0xe0 => more(2, 0xa0, 0xbf),
            0xe1..=0xec | 0xee..=0xef => more(2, 0x80, 0xbf),
            0xed => more(2, 0x80, 0x9f),
            0xf0 => more(3, 0x90, 0xbf),
            0xf1..=0xf3 => more(3, 0x80, 0xbf),
            0xf4 => more(3, 0x80, 0x8f),
            _ => None,
        }
    }
}

/// What a frame does with a byte.
enum Step {
    Refuse,
    /// Takes the byte.
    Take(Frame),
    /// Takes the byte and ends, telling its parent which word it was.
    Last(u32),
    /// Ended before this byte.
    Ended(u32),
    /// Gives the byte to a child.
    Push(Frame),
    /// As `Push`, and changes itself.
    Change(Frame, Frame),
    /// Gives its place and the byte to another.
    Become(Frame),
}

/// What a frame does where the text ends.
enum Finish {
    Refuse,
    Ended(u32),
    Push(Frame),
}

/// Goes on by a byte; false if it is refused, and then the stack is of no use any more.
pub(super) fn advance(parts: &[Part], stack: &mut Vec<Frame>, byte: u8) -> bool {
    while let Some(&frame) = stack.last() {
        let step = Machine::new(parts, stack).step(frame, stack.len(), byte);
        let top = stack.len() - 1;
        match step {
            Step::Refuse => return false,
            Step::Take(frame) => {
                stack[top] = frame;
                return true;
            }
            Step::Last(result) => {
                leave(parts, stack, result);
                return true;
            }
            Step::Ended(result) => leave(parts, stack, result),
            Step::Push(child) => stack.push(child),
            Step::Change(frame, child) => {
                stack[top] = frame;
                stack.push(child);
            }
            Step::Become(frame) => stack[top] = frame,
        }
    }
    false
}

/// Whether the text may end in this state.
pub(super) fn can_end(parts: &[Part], stack: &[Frame]) -> bool {
    let mut stack = stack.to_vec();
    while let Some(&frame) = stack.last() {
        match Machine::new(parts, &stack).finish(frame) {
            Finish::Refuse => return false,
            Finish::Ended(result) => leave(parts, &mut stack, result),
            Finish::Push(child) => stack.push(child),
        }
    }
    true
}

/// Takes the ended frame from the stack; its parent goes on, and may be at its end too.
fn leave(parts: &[Part], stack: &mut Vec<Frame>, mut result: u32) {
    stack.pop();
    while let Some(&parent) = stack.last() {
        match Machine::new(parts, stack).resume(parent, result) {
            Some(frame) => {
                *stack.last_mut().expect("not empty") = frame;
                return;
            }
            None => {
                stack.pop();
                result = 0;
            }
        }
    }
}

struct Machine<'a> {
    parts: &'a [Part],
    calls: Option<&'a Calls>,
}

impl<'a> Machine<'a> {
    fn new(parts: &'a [Part], stack: &[Frame]) -> Self {
        let calls = match stack.first() {
            Some(&Frame::Sequence { part }) => match parts.get(part as usize) {
                Some(Part::Calls(calls)) => Some(&**calls),
                _ => None,
            },
            _ => None,
        };
        Self { parts, calls }
    }

    fn calls(&self) -> &'a Calls {
        self.calls.expect("these frames occur within calls only")
    }

    fn start(&self, part: u32) -> Frame {
        match self.parts[part as usize] {
            Part::Literal(_) => Frame::Literal { part, at: 0 },
            Part::Until(_) => Frame::Until { part, matched: 0, utf8: Utf8::BOUNDARY },
            Part::Text => Frame::Text { utf8: Utf8::BOUNDARY },
            Part::Calls(_) => Frame::Calls { phase: CallsPhase::Opening, count: 0 },
        }
    }

    fn step(&self, frame: Frame, depth: usize, byte: u8) -> Step {
        match frame {
            Frame::Sequence { part } => Step::Push(self.start(part)),
            Frame::Literal { part, at } => {
                let Part::Literal(text) = &self.parts[part as usize] else { unreachable!("a literal's frame") };
                match text.get(at as usize) {
                    None => Step::Ended(0),
                    Some(&expected) if expected != byte => Step::Refuse,
                    Some(_) if at as usize + 1 == text.len() => Step::Last(0),
                    Some(_) => Step::Take(Frame::Literal { part, at: at + 1 }),
                }
            }
            Frame::Until { part, matched, utf8 } => {
                let Part::Until(tag) = &self.parts[part as usize] else { unreachable!("free text's frame") };
                let Some(utf8) = utf8.advance(byte) else { return Step::Refuse };
                let mut matched = matched as usize;
                while matched > 0 && tag.bytes[matched] != byte {
                    matched = tag.fallback[matched - 1];
                }
                matched += usize::from(tag.bytes[matched] == byte);
                if matched == tag.bytes.len() {
                    Step::Last(0)
                } else {
                    Step::Take(Frame::Until { part, matched: matched as u32, utf8 })
                }
            }
            Frame::Text { utf8 } => utf8.advance(byte).map_or(Step::Refuse, |utf8| Step::Take(Frame::Text { utf8 })),
            Frame::Calls { phase: CallsPhase::Arguments { tool }, count } => {
                let fields = self.calls().tool_fields[tool as usize];
                let arguments = Frame::Fields { fields, phase: FieldsPhase::First, used: 0 };
                Step::Change(Frame::Calls { phase: CallsPhase::InArguments, count }, arguments)
            }
            Frame::Calls { phase, count } => Step::Push(self.calls_word(phase, count)),
            Frame::Word { words, low, high, at, excluded } => self.word_step(words, (low, high), at, excluded, byte),
            Frame::Fields { fields, phase, used } => self.fields_step(fields, phase, used, byte),
            Frame::Array { array, phase, count } => self.array_step(array, phase, count, byte),
            Frame::Map { value, phase } => self.map_step(value, phase, byte),
            Frame::Value { value } => self.value_step(value, depth, byte),
            Frame::String { quote, phase, is_key } => self.string_step(quote, phase, is_key, byte),
            Frame::Number { kind, phase, digits } => number_step(kind, phase, digits, byte),
        }
    }

    fn finish(&self, frame: Frame) -> Finish {
        match frame {
            Frame::Sequence { part } => Finish::Push(self.start(part)),
            Frame::Literal { part, at } => match &self.parts[part as usize] {
                Part::Literal(text) if at as usize == text.len() => Finish::Ended(0),
                _ => Finish::Refuse,
            },
            Frame::Text { utf8: Utf8::BOUNDARY } => Finish::Ended(0),
            Frame::Calls { phase: phase @ (CallsPhase::Opening | CallsPhase::After), count } => {
                Finish::Push(self.calls_word(phase, count))
            }
            Frame::Word { words, low, high, at, excluded } => {
                self.ended_word(words, (low, high), at, excluded).map_or(Finish::Refuse, Finish::Ended)
            }
            // Calls and everything in them end with a word.
            _ => Finish::Refuse,
        }
    }

    /// After a child has ended: how the frame goes on, or nothing if it has ended too.
    fn resume(&self, frame: Frame, result: u32) -> Option<Frame> {
        Some(match frame {
            Frame::Sequence { part } if part as usize + 1 < self.parts.len() => Frame::Sequence { part: part + 1 },
            Frame::Calls { phase: CallsPhase::Opening, count } => {
                if self.calls().opening.is_end[result as usize] {
                    return None;
                }
                Frame::Calls { phase: CallsPhase::Name, count }
            }
            Frame::Calls { phase: CallsPhase::Name, count } => {
                Frame::Calls { phase: CallsPhase::Arguments { tool: result }, count }
            }
            Frame::Calls { phase: CallsPhase::Arguments { .. } | CallsPhase::InArguments, count } => {
                // Counted only where it matters, so that states stay few.
                let count = if self.calls().max_calls.is_some() { count + 1 } else { 0 };
                Frame::Calls { phase: CallsPhase::After, count }
            }
            Frame::Calls { phase: CallsPhase::After, count } => {
                if self.after(count).is_end[result as usize] {
                    return None;
                }
                Frame::Calls { phase: CallsPhase::Name, count }
            }
            Frame::Fields { fields, phase, used } => match phase {
                FieldsPhase::InKey => {
                    Frame::Fields { fields, phase: FieldsPhase::Value { key: result }, used: used | 1 << result }
                }
                FieldsPhase::InComma => Frame::Fields { fields, phase: FieldsPhase::NextKey, used },
                FieldsPhase::InClose => return None,
                _ => Frame::Fields { fields, phase: FieldsPhase::Between, used },
            },
            Frame::Array { array, phase: ListPhase::InComma, count } => {
                Frame::Array { array, phase: ListPhase::Next, count }
            }
            Frame::Array { array, count, .. } => {
                let ArraySpec { min, max, .. } = self.calls().arrays[array as usize];
                // More than that makes no difference.
                let count = (count + 1).min(max.unwrap_or(min));
                Frame::Array { array, phase: ListPhase::Between, count }
            }
            Frame::Map { value, phase } => {
                let phase = match phase {
                    ListPhase::InKey => ListPhase::Colon,
                    ListPhase::InColon => ListPhase::Value,
                    ListPhase::InComma => ListPhase::Next,
                    _ => ListPhase::Between,
                };
                Frame::Map { value, phase }
            }
            _ => return None,
        })
    }

    fn after(&self, count: u32) -> &'a Choice {
        let calls = self.calls();
        if calls.max_calls.is_some_and(|most| count >= most) { &calls.after_last } else { &calls.after }
    }

    /// The words that a list of calls has between its arguments.
    fn calls_word(&self, phase: CallsPhase, count: u32) -> Frame {
        let calls = self.calls();
        let words = match phase {
            CallsPhase::Opening => calls.opening.words,
            CallsPhase::After => self.after(count).words,
            _ => calls.names,
        };
        self.word(words, 0)
    }

    fn word(&self, words: u32, excluded: u64) -> Frame {
        Frame::Word { words, low: 0, high: self.calls().words[words as usize].len() as u32, at: 0, excluded }
    }

    fn word_step(&self, words: u32, (low, high): (u32, u32), at: u32, excluded: u64, byte: u8) -> Step {
        let range = &self.calls().words[words as usize][low as usize..high as usize];
        let next = |word: &Vec<u8>| word.get(at as usize).copied();
        let first = low + range.partition_point(|word| next(word) < Some(byte)) as u32;
        let end = low + range.partition_point(|word| next(word) <= Some(byte)) as u32;
        if !(first..end).any(|word| !is_excluded(excluded, word)) {
            return self.ended_word(words, (low, high), at, excluded).map_or(Step::Refuse, Step::Ended);
        }
        if end - first == 1 && range[(first - low) as usize].len() == at as usize + 1 {
            return Step::Last(first);
        }
        Step::Take(Frame::Word { words, low: first, high: end, at: at + 1, excluded })
    }

    /// The word that ends here, if one does. Others may go on.
    fn ended_word(&self, words: u32, (low, high): (u32, u32), at: u32, excluded: u64) -> Option<u32> {
        // The shortest comes first.
        let word = self.calls().words[words as usize][low as usize..high as usize].first()?;
        (word.len() == at as usize && !is_excluded(excluded, low)).then_some(low)
    }

    fn fields_step(&self, fields: u32, phase: FieldsPhase, used: u64, byte: u8) -> Step {
        let spec = &self.calls().fields[fields as usize];
        let change = |phase, child| Step::Change(Frame::Fields { fields, phase, used }, child);
        let key = || change(FieldsPhase::InKey, self.word(spec.keys, used));
        let closes = self.calls().words[spec.close as usize][0][0] == byte;
        match phase {
            FieldsPhase::Open if byte == b'{' => Step::Take(Frame::Fields { fields, phase: FieldsPhase::First, used }),
            FieldsPhase::First if closes && spec.may_be_empty && spec.required == 0 => {
                change(FieldsPhase::InClose, self.word(spec.close, 0))
            }
            FieldsPhase::First | FieldsPhase::NextKey => key(),
            FieldsPhase::Value { key } => {
                change(FieldsPhase::InValue, Frame::Value { value: spec.values[key as usize] })
            }
            FieldsPhase::Between if closes && spec.required & !used == 0 => {
                change(FieldsPhase::InClose, self.word(spec.close, 0))
            }
            FieldsPhase::Between if byte == b',' && (used.count_ones() as usize) < spec.values.len() => {
                change(FieldsPhase::InComma, self.word(COMMA, 0))
            }
            _ => Step::Refuse,
        }
    }

    fn array_step(&self, array: u32, phase: ListPhase, count: u32, byte: u8) -> Step {
        let ArraySpec { item, min, max } = self.calls().arrays[array as usize];
        let has_room = max.is_none_or(|max| count < max);
        let change = |phase, child| Step::Change(Frame::Array { array, phase, count }, child);
        match phase {
            ListPhase::Open if byte == b'[' => Step::Take(Frame::Array { array, phase: ListPhase::First, count }),
            ListPhase::First | ListPhase::Between if byte == b']' && count >= min => Step::Last(0),
            ListPhase::First | ListPhase::Next if has_room => change(ListPhase::InValue, Frame::Value { value: item }),
            ListPhase::Between if byte == b',' && has_room => change(ListPhase::InComma, self.word(COMMA, 0)),
            _ => Step::Refuse,
        }
    }

    fn map_step(&self, value: u32, phase: ListPhase, byte: u8) -> Step {
        let is_python = self.calls().is_python;
        let change = |phase, child| Step::Change(Frame::Map { value, phase }, child);
        let quote = if is_python { b'\'' } else { b'"' };
        let key = Frame::String { quote, phase: StringPhase::Open, is_key: true };
        match phase {
            ListPhase::Open if byte == b'{' => Step::Take(Frame::Map { value, phase: ListPhase::First }),
            ListPhase::First if byte == b'}' && !is_python => Step::Last(0),
            ListPhase::First | ListPhase::Next => change(ListPhase::InKey, key),
            ListPhase::Colon => change(ListPhase::InColon, self.word(COLON, 0)),
            ListPhase::Value => change(ListPhase::InValue, Frame::Value { value }),
            ListPhase::Between if byte == b'}' => Step::Last(0),
            ListPhase::Between if byte == b',' => change(ListPhase::InComma, self.word(COMMA, 0)),
            _ => Step::Refuse,
        }
    }

    fn value_step(&self, value: u32, depth: usize, byte: u8) -> Step {
        let calls = self.calls();
        let spec = &calls.values[value as usize];
        // A schema has an end; what may be anything has not.
        let may_nest = value != ANY || depth < MAX_DEPTH;
        let is_quote = byte == b'"' || byte == b'\'' && calls.is_python;
        match (byte, spec) {
            (_, ValueSpec { string: true, .. }) if is_quote => {
                Step::Become(Frame::String { quote: byte, phase: StringPhase::Open, is_key: false })
            }
            (b'-' | b'0'..=b'9', &ValueSpec { number: Some(kind), .. }) => {
                Step::Become(Frame::Number { kind, phase: NumberPhase::Start, digits: 0 })
            }
            (b'[', &ValueSpec { array: Some(array), .. }) if may_nest => {
                Step::Become(Frame::Array { array, phase: ListPhase::Open, count: 0 })
            }
            (b'{', &ValueSpec { object: Some(object), .. }) if may_nest => Step::Become(match object {
                ObjectSpec::Fields(fields) => Frame::Fields { fields, phase: FieldsPhase::Open, used: 0 },
                ObjectSpec::Map { value } => Frame::Map { value, phase: ListPhase::Open },
            }),
            (_, &ValueSpec { literals: Some(words), .. }) => Step::Become(self.word(words, 0)),
            _ => Step::Refuse,
        }
    }

    fn string_step(&self, quote: u8, phase: StringPhase, is_key: bool, byte: u8) -> Step {
        let is_python = self.calls().is_python;
        let phase = match phase {
            StringPhase::Open if byte == quote => StringPhase::Text(Utf8::BOUNDARY),
            StringPhase::Text(utf8) => match byte {
                _ if byte == quote => {
                    return if utf8 == Utf8::BOUNDARY { Step::Last(0) } else { Step::Refuse };
                }
                b'\\' if utf8 == Utf8::BOUNDARY && !is_key => StringPhase::Escape,
                b'\\' | 0x00..=0x1f => return Step::Refuse,
                b'\'' | b'"' if is_key => return Step::Refuse,
                _ => match utf8.advance(byte) {
                    Some(utf8) => StringPhase::Text(utf8),
                    None => return Step::Refuse,
                },
            },
            StringPhase::Escape => match byte {
                b'\\' | b'"' | b'n' | b'r' | b't' => StringPhase::Text(Utf8::BOUNDARY),
                b'\'' if is_python => StringPhase::Text(Utf8::BOUNDARY),
                b'/' | b'b' | b'f' if !is_python => StringPhase::Text(Utf8::BOUNDARY),
                b'x' if is_python => StringPhase::Hex { left: 2, surrogate: Surrogate::Impossible },
                b'u' => StringPhase::Hex { left: 4, surrogate: Surrogate::FirstDigit },
                _ => return Step::Refuse,
            },
            StringPhase::Hex { left, surrogate } if byte.is_ascii_hexdigit() => {
                let surrogate = match (surrogate, byte) {
                    (Surrogate::FirstDigit, b'd' | b'D') => Surrogate::SecondDigit,
                    (Surrogate::SecondDigit, b'0'..=b'7') => Surrogate::Impossible,
                    (Surrogate::SecondDigit, _) => return Step::Refuse,
                    _ => Surrogate::Impossible,
                };
                match left {
                    1 => StringPhase::Text(Utf8::BOUNDARY),
                    left => StringPhase::Hex { left: left - 1, surrogate },
                }
            }
            _ => return Step::Refuse,
        };
        Step::Take(Frame::String { quote, phase, is_key })
    }
}

fn is_excluded(excluded: u64, word: u32) -> bool {
    word < 64 && excluded >> word & 1 == 1
}

fn number_step(kind: NumberKind, phase: NumberPhase, digits: u8, byte: u8) -> Step {
    use NumberPhase::{Exponent, ExponentDigits, ExponentSign, Fraction, Minus, Point, Start, Whole, Zero};
    let is_float = kind == NumberKind::Float;
    let (phase, digits) = match (phase, byte) {
        (Start, b'-') => (Minus, 0),
        (Start, b'0') => (Zero, 1),
        // JSON readers take `-0` for a float.
        (Minus, b'0') if is_float => (Zero, 1),
        (Start | Minus, b'1'..=b'9') => (Whole, 1),
        (Whole, b'0'..=b'9') if digits < MAX_DIGITS => (Whole, digits + 1),
        (Fraction, b'0'..=b'9') if digits < MAX_FRACTION_DIGITS => (Fraction, digits + 1),
        (Zero | Whole, b'.') if is_float => (Point, 0),
        (Point, b'0'..=b'9') => (Fraction, 1),
        (Zero | Whole | Fraction, b'e') if is_float => (Exponent, 0),
        (Exponent, b'+' | b'-') => (ExponentSign, 0),
        (Exponent | ExponentSign, b'0'..=b'9') => (ExponentDigits, 1),
        (ExponentDigits, b'0'..=b'9') if digits < MAX_EXPONENT_DIGITS => (ExponentDigits, digits + 1),
        (Zero | Whole | Fraction | ExponentDigits, _) => return Step::Ended(0),
        _ => return Step::Refuse,
    };
    Step::Take(Frame::Number { kind, phase, digits })
}

/// What a frame whose next bytes do not depend on the frames below does with a byte.
pub(super) enum Inner {
    Refuses,
    Stays(Frame),
    Leaves,
}

/// Whether a frame is by itself for many bytes: texts and strings.
pub(super) fn is_self_contained(frame: Frame) -> bool {
    matches!(frame, Frame::Until { .. } | Frame::Text { .. } | Frame::String { .. })
}

/// A byte for a self-contained frame on top of this stack.
pub(super) fn advance_within(parts: &[Part], stack: &[Frame], frame: Frame, byte: u8) -> Inner {
    match Machine::new(parts, stack).step(frame, stack.len(), byte) {
        Step::Take(frame) => Inner::Stays(frame),
        Step::Refuse => Inner::Refuses,
        _ => Inner::Leaves,
    }
}
