//! Makes, lengthens and removes dm-crypt mappings with this crate alone: what the checks in a guest
//! drive (`scripts/guest/checks`).
//!
//! ```text
//! mapping support
//! mapping open NAME DEVICE PASSPHRASE_FILE [len=BYTES] [discard] [no-read-workqueue] [no-write-workqueue]
//! mapping resize NAME BYTES
//! mapping resize-with-key NAME BYTES DEVICE PASSPHRASE_FILE
//! mapping close NAME
//! mapping find NAME
//! ```
//!
//! The exit status says what kind of error there was: 3 busy, 4 contents, 5 input and output,
//! 6 unsupported, 7 request, 1 another.

use std::error::Error as StdError;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;

use strongroom_attach::{EncryptedContents, Error, ErrorKind, Support, dm};
use strongroom_crypto::{CostPolicy, Passphrase};
use strongroom_luks::{Header, head_len};
use strongroom_model::Tuning;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(answer) => say(io::stdout(), &answer),
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            let error = error.downcast_ref::<Error>();
            if let Some(hint) = error.and_then(Error::hint) {
                text.push_str(&format!("\nhint: {hint}"));
            }
            say(io::stderr(), &text);
            ExitCode::from(error.map_or(1, |error| match error.kind() {
                ErrorKind::Busy => 3,
                ErrorKind::Contents => 4,
                ErrorKind::Io => 5,
                ErrorKind::Unsupported => 6,
                ErrorKind::Request => 7,
            }))
        }
    }
}

fn say(mut to: impl Write, text: &str) -> ExitCode {
    match writeln!(to, "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(words: &[&str]) -> Result<String, Box<dyn StdError>> {
    match *words {
        ["support"] => Ok(match dm::support() {
            Support::Usable => "usable".to_owned(),
            Support::Missing { what, remedy } => format!("missing: {what}; {remedy}"),
        }),
        ["open", name, device, passphrase, ref options @ ..] => {
            let (contents, whole) = unlock(Path::new(device), Path::new(passphrase))?;
            let mut len = whole;
            let mut tuning = Tuning::default();
            for option in options {
                match (*option, option.strip_prefix("len=")) {
                    (_, Some(bytes)) => len = bytes.parse()?,
                    ("discard", _) => tuning.discard = true,
                    ("no-read-workqueue", _) => tuning.no_read_workqueue = true,
                    ("no-write-workqueue", _) => tuning.no_write_workqueue = true,
                    _ => return Err(format!("unknown option {option}").into()),
                }
            }
            let node = dm::open(name, Path::new(device), &contents, len, tuning)?;
            Ok(node.display().to_string())
        }
        ["resize", name, len] => Ok(dm::resize(name, len.parse()?).map(|()| "resized".to_owned())?),
        ["resize-with-key", name, len, device, passphrase] => {
            let (contents, _) = unlock(Path::new(device), Path::new(passphrase))?;
            dm::resize_with_key(name, len.parse()?, &contents)?;
            Ok("resized".to_owned())
        }
        ["close", name] => Ok(dm::close(name).map(|()| "closed".to_owned())?),
        ["find", name] => Ok(match dm::find(name)? {
            None => "none".to_owned(),
            Some(mapping) => format!(
                "{} {} {} {}",
                mapping.path.display(),
                mapping.uuid,
                mapping.len,
                mapping.device.map_or_else(|| "gone".to_owned(), |it| it.display().to_string())
            ),
        }),
        _ => Err("which command? see the head of this file".into()),
    }
}

/// Returns the contents of a LUKS volume, and how many bytes of data it has room for.
fn unlock(device: &Path, passphrase: &Path) -> Result<(EncryptedContents, u64), Box<dyn StdError>> {
    let mut file = File::open(device)?;
    let device_len = file.seek(SeekFrom::End(0))?;
    let mut head = Vec::new();
    loop {
        let wanted = head_len(&head).max(4096).min(usize::try_from(device_len)?);
        if wanted <= head.len() {
            break;
        }
        head.resize(wanted, 0);
        file.read_exact_at(&mut head, 0)?;
    }
    let header = Header::parse(&head, device_len)?.header;
    let passphrase = Passphrase::new(fs::read(passphrase)?);
    let mut refused: Box<dyn StdError> = "no keyslot".into();
    for id in header.keyslots_to_try()? {
        let range = header.keyslot_area(id)?;
        let mut area = vec![0; usize::try_from(range.end - range.start)?];
        file.read_exact_at(&mut area, range.start)?;
        match header.open_keyslot(id, &area, &passphrase, &CostPolicy::default()) {
            Ok(key) => {
                let payload = header.payload(device_len)?;
                let (version, uuid) = (header.version(), header.uuid().to_owned());
                return Ok((EncryptedContents { version, uuid, payload, key }, payload.length));
            }
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}
