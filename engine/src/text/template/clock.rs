//! `strftime` for the function `strftime_now` of chat templates.

use crate::python::datetime::{DateTime, days_in_month};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// `now.strftime(format)` in the C locale. `None`: the format has a directive other than
/// `%a %A %b %B %d %-d %H %I %j %m %M %p %S %y %Y %%`.
pub(super) fn strftime(now: DateTime, format: &str) -> Option<String> {
    let month = MONTHS[now.month as usize - 1];
    let day = DAYS[weekday(now)];
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let text = match rest.next()? {
            'a' => day[..3].to_owned(),
            'A' => day.to_owned(),
            'b' => month[..3].to_owned(),
            'B' => month.to_owned(),
            'd' => format!("{:02}", now.day),
            'H' => format!("{:02}", now.hour),
            'I' => format!("{:02}", (now.hour + 11) % 12 + 1),
            'j' => format!("{:03}", day_of_year(now)),
            'm' => format!("{:02}", now.month),
            'M' => format!("{:02}", now.minute),
            'p' => if now.hour < 12 { "AM" } else { "PM" }.to_owned(),
            'S' => format!("{:02}", now.second),
            'y' => format!("{:02}", now.year % 100),
            'Y' => now.year.to_string(),
            '%' => "%".to_owned(),
            // glibc's way to leave out the leading zero.
            '-' if rest.next()? == 'd' => now.day.to_string(),
            _ => return None,
        };
        out.push_str(&text);
    }
    Some(out)
}

fn day_of_year(date: DateTime) -> u32 {
    (1..date.month).map(|month| days_in_month(date.year, month)).sum::<u32>() + date.day
}

/// 0 is Sunday.
fn weekday(date: DateTime) -> usize {
    let before = date.year - 1;
    let days = before * 365 + before / 4 - before / 100
        + before / 400
        + i32::try_from(day_of_year(date)).expect("at most 366");
    usize::try_from(days.rem_euclid(7)).expect("below 7")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_python_writes_them() {
        let now = DateTime { year: 2026, month: 11, day: 2, hour: 0, minute: 5, second: 9 };
        let text = strftime(now, "%d %b %Y|%A, %a %B %-d|%H:%M:%S %I %p|%j %y %m 100%%").expect("all known");
        assert_eq!(text, "02 Nov 2026|Monday, Mon November 2|00:05:09 12 AM|306 26 11 100%");
        let leap_day = DateTime { year: 2024, month: 2, day: 29, hour: 13, ..now };
        assert_eq!(strftime(leap_day, "%A %j %I%p").as_deref(), Some("Thursday 060 01PM"));
        assert_eq!(strftime(now, "%Q"), None);
        assert_eq!(strftime(now, "%"), None);
    }
}
