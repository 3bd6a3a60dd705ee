//! What tells one state of a resource from another.

use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED};

use crate::Error;

/// Which resource in which state, as far as its server says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Scheme, host, port and path of the URL that the user gave, before any redirect.
    pub url: String,
    /// The length in bytes.
    pub len: Option<u64>,
    /// The entity tag, with its quotes and, when it is weak, its `W/`.
    pub etag: Option<String>,
    /// When the resource was modified, as the server spells it.
    pub last_modified: Option<String>,
}

/// Whether an answer was asked for with `If-Range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It was: an answer of a range shows that the tag is the same, and may leave out the date.
    IfRange,
    /// It was not.
    None,
}

impl Identity {
    /// Returns what the headers of an answer say.
    pub(crate) fn new(url: &str, len: Option<u64>, headers: &HeaderMap) -> Self {
        let etag = text(headers, &ETAG);
        let last_modified = text(headers, &LAST_MODIFIED);
        Self { url: url.to_owned(), len, etag, last_modified }
    }

    /// Returns the entity tag if it promises that equal tags mean equal bytes: what `If-Range`
    /// takes (RFC 9110, section 13.1.5).
    pub(crate) fn strong_etag(&self) -> Option<HeaderValue> {
        let etag = self.etag.as_deref()?;
        let strong = etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"');
        HeaderValue::from_str(etag).ok().filter(|_| strong)
    }

    /// Returns whether anything would show that the resource has changed.
    pub(crate) fn is_telling(&self) -> bool {
        self.len.is_some() || self.etag.is_some() || self.last_modified.is_some()
    }

    /// Checks what a later answer says.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] names the first difference.
    pub(crate) fn check(&self, now: &Self, condition: Condition) -> Result<(), Error> {
        let spell = |len: Option<u64>| len.map(|len| len.to_string());
        self.compare("length", spell(self.len).as_deref(), spell(now.len).as_deref())?;
        self.compare("ETag", self.etag.as_deref(), now.etag.as_deref())?;
        // RFC 9110, section 15.3.7: the date should be left out of an answer to `If-Range`.
        if now.last_modified.is_none() && condition == Condition::IfRange {
            return Ok(());
        }
        let before = self.last_modified.as_deref();
        self.compare("modification date", before, now.last_modified.as_deref())
    }

    fn compare(
        &self,
        what: &'static str,
        before: Option<&str>,
        now: Option<&str>,
    ) -> Result<(), Error> {
        if before == now {
            return Ok(());
        }
        let show = |value: Option<&str>| value.map_or_else(|| "not told".to_owned(), show);
        Err(Error::Changed { url: self.url.clone(), what, before: show(before), now: show(now) })
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned())
}

/// Makes what a server says fit for a terminal.
pub(crate) fn show(text: &str) -> String {
    let mut shown: String = text.chars().take(LONGEST_SHOWN).flat_map(char::escape_debug).collect();
    // The quotes of an entity tag are part of it.
    shown = shown.replace("\\\"", "\"");
    if text.chars().nth(LONGEST_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

const LONGEST_SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(len: u64, etag: Option<&str>, date: Option<&str>) -> Identity {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Identity {
            url: "http://h/x".to_owned(),
            len: Some(len),
            etag: own(etag),
            last_modified: own(date),
        }
    }

    #[test]
    fn names_what_has_changed() {
        let before = identity(5, Some("\"a\""), Some("Monday"));
        let check = |now: &Identity| before.check(now, Condition::None).unwrap_err().to_string();
        assert_eq!(
            check(&identity(5, Some("\"b\""), Some("Monday"))),
            "http://h/x has changed since it was opened: its ETag was \"a\" and is now \"b\""
        );
        assert!(check(&identity(6, Some("\"a\""), Some("Monday"))).contains("length was 5 and"));
        assert!(check(&identity(5, None, Some("Monday"))).ends_with("is now not told"));
        assert!(check(&identity(5, Some("\"a\""), Some("Tuesday"))).contains("modification date"));
        assert!(check(&identity(5, Some("\"a\""), None)).contains("modification date"));
        assert!(before.check(&before.clone(), Condition::None).is_ok());
    }

    #[test]
    fn lets_an_answer_to_if_range_leave_the_date_out() {
        let before = identity(5, Some("\"a\""), Some("Monday"));
        let now = identity(5, Some("\"a\""), None);
        assert!(before.check(&now, Condition::IfRange).is_ok());
        let now = identity(5, Some("\"a\""), Some("Tuesday"));
        assert!(before.check(&now, Condition::IfRange).is_err());
    }

    #[test]
    fn only_a_strong_tag_is_a_condition() {
        for (etag, strong) in [("\"a\"", true), ("W/\"a\"", false), ("a", false), ("\"", false)] {
            assert_eq!(identity(1, Some(etag), None).strong_etag().is_some(), strong, "{etag}");
        }
    }

    #[test]
    fn what_a_server_says_cannot_steer_a_terminal() {
        assert_eq!(show("\"a\u{1b}[2J\""), "\"a\\u{1b}[2J\"");
        assert_eq!(show(&"x".repeat(500)).chars().count(), 101);
    }
}
