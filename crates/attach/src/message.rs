//! What a launcher and its service say to each other.
//!
//! The request is a line of JSON, followed by the volume key as it is, which so is in no text that
//! anybody has to wipe. The answer is a line of JSON.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strongroom_crypto::{CipherSpec, SectorSize, VolumeKey};
use strongroom_luks::{Payload, Version};
use zeroize::Zeroizing;

use crate::{EncryptedContents, Error, ErrorKind, OpenedVolume, Result, fuse, nbd};

/// What a service is to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Task {
    /// Show the volume as a file.
    Fuse(fuse::FuseTask),
    /// Export the volume over NBD.
    Nbd(nbd::NbdTask),
}

/// What a service says once it serves, or knows that it will not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// It serves.
    Ready,
    /// It cannot.
    Failed {
        /// What kind of error it is.
        kind: ErrorKind,
        /// What was tried.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
        /// Why it failed.
        cause: Option<String>,
    },
}

/// The line of JSON: everything but the key.
#[derive(Serialize, Deserialize)]
struct Line<T> {
    task: T,
    name: String,
    backing: PathBuf,
    encrypted: Option<Contents>,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    version: u16,
    uuid: String,
    cipher: String,
    offset: u64,
    length: u64,
    sector_size: u64,
    iv_tweak: u64,
    key_len: usize,
}

/// A cause that was told as text.
#[derive(Debug)]
struct Cause(String);

/// Writes a request.
pub(crate) fn send(task: &Task, volume: &OpenedVolume, pipe: &mut impl Write) -> io::Result<()> {
    let line = Line {
        task,
        name: volume.name.clone(),
        backing: std::path::absolute(&volume.backing)?,
        encrypted: volume.encrypted.as_ref().map(Contents::of),
    };
    let mut line = serde_json::to_vec(&line)?;
    line.push(b'\n');
    pipe.write_all(&line)?;
    match &volume.encrypted {
        Some(encrypted) => pipe.write_all(encrypted.key.expose_bytes()),
        None => Ok(()),
    }
}

/// Reads a request.
///
/// # Assumptions
///
/// `pipe` has no buffer, where the key would stay behind.
pub(crate) fn receive(pipe: &mut impl Read) -> Result<(Task, OpenedVolume)> {
    let failed = |source| Error::from_io("cannot read what the service is to do", source);
    let line = read_line(pipe).map_err(failed)?;
    let line: Line<Task> = serde_json::from_slice(&line).map_err(|source| {
        Error::new(ErrorKind::Request, "what the service is to do cannot be understood")
            .with_source(source)
    })?;
    let encrypted = match line.encrypted {
        Some(contents) => {
            let mut key = Zeroizing::new(vec![0; contents.key_len.min(LONGEST_KEY)]);
            pipe.read_exact(&mut key).map_err(failed)?;
            Some(contents.with_key(VolumeKey::new(std::mem::take(&mut *key)))?)
        }
        None => None,
    };
    Ok((line.task, OpenedVolume { name: line.name, backing: line.backing, encrypted }))
}

impl Contents {
    fn of(encrypted: &EncryptedContents) -> Self {
        let payload = &encrypted.payload;
        Self {
            version: encrypted.version.number(),
            uuid: encrypted.uuid.clone(),
            cipher: payload.encryption.spec().to_string(),
            offset: payload.offset,
            length: payload.length,
            sector_size: payload.sector_size.bytes() as u64,
            iv_tweak: payload.iv_tweak,
            key_len: encrypted.key.len(),
        }
    }

    fn with_key(self, key: VolumeKey) -> Result<EncryptedContents> {
        let unknown = |what: &str| {
            Error::new(ErrorKind::Request, format!("the service does not know the {what}"))
        };
        let version = match self.version {
            1 => Version::Luks1,
            2 => Version::Luks2,
            number => return Err(unknown(&format!("LUKS version {number}"))),
        };
        let encryption = self
            .cipher
            .parse::<CipherSpec>()
            .and_then(|spec| spec.with_key_bits(key.len() * 8))
            .map_err(|source| unknown(&format!("cipher {}", self.cipher)).with_source(source))?;
        let sector_size = SectorSize::from_bytes(self.sector_size)
            .ok_or_else(|| unknown(&format!("sector size {}", self.sector_size)))?;
        let payload = Payload {
            offset: self.offset,
            length: self.length,
            encryption,
            sector_size,
            iv_tweak: self.iv_tweak,
        };
        Ok(EncryptedContents { version, uuid: self.uuid, payload, key })
    }
}

impl Answer {
    /// Returns the answer that tells of a failure.
    pub(crate) fn failed(error: &Error) -> Self {
        let mut causes = Vec::new();
        let mut cause = std::error::Error::source(error);
        while let Some(next) = cause {
            causes.push(next.to_string());
            cause = next.source();
        }
        Self::Failed {
            kind: error.kind(),
            problem: error.to_string(),
            hint: error.hint().map(str::to_owned),
            cause: (!causes.is_empty()).then(|| causes.join(": ")),
        }
    }

    /// Returns what it means for whoever has asked.
    pub(crate) fn into_result(self) -> Result<()> {
        let Self::Failed { kind, problem, hint, cause } = self else { return Ok(()) };
        let mut error = Error::new(kind, problem);
        if let Some(hint) = hint {
            error = error.hinted(hint);
        }
        Err(match cause {
            Some(cause) => error.with_source(Cause(cause)),
            None => error,
        })
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// Reads up to the end of the line, and not a byte more.
fn read_line(pipe: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        pipe.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return Ok(line);
        }
        if line.len() == LONGEST_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line does not end"));
        }
        line.push(byte[0]);
    }
}

/// More bytes than a path and all the rest have.
const LONGEST_LINE: usize = 64 << 10;

/// More bytes than the key of any cipher has.
const LONGEST_KEY: usize = 1024;

#[cfg(test)]
mod tests {
    use crate::loop_device::Access;

    use super::*;

    fn volume() -> OpenedVolume {
        let key = VolumeKey::new((0..64).collect());
        let encryption = "aes-xts-plain64".parse::<CipherSpec>().unwrap();
        OpenedVolume {
            name: "data".into(),
            backing: "/volumes/data".into(),
            encrypted: Some(EncryptedContents {
                version: Version::Luks2,
                uuid: "8a4f".into(),
                payload: Payload {
                    offset: 16 << 20,
                    length: 64 << 20,
                    encryption: encryption.with_key_bits(512).unwrap(),
                    sector_size: SectorSize::B4096,
                    iv_tweak: 7,
                },
                key,
            }),
        }
    }

    fn sent() -> Vec<u8> {
        let mut pipe = Vec::new();
        let task =
            Task::Fuse(fuse::FuseTask { file: "/run/data".into(), access: Access::ReadWrite });
        send(&task, &volume(), &mut pipe).unwrap();
        pipe
    }

    #[test]
    fn a_volume_arrives_as_it_was_sent() {
        let (task, arrived) = receive(&mut &sent()[..]).unwrap();
        assert!(matches!(task, Task::Fuse(task) if task.file == *"/run/data"));
        let (sent, arrived_contents) = (volume(), arrived.encrypted.unwrap());
        let sent_contents = sent.encrypted.unwrap();
        assert_eq!((arrived.name, arrived.backing), (sent.name, sent.backing));
        assert_eq!(arrived_contents.payload, sent_contents.payload);
        assert_eq!(arrived_contents.version, sent_contents.version);
        assert!(arrived_contents.key == sent_contents.key);
    }

    #[test]
    fn the_line_does_not_hold_the_key() {
        let sent = sent();
        let end = sent.iter().position(|byte| *byte == b'\n').unwrap();
        assert_eq!(&sent[end + 1..], &(0..64).collect::<Vec<u8>>()[..]);
        assert!(!String::from_utf8(sent[..end].to_vec()).unwrap().contains("[0,1,2"));
    }

    #[test]
    fn a_request_that_breaks_off_is_refused() {
        let sent = sent();
        for length in [0, 10, sent.len() - 1] {
            assert!(receive(&mut &sent[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn an_error_arrives_with_its_cause_and_hint() {
        let sent = Error::from_io("cannot mount", io::Error::from_raw_os_error(16)).hinted("wait");
        let arrived = Answer::failed(&sent).into_result().unwrap_err();
        assert_eq!(arrived.kind(), ErrorKind::Busy);
        assert_eq!(arrived.to_string(), "cannot mount");
        assert_eq!(arrived.hint(), Some("wait"));
        let cause = std::error::Error::source(&arrived).unwrap().to_string();
        assert!(cause.contains("busy"), "{cause}");
    }
}
