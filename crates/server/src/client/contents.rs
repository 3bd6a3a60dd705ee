//! The bytes of images, in both directions. A broken connection is taken up where it broke.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use reqwest::Method;
use reqwest::blocking::Response;
use reqwest::header::{ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use sha2::{Digest, Sha512};
use strongroom::hexadecimal;

use super::place::push_encoded;
use super::{Client, Failure, FailureKind};

/// An image, by the name of its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlace {
    /// The namespace of the document.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Hears how many bytes are done, and of how many.
pub type Told<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Where the bytes of a download go, from the first one on.
pub trait Target {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// Those of whatever keeps them.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Hears that all bytes come anew, from the first one on, and the tag of what they are of.
    ///
    /// # Errors
    ///
    /// Those of whatever keeps them.
    fn begin(&mut self, _tag: &str) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Target for W {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }
}

/// What an earlier download has left.
pub struct Begun<'a> {
    /// The tag of what it was of.
    pub tag: String,
    /// How many bytes have come.
    pub len: u64,
    /// These bytes.
    pub bytes: &'a mut dyn Read,
}

/// What is to be known of an image before it is gone on with.
struct State {
    tag: HeaderValue,
    len: u64,
    checksum: Option<HeaderValue>,
}

/// How much of an upload has come.
struct Standing {
    offset: u64,
    /// How long it was said to be, if it was begun.
    len: Option<u64>,
}

impl Client {
    /// Sends the bytes of an image; goes on with an upload of the same file that was begun earlier. Returns
    /// how many bytes it has.
    ///
    /// # Errors
    ///
    /// When the file cannot be read ([`FailureKind::Request`]) and what the server says; what has come
    /// until then stays there, to be gone on with.
    pub fn upload(
        &self,
        image: &ImagePlace,
        file: &File,
        told: &Arc<dyn Fn(u64, u64) + Send + Sync>,
    ) -> Result<u64, Failure> {
        let unread = |error: io::Error| {
            Failure::new(FailureKind::Request, format!("the image cannot be read: {error}"))
        };
        let (len, checksum) = summed(file).map_err(unread)?;
        let mut patience = Patience::default();
        loop {
            let standing = self.standing(image)?;
            let from = match standing.len {
                Some(begun) if begun == len && standing.offset < len => Some(standing.offset),
                Some(begun) if begun != len && standing.offset > 0 => {
                    let problem = format!(
                        "an upload of {} was begun with a file of {begun} bytes, and this one has {len}: \
                         delete the document and apply it again to begin anew",
                        image.name
                    );
                    return Err(Failure::new(FailureKind::Conflict, problem));
                }
                _ => None,
            };
            match self.send_from(image, file, from, (len, &checksum), told) {
                Ok(()) => return Ok(len),
                Err(failure) => patience.bear(failure, standing.offset)?,
            }
        }
    }

    /// Returns how many bytes of an upload have come, which a later one goes on behind.
    ///
    /// # Errors
    ///
    /// What the server says.
    pub fn uploaded(&self, image: &ImagePlace) -> Result<u64, Failure> {
        Ok(self.standing(image)?.offset)
    }

    /// Fetches the bytes of an image, as they are stored; goes on behind what an earlier download has left if
    /// the image is the same still. Returns how many they are.
    ///
    /// # Errors
    ///
    /// When the target does not take them ([`FailureKind::Request`]), what the server says, and when what came
    /// does not have the checksum that the server told ([`FailureKind::Checksum`]).
    pub fn download(
        &self,
        image: &ImagePlace,
        begun: Option<Begun<'_>>,
        target: &mut dyn Target,
        told: Told<'_>,
    ) -> Result<u64, Failure> {
        let (mut done, mut tag, mut hash) = (0, None::<HeaderValue>, Sha512::new());
        if let Some(begun) = begun
            && let Some(state) = self.state(image)?
            && state.tag.as_bytes() == begun.tag.as_bytes()
            && begun.len <= state.len
        {
            take_in(&mut hash, begun.bytes).map_err(|error| unkept(&error))?;
            if begun.len == state.len {
                return whole(image, begun.len, hash, state.checksum.as_ref());
            }
            (done, tag) = (begun.len, Some(state.tag));
        }
        let mut patience = Patience::default();
        loop {
            let mut headers = HeaderMap::new();
            if let (Some(tag), 1..) = (&tag, done) {
                headers.insert(IF_RANGE, tag.clone());
                let range = HeaderValue::from_str(&format!("bytes={done}-"));
                headers.insert(RANGE, range.map_err(|_| self.not_understood())?);
            }
            let fetched = self.transfer(Method::GET, image, headers).and_then(|response| {
                if done > 0 && response.status().as_u16() != 206 {
                    let problem = format!("image {} was changed meanwhile", image.name);
                    return Err(Failure::new(FailureKind::Conflict, problem));
                }
                let rest = number(response.headers(), "content-length");
                let len = done + rest.ok_or_else(|| self.not_understood())?;
                let is_new = done == 0;
                tag = response.headers().get(ETAG).cloned();
                if is_new {
                    let tag = tag.as_ref().and_then(|tag| tag.to_str().ok());
                    target.begin(tag.unwrap_or_default()).map_err(|error| unkept(&error))?;
                }
                let checksum = response.headers().get(CHECKSUM).cloned();
                self.take(response, target, &mut hash, (&mut done, len), told)?;
                Ok(checksum)
            });
            match fetched {
                Ok(checksum) => return whole(image, done, hash, checksum.as_ref()),
                Err(failure) => patience.bear(failure, done)?,
            }
        }
    }

    /// Takes the rest of a body.
    fn take(
        &self,
        mut response: Response,
        target: &mut dyn Target,
        hash: &mut Sha512,
        (done, len): (&mut u64, u64),
        told: Told<'_>,
    ) -> Result<(), Failure> {
        let mut buffer = vec![0; CHUNK];
        told(*done, len);
        while *done < len {
            let count = response.read(&mut buffer).unwrap_or(0);
            let bytes = buffer.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                let problem = format!("the answer of {} broke off", self.server());
                return Err(Failure::new(FailureKind::Unreachable, problem));
            }
            target.take(bytes).map_err(|error| unkept(&error))?;
            hash.update(bytes);
            *done += count as u64;
            told(*done, len);
        }
        Ok(())
    }

    /// Returns how an image stands that is ready.
    fn state(&self, image: &ImagePlace) -> Result<Option<State>, Failure> {
        let response = self.transfer(Method::HEAD, image, HeaderMap::new())?;
        let headers = response.headers();
        let (tag, len) = (headers.get(ETAG).cloned(), number(headers, "content-length"));
        let checksum = headers.get(CHECKSUM).cloned();
        Ok(tag.zip(len).map(|(tag, len)| State { tag, len, checksum }))
    }

    fn standing(&self, image: &ImagePlace) -> Result<Standing, Failure> {
        let response = self.transfer(Method::HEAD, image, HeaderMap::new())?;
        let offset = number(response.headers(), UPLOAD_OFFSET).unwrap_or(0);
        Ok(Standing { offset, len: number(response.headers(), UPLOAD_LENGTH) })
    }

    /// Sends the file from an offset on, or all of it as a new upload.
    fn send_from(
        &self,
        image: &ImagePlace,
        file: &File,
        from: Option<u64>,
        (len, checksum): (u64, &str),
        told: &Arc<dyn Fn(u64, u64) + Send + Sync>,
    ) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, text: &str| {
            HeaderValue::from_str(text).map(|value| headers.insert(name, value)).is_ok()
        };
        put(CHECKSUM, checksum);
        put(UPLOAD_LENGTH, &len.to_string());
        if let Some(from) = from {
            put(UPLOAD_OFFSET, &from.to_string());
        }
        let offset = from.unwrap_or(0);
        let opened = file.try_clone().and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            Ok(file.take(len - offset))
        });
        let opened = opened.map_err(|error| {
            Failure::new(FailureKind::Request, format!("the image cannot be read: {error}"))
        })?;
        let wrong = Arc::new(Mutex::new(None));
        let told = Arc::clone(told);
        let reader = Sent { file: opened, done: offset, len, told, wrong: Arc::clone(&wrong) };
        let method = if from.is_some() { Method::PATCH } else { Method::PUT };
        let sent = self.send_bytes(method, &path_of(image), headers, reader, len - offset);
        match wrong.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => {
                let problem = format!("the image cannot be read: {error}");
                Err(Failure::new(FailureKind::Request, problem))
            }
            None => sent,
        }
    }

    fn transfer(
        &self,
        method: Method,
        image: &ImagePlace,
        headers: HeaderMap,
    ) -> Result<Response, Failure> {
        let is_head = method == Method::HEAD;
        let response = self.send_with(method, &path_of(image), |builder| builder.headers(headers));
        match response {
            // An answer to HEAD has no words of its own.
            Err(failure) if is_head && failure.kind == FailureKind::NotFound => {
                let problem = format!(
                    "there is no image {} in the namespace {}",
                    image.name, image.namespace
                );
                Err(Failure::new(FailureKind::NotFound, problem))
            }
            response => response,
        }
    }
}

/// Returns the path of an image's bytes.
fn path_of(image: &ImagePlace) -> String {
    let mut path = "v1/images/".to_owned();
    push_encoded(&mut path, &image.namespace);
    path.push('/');
    push_encoded(&mut path, &image.name);
    path.push_str("/data");
    path
}

/// A file on its way to a server.
struct Sent {
    file: io::Take<File>,
    done: u64,
    len: u64,
    told: Arc<dyn Fn(u64, u64) + Send + Sync>,
    /// What went wrong here, which is not the network's fault.
    wrong: Arc<Mutex<Option<io::Error>>>,
}

impl Read for Sent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buffer) {
            Ok(count) => {
                self.done += count as u64;
                (self.told)(self.done, self.len);
                Ok(count)
            }
            Err(error) => {
                let text = io::Error::from(error.kind());
                *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(text)
            }
        }
    }
}

/// How many breaks in a row are borne.
#[derive(Default)]
struct Patience {
    breaks: u32,
    stood: u64,
}

impl Patience {
    /// Bears a failure of the network, and lets some time pass.
    ///
    /// # Errors
    ///
    /// Any other, and the last one of several in a row between which nothing came.
    fn bear(&mut self, failure: Failure, stands: u64) -> Result<(), Failure> {
        if stands > self.stood {
            (self.breaks, self.stood) = (0, stands);
        }
        self.breaks += 1;
        if failure.kind != FailureKind::Unreachable || self.breaks > MOST_BREAKS {
            return Err(failure);
        }
        thread::sleep(PAUSE * self.breaks);
        Ok(())
    }
}

/// Returns the length of a file and its SHA-512, in hexadecimal.
fn summed(mut file: &File) -> io::Result<(u64, String)> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha512::new();
    let len = take_in(&mut hash, &mut file)?;
    Ok((len, hexadecimal(&hash.finalize())))
}

/// Takes bytes into a checksum; returns how many they are.
fn take_in(hash: &mut Sha512, bytes: &mut dyn Read) -> io::Result<u64> {
    let (mut buffer, mut len) = (vec![0; CHUNK], 0);
    loop {
        let count = bytes.read(&mut buffer)?;
        if count == 0 {
            return Ok(len);
        }
        hash.update(buffer.get(..count).unwrap_or_default());
        len += count as u64;
    }
}

/// Returns the length of what has come, if it has the checksum that the server told.
fn whole(
    image: &ImagePlace,
    len: u64,
    hash: Sha512,
    checksum: Option<&HeaderValue>,
) -> Result<u64, Failure> {
    let found = hexadecimal(&hash.finalize());
    if checksum.is_some_and(|told| told.as_bytes() != found.as_bytes()) {
        let problem = format!("what came of image {} does not have its checksum", image.name);
        return Err(Failure::new(FailureKind::Checksum, problem));
    }
    Ok(len)
}

fn unkept(error: &io::Error) -> Failure {
    Failure::new(FailureKind::Request, format!("the image cannot be kept: {error}"))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// How many bytes are moved at once.
const CHUNK: usize = 256 << 10;

/// How many breaks in a row are borne.
const MOST_BREAKS: u32 = 5;

/// How long to wait after the first one.
const PAUSE: Duration = Duration::from_millis(500);

/// SHA-512 of the stored bytes, in hexadecimal.
const CHECKSUM: &str = "x-checksum-sha512";

/// How many bytes of an upload have come.
const UPLOAD_OFFSET: &str = "upload-offset";

/// How many there will be.
const UPLOAD_LENGTH: &str = "upload-length";
