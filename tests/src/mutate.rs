//! Seeded mutations of trajectories: what models do wrong, and worse.
//!
//! Works on the text of calls and shares no code with the engine's parser, which is under test here.

use std::collections::BTreeMap;
use std::fmt;

use parl_mt::agent::Trajectory;
use parl_mt::env::bfcl::{BfclContext, BfclWorld, WorldError};
use parl_mt::python::Signature;
use parl_mt::task::TaskSpec;

use crate::random::Random;

/// An argument as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// Its keyword, if it has one.
    pub keyword: Option<String>,
    /// The text of its value.
    pub value: String,
}

/// A call in parts, each as written.
#[derive(Clone, Debug, PartialEq)]
pub struct CallText {
    /// The function's name.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<Argument>,
}

impl CallText {
    /// Splits a well-formed call; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.trim().split_once('(')?;
        let inner = rest.strip_suffix(')')?;
        let mut arguments = Vec::new();
        for part in split_top_level(inner)? {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let word = part.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(part.len());
            let rest = part[word..].trim_start();
            let keyword = (word > 0 && rest.starts_with('=')).then(|| part[..word].to_owned());
            let value = if keyword.is_some() { rest[1..].trim() } else { part };
            arguments.push(Argument { keyword, value: value.to_owned() });
        }
        Some(Self { name: name.trim().to_owned(), arguments })
    }
}

impl fmt::Display for CallText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (index, argument) in self.arguments.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            if let Some(keyword) = &argument.keyword {
                write!(f, "{keyword}=")?;
            }
            f.write_str(&argument.value)?;
        }
        f.write_str(")")
    }
}

/// The parts between commas that are in no bracket and no string.
fn split_top_level(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    let mut quote = None;
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None => match character {
                '\'' | '"' => quote = Some(character),
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                ',' if depth == 0 => {
                    parts.push(&text[start..index]);
                    start = index + 1;
                }
                _ => {}
            },
        }
    }
    parts.push(&text[start..]);
    (quote.is_none() && depth == 0).then_some(parts)
}

/// Everything that mutations draw from: the ground truth of all tasks, and the signatures of all methods.
pub struct Corpus {
    /// Parameters of each method, in order, by class and method.
    methods: BTreeMap<String, Vec<(String, Vec<String>)>>,
    /// Values in the ground truth by method and parameter.
    values: BTreeMap<(String, String), Vec<String>>,
    /// All calls of the ground truth.
    calls: Vec<String>,
    /// All values of the ground truth.
    all_values: Vec<String>,
}

impl Corpus {
    /// From tasks, and from the methods of their worlds.
    pub fn new(tasks: &[TaskSpec], context: &BfclContext) -> Result<Self, WorldError> {
        let mut methods = BTreeMap::new();
        for task in tasks {
            for instance in BfclWorld::new(task, context)?.instances() {
                methods.entry(instance.class_name().to_owned()).or_insert_with(|| {
                    let names = |signature: &Signature| {
                        let parameters = signature.parameters.iter().map(|parameter| parameter.name.to_owned());
                        (signature.name.to_owned(), parameters.collect())
                    };
                    instance.signatures().iter().map(names).collect()
                });
            }
        }
        let all_values = vec!["'a'".to_owned(), "1".to_owned()];
        let mut corpus = Self { methods, values: BTreeMap::new(), calls: Vec::new(), all_values };
        for call in tasks.iter().flat_map(TaskSpec::ground_truth).flatten() {
            let Some(parsed) = CallText::parse(call) else { continue };
            let parameters = corpus.parameters(&parsed.name).map(<[String]>::to_vec).unwrap_or_default();
            for (index, argument) in parsed.arguments.into_iter().enumerate() {
                let parameter = argument.keyword.or_else(|| parameters.get(index).cloned()).unwrap_or_default();
                corpus.all_values.push(argument.value.clone());
                corpus.values.entry((parsed.name.clone(), parameter)).or_default().push(argument.value);
            }
            corpus.calls.push(call.clone());
        }
        Ok(corpus)
    }

    /// How many classes and methods it knows.
    pub fn size(&self) -> (usize, usize) {
        (self.methods.len(), self.methods.values().map(Vec::len).sum())
    }

    fn parameters(&self, method: &str) -> Option<&[String]> {
        self.methods.values().flatten().find(|(name, _)| name == method).map(|(_, parameters)| parameters.as_slice())
    }

    /// A call of one of the classes with arguments that mostly make sense.
    fn generate(&self, random: &mut Random, classes: &[String], context: &[String]) -> String {
        let class = random.pick(classes);
        let Some(methods) = self.methods.get(class).filter(|methods| !methods.is_empty()) else {
            return "ls()".to_owned();
        };
        let (name, parameters) = random.pick(methods).clone();
        let mut arguments = Vec::new();
        for parameter in &parameters {
            if random.chance(4) {
                continue;
            }
            let seen = self.values.get(&(name.clone(), parameter.clone()));
            let value = match seen {
                // Names and ids of the task itself, so that calls hit its state.
                _ if !context.is_empty() && random.chance(35) => random.pick(context).clone(),
                Some(seen) if random.chance(70) => random.pick(seen).clone(),
                _ if random.chance(50) => random.pick(&self.all_values).clone(),
                _ => any_literal(random),
            };
            arguments.push(Argument { keyword: Some(parameter.clone()), value });
        }
        limit_cost(CallText { name, arguments }).to_string()
    }
}

/// Methods whose time grows with the size of a number: both sides would work for hours on `power(10, 10**18)`.
const COSTLY: [&str; 4] = ["power", "round_number", "logarithm", "square_root"];

/// Replaces numbers that would keep such a method busy.
fn limit_cost(mut call: CallText) -> CallText {
    if COSTLY.contains(&call.name.as_str()) {
        for argument in &mut call.arguments {
            let is_cheap = matches!(argument.keyword.as_deref(), Some("base" | "value" | "number"));
            // Texts too: mpmath reads `'12345'` as a precision.
            let number = argument.value.trim_matches(['\'', '"', ' ']);
            let looks_numeric =
                number.trim_start_matches(['-', '+', '(']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
            let is_small =
                number.parse::<f64>().is_ok_and(|number| number.abs() <= 400.0) && !argument.value.contains(['e', 'E']);
            if !is_cheap && looks_numeric && !is_small {
                argument.value = "37".into();
            }
        }
    }
    call
}

fn longest_digits(text: &str) -> usize {
    text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0)
}

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "5",
    "7",
    "10",
    "42",
    "99",
    "100",
    "-100",
    "1000",
    "12345",
    "-12345",
    "99999999",
    "9007199254740993",
    "9223372036854775808",
    "-9223372036854775809",
    "1000000000000000000000000000000",
    "0.0",
    "-0.0",
    "0.1",
    "0.5",
    "1.5",
    "2.5",
    "-2.5",
    "2.675",
    "1e16",
    "1e-5",
    "1e22",
    "123456789.123456789",
    "1e100",
    "1e308",
    "1e400",
    "-1e400",
    "5e-324",
    "1_000",
    "0x1F",
    "0b101",
    "0o17",
    "1.",
    ".5",
    "1e5",
    "3.0",
    "100.0",
    "- 5",
    "+5",
    "--5",
    "00",
    "007",
    "1__0",
    "0x",
    "1e",
    "~5",
    "0_0",
    "1_000.5",
    "1E5",
    "0XFF",
    "2.50",
    "33.3333333333333333",
];

const STRINGS: &[&str] = &[
    "",
    " ",
    "a",
    "A",
    ".",
    "..",
    "/",
    "./",
    "../",
    "a/b",
    "/tmp",
    "document",
    "file1.txt",
    "*",
    "?",
    "~",
    "-",
    "--help",
    "é",
    "naïve café",
    "日本語",
    "😀",
    "ß",
    "İ",
    "ǅ",
    "\u{301}",
    "\u{200b}",
    "\u{2028}",
    "\u{85}",
    "\u{1c}",
    "\u{a0}",
    "\u{3000}",
    "\t",
    "\n",
    "\r\n",
    "a\nb\nc",
    "a\rb",
    "line one\n\nline three\n",
    "'",
    "\"",
    "\\",
    "it's",
    "say \"hi\"",
    "\\n",
    "%s",
    "{}",
    "{0}",
    "None",
    "True",
    "1",
    "1.0",
    "-5",
    "1e5",
    "١٢",
    "²",
    "nan",
    "inf",
    "0x10",
    "USD",
    "RMB",
    "EUR",
    "economy",
    "first",
    "business",
    "Buy",
    "Sell",
    "buy",
    "SELL",
    "AAPL",
    "TSLA",
    "START",
    "STOP",
    "engage",
    "release",
    "on",
    "off",
    "auto",
    "driver",
    "lock",
    "unlock",
    "2024-01-01",
    "2024-02-30",
    "2024-13-01",
    "2024-1-5",
    "24-01-01",
    "01/02/2024",
    "2024-06-15 10:00:00",
    "9999-12-31",
    "0001-01-01",
    "LAX",
    "JFK",
    "SFO",
    "celsius",
    "fahrenheit",
    "km",
    "m",
    "miles",
    "kg",
    "lb",
    "Technology",
    "Automobile",
    "USR001",
    "USR002",
    "USR005",
    "Alice",
    "Bob",
    "John",
    "Catherine",
    "US123456",
    "94016",
    "83214",
    "San Francisco",
    "Rivermist",
    "Stonebrook",
    "new_file.txt",
    ".hidden",
    "name with spaces",
    "UPPER lower",
    "word (in brackets)",
    "call(now)",
    "a, b",
    "a=b",
    "[x]",
    "#tag",
    "@user",
    "x\u{0}y",
    "Open",
    "Completed",
    "Cancelled",
    "Resolved",
    "priority",
    "Pending",
    "budget",
    "the",
    "Zeta Corp",
    "Apple",
    "front_left",
];

const TYPES: &[&str] = &[
    "None",
    "True",
    "False",
    "[]",
    "{}",
    "()",
    "[1, 2]",
    "['a', 'b']",
    "{'a': 1}",
    "(1,)",
    "('x', 2)",
    "[None]",
    "[[1]]",
    "{'balance': 5}",
    "{1: 2}",
    "[1.5, True]",
    "[1, 'a']",
    "{'a': [1, {'b': None}]}",
    "['driver']",
    "['driver', 'passenger', 'rear_left', 'rear_right']",
    "['AAPL', 'TSLA']",
    "[85, 90, 78.5]",
    "[0.1, 0.2, 0.3]",
    "[1e308, 1e308]",
    "[True, False]",
    "{'title': 'x', 'description': 'y'}",
    "{'priority': 3}",
    "{'status': 'Closed'}",
    "{(1, 2): 3}",
    "{'é': 'ü'}",
    "[9007199254740993, 0.5]",
    "['#a', '#b']",
    "['@a']",
    "{[]: 1}",
    "{{}: 1}",
    "[,]",
    "(,)",
    "{,}",
    "[1,]",
    "{'a': 1,}",
    "(1)",
];

/// Literals that the engine's values do not hold (see docs/deviations.md).
const EXOTIC: &[&str] = &[
    "b'x'",
    "1j",
    "...",
    "[10**2]",
    "1 + 1",
    "not True",
    "'a' * 3",
    "ls()",
    "{1, 2}",
    "f'x'",
    "__debug__",
    "'\\ud800'",
];

/// Texts that are no call of a method.
const NO_CALLS: &[&str] = &[
    "",
    " ",
    "\n",
    "ls",
    "ls()()",
    "5",
    "'text'",
    "None",
    "True",
    "[]",
    "[1, 2",
    "{'a': 1}",
    "(1, 2)",
    "1.5",
    "-3",
    "ls(",
    "ls)",
    "ls())",
    "(ls()",
    "ls() ls()",
    "ls();",
    "ls(); pwd()",
    "ls()\npwd()",
    "ls() # list",
    "# ls()",
    "  ls()",
    "\tls()",
    "ls() ",
    "ls(\n)",
    "\nls()",
    "ls(a=)",
    "ls(=True)",
    "ls(a)",
    "ls(a==True)",
    "ls(a:True)",
    "ls(a=True b=1)",
    "ls(a=True,,)",
    "ls(,)",
    "ls(a=True,)",
    "ls(\"a\"=True)",
    "ls('a'=True)",
    "ls(1=2)",
    "ls(a='x)",
    "ls(a=\"x)",
    "ls(a='x\")",
    "cd(folder='a'b')",
    "cd(folder=a b)",
    "cd(folder=document)",
    "cd folder='document'",
    "cd['document']",
    "cd{'document'}",
    "cd<'document'>",
    "<cd>",
    "ls(a=true)",
    "ls(a=null)",
    "if",
    "if ls()",
    "for x in y",
    "return ls()",
    "import os",
    "x = ls()",
    "x := ls()",
    "(x := 1)",
    "lambda: 1",
    "def f(): pass",
    "print('x')",
    "open('x')",
    "kill(1)",
    "exit()",
    "quit()",
    "remove('x')",
    "run('x')",
    "popen()",
    "Popen('x')",
    "unlink()",
    "exit",
    "kill",
    "a.kill(1)",
    "os.remove('x')",
    "self.ls()",
    "GorillaFileSystem.ls()",
    "ls.__name__",
    "foo.bar()",
    "foo.bar",
    "foo()",
    "Foo(x=1)",
    "foo(x=(1, 2), y={'k': [3]})",
    "é()",
    "日本()",
    "ls\u{a0}()",
    "ls\u{200b}()",
    "‘ls’()",
    "cd(folder=‘a’)",
    "cd(folder=“a”)",
    "ls()，",
    "（ls）",
    "$ls()",
    "ls()!",
    "?",
    "!",
    "@ls()",
    "`ls()`",
    "\\",
    "\\ls()",
    "ls\\()",
    "ls(\\)",
    "'",
    "\"",
    "'''",
    "\"\"\"",
    "'''ls()'''",
    "cd(folder='''document''')",
    "cd(folder=\"document\")",
    "cd(folder='doc' 'ument')",
    "cd(folder=r'document')",
    "cd(folder=u'document')",
    "cd(folder='\\x64ocument')",
    "cd(folder='\\u0064ocument')",
    "cd(folder='\\N{LATIN SMALL LETTER D}ocument')",
    "cd(folder='\\x')",
    "cd(folder='\\u12')",
    "cd(folder='\\N{no such}')",
    "cd(folder='\\d')",
    "cd(folder='a\nb')",
    "cd(folder='a\\\nb')",
    "ls(**{'a': True})",
    "ls(*[True])",
    "ls(a=True, a=False)",
    "ls(a=True, False)",
    "ls(*)",
    "ls(**)",
    "ls(self=1)",
    "ls(None, self=1)",
    "ls(a=[1, 2)",
    "ls(a=(1, 2])",
    "ls(a={1)",
    "ls(a=[)",
    "ls(a=])",
    "ls(((((",
    "]",
    "}",
    ")",
    "((",
    "{ls()}",
    "[ls()]",
    "(ls())",
    "await ls()",
    "yield",
    "pass",
    "not ls()",
    "ls() if True else pwd()",
    "1 +",
    "1 + 1",
    "ls() + 1",
    "1 2",
    "a b",
    "'a' 'b'",
    "'a' b",
    "0777",
    "1abc",
    "0x",
    "1e",
    "1_",
    "f'{1}'",
    "cd(folder=None)",
    "cd(folder=1)",
    "cd(folder=0777)",
    "cd(folder=1abc)",
    "cd(folder=-'a')",
    "cd(folder=1.2.3)",
    "cd(folder=1..real)",
    "cd(folder=[1 2])",
    "cd(folder={'a' 1})",
    "cd(folder={'a': 1, 2})",
    "cd(folder=not True)",
    "cd(folder=a.b)",
    "cd(folder=a[0])",
    "cd(folder='a'[0])",
    "cd(folder='a' + 'b')",
    "cd(folder='%s' % 1)",
    "cd(folder=f'x')",
    "cd(folder=x for x in y)",
    "cd(folder)",
    "cd(if)",
    "cd(folder=if)",
    "cd(None=1)",
    "cd(True=1)",
    "None()",
    "True()",
    "5()",
    "'a'()",
];

/// Texts that are no call of a method, or a call in odd spelling.
pub fn texts() -> impl Iterator<Item = &'static str> {
    NO_CALLS.iter().copied()
}

/// Literals of all types, right and wrong ones.
pub fn literals() -> impl Iterator<Item = &'static str> {
    NUMBERS.iter().chain(TYPES).copied()
}

/// A string literal with this content, in one of Python's spellings.
fn spell_string(random: &mut Random, text: &str) -> String {
    let quote = if random.chance(75) { '\'' } else { '"' };
    let mut literal = String::from(quote);
    for character in text.chars() {
        match character {
            '\\' => literal.push_str("\\\\"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\0' => literal.push_str("\\0"),
            '\t' if random.chance(50) => literal.push_str("\\t"),
            character if character == quote => literal.extend(['\\', quote]),
            character if !character.is_ascii() && random.chance(20) => match u32::from(character) {
                code @ ..=0xff => literal.push_str(&format!("\\x{code:02x}")),
                code @ ..=0xffff => literal.push_str(&format!("\\u{code:04x}")),
                code => literal.push_str(&format!("\\U{code:08x}")),
            },
            character => literal.push(character),
        }
    }
    literal.push(quote);
    literal
}

fn any_literal(random: &mut Random) -> String {
    match random.below(10) {
        0..3 => random.pick(NUMBERS).to_string(),
        3..7 => {
            let text = *random.pick(STRINGS);
            spell_string(random, text)
        }
        _ => random.pick(TYPES).to_string(),
    }
}

/// The content of a plain string literal, if the text is one.
fn string_content(literal: &str) -> Option<String> {
    let quote = literal.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = literal.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace("\\n", "\n").replace("\\'", "'").replace("\\\"", "\""))
}

fn change_string(random: &mut Random, text: &str) -> String {
    match random.below(14) {
        0 => text.to_uppercase(),
        1 => text.to_lowercase(),
        2 => format!("{text} "),
        3 => format!(" {text}"),
        4 => String::new(),
        5 => text.chars().rev().collect(),
        6 => format!("{text}é"),
        7 => format!("{text}😀"),
        8 => format!("{text}/"),
        9 => format!("./{text}"),
        10 => format!("{text}\n{text}"),
        11 => format!("{text}'\""),
        12 => text.chars().skip(1).collect(),
        _ => random.pick(STRINGS).to_string(),
    }
}

fn change_number(random: &mut Random, literal: &str) -> String {
    let number = literal.parse::<f64>().unwrap_or(1.0);
    match random.below(12) {
        0 => format!("-{literal}"),
        1 => format!("{}", number + 1.0),
        2 => format!("{:?}", number - 1.0),
        3 => format!("{:?}", number * 2.0),
        4 => format!("{:?}", number / 3.0),
        5 => format!("{:?}", number),
        6 => format!("{}", number as i64),
        7 => format!("'{literal}'"),
        8 => format!("{literal}e3"),
        9 => format!("{literal}0"),
        _ => random.pick(NUMBERS).to_string(),
    }
}

/// The kinds of mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No change.
    Identity,
    /// A step for each call.
    OneCallPerStep,
    /// A call is left out.
    DropCall,
    /// A call is made again at once.
    RepeatCall,
    /// A call is made again in a later turn.
    RepeatLater,
    /// Two calls of a turn change places.
    SwapCalls,
    /// A turn's calls in reverse.
    ReverseTurn,
    /// Two turns change places.
    SwapTurns,
    /// A turn's calls are made twice.
    ReplayTurn,
    /// A turn's calls are made a turn early, or late.
    ShiftTurn,
    /// A call of another task.
    ForeignCall,
    /// A call of the task's classes, with arguments that mostly make sense.
    ExtraCall,
    /// Several of them.
    ExtraCalls,
    /// A call that changes nothing.
    HarmlessCall,
    /// A function that does not exist.
    UnknownFunction,
    /// A step without calls.
    EmptyStep,
    /// A turn without calls.
    EmptyTurn,
    /// A turn too few.
    DropTurn,
    /// A turn too many.
    AddTurn,
    /// A call's text breaks off.
    TruncateText,
    /// A character is lost.
    DeleteCharacter,
    /// A stray character.
    InsertCharacter,
    /// A wrong character.
    ReplaceCharacter,
    /// Other spacing, which Python allows.
    Spacing,
    /// Text that is no call at all.
    NoCall,
    /// A number is another.
    Number,
    /// A string is another.
    String,
    /// A value is of another type.
    Type,
    /// A value is any other literal.
    Literal,
    /// A value is the one of another call.
    OtherValue,
    /// A literal that the engine does not hold.
    Exotic,
    /// Arguments by position.
    Positional,
    /// Some arguments by position.
    SomePositional,
    /// An argument is left out.
    DropArgument,
    /// An argument that the method does not have.
    UnexpectedKeyword,
    /// An argument more by position.
    ExtraPositional,
    /// A keyword given twice.
    RepeatedKeyword,
    /// Two values change places.
    SwapValues,
    /// Keywords in another order.
    ReorderKeywords,
    /// All turns made up.
    RandomPlay,
}

/// Kinds that a mixed mutation draws from, each as often as it stands here.
const MIXED: &[Kind] = {
    use Kind::*;
    &[
        OneCallPerStep,
        DropCall,
        DropCall,
        RepeatCall,
        RepeatLater,
        SwapCalls,
        ReverseTurn,
        SwapTurns,
        ReplayTurn,
        ShiftTurn,
        ForeignCall,
        ForeignCall,
        ExtraCall,
        ExtraCall,
        ExtraCall,
        ExtraCalls,
        ExtraCalls,
        ExtraCalls,
        HarmlessCall,
        UnknownFunction,
        EmptyStep,
        EmptyTurn,
        DropTurn,
        AddTurn,
        TruncateText,
        DeleteCharacter,
        InsertCharacter,
        ReplaceCharacter,
        Spacing,
        NoCall,
        NoCall,
        Number,
        Number,
        Number,
        String,
        String,
        String,
        Type,
        Type,
        Literal,
        Literal,
        OtherValue,
        OtherValue,
        Positional,
        SomePositional,
        DropArgument,
        UnexpectedKeyword,
        ExtraPositional,
        RepeatedKeyword,
        SwapValues,
        ReorderKeywords,
    ]
};

/// The ground truth as a trajectory, one step a turn.
pub fn ground_truth(task: &TaskSpec) -> Trajectory {
    task.ground_truth().map(|calls| if calls.is_empty() { Vec::new() } else { vec![calls.to_vec()] }).collect()
}

/// A trajectory made from a task's ground truth, with the kinds of mutation in it.
pub fn mutate(corpus: &Corpus, random: &mut Random, task: &TaskSpec) -> (Vec<Kind>, Trajectory) {
    let context = context_values(task);
    let mut mutator = Mutator { corpus, random, task, context, turns: ground_truth(task) };
    let kinds = match mutator.random.below(100) {
        0 => vec![Kind::Identity],
        1..10 => vec![Kind::RandomPlay],
        rolled => (0..[1, 1, 1, 2, 3][rolled % 5]).map(|_| *mutator.random.pick(MIXED)).collect(),
    };
    for kind in &kinds {
        mutator.apply(*kind);
    }
    (kinds, mutator.turns)
}

/// A trajectory with exactly this kind of mutation.
pub fn mutate_as(corpus: &Corpus, random: &mut Random, task: &TaskSpec, kind: Kind) -> Trajectory {
    let mut mutator = Mutator { corpus, random, task, context: context_values(task), turns: ground_truth(task) };
    mutator.apply(kind);
    mutator.turns
}

/// Literals in the task's own state and ground truth: names and ids that calls can hit.
fn context_values(task: &TaskSpec) -> Vec<String> {
    fn collect(values: &mut Vec<String>, json: &serde_json::Value) {
        match json {
            serde_json::Value::Object(entries) => {
                for (key, value) in entries {
                    if !matches!(key.as_str(), "type" | "contents" | "content") {
                        values.push(quoted(key));
                        if key.bytes().all(|byte| byte.is_ascii_digit()) {
                            values.push(key.clone());
                        }
                    }
                    collect(values, value);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| collect(values, item)),
            serde_json::Value::String(text) => {
                if text.len() < 60 {
                    values.push(quoted(text));
                }
                values.extend(text.split_whitespace().take(3).map(quoted));
            }
            serde_json::Value::Number(number) => values.push(number.to_string()),
            _ => {}
        }
    }
    fn quoted(text: &str) -> String {
        format!("'{}'", text.replace(['\'', '\\', '\n'], ""))
    }
    let mut values = Vec::new();
    for config in task.initial_config.values() {
        collect(&mut values, &config.to_json());
    }
    values
}

struct Mutator<'a> {
    corpus: &'a Corpus,
    random: &'a mut Random,
    task: &'a TaskSpec,
    context: Vec<String>,
    turns: Trajectory,
}

impl Mutator<'_> {
    /// A place of some call: turn, step, call.
    fn place(&mut self) -> Option<(usize, usize, usize)> {
        let places: Vec<_> = self
            .turns
            .iter()
            .enumerate()
            .flat_map(|(turn, steps)| steps.iter().enumerate().map(move |(step, calls)| (turn, step, calls.len())))
            .flat_map(|(turn, step, calls)| (0..calls).map(move |call| (turn, step, call)))
            .collect();
        (!places.is_empty()).then(|| *self.random.pick(&places))
    }

    fn some_turn(&mut self) -> Option<usize> {
        (!self.turns.is_empty()).then(|| self.random.below(self.turns.len()))
    }

    fn insert(&mut self, call: String) {
        match self.place() {
            Some((turn, step, index)) if self.random.chance(80) => {
                let index = index + self.random.below(2);
                self.turns[turn][step].insert(index, call);
            }
            _ => {
                if let Some(turn) = self.some_turn() {
                    self.turns[turn].push(vec![call]);
                }
            }
        }
    }

    fn edit_text(&mut self, edit: impl Fn(&mut Random, &str) -> String) {
        if let Some((turn, step, index)) = self.place() {
            let before = &self.turns[turn][step][index];
            let after = edit(self.random, before);
            let is_costly = COSTLY.iter().any(|name| before.contains(name));
            if !is_costly || longest_digits(&after) <= longest_digits(before) {
                self.turns[turn][step][index] = after;
            }
        }
    }

    fn edit_call(&mut self, edit: impl Fn(&mut Self, &mut CallText)) {
        // Some calls have no arguments: try a few places.
        for _ in 0..4 {
            let Some((turn, step, index)) = self.place() else { return };
            let Some(mut call) = CallText::parse(&self.turns[turn][step][index]) else { continue };
            let before = call.clone();
            edit(self, &mut call);
            if call != before {
                self.turns[turn][step][index] = limit_cost(call).to_string();
                return;
            }
        }
    }

    fn edit_value(&mut self, fits: impl Fn(&str) -> bool, edit: impl Fn(&mut Self, &str) -> String) {
        self.edit_call(|mutator, call| {
            let fitting: Vec<_> = (0..call.arguments.len()).filter(|i| fits(&call.arguments[*i].value)).collect();
            if !fitting.is_empty() {
                let argument = &mut call.arguments[*mutator.random.pick(&fitting)];
                argument.value = edit(mutator, &argument.value);
            }
        });
    }

    fn apply(&mut self, kind: Kind) {
        match kind {
            Kind::Identity => {}
            Kind::OneCallPerStep => self.turns = one_call_per_step(&self.turns),
            Kind::DropCall => {
                if let Some((turn, step, index)) = self.place() {
                    self.turns[turn][step].remove(index);
                }
            }
            Kind::RepeatCall => {
                if let Some((turn, step, index)) = self.place() {
                    let call = self.turns[turn][step][index].clone();
                    self.turns[turn][step].insert(index, call);
                }
            }
            Kind::RepeatLater => {
                if let Some((turn, step, index)) = self.place() {
                    let call = self.turns[turn][step][index].clone();
                    let later = turn + self.random.below(self.turns.len() - turn);
                    self.turns[later].push(vec![call]);
                }
            }
            Kind::SwapCalls => {
                if let Some((turn, step, index)) = self.place() {
                    let calls = &mut self.turns[turn][step];
                    let other = self.random.below(calls.len());
                    calls.swap(index, other);
                }
            }
            Kind::ReverseTurn => {
                if let Some((turn, step, _)) = self.place() {
                    self.turns[turn][step].reverse();
                }
            }
            Kind::SwapTurns => {
                if let (Some(one), Some(other)) = (self.some_turn(), self.some_turn()) {
                    self.turns.swap(one, other);
                }
            }
            Kind::ReplayTurn => {
                if let Some(turn) = self.some_turn() {
                    let again = self.turns[turn].clone();
                    self.turns[turn].extend(again);
                }
            }
            Kind::ShiftTurn => {
                if let (Some(from), Some(to)) = (self.some_turn(), self.some_turn()) {
                    let moved = std::mem::take(&mut self.turns[from]);
                    self.turns[to].extend(moved);
                }
            }
            Kind::ForeignCall => {
                if !self.corpus.calls.is_empty() {
                    let call = self.random.pick(&self.corpus.calls).clone();
                    self.insert(call);
                }
            }
            Kind::ExtraCall => {
                let call = self.corpus.generate(self.random, &self.task.classes, &self.context);
                self.insert(call);
            }
            Kind::ExtraCalls => {
                for _ in 0..2 + self.random.below(10) {
                    self.apply(Kind::ExtraCall);
                }
            }
            Kind::HarmlessCall => {
                let call = self.random.pick(&["pwd()", "mean(numbers=[1])", "ls()", "get_current_time()"]).to_string();
                self.insert(call);
            }
            Kind::UnknownFunction => {
                let name = self
                    .random
                    .pick(&["foo", "list_files", "cd_", "Ls", "post", "get", "éclair", "_load_scenario", "sort_by"])
                    .to_string();
                if self.random.chance(50) {
                    self.insert(format!("{name}(x=1)"));
                } else {
                    self.edit_call(|_, call| call.name.clone_from(&name));
                }
            }
            Kind::EmptyStep => {
                if let Some(turn) = self.some_turn() {
                    let index = self.random.below(self.turns[turn].len() + 1);
                    let step = if self.random.chance(70) { Vec::new() } else { vec![String::new()] };
                    self.turns[turn].insert(index, step);
                }
            }
            Kind::EmptyTurn => {
                if let Some(turn) = self.some_turn() {
                    self.turns[turn] = if self.random.chance(50) { Vec::new() } else { vec![Vec::new()] };
                }
            }
            Kind::DropTurn => {
                if let Some(turn) = self.some_turn() {
                    self.turns.remove(turn);
                }
            }
            Kind::AddTurn => {
                let turn = if self.random.chance(50) { vec![vec!["pwd()".to_owned()]] } else { Vec::new() };
                let index = self.random.below(self.turns.len() + 1);
                self.turns.insert(index, turn);
            }
            Kind::TruncateText => self.edit_text(|random, text| {
                let length = random.below(text.chars().count().max(1));
                text.chars().take(length).collect()
            }),
            Kind::DeleteCharacter => self.edit_text(|random, text| {
                let lost = random.below(text.chars().count().max(1));
                text.chars().enumerate().filter(|(index, _)| *index != lost).map(|(_, character)| character).collect()
            }),
            Kind::InsertCharacter => self.edit_text(|random, text| {
                let at = random.below(text.chars().count() + 1);
                let stray = *random.pick(STRAY);
                text.chars().take(at).chain([stray]).chain(text.chars().skip(at)).collect()
            }),
            Kind::ReplaceCharacter => self.edit_text(|random, text| {
                let at = random.below(text.chars().count().max(1));
                let stray = *random.pick(STRAY);
                text.chars().take(at).chain([stray]).chain(text.chars().skip(at + 1)).collect()
            }),
            Kind::Spacing => self.edit_text(|random, text| match random.below(6) {
                0 => text.replace('=', " = "),
                1 => text.replace(", ", ","),
                2 => text.replace('(', "( ").replace(')', " )"),
                3 => text.replace('\'', "\""),
                4 => format!("{text} "),
                _ => text.replace('(', "(\n").replace(", ", ",\n\t"),
            }),
            Kind::NoCall => {
                let text = self.random.pick(NO_CALLS).to_string();
                if self.random.chance(60) {
                    self.insert(text);
                } else {
                    self.edit_text(|_, _| text.clone());
                }
            }
            Kind::Number => self.edit_value(
                |value| value.starts_with(|c: char| c.is_ascii_digit() || c == '-'),
                |mutator, value| change_number(mutator.random, value),
            ),
            Kind::String => self.edit_value(
                |value| value.starts_with(['\'', '"']),
                |mutator, value| {
                    let content = string_content(value).unwrap_or_default();
                    let changed = change_string(mutator.random, &content);
                    spell_string(mutator.random, &changed)
                },
            ),
            Kind::Type => self.edit_value(|_| true, |mutator, _| mutator.random.pick(TYPES).to_string()),
            Kind::Literal => self.edit_value(|_| true, |mutator, _| any_literal(mutator.random)),
            Kind::OtherValue => self.edit_value(
                |_| true,
                |mutator, _| {
                    let values = if mutator.context.is_empty() || mutator.random.chance(30) {
                        &mutator.corpus.all_values
                    } else {
                        &mutator.context
                    };
                    mutator.random.pick(values).clone()
                },
            ),
            Kind::Exotic => self.edit_value(|_| true, |mutator, _| mutator.random.pick(EXOTIC).to_string()),
            Kind::Positional => self.edit_call(|_, call| call.arguments.iter_mut().for_each(|a| a.keyword = None)),
            Kind::SomePositional => self.edit_call(|mutator, call| {
                let count = mutator.random.below(call.arguments.len() + 1);
                call.arguments.iter_mut().take(count).for_each(|argument| argument.keyword = None);
            }),
            Kind::DropArgument => self.edit_call(|mutator, call| {
                if !call.arguments.is_empty() {
                    let index = mutator.random.below(call.arguments.len());
                    call.arguments.remove(index);
                }
            }),
            Kind::UnexpectedKeyword => self.edit_call(|mutator, call| {
                let keyword =
                    mutator.random.pick(&["path", "x", "self", "é", "Folder", "limit", "_", "args", "l"]).to_string();
                let index = mutator.random.below(call.arguments.len() + 1);
                call.arguments.insert(index, Argument { keyword: Some(keyword), value: any_literal(mutator.random) });
            }),
            Kind::ExtraPositional => self.edit_call(|mutator, call| {
                for _ in 0..1 + mutator.random.below(3) {
                    call.arguments.insert(0, Argument { keyword: None, value: any_literal(mutator.random) });
                }
            }),
            Kind::RepeatedKeyword => self.edit_call(|mutator, call| {
                if !call.arguments.is_empty() {
                    let again = mutator.random.pick(&call.arguments).clone();
                    call.arguments.push(again);
                }
            }),
            Kind::SwapValues => self.edit_call(|mutator, call| {
                if call.arguments.len() > 1 {
                    let (one, other) =
                        (mutator.random.below(call.arguments.len()), mutator.random.below(call.arguments.len()));
                    let value = call.arguments[one].value.clone();
                    call.arguments[one].value = std::mem::replace(&mut call.arguments[other].value, value);
                }
            }),
            Kind::ReorderKeywords => self.edit_call(|mutator, call| {
                if call.arguments.len() > 1 {
                    let middle = mutator.random.below(call.arguments.len());
                    call.arguments.rotate_left(middle);
                }
            }),
            Kind::RandomPlay => {
                let turns = self.turns.len();
                self.turns = (0..turns)
                    .map(|_| {
                        (0..1 + self.random.below(3))
                            .map(|_| {
                                let count = 1 + self.random.below(6);
                                (0..count)
                                    .map(|_| self.corpus.generate(self.random, &self.task.classes, &self.context))
                                    .collect()
                            })
                            .collect()
                    })
                    .collect();
            }
        }
    }
}

const STRAY: &[char] = &[
    '(', ')', '[', ']', '{', '}', '\'', '"', ',', '=', ':', '.', '\\', ' ', '\n', '\t', '#', '@', '!', '$', '?', '`',
    ';', '*', '-', '+', '<', '>', '|', '&', '%', '/', '~', '^', '_', 'a', 'é', '\u{a0}', '\u{200b}', '“', '’', '，',
    '😀', '\0',
];

/// Each call in a step of its own.
pub fn one_call_per_step(turns: &Trajectory) -> Trajectory {
    turns.iter().map(|steps| steps.iter().flatten().map(|call| vec![call.clone()]).collect()).collect()
}
