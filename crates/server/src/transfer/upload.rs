//! Images on their way in.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use strongroom::audit::Act;
use strongroom::images::Work;
use strongroom::library::{Image, ImageCondition, NewImage};
use strongroom_crypto::CostPolicy;
use strongroom_model::Checksum;
use strongroom_model::dialect::longhorn::ImageOrigin;

use super::body::BodyReader;
use super::download::{CHECKSUM, UPLOAD_LENGTH, UPLOAD_OFFSET, put};
use super::place::Place;
use super::refusal::{Lack, Refusal};
use crate::controllers::{Uploading, told};
use crate::{Context, room};

/// What a request brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    bytes: Bytes,
    checksum: Option<Checksum>,
}

/// Which bytes of an image a request brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bytes {
    /// All of them.
    Whole { len: u64 },
    /// Those from an offset on; how many there are in all, where the request says so.
    From { offset: u64, len: Option<u64> },
    /// None: it only says how many will come.
    None { len: u64 },
}

impl Part {
    /// Reads what the headers of a request say. `begins` tells that its method may begin an upload without
    /// bytes.
    pub(super) fn read(headers: &HeaderMap, begins: bool) -> Result<Self, Refusal> {
        let length = number(headers, &header::CONTENT_LENGTH)?;
        let upload_length = number(headers, &UPLOAD_LENGTH)?;
        let bytes = match (headers.get(header::CONTENT_RANGE), number(headers, &UPLOAD_OFFSET)?) {
            (Some(range), _) => {
                let range = range.to_str().ok().and_then(content_range);
                let (from, to, len) = range.ok_or_else(|| {
                    Refusal::bad_request("write Content-Range as bytes FIRST-LAST/TOTAL")
                })?;
                if length.is_some_and(|length| length != to - from + 1) {
                    let message = "Content-Range and Content-Length do not fit together";
                    return Err(Refusal::bad_request(message));
                }
                Bytes::From { offset: from, len: Some(len) }
            }
            (None, Some(offset)) => Bytes::From { offset, len: upload_length },
            (None, None) => match (upload_length, length) {
                (Some(len), None | Some(0)) if begins => Bytes::None { len },
                (_, Some(len)) => Bytes::Whole { len },
                (_, None) => {
                    let message = "say how many bytes come: with Content-Length, as curl -T FILE does, \
                                   or part by part with Content-Range: bytes FIRST-LAST/TOTAL";
                    let code = StatusCode::LENGTH_REQUIRED;
                    return Err(Refusal::new(code, "BadRequest", message));
                }
            },
        };
        let checksum = match headers.get(CHECKSUM).map(|value| value.to_str()) {
            None => None,
            Some(Ok(digits)) => {
                let parsed = format!("sha512:{}", digits.trim()).parse();
                Some(parsed.map_err(|_| wrong_checksum())?)
            }
            Some(Err(_)) => return Err(wrong_checksum()),
        };
        Ok(Self { bytes, checksum })
    }
}

/// What somebody brings, and where it goes.
#[derive(Debug)]
pub(super) struct Upload {
    place: Place,
    new: NewImage,
    bytes: Bytes,
    /// Whether the request said a checksum.
    is_checked: bool,
    /// What is there already.
    ready: Option<Image>,
}

/// Returns an upload that may go on.
///
/// # Errors
///
/// When the image waits for no bytes, or is there already and another one.
pub(super) fn admit(context: &Context, place: Place, part: Part) -> Result<Upload, Refusal> {
    let label = place.label();
    if place.document.origin != ImageOrigin::Upload {
        let message =
            format!("image {label} does not wait for bytes: its spec.sourceType is not upload");
        return Err(Refusal::conflict(message));
    }
    let is_checked = part.checksum.is_some();
    let new = new_image(&place, part.checksum)?;
    let ready = found(context, &place)?.filter(|one| one.condition == ImageCondition::Ready);
    if let Some(image) = &ready {
        // Images do not change, but an answer may have been lost.
        let is = image.checksum.as_ref().map(|digits| format!("sha512:{digits}"));
        if is.is_none() || is != new.checksum.as_ref().map(ToString::to_string) {
            let message = format!("image {label} is ready, and does not change any more");
            return Err(Refusal::conflict(message));
        }
    }
    Ok(Upload { place, new, bytes: part.bytes, is_checked, ready })
}

impl Upload {
    /// Takes what a request brings, and ends the upload when that is all.
    pub(super) fn take(
        self,
        context: &Context,
        reader: BodyReader,
        actor: &str,
    ) -> Result<Response, Refusal> {
        let (id, label) = (self.place.id.clone(), self.place.label());
        let announced = self.bytes.in_all();
        self.bring(context, reader, actor).map_err(|refusal| {
            let lacking = match refusal.may_lack_room() {
                Lack::None => return refusal,
                Lack::Certain => u64::MAX,
                Lack::Possible => NEXT_TO_NOTHING,
            };
            match room::free(context.data()) {
                Ok(free) if free <= lacking => {
                    let stands = context.library.uploaded(&id).unwrap_or((0, announced));
                    full(context, &label, free, stands)
                }
                _ => refusal,
            }
        })
    }

    fn bring(
        self,
        context: &Context,
        reader: BodyReader,
        actor: &str,
    ) -> Result<Response, Refusal> {
        if let Some(image) = &self.ready {
            return Ok(answer(StatusCode::OK, image.len, image.len));
        }
        let (id, label) = (&self.place.id, self.place.label());
        let library = &context.library;
        let uploading = Uploading::begin(&context.store, &self.place.object)?;
        let (offset, len) = match self.bytes {
            Bytes::None { len } => {
                let offset = library.begin_upload(&self.new, len)?;
                return Ok(answer(StatusCode::CREATED, offset, len));
            }
            Bytes::Whole { len } => {
                record(context, actor, &label, &format!("{len} bytes"))?;
                // Whoever sends all of it does not mean to go on with something else.
                library.restart_upload(&self.new, len)?;
                (0, len)
            }
            Bytes::From { offset, len } => (offset, self.go_on(context, actor, offset, len)?),
        };
        let watched =
            &mut Watched { reader, uploading: &uploading, done: offset, of: len, told: None };
        let appended = library.append(id, offset, watched);
        let stands = library.uploaded(id).map_or(offset, |(stands, _)| stands);
        uploading.progress(stands, len)?;
        if let Err(error) = appended {
            return Err(Refusal::from(error).with(UPLOAD_OFFSET, &stands));
        }
        match self.bytes {
            _ if stands == len => {
                finish(context, &self.place, &uploading)?;
                Ok(answer(StatusCode::OK, len, len))
            }
            Bytes::Whole { .. } => {
                let message = format!("{stands} of {len} bytes of {label} have come");
                Err(Refusal::bad_request(message).with(UPLOAD_OFFSET, &stands))
            }
            _ => Ok(answer(StatusCode::NO_CONTENT, stands, len)),
        }
    }

    /// Sees to it that an upload can go on at an offset. Returns how many bytes it will have.
    fn go_on(
        &self,
        context: &Context,
        actor: &str,
        offset: u64,
        len: Option<u64>,
    ) -> Result<u64, Refusal> {
        let (library, label) = (&context.library, self.place.label());
        let begun = library.uploaded(&self.place.id).ok();
        let len = len.or(begun.map(|(_, len)| len)).ok_or_else(|| not_begun(&label))?;
        let stands = match begun {
            Some((_, announced)) if announced != len => {
                let message =
                    format!("the upload of {label} was begun with {announced} bytes, not {len}");
                return Err(Refusal::conflict(message));
            }
            // A checksum that the upload was not begun with is refused.
            Some(_) if self.is_checked => library.begin_upload(&self.new, len)?,
            Some((stands, _)) => stands,
            None => {
                record(context, actor, &label, &format!("{len} bytes, in parts"))?;
                library.begin_upload(&self.new, len)?
            }
        };
        if stands != offset {
            let message = format!("the next byte of {label} is {stands}, not {offset}");
            return Err(Refusal::conflict(message).with(UPLOAD_OFFSET, &stands));
        }
        Ok(len)
    }
}

impl Bytes {
    /// Returns how many bytes the image has in all, as far as the request says so.
    fn in_all(self) -> u64 {
        match self {
            Self::Whole { len } | Self::None { len } => len,
            Self::From { offset, len } => len.unwrap_or(offset),
        }
    }
}

/// Returns the refusal of what there is no room for. Zeros of an image take none, so nobody knows how much it
/// will need.
fn full(context: &Context, label: &str, free: u64, (stands, len): (u64, u64)) -> Refusal {
    let left = len.saturating_sub(stands);
    let message = format!(
        "{} is full: {left} of the {len} bytes of image {label} are still to come, and {free} bytes are \
         free, so that up to {} are missing; make room and send it again, and it goes on from byte {stands}",
        context.data().display(),
        left.saturating_sub(free),
    );
    Refusal::no_room(message).with(UPLOAD_OFFSET, &stands)
}

/// Ends an upload of which all has come.
fn finish(context: &Context, place: &Place, uploading: &Uploading<'_>) -> Result<(), Refusal> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let work = Work { policy: CostPolicy::default(), observer: &(), cancelled: &cancelled };
    match context.library.finish_upload(&place.id, &work) {
        Ok(_) => Ok(uploading.done()?),
        Err(error) => {
            uploading.failed(&told(&error, &context.kek_file))?;
            Err(error.into())
        }
    }
}

fn new_image(place: &Place, checksum: Option<Checksum>) -> Result<NewImage, Refusal> {
    let document = &place.document;
    if let (Some(one), Some(other)) = (&checksum, &document.checksum)
        && one != other
    {
        let message = "X-Checksum-SHA512 is not the checksum that the document asks for";
        return Err(Refusal::bad_request(message));
    }
    Ok(NewImage {
        id: place.id.clone(),
        label: place.label(),
        format: document.format,
        checksum: document.checksum.clone().or(checksum),
    })
}

fn found(context: &Context, place: &Place) -> Result<Option<Image>, Refusal> {
    match context.library.image(&place.id) {
        Ok(image) => Ok(Some(image)),
        Err(error) if error.kind() == strongroom::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn record(context: &Context, actor: &str, label: &str, detail: &str) -> Result<(), Refusal> {
    Ok(context.audit.record(&Act {
        actor: actor.to_owned(),
        verb: "upload".to_owned(),
        subject: format!("image {label}"),
        detail: detail.to_owned(),
    })?)
}

fn answer(code: StatusCode, offset: u64, len: u64) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    put(response.headers_mut(), UPLOAD_OFFSET, &offset);
    put(response.headers_mut(), UPLOAD_LENGTH, &len);
    response
}

fn not_begun(label: &str) -> Refusal {
    let message = format!(
        "the upload of {label} was not begun: say how long it will be with Upload-Length, or use \
         Content-Range: bytes FIRST-LAST/TOTAL"
    );
    Refusal::bad_request(message)
}

fn wrong_checksum() -> Refusal {
    Refusal::bad_request("X-Checksum-SHA512 has 128 hexadecimal digits")
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(Refusal::bad_request(format!("{name} is not a number of bytes"))),
    }
}

/// Reads `bytes FIRST-LAST/TOTAL`.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, len) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let (from, to, len) = (from.parse().ok()?, to.parse().ok()?, len.parse().ok()?);
    (from <= to && to < len).then_some((from, to, len))
}

/// Tells now and then how much has come, and stops when the image is deleted meanwhile.
struct Watched<'a> {
    reader: BodyReader,
    uploading: &'a Uploading<'a>,
    done: u64,
    of: u64,
    told: Option<Instant>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.told.is_none_or(|told| told.elapsed() >= BETWEEN) {
            self.told = Some(Instant::now());
            self.uploading.progress(self.done, self.of).map_err(io::Error::other)?;
        }
        let len = self.reader.read(buffer)?;
        self.done += len as u64;
        Ok(len)
    }
}

/// With no more room than that in bytes, what fails for no known reason fails for that one.
const NEXT_TO_NOTHING: u64 = 1 << 20;

/// How often progress is written down.
const BETWEEN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use axum::response::IntoResponse;

    use super::*;

    fn read(headers: &[(&'static str, &'static str)], begins: bool) -> Result<Bytes, u16> {
        let pairs = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let part = Part::read(&pairs.collect(), begins);
        part.map(|part| part.bytes).map_err(|refusal| refusal.into_response().status().as_u16())
    }

    #[test]
    fn each_way_to_say_what_comes_is_understood() {
        assert_eq!(read(&[("content-length", "7")], false), Ok(Bytes::Whole { len: 7 }));
        let parts = [("content-range", "bytes 2-4/9"), ("content-length", "3")];
        assert_eq!(read(&parts, false), Ok(Bytes::From { offset: 2, len: Some(9) }));
        let tus = [("upload-offset", "2"), ("content-length", "3")];
        assert_eq!(read(&tus, false), Ok(Bytes::From { offset: 2, len: None }));
        assert_eq!(read(&[("upload-length", "9")], true), Ok(Bytes::None { len: 9 }));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(read(&[], false), Err(411));
        assert_eq!(read(&[("content-length", "x")], false), Err(400));
        for range in ["bytes 2-4/*", "bytes 4-2/9", "bytes 2-9/9", "2-4/9", "bytes */9"] {
            assert_eq!(read(&[("content-range", range)], false), Err(400), "{range}");
        }
        let unfit = [("content-range", "bytes 2-4/9"), ("content-length", "4")];
        assert_eq!(read(&unfit, false), Err(400));
        let short = [("content-length", "7"), ("x-checksum-sha512", "abc")];
        assert_eq!(read(&short, false), Err(400));
    }
}
