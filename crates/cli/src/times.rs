//! Times and spans of time, as people read them.

use std::fmt::Write;
use std::time::SystemTime;

/// Returns a number of seconds in its two largest units.
pub(crate) fn span(seconds: u64) -> String {
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let mut left = seconds;
    let mut words = Vec::new();
    for (size, name) in units {
        let count = left / size;
        left %= size;
        if count > 0 {
            words.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
        } else if !words.is_empty() {
            break;
        }
    }
    words.truncate(2);
    if words.is_empty() { "no second".to_owned() } else { words.join(" and ") }
}

/// Returns a time as RFC 3339 writes it, which ends with the year 9999.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let mut text = String::new();
    let known = time >= SystemTime::UNIX_EPOCH;
    if known && write!(text, "{}", humantime::format_rfc3339_seconds(time)).is_ok() {
        return text;
    }
    if known { "the far future".to_owned() } else { "a time before 1970".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn spans_are_told_in_two_units() {
        for (seconds, words) in [
            (0, "no second"),
            (1, "1 second"),
            (61, "1 minute and 1 second"),
            (3600, "1 hour"),
            (3601, "1 hour"),
            (2_764_800, "32 days"),
            (100_000, "1 day and 3 hours"),
        ] {
            assert_eq!(span(seconds), words);
        }
    }

    #[test]
    fn times_are_told_as_far_as_they_can_be_written() {
        let never = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(rfc3339(never), "the far future");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "a time before 1970");
    }
}
