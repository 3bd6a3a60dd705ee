//! The suite finds every fault that it is for.

use std::panic::{AssertUnwindSafe, catch_unwind};

use strongroom_model::KmsRequest;

use super::*;
use crate::{LocalKek, Probe};

/// What a provider may do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    ForgetsTheBinding,
    BelievesWhatItUnwraps,
    VerifiesAnything,
    RepeatsItself,
    TakesOtherKinds,
    TakesShortTags,
    IgnoresTheLastBit,
    ShowsTheKeyInErrors,
    ShowsTheKeyInEnvelopes,
    ShowsTheKeyInDebug,
    TakesUnknownKeysForOutages,
    RewrapsUnderAnotherDate,
    ForgetsOldVersions,
    StaysAtTheOldVersion,
    TalksToEndpointsOfEnvelopes,
}

/// A provider with a fault, over one that works.
struct Faulty {
    fault: Fault,
    inner: Box<dyn KeyProvider>,
    last: std::sync::Mutex<Option<(Vec<u8>, Envelope)>>,
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last = self.last.lock().unwrap();
        let shown = last.as_ref().filter(|_| self.fault == Fault::ShowsTheKeyInDebug);
        f.debug_struct("Faulty").field("last", &shown.map(|(key, _)| key)).finish()
    }
}

impl Faulty {
    fn last_key(&self) -> Vec<u8> {
        self.last.lock().unwrap().as_ref().map_or_else(Vec::new, |(key, _)| key.clone())
    }
}

impl KeyProvider for Faulty {
    fn kind(&self) -> KmsKind {
        self.inner.kind()
    }

    fn label(&self) -> String {
        self.inner.label()
    }

    fn wrap(&self, key: &DataKey, binding: &Binding) -> Result<Envelope> {
        let bytes = key.expose_bytes().to_vec();
        let mut last = self.last.lock().unwrap();
        if let (Fault::RepeatsItself, Some((held, envelope))) = (self.fault, &*last)
            && *held == bytes
        {
            return Ok(envelope.clone());
        }
        let everybody = Binding::volume("everybody");
        let bound = if self.fault == Fault::ForgetsTheBinding { &everybody } else { binding };
        let mut envelope = self.inner.wrap(key, bound)?;
        if self.fault == Fault::ShowsTheKeyInEnvelopes {
            use base64::Engine;
            envelope.wrapped.namespace =
                Some(base64::engine::general_purpose::STANDARD.encode(&bytes));
        }
        *last = Some((bytes, envelope.clone()));
        Ok(envelope)
    }

    fn unwrap(&self, envelope: &Envelope, binding: &Binding) -> Result<DataKey> {
        let mut envelope = envelope.clone();
        let everybody = Binding::volume("everybody");
        let mut bound = binding;
        match self.fault {
            Fault::ForgetsTheBinding => bound = &everybody,
            Fault::TakesOtherKinds => envelope.kind = self.inner.kind(),
            Fault::TakesShortTags => {
                if let (Some((_, last)), Some(tag)) =
                    (&*self.last.lock().unwrap(), &mut envelope.wrapped.tag)
                    && tag.len() == 4
                {
                    tag.clone_from(last.wrapped.tag.as_ref().unwrap());
                }
            }
            Fault::IgnoresTheLastBit => {
                if let (Some((_, last)), Some(tag)) =
                    (&*self.last.lock().unwrap(), &mut envelope.wrapped.tag)
                {
                    let good = last.wrapped.tag.as_ref().unwrap();
                    if tag.len() == 16 && tag[..15] == good[..15] {
                        tag[15] = tag[15] & 0x7f | good[15] & 0x80;
                    }
                }
            }
            Fault::ForgetsOldVersions
                if envelope.wrapped.key_version != self.inner.probe()?.key_version =>
            {
                return Err(Error::new(ErrorKind::NotFound, "faulty", "no such version"));
            }
            Fault::TalksToEndpointsOfEnvelopes => {
                if let Some(endpoint) = &envelope.wrapped.endpoint {
                    let _ = std::net::TcpStream::connect(endpoint);
                }
            }
            _ => {}
        }
        let unwrapped = self.inner.unwrap(&envelope, bound);
        match (self.fault, unwrapped) {
            (Fault::BelievesWhatItUnwraps, Err(error))
                if error.to_string().contains("another data key than was wrapped") =>
            {
                Ok(DataKey::new(self.last_key()))
            }
            (Fault::ShowsTheKeyInErrors, Err(error)) => {
                let last = format!("not {:?}", self.last_key());
                Err(Error::new(error.kind(), "faulty", last))
            }
            (Fault::TakesUnknownKeysForOutages, Err(error))
                if error.kind() == ErrorKind::NotFound =>
            {
                Err(Error::new(ErrorKind::Unavailable, "faulty", "no answer"))
            }
            (_, unwrapped) => unwrapped,
        }
    }

    fn verify(&self, envelope: &Envelope) -> Result<()> {
        match self.fault {
            Fault::VerifiesAnything => Ok(()),
            _ => self.inner.verify(envelope),
        }
    }

    fn rewrap(&self, envelope: &Envelope) -> Result<Envelope> {
        let mut rewrapped = self.inner.rewrap(envelope)?;
        match self.fault {
            Fault::RewrapsUnderAnotherDate => rewrapped.created = "2001-01-01T00:00:00Z".to_owned(),
            Fault::StaysAtTheOldVersion => rewrapped.wrapped.key_version = Some("1".to_owned()),
            _ => {}
        }
        Ok(rewrapped)
    }

    fn probe(&self) -> Result<Probe> {
        self.inner.probe()
    }
}

struct FaultyFile(Fault, tempfile::TempDir);

impl Harness for FaultyFile {
    fn provider(&self) -> Box<dyn KeyProvider> {
        let request = KmsRequest {
            kek_file: Some(self.1.path().join("kek")),
            ..KmsRequest::new(KmsKind::Local)
        };
        let inner = crate::open(&request, crate::Credentials::default()).unwrap();
        Box::new(Faulty { fault: self.0, inner, last: std::sync::Mutex::default() })
    }

    fn rotate(&self) -> bool {
        LocalKek::rotate(&self.1.path().join("kek")).unwrap();
        true
    }
}

/// Returns what the suite says about a provider with a fault.
fn verdict(fault: Fault) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    LocalKek::create(&folder.path().join("kek")).unwrap();
    let harness = FaultyFile(fault, folder);
    let panic = catch_unwind(AssertUnwindSafe(|| run(&harness))).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap())
}

#[test]
fn a_provider_without_fault_passes() {
    assert_eq!(verdict(Fault::None), None);
}

#[test]
fn every_fault_is_found_by_its_name() {
    for (fault, words) in [
        (Fault::ForgetsTheBinding, "it unwrapped an envelope of another image"),
        (Fault::BelievesWhatItUnwraps, "it unwrapped the ciphertext of another image"),
        (Fault::VerifiesAnything, "it verified an older key of the same image"),
        (Fault::RepeatsItself, "two ciphertexts are equal"),
        (Fault::TakesOtherKinds, "it unwrapped an envelope of the kind passphrase"),
        (Fault::TakesShortTags, "it unwrapped the tag in 4 bytes"),
        (Fault::IgnoresTheLastBit, "it unwrapped bit 127 of the tag flipped"),
        (Fault::ShowsTheKeyInErrors, "an error shows the data key"),
        (Fault::ShowsTheKeyInEnvelopes, "the envelope shows the data key"),
        (Fault::ShowsTheKeyInDebug, "the provider's Debug shows the data key"),
        (Fault::TakesUnknownKeysForOutages, "an unknown key is Unavailable"),
        (Fault::RewrapsUnderAnotherDate, "rewrapping changed when it was made"),
        (Fault::ForgetsOldVersions, "it does not unwrap"),
        (Fault::StaysAtTheOldVersion, "it does not unwrap"),
        (Fault::TalksToEndpointsOfEnvelopes, "since an envelope says so"),
    ] {
        let verdict = verdict(fault).unwrap_or_else(|| panic!("{fault:?} was not found"));
        assert!(verdict.contains(words), "{fault:?}: {verdict}");
    }
}
