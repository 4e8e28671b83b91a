//! How options are declared: one table gives the struct, its defaults, its checks, and the text of `--options`.

use toml::Value;

/// One option, as a reader of the help or of a form sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionInfo {
    /// Full name, such as `grpo.epsilon`.
    pub name: String,
    /// Kind of value, such as `number` or `"group", "batch" or "none"`.
    pub kind: String,
    /// Limits, such as `0 or more`; empty where there are none.
    pub range: &'static str,
    /// Default as TOML; empty where an option has none.
    pub default: String,
    /// What it means, in Markdown.
    pub meaning: String,
}

/// A kind of value that an option can have.
pub(super) trait OptionValue: Sized {
    /// What is wanted, in words.
    fn kind() -> String;
    /// Reads a TOML value; none where it is of another kind.
    fn from_toml(value: &Value) -> Option<Self>;
    /// The value in TOML; none where it is absent.
    fn to_toml(&self) -> Option<Value>;
    /// The number to check against the option's range.
    fn number(&self) -> Option<f64> {
        None
    }
    /// All values that are possible, where they can be counted.
    fn names() -> &'static [&'static str] {
        &[]
    }
}

impl OptionValue for bool {
    fn kind() -> String {
        "true or false".to_owned()
    }
    fn from_toml(value: &Value) -> Option<Self> {
        value.as_bool()
    }
    fn to_toml(&self) -> Option<Value> {
        Some(Value::Boolean(*self))
    }
}

impl OptionValue for f64 {
    fn kind() -> String {
        "number".to_owned()
    }
    fn from_toml(value: &Value) -> Option<Self> {
        value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))
    }
    fn to_toml(&self) -> Option<Value> {
        Some(Value::Float(*self))
    }
    fn number(&self) -> Option<f64> {
        Some(*self)
    }
}

/// Whole numbers: TOML's integers are signed, ours are counts.
macro_rules! whole_number {
    ($($type:ty)*) => {$(
        impl OptionValue for $type {
            fn kind() -> String {
                "whole number".to_owned()
            }
            fn from_toml(value: &Value) -> Option<Self> {
                <$type>::try_from(value.as_integer()?).ok()
            }
            fn to_toml(&self) -> Option<Value> {
                i64::try_from(*self).ok().map(Value::Integer)
            }
            fn number(&self) -> Option<f64> {
                Some(*self as f64)
            }
        }
    )*};
}
whole_number!(usize u64);

impl OptionValue for String {
    fn kind() -> String {
        "string".to_owned()
    }
    fn from_toml(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
    fn to_toml(&self) -> Option<Value> {
        Some(Value::String(self.clone()))
    }
}

impl OptionValue for Vec<String> {
    fn kind() -> String {
        "list of strings".to_owned()
    }
    fn from_toml(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(String::from_toml).collect()
    }
    fn to_toml(&self) -> Option<Value> {
        Some(Value::Array(self.iter().cloned().map(Value::String).collect()))
    }
}

impl<T: OptionValue> OptionValue for Option<T> {
    fn kind() -> String {
        T::kind()
    }
    fn from_toml(value: &Value) -> Option<Self> {
        T::from_toml(value).map(Some)
    }
    fn to_toml(&self) -> Option<Value> {
        self.as_ref().and_then(T::to_toml)
    }
    fn number(&self) -> Option<f64> {
        self.as_ref().and_then(T::number)
    }
    fn names() -> &'static [&'static str] {
        T::names()
    }
}

/// `"grpo", "dr_grpo" or "dapo"`.
pub(super) fn or_list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => format!("{one:?}"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|name| format!("{name:?}")).collect();
            format!("{} or {last:?}", first.join(", "))
        }
    }
}

/// Declares an option with a few named values, spelt in snake case in TOML.
macro_rules! choice {
    (
        $(#[$attribute:meta])*
        pub enum $Choice:ident { $( $(#[$variant_attribute:meta])* $Variant:ident = $name:literal, )* }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $Choice { $( $(#[$variant_attribute])* #[serde(rename = $name)] $Variant, )* }

        impl $Choice {
            /// Its name in a configuration.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Variant => $name,)* }
            }
        }

        named_values! { $Choice: $($Variant = $name),* }
    };
}

/// Makes an enum that is declared elsewhere an option, with the names that it has in TOML.
macro_rules! named_values {
    ($Choice:ident: $($Variant:ident = $name:literal),*) => {
        impl OptionValue for $Choice {
            fn kind() -> String {
                or_list(Self::names())
            }
            fn from_toml(value: &toml::Value) -> Option<Self> {
                match value.as_str()? { $($name => Some(Self::$Variant),)* _ => None }
            }
            fn to_toml(&self) -> Option<toml::Value> {
                // Written without a wildcard, so that a new variant has to be named here.
                let name = match self { $(Self::$Variant => $name,)* };
                Some(toml::Value::String(name.to_owned()))
            }
            fn names() -> &'static [&'static str] {
                &[$($name),*]
            }
        }
    };
}

/// Limits of a number, in words and as a test. Every test is false for what is not a number.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) words: &'static str,
    pub(super) holds: fn(f64) -> bool,
}

pub(super) const ANY: Range = Range { words: "", holds: |_| true };
pub(super) const NOT_NEGATIVE: Range = Range { words: "0 or more", holds: |x| x >= 0.0 && x.is_finite() };
pub(super) const POSITIVE: Range = Range { words: "above 0", holds: |x| x > 0.0 && x.is_finite() };
pub(super) const ONE_OR_MORE: Range = Range { words: "1 or more", holds: |x| x >= 1.0 };
pub(super) const TWO_OR_MORE: Range = Range { words: "2 or more", holds: |x| x >= 2.0 };
pub(super) const SHARE: Range = Range { words: "from 0 to 1", holds: |x| (0.0..=1.0).contains(&x) };
pub(super) const POSITIVE_SHARE: Range = Range { words: "above 0, up to 1", holds: |x| x > 0.0 && x <= 1.0 };
pub(super) const BELOW_ONE: Range = Range { words: "from 0, below 1", holds: |x| (0.0..1.0).contains(&x) };

/// Why a value was not taken.
pub(super) enum Refused {
    /// There is no option of that name in this section.
    Unknown,
    /// Another kind of value is wanted: the kind in words, and the names of all values where they can be counted.
    Kind(String, &'static [&'static str]),
    /// The number is outside these limits.
    Range(&'static str),
}

/// A table of options with a name.
pub(super) trait Section {
    /// Name of the table; empty at the top of the file.
    const NAME: &'static str;
    /// The options' names, in the order of declaration.
    const KEYS: &'static [&'static str];
    /// Takes one value.
    fn set(&mut self, key: &str, value: &Value) -> Result<(), Refused>;
    /// The values that are there, in the order of declaration.
    fn values(&self) -> Vec<(&'static str, Value)>;
    /// All options with their defaults.
    fn options() -> Vec<OptionInfo>;
}

/// Declares a section: `/// meaning`, then `name: type = default, RANGE;`.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        pub struct $Section:ident in $section:literal {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $type:ty = $default:expr, $range:expr;
            )*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $Section {
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        impl Default for $Section {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl Section for $Section {
            const NAME: &'static str = $section;
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),*];

            fn set(&mut self, key: &str, value: &toml::Value) -> Result<(), Refused> {
                match key {
                    $(stringify!($field) => {
                        let taken = <$type as OptionValue>::from_toml(value).ok_or_else(|| {
                            Refused::Kind(<$type as OptionValue>::kind(), <$type as OptionValue>::names())
                        })?;
                        let range: Range = $range;
                        if taken.number().is_some_and(|number| !(range.holds)(number)) {
                            return Err(Refused::Range(range.words));
                        }
                        self.$field = taken;
                        Ok(())
                    })*
                    _ => Err(Refused::Unknown),
                }
            }

            fn values(&self) -> Vec<(&'static str, toml::Value)> {
                let all = [$((stringify!($field), self.$field.to_toml())),*];
                all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
            }

            fn options() -> Vec<OptionInfo> {
                let defaults = Self::default();
                vec![$({
                    let range: Range = $range;
                    let lines: &[&str] = &[$($doc),*];
                    OptionInfo {
                        name: full_name(Self::NAME, stringify!($field)),
                        kind: <$type as OptionValue>::kind(),
                        range: range.words,
                        default: defaults.$field.to_toml().map(|value| toml_text(&value)).unwrap_or_default(),
                        meaning: lines.iter().map(|line| line.strip_prefix(' ').unwrap_or(line))
                            .collect::<Vec<_>>().join("\n"),
                    }
                }),*]
            }
        }
    };
}

pub(super) use {choice, named_values, section};

/// A value as TOML, with an exponent where zeros would hide the number.
pub(super) fn toml_text(value: &Value) -> String {
    match value {
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        _ => value.to_string(),
    }
}

/// `section.key`, or the key alone at the top of the file.
pub(super) fn full_name(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}
