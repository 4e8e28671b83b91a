//! Python's keywords and operators.

const KEYWORDS: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Operators of more than one character, longest first. (`...` is read with the numbers, because of `.5`.)
const LONG_OPERATORS: &[&str] = &[
    "**=", "//=", ">>=", "<<=", "!=", "<>", "%=", "&=", "**", "*=", "+=", "-=", "->", "//", "/=", ":=", "<<", "<=",
    "==", ">=", ">>", "@=", "^=", "|=",
];

const OPERATORS: &[&str] = &[
    "%", "&", "(", ")", "*", "+", ",", "-", ".", "/", ":", ";", "<", "=", ">", "@", "[", "]", "^", "{", "|", "}", "~",
];

/// The keyword with this spelling.
pub(crate) fn keyword(word: &str) -> Option<&'static str> {
    KEYWORDS.iter().copied().find(|&keyword| keyword == word)
}

/// The operator of two or three characters with which the text starts.
pub(super) fn long_operator(text: &[char]) -> Option<&'static str> {
    LONG_OPERATORS.iter().copied().find(|operator| {
        operator.len() <= text.len() && operator.chars().zip(text).all(|(expected, &found)| expected == found)
    })
}

/// The operator of one character.
pub(super) fn operator(character: char) -> Option<&'static str> {
    OPERATORS.iter().copied().find(|operator| operator.starts_with(character))
}

/// Names that are keywords in some places (`match x:`); an expression may use them as names. CPython's check takes any
/// beginning of such a word for the word.
pub(super) fn is_soft_keyword(name: &str) -> bool {
    ["_", "case", "match"].iter().any(|keyword| keyword.starts_with(name))
}
