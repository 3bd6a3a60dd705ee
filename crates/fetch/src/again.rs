//! Answers about a resource that was seen before.

use reqwest::{Response, StatusCode};

use crate::answer::{ContentRange, partial};
use crate::link::Question;
use crate::{Error, Identity};

/// Checks that an answer is the part that was asked for, of the resource in the same state.
///
/// # Errors
///
/// [`Error::Changed`] when the resource is another, [`Error::Answer`] when the part is.
pub(crate) fn check_part(
    url: &str,
    identity: &Identity,
    question: &Question,
    response: &Response,
) -> Result<(), Error> {
    let refuse = |reason: &str| Error::Answer { url: url.to_owned(), reason: reason.to_owned() };
    let Some(range) = &question.range else {
        return Err(refuse("it holds a part where the whole was asked for"));
    };
    let headers = response.headers();
    let said = Identity::new(url, response.content_length(), headers);
    let total = ContentRange::of(headers).and_then(|found| found.total);
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            // A length that differs tells more than the range that differs because of it.
            let now = Identity { len: total.or(identity.len), ..said };
            identity.check(&now, question.condition())?;
            partial(url, headers, response.content_length(), range).map(drop)
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            // Such an answer need not say anything about the resource but its length.
            let now = Identity { len: total.or(identity.len), ..identity.clone() };
            identity.check(&now, question.condition())?;
            Err(refuse("it refuses a range that the resource should have"))
        }
        _ => {
            let now = Identity { len: said.len.or(identity.len), ..said };
            identity.check(&now, question.condition())?;
            Err(refuse("it holds the whole where a part was asked for, which worked before"))
        }
    }
}
