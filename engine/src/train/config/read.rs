//! From TOML and overrides to a [`RunConfig`], with every problem told at its place.

use std::collections::BTreeMap;
use std::fmt;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::options::{Refused, Section, full_name};
use super::*;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file, on a line (from 1).
    File {
        /// The file, as the user named it.
        file: String,
        /// The line.
        line: usize,
    },
    /// On the command line, as `key=value`.
    Override(String),
    /// Nowhere: the default.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "at {file}:{line}"),
            Self::Override(text) => write!(f, "in `{text}`"),
            Self::Default => write!(f, "(not given)"),
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is not TOML.
    #[error("not TOML {place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser expected.
        message: String,
    },
    /// There is no such option or section.
    #[error("unknown key `{key}` {place}{}", suggestion(.nearest))]
    UnknownKey {
        /// Full name as given.
        key: String,
        /// Where.
        place: Place,
        /// The nearest name that exists, if one is near.
        nearest: Option<String>,
    },
    /// The value is of another kind.
    #[error("`{key}` {place} is {found}; it takes {expected}{}", suggestion(.nearest))]
    WrongKind {
        /// The option.
        key: String,
        /// Where.
        place: Place,
        /// What was given, in words.
        found: String,
        /// What is wanted, in words.
        expected: String,
        /// The nearest value that exists, if one is near.
        nearest: Option<String>,
    },
    /// The number is outside its limits.
    #[error("`{key}` {place} is {found}; it must be {range}")]
    OutOfRange {
        /// The option.
        key: String,
        /// Where.
        place: Place,
        /// The number.
        found: String,
        /// The limits, in words.
        range: &'static str,
    },
    /// Values that do not go together.
    #[error("`{key}` {place}: {message}")]
    Conflict {
        /// The option to change first.
        key: String,
        /// Where.
        place: Place,
        /// What does not go together, and what to do.
        message: String,
    },
    /// An override that is not `key=value`.
    #[error("`{text}` is not an override: write section.key=value, such as grpo.beta=0.04")]
    NotAnOverride {
        /// As given.
        text: String,
    },
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// All problems of a configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl RunConfig {
    /// Reads a configuration: TOML, then overrides (`grpo.beta=0.04`), then checks and what follows from other options.
    ///
    /// `file` is the name for messages. A value of an override is TOML; where it is none, it is a string (`model.preset=nano`).
    pub fn parse(text: &str, file: &str, overrides: &[String]) -> Result<Self, ConfigError> {
        let mut reader = Reader { config: Self::default(), places: BTreeMap::new(), problems: Vec::new() };
        reader.read_file(text, file);
        for text in overrides {
            reader.read_override(text);
        }
        if reader.problems.is_empty() {
            reader.complete();
        }
        if reader.problems.is_empty() { Ok(reader.config) } else { Err(ConfigError { problems: reader.problems }) }
    }
}

struct Reader {
    config: RunConfig,
    /// Where each option was given last.
    places: BTreeMap<String, Place>,
    problems: Vec<Problem>,
}

impl Reader {
    fn read_file(&mut self, text: &str, file: &str) {
        let place = |offset: usize| {
            let line = text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1;
            Place::File { file: file.to_owned(), line }
        };
        // Twice: once for the places of keys, once for plain values.
        let parsed = DeTable::parse(text).and_then(|spans| Ok((spans, toml::from_str::<toml::Table>(text)?)));
        let (spans, table) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                let place = place(error.span().map_or(0, |span| span.start));
                self.problems.push(Problem::Syntax { place, message: error.message().trim().to_owned() });
                return;
            }
        };
        // In the order of the file, so that problems come in that order.
        let mut entries = Vec::new();
        for (key, value) in spans.get_ref() {
            let name = key.get_ref().to_string();
            match value.get_ref() {
                DeValue::Table(inner) => {
                    if !section_names().contains(&name.as_str()) {
                        entries.push((key.span().start, "", name.clone(), Value::Boolean(true)));
                        continue;
                    }
                    for key in inner.keys() {
                        let section = section_names().into_iter().find(|section| *section == name).unwrap_or_default();
                        let inner_name = key.get_ref().to_string();
                        let value = table[&name][&inner_name].clone();
                        entries.push((key.span().start, section, inner_name, value));
                    }
                }
                _ if section_names().contains(&name.as_str()) => self.problems.push(Problem::WrongKind {
                    found: in_words(&table[&name]),
                    expected: format!("options: write [{name}] on a line of its own"),
                    key: name,
                    place: place(key.span().start),
                    nearest: None,
                }),
                _ => entries.push((key.span().start, "", name.clone(), table[&name].clone())),
            }
        }
        entries.sort_by_key(|(start, ..)| *start);
        for (start, section, key, value) in entries {
            self.set(section, &key, &value, place(start));
        }
    }

    fn read_override(&mut self, text: &str) {
        let Some((path, value)) = text.split_once('=') else {
            self.problems.push(Problem::NotAnOverride { text: text.to_owned() });
            return;
        };
        let (section, key) = path.trim().split_once('.').unwrap_or(("", path.trim()));
        self.set(section, key, &override_value(value.trim()), Place::Override(text.to_owned()));
    }

    fn set(&mut self, section: &str, key: &str, value: &Value, place: Place) {
        let name = full_name(section, key);
        match self.config.set(section, key, value) {
            Ok(()) => {
                self.places.insert(name, place);
            }
            Err(Refused::Unknown) => {
                let nearest = nearest_key(section, key);
                self.problems.push(Problem::UnknownKey { key: name, place, nearest });
            }
            // Counts have no sign: to say that -4 is no whole number would be wrong.
            Err(Refused::Kind(..)) if value.as_integer().is_some_and(|number| number < 0) => {
                let (found, range) = (value.to_string(), "0 or more");
                self.problems.push(Problem::OutOfRange { key: name, place, found, range });
            }
            Err(Refused::Kind(expected, names)) => {
                let nearest = value.as_str().and_then(|given| nearest(given, names.iter().copied()));
                let expected = if names.is_empty() { format!("a {expected}") } else { expected };
                let expected = expected.replace("a true or false", "true or false");
                self.problems.push(Problem::WrongKind { key: name, place, found: in_words(value), expected, nearest });
            }
            Err(Refused::Range(range)) => {
                self.problems.push(Problem::OutOfRange { key: name, place, found: value.to_string(), range });
            }
        }
    }

    fn conflict(&mut self, key: &str, message: String) {
        let place = self.places.get(key).cloned().unwrap_or(Place::Default);
        self.problems.push(Problem::Conflict { key: key.to_owned(), place, message });
    }

    /// What concerns several options: first checks, then values that follow from others.
    fn complete(&mut self) {
        let config = self.config.clone();
        match (&config.data.task, &config.data.path) {
            (Some(_), Some(_)) => {
                self.conflict("data.path", "`data.task` is given as well; keep one of them".to_owned());
            }
            (None, None) => {
                self.conflict("data.task", "set it to copy or addition, or give a file as data.path".to_owned());
            }
            (None, Some(_)) if config.method == Method::Grpo => self.conflict(
                "data.path",
                "a file has no reward, which grpo needs; use data.task, or method = \"sft\"".to_owned(),
            ),
            _ => {}
        }
        if config.task.min_length > config.task.max_length {
            let message = format!("it is below task.min_length, which is {}", config.task.min_length);
            self.conflict("task.max_length", message);
        }
        if let Some(name) = &config.run.name
            && (name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']))
        {
            self.conflict("run.name", "it is the name of a folder: no slash, no dot at its start".to_owned());
        }
        if !self.places.contains_key("schedule.warmup_steps") {
            // A short trial run should not need a word about it.
            self.config.schedule.warmup_steps = config.schedule.warmup_steps.min(config.max_steps());
        } else if config.schedule.warmup_steps > config.max_steps() {
            let message = format!("warm-up is longer than the run, which has {} steps", config.max_steps());
            self.conflict("schedule.warmup_steps", message);
        }
        if config.lora.rank > 0 && config.lora.targets.is_empty() {
            self.conflict("lora.targets", "adapters of rank above 0 need at least one layer".to_owned());
        }
        if config.sft.early_stopping_patience > 0 && config.sft.eval_every == 0 {
            self.conflict("sft.early_stopping_patience", "it needs evaluations: set sft.eval_every above 0".to_owned());
        }
        if config.method == Method::Grpo {
            self.complete_grpo(&config.grpo);
        }
    }

    fn complete_grpo(&mut self, grpo: &GrpoOptions) {
        let (batch, steps, all) = (grpo.batch_size, grpo.steps_per_generation(), grpo.generation_batch_size());
        if all != batch * steps {
            self.conflict(
                "grpo.generation_batch_size",
                format!("{all} is not grpo.batch_size ({batch}) times steps_per_generation ({steps})"),
            );
        } else if !all.is_multiple_of(grpo.num_generations) {
            self.conflict(
                "grpo.num_generations",
                format!(
                    "{all} completions (generation_batch_size) do not make whole groups of {}",
                    grpo.num_generations
                ),
            );
        }
        if !steps.is_multiple_of(grpo.gradient_accumulation_steps) {
            self.conflict(
                "grpo.steps_per_generation",
                format!(
                    "{steps} is not a multiple of gradient_accumulation_steps ({})",
                    grpo.gradient_accumulation_steps
                ),
            );
        }
        let complete = &mut self.config.grpo;
        complete.epsilon_high = Some(grpo.epsilon_high());
        complete.steps_per_generation = Some(steps);
        complete.generation_batch_size = Some(all);
    }
}

impl RunConfig {
    fn set(&mut self, section: &str, key: &str, value: &Value) -> Result<(), Refused> {
        if section.is_empty() && key == "method" {
            self.method = Method::from_toml(value).ok_or_else(|| Refused::Kind(Method::kind(), Method::names()))?;
            return Ok(());
        }
        macro_rules! set_in {
            ($field:ident: $Section:ty) => {
                if section == <$Section as Section>::NAME {
                    return self.$field.set(key, value);
                }
            };
        }
        for_each_section!(set_in);
        Err(Refused::Unknown)
    }
}

fn section_names() -> Vec<&'static str> {
    let mut names = Vec::new();
    macro_rules! add {
        ($field:ident: $Section:ty) => {
            names.push(<$Section as Section>::NAME);
        };
    }
    for_each_section!(add);
    names
}

fn keys_of(section: &str) -> &'static [&'static str] {
    macro_rules! find {
        ($field:ident: $Section:ty) => {
            if section == <$Section as Section>::NAME {
                return <$Section as Section>::KEYS;
            }
        };
    }
    for_each_section!(find);
    &[]
}

/// The nearest option to one that does not exist: in its section; by its exact name in another; or with the section misspelt.
fn nearest_key(section: &str, key: &str) -> Option<String> {
    let sections = section_names();
    if let Some(near) = nearest(key, keys_of(section).iter().copied()) {
        return Some(near);
    }
    if section.is_empty() {
        let here = nearest(key, sections.iter().copied().chain(["method"]));
        return here.or_else(|| elsewhere(key));
    }
    if !sections.contains(&section)
        && let Some(near) = nearest(section, sections.iter().copied())
    {
        let key = nearest(key, keys_of(&near).iter().copied())?;
        return Some(full_name(&near, &key));
    }
    elsewhere(key)
}

fn elsewhere(key: &str) -> Option<String> {
    let section = section_names().into_iter().find(|section| keys_of(section).contains(&key))?;
    Some(full_name(section, key))
}

/// The name with the fewest slips of the finger in between; none where more than a third of it would be slips.
fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let given = given.to_lowercase();
    let (distance, name) =
        names.map(|name| (strsim::damerau_levenshtein(&given, name), name)).min_by_key(|(distance, _)| *distance)?;
    (distance <= 1.max(name.len().max(given.len()) / 3)).then(|| name.to_owned())
}

fn override_value(text: &str) -> Value {
    let as_toml = toml::from_str::<toml::Table>(&format!("value = {text}"));
    match as_toml.ok().filter(|table| table.len() == 1).and_then(|mut table| table.remove("value")) {
        Some(value) => value,
        None => Value::String(text.to_owned()),
    }
}

fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the string {text:?}"),
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Boolean(value) => value.to_string(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
        Value::Datetime(_) => "a date".to_owned(),
    }
}
