//! Dates as far as the worlds show them: `datetime.strptime` with its error words, and UTC timestamps as text.

use std::fmt;

use super::exception::{Exception, Result};
use super::number;
use super::text;
use super::value::Value;

/// A `datetime` without time zone, to the second. Ordered as in Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateTime {
    /// 1 to 9999
    pub year: i32,
    /// 1 to 12
    pub month: u32,
    /// 1 to 31
    pub day: u32,
    /// 0 to 23
    pub hour: u32,
    /// 0 to 59
    pub minute: u32,
    /// 0 to 59
    pub second: u32,
}

impl DateTime {
    /// `datetime.min`
    pub const MIN: Self = Self { year: 1, month: 1, day: 1, hour: 0, minute: 0, second: 0 };
    /// `datetime.max`, without its microseconds
    pub const MAX: Self = Self { year: 9999, month: 12, day: 31, hour: 23, minute: 59, second: 59 };

    /// `datetime.fromtimestamp(seconds)` where local time is UTC.
    pub fn from_timestamp(seconds: i64) -> Self {
        const SECONDS_PER_DAY: i64 = 86_400;
        let (mut days, second_of_day) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
        let mut year = 1970;
        while days < 0 {
            year -= 1;
            days += i64::from(days_in_year(year));
        }
        while days >= i64::from(days_in_year(year)) {
            days -= i64::from(days_in_year(year));
            year += 1;
        }
        let mut month = 1;
        while days >= i64::from(days_in_month(year, month)) {
            days -= i64::from(days_in_month(year, month));
            month += 1;
        }
        let small = |number: i64| u32::try_from(number).expect("less than a year, and not negative");
        Self {
            year,
            month,
            day: small(days) + 1,
            hour: small(second_of_day / 3600),
            minute: small(second_of_day / 60 % 60),
            second: small(second_of_day % 60),
        }
    }

    /// `datetime.strptime(value, format)` for formats made of `%Y %m %d %H %M %S`, spaces and other characters that
    /// mean themselves. Panics on other directives: formats are constants of the worlds.
    pub fn strptime(value: &Value, format: &str) -> Result<Self> {
        let Some(source) = value.as_str() else {
            let found = if value.is_none() { "None" } else { value.type_name() };
            return Err(Exception::type_error(format!("strptime() argument 1 must be str, not {found}")));
        };
        let mut fields = Fields::default();
        let Some(rest) = match_format(source, format, &mut fields) else {
            return Err(Exception::value_error(format!(
                "time data {} does not match format {}",
                text::repr(value),
                text::repr(&Value::str(format))
            )));
        };
        if !rest.is_empty() {
            return Err(Exception::value_error(format!("unconverted data remains: {rest}")));
        }
        let date = Self {
            year: i32::try_from(fields.year).expect("four digits"),
            month: fields.month,
            day: fields.day,
            hour: fields.hour,
            minute: fields.minute,
            second: fields.second,
        };
        // The directives admit nothing else that is out of range.
        if date.year == 0 {
            Err(Exception::value_error("year 0 is out of range"))
        } else if date.day > days_in_month(date.year, date.month) {
            Err(Exception::value_error("day is out of range for month"))
        } else if date.second > 59 {
            Err(Exception::value_error("second must be in 0..59"))
        } else {
            Ok(date)
        }
    }
}

/// `%Y-%m-%d %H:%M:%S`
impl fmt::Display for DateTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(formatter, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_year(year: i32) -> u32 {
    if is_leap(year) { 366 } else { 365 }
}

pub(crate) fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

struct Fields {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

impl std::default::Default for Fields {
    fn default() -> Self {
        Self { year: 1900, month: 1, day: 1, hour: 0, minute: 0, second: 0 }
    }
}

/// What may stand at one place of a directive's text.
enum Place {
    /// `[a-b]`, ASCII only
    Range(char, char),
    /// `\d`, a decimal digit of any script
    Digit,
}

use Place::{Digit, Range};

/// The alternatives of a directive, in the order in which Python's regular expression tries them.
fn alternatives(directive: char) -> &'static [&'static [Place]] {
    match directive {
        'Y' => &[&[Digit, Digit, Digit, Digit]],
        'm' => &[&[Range('1', '1'), Range('0', '2')], &[Range('0', '0'), Range('1', '9')], &[Range('1', '9')]],
        'd' => &[
            &[Range('3', '3'), Range('0', '1')],
            &[Range('1', '2'), Digit],
            &[Range('0', '0'), Range('1', '9')],
            &[Range('1', '9')],
            &[Range(' ', ' '), Range('1', '9')],
        ],
        'H' => &[&[Range('2', '2'), Range('0', '3')], &[Range('0', '1'), Digit], &[Digit]],
        'M' => &[&[Range('0', '5'), Digit], &[Digit]],
        'S' => &[&[Range('6', '6'), Range('0', '1')], &[Range('0', '5'), Digit], &[Digit]],
        other => panic!("strptime directive %{other} is not supported"),
    }
}

/// Matches the start of `source` with backtracking, as Python's regular expression does, and returns the rest.
/// `fields` holds the values of the match only if there is one.
fn match_format<'a>(source: &'a str, format: &str, fields: &mut Fields) -> Option<&'a str> {
    let mut format_characters = format.chars();
    match format_characters.next() {
        None => Some(source),
        Some('%') => {
            let directive = format_characters.next().expect("a directive follows %");
            alternatives(directive).iter().find_map(|places| {
                let (value, rest) = match_places(source, places)?;
                let rest = match_format(rest, format_characters.as_str(), fields)?;
                let field = match directive {
                    'Y' => &mut fields.year,
                    'm' => &mut fields.month,
                    'd' => &mut fields.day,
                    'H' => &mut fields.hour,
                    'M' => &mut fields.minute,
                    _ => &mut fields.second,
                };
                *field = value;
                Some(rest)
            })
        }
        // White space in the format stands for one or more of any.
        Some(character) if is_space(character) => {
            let format = format_characters.as_str().trim_start_matches(is_space);
            let after_space = source.trim_start_matches(is_space);
            let space = &source[..source.len() - after_space.len()];
            // As many as possible first, then one fewer each time.
            space
                .char_indices()
                .rev()
                .find_map(|(index, character)| match_format(&source[index + character.len_utf8()..], format, fields))
        }
        Some(character) => match_format(source.strip_prefix(character)?, format_characters.as_str(), fields),
    }
}

/// The number that the places spell at the start of `source`, and what follows it.
fn match_places<'a>(source: &'a str, places: &[Place]) -> Option<(u32, &'a str)> {
    let mut characters = source.chars();
    let mut value = 0;
    for place in places {
        let character = characters.next()?;
        let digit = match place {
            Range(first, last) if (*first..=*last).contains(&character) => character.to_digit(10).unwrap_or(0),
            Range(..) => return None,
            Digit => number::digit_value(character)?,
        };
        value = value * 10 + digit;
    }
    Some((value, characters.as_str()))
}

/// `str.isspace` for one character.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(source: &str, format: &str) -> std::result::Result<String, String> {
        DateTime::strptime(&Value::str(source), format)
            .map(|date| date.to_string())
            .map_err(|exception| exception.message)
    }

    #[test]
    fn reads_dates_as_python_does() {
        let date = |source| parse(source, "%Y-%m-%d");
        assert_eq!(date("2024-02-29").unwrap(), "2024-02-29 00:00:00");
        assert_eq!(date("2024-2- 9").unwrap(), "2024-02-09 00:00:00");
        assert_eq!(date("٢٠٢٤-01-2٣").unwrap(), "2024-01-23 00:00:00");
        assert_eq!(date("2023-02-29").unwrap_err(), "day is out of range for month");
        assert_eq!(date("0000-01-01").unwrap_err(), "year 0 is out of range");
        assert_eq!(date("2024-01-32").unwrap_err(), "unconverted data remains: 2");
        assert_eq!(date("2024-13-01").unwrap_err(), "time data '2024-13-01' does not match format '%Y-%m-%d'");
    }

    #[test]
    fn reads_timestamps_as_python_does() {
        let timestamp = |source| parse(source, "%Y-%m-%d %H:%M:%S");
        assert_eq!(timestamp("2024-01-05 \t 9:5:7").unwrap(), "2024-01-05 09:05:07");
        assert_eq!(timestamp("2024-01-05 10:30:60").unwrap_err(), "second must be in 0..59");
        assert_eq!(timestamp("2024-01-05 10:30:00.5").unwrap_err(), "unconverted data remains: .5");
        assert!(timestamp("2024-01-05T10:30:00").unwrap_err().starts_with("time data "));
    }

    #[test]
    fn refuses_what_is_no_text() {
        let refusal = |value: Value| DateTime::strptime(&value, "%Y-%m-%d").unwrap_err().message;
        assert_eq!(refusal(Value::None), "strptime() argument 1 must be str, not None");
        assert_eq!(refusal(Value::int(5)), "strptime() argument 1 must be str, not int");
    }

    #[test]
    fn writes_timestamps() {
        assert_eq!(DateTime::from_timestamp(0).to_string(), "1970-01-01 00:00:00");
        assert_eq!(DateTime::from_timestamp(-1).to_string(), "1969-12-31 23:59:59");
        assert_eq!(DateTime::from_timestamp(1_709_210_096).to_string(), "2024-02-29 12:34:56");
    }
}
