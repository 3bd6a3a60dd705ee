//! Images on their way out.

use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use strongroom::audit::Act;
use strongroom::library::{Image, ImageCondition};
use tokio::sync::OwnedSemaphorePermit;

use super::body;
use super::place::Place;
use super::refusal::Refusal;
use crate::Context;

/// A part of an image, or all of it.
#[derive(Debug)]
pub(super) struct Download {
    file: Option<File>,
    code: StatusCode,
    len: u64,
    headers: HeaderMap,
}

impl Download {
    /// Opens what a request asks for.
    pub(super) fn open(
        context: &Context,
        place: &Place,
        wanted: &HeaderMap,
        actor: &str,
    ) -> Result<Self, Refusal> {
        let image = ready(context, place)?;
        let mut headers = described(place, &image);
        if matches(wanted, header::IF_NONE_MATCH, &image) {
            let (file, len) = (None, 0);
            return Ok(Self { file, code: StatusCode::NOT_MODIFIED, len, headers });
        }
        let is_whole =
            wanted.contains_key(header::IF_RANGE) && !matches(wanted, header::IF_RANGE, &image);
        let range = match wanted.get(header::RANGE).filter(|_| !is_whole) {
            Some(range) => part(range, image.len)?,
            None => None,
        };
        let (from, len, code) = match range {
            Some((from, to)) => {
                put(
                    &mut headers,
                    header::CONTENT_RANGE,
                    &format!("bytes {from}-{to}/{}", image.len),
                );
                (from, to - from + 1, StatusCode::PARTIAL_CONTENT)
            }
            None => (0, image.len, StatusCode::OK),
        };
        context.audit.record(&Act {
            actor: actor.to_owned(),
            verb: "download".to_owned(),
            subject: format!("image {}", place.label()),
            detail: format!("{len} bytes from {from}, as they are stored"),
        })?;
        let mut file = context.library.file(&place.id)?;
        file.seek(SeekFrom::Start(from)).map_err(|_| Refusal::internal())?;
        put(&mut headers, header::CONTENT_LENGTH, &len);
        Ok(Self { file: Some(file), code, len, headers })
    }

    /// Returns the answer. What it takes to send it is held until it is sent.
    pub(super) fn answer(self, slot: OwnedSemaphorePermit) -> Response {
        let body = match self.file {
            Some(file) => body::stream(file.take(self.len), self.len, slot),
            None => Body::empty(),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.code;
        *response.headers_mut() = self.headers;
        response
    }
}

/// Returns how an image stands: how long it is, or how much of it has come.
pub(super) fn stand(context: &Context, place: &Place) -> Result<Response, Refusal> {
    let mut response = Response::new(Body::empty());
    let image = context.library.image(&place.id).ok();
    let ready = image.filter(|image| image.condition == ImageCondition::Ready);
    if let Some(image) = ready {
        *response.headers_mut() = described(place, &image);
        put(response.headers_mut(), header::CONTENT_LENGTH, &image.len);
        put(response.headers_mut(), UPLOAD_OFFSET, &image.len);
        put(response.headers_mut(), UPLOAD_LENGTH, &image.len);
        return Ok(response);
    }
    // One that was not begun stands at its beginning.
    let (offset, len) = context.library.uploaded(&place.id).unwrap_or((0, 0));
    put(response.headers_mut(), UPLOAD_OFFSET, &offset);
    if len > 0 {
        put(response.headers_mut(), UPLOAD_LENGTH, &len);
    }
    put(response.headers_mut(), header::CACHE_CONTROL, &"no-store");
    Ok(response)
}

fn ready(context: &Context, place: &Place) -> Result<Image, Refusal> {
    match context.library.image(&place.id) {
        Ok(image) if image.condition == ImageCondition::Ready => Ok(image),
        Ok(_) | Err(strongroom::Error::Image { .. }) => {
            Err(Refusal::conflict(format!("image {} is not ready", place.label())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns what is said of an image whatever part of it is asked for.
fn described(place: &Place, image: &Image) -> HeaderMap {
    let mut headers = HeaderMap::new();
    put(&mut headers, header::ETAG, &tag(image));
    put(&mut headers, header::ACCEPT_RANGES, &"bytes");
    put(&mut headers, header::CONTENT_TYPE, &"application/octet-stream");
    let ending = match image.format.as_str() {
        "luks1" | "luks2" => "luks",
        "qcow2-luks" => "qcow2",
        other => other,
    };
    let name = format!("attachment; filename=\"{}.{ending}\"", place.document.name);
    put(&mut headers, header::CONTENT_DISPOSITION, &name);
    if let Some(checksum) = &image.checksum {
        put(&mut headers, CHECKSUM, &checksum);
    }
    headers
}

/// Returns what stands for the bytes of an image: they do not change.
fn tag(image: &Image) -> String {
    format!("\"{}\"", image.checksum.as_deref().unwrap_or(image.id.as_str()))
}

fn matches(wanted: &HeaderMap, name: HeaderName, image: &Image) -> bool {
    let wanted = wanted.get(name).and_then(|value| value.to_str().ok());
    let tag = tag(image);
    let is_ours = |one: &str| one == "*" || one.trim_start_matches("W/") == tag;
    wanted.is_some_and(|wanted| wanted.split(',').map(str::trim).any(is_ours))
}

/// Returns the first and the last byte that a header asks for, `None` for all of them: several ranges, and
/// what is no range of bytes, do not have to be understood (RFC 9110, 14.2).
fn part(range: &HeaderValue, len: u64) -> Result<Option<(u64, u64)>, Refusal> {
    let text = range.to_str().ok().and_then(|text| text.strip_prefix("bytes="));
    let Some((from, to)) = text.and_then(|text| text.trim().split_once('-')) else {
        return Ok(None);
    };
    let number = |text: &str| text.parse::<u64>().ok();
    let found = match (from, to) {
        ("", to) => match number(to) {
            None => return Ok(None),
            Some(0) => None,
            Some(last) => Some((len.saturating_sub(last), len.saturating_sub(1))),
        },
        (from, "") => number(from).map(|from| (from, len.saturating_sub(1))),
        (from, to) => match (number(from), number(to)) {
            (Some(from), Some(to)) if from <= to => Some((from, to.min(len.saturating_sub(1)))),
            _ => return Ok(None),
        },
    };
    match found {
        Some((from, to)) if from < len => Ok(Some((from, to))),
        _ => {
            let code = StatusCode::RANGE_NOT_SATISFIABLE;
            let message = format!("the image has {len} bytes");
            Err(Refusal::new(code, "Invalid", message)
                .with(header::CONTENT_RANGE, &format!("bytes */{len}")))
        }
    }
}

/// Puts a header in.
pub(super) fn put(headers: &mut HeaderMap, name: HeaderName, value: &dyn Display) {
    if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
        headers.insert(name, value);
    }
}

/// How many bytes of an upload have come, as the protocol tus calls it.
pub(super) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");

/// How many there will be.
pub(super) const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");

/// SHA-512 of the stored bytes, in hexadecimal.
pub(super) const CHECKSUM: HeaderName = HeaderName::from_static("x-checksum-sha512");

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let read = |text: &str| part(&HeaderValue::from_str(text).unwrap(), 100);
        assert_eq!(read("bytes=0-9").unwrap(), Some((0, 9)));
        assert_eq!(read("bytes=90-").unwrap(), Some((90, 99)));
        assert_eq!(read("bytes=90-500").unwrap(), Some((90, 99)));
        assert_eq!(read("bytes=-10").unwrap(), Some((90, 99)));
        assert_eq!(read("bytes=-500").unwrap(), Some((0, 99)));
        for all in ["lines=1-2", "bytes=1-2,5-6", "bytes=9-1", "bytes=a-b", "bytes"] {
            assert_eq!(read(all).unwrap(), None, "{all}");
        }
        for none in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
            assert_eq!(read(none).unwrap_err().into_response().status(), 416, "{none}");
        }
    }
}
