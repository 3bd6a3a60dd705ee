//! What the headers of an answer promise, and whether that is what was asked for.

use std::ops::Range;

use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, HeaderMap, RETRY_AFTER, TRANSFER_ENCODING};

use crate::Error;
use crate::identity::show;

/// A `Content-Range` (RFC 9110, section 14.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// The bytes that the answer holds, `None` when it holds none because the request was refused.
    pub(crate) range: Option<Range<u64>>,
    /// The length of the resource, `None` when the server does not know it.
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    /// Returns the one that the headers hold, `None` when there is none that can be understood.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(CONTENT_RANGE)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let total = if total == "*" { None } else { Some(number(total)?) };
        let range = if range == "*" {
            None
        } else {
            let (first, last) = range.split_once('-')?;
            Some(number(first)?..number(last)?.checked_add(1)?)
        };
        let is_possible = match (&range, total) {
            (None, total) => total.is_some(),
            (Some(range), total) => {
                range.start < range.end && total.is_none_or(|total| range.end <= total)
            }
        };
        is_possible.then_some(Self { range, total })
    }
}

/// Checks the headers of a 206 that was asked for the bytes `asked`, of which the resource may have
/// fewer, and returns the length of the resource.
///
/// # Errors
///
/// [`Error::Answer`] when it holds anything else.
pub(crate) fn partial(
    url: &str,
    headers: &HeaderMap,
    body: Option<u64>,
    asked: &Range<u64>,
) -> Result<u64, Error> {
    let refuse = |reason: String| Error::Answer { url: url.to_owned(), reason };
    let Some(ContentRange { range: Some(range), total }) = ContentRange::of(headers) else {
        let found = headers.get(CONTENT_RANGE);
        let found = found.map(|value| show(&String::from_utf8_lossy(value.as_bytes())));
        return Err(refuse(format!(
            "its Content-Range is {} where bytes {} to {} were asked for",
            found.as_deref().unwrap_or("missing"),
            asked.start,
            asked.end - 1
        )));
    };
    let Some(total) = total else {
        return Err(refuse("it serves ranges without telling the length of the whole".to_owned()));
    };
    if total > i64::MAX.cast_unsigned() {
        return Err(refuse(format!("no resource has {total} bytes")));
    }
    let due = asked.start..asked.end.min(total);
    if range != due {
        return Err(refuse(format!(
            "it holds bytes {} to {} of {total} where {} to {} were asked for",
            range.start,
            range.end - 1,
            asked.start,
            asked.end - 1
        )));
    }
    match body {
        Some(body) if body != range.end - range.start => Err(refuse(format!(
            "its Content-Length is {body} where its Content-Range has {} bytes",
            range.end - range.start
        ))),
        _ => Ok(total),
    }
}

/// Refuses bytes that are not those of the resource itself but a coded form of them.
pub(crate) fn refuse_codings(url: &str, headers: &HeaderMap) -> Result<(), Error> {
    for (name, harmless) in [(CONTENT_ENCODING, "identity"), (TRANSFER_ENCODING, "chunked")] {
        for value in headers.get_all(&name) {
            let value = String::from_utf8_lossy(value.as_bytes());
            let codings = value.split(',').map(str::trim).filter(|coding| !coding.is_empty());
            for coding in codings {
                if !coding.eq_ignore_ascii_case(harmless) {
                    let reason =
                        format!("it is coded as `{}`, which was not asked for", show(coding));
                    return Err(Error::Answer { url: url.to_owned(), reason });
                }
            }
        }
    }
    Ok(())
}

/// Returns when the server wants to be asked again, as text.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<&str> {
    headers.get(RETRY_AFTER)?.to_str().ok()
}

fn number(text: &str) -> Option<u64> {
    // `parse` alone would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    fn check(content_range: &str, body: Option<u64>, asked: Range<u64>) -> Result<u64, String> {
        let headers = headers(CONTENT_RANGE, content_range);
        partial("http://h/x", &headers, body, &asked).map_err(|error| error.to_string())
    }

    #[test]
    fn takes_the_range_that_was_asked_for() {
        assert_eq!(check("bytes 10-19/100", Some(10), 10..20), Ok(100));
        assert_eq!(check("Bytes 10-19/100", None, 10..20), Ok(100));
        assert_eq!(check("bytes 90-99/100", Some(10), 90..200), Ok(100));
    }

    #[test]
    fn refuses_every_other_range() {
        for wrong in ["bytes 11-19/100", "bytes 10-18/100", "bytes 0-9/100", "bytes 10-20/100"] {
            let text = check(wrong, None, 10..20).unwrap_err();
            assert!(text.contains("where 10 to 19 were asked for"), "{text}");
        }
        assert!(check("bytes 90-98/100", None, 90..200).is_err());
        assert!(check("bytes 10-19/100", Some(11), 10..20).unwrap_err().contains("Content-Length"));
        assert!(check("bytes 10-19/*", None, 10..20).unwrap_err().contains("without telling"));
        let huge = format!("bytes 10-19/{}", u64::MAX);
        assert!(check(&huge, None, 10..20).unwrap_err().contains("no resource"));
        let missing = partial("http://h/x", &HeaderMap::new(), None, &(0..1)).unwrap_err();
        assert!(missing.to_string().contains("Content-Range is missing"));
    }

    #[test]
    fn understands_no_nonsense_as_a_range() {
        for text in [
            "",
            "bytes",
            "bytes 1-2",
            "bytes 2-1/9",
            "bytes 0-9/9",
            "bytes +1-2/9",
            "bytes -2/9",
            "items 1-2/9",
            "bytes 1-/9",
            "bytes */*",
            "bytes 0-18446744073709551615/*",
            "bytes 0-99999999999999999999/*",
            "bytes 1-2,4-5/9",
        ] {
            assert_eq!(ContentRange::parse(text), None, "{text}");
        }
        let refused = ContentRange { range: None, total: Some(9) };
        assert_eq!(ContentRange::parse("bytes */9"), Some(refused));
    }

    #[test]
    fn refuses_compressed_bytes() {
        for (name, value, fine) in [
            (CONTENT_ENCODING, "gzip", false),
            (CONTENT_ENCODING, "identity, br", false),
            (CONTENT_ENCODING, "identity", true),
            (CONTENT_ENCODING, "", true),
            (TRANSFER_ENCODING, "gzip, chunked", false),
            (TRANSFER_ENCODING, "Chunked", true),
        ] {
            assert_eq!(refuse_codings("u", &headers(name, value)).is_ok(), fine, "{value}");
        }
    }
}
