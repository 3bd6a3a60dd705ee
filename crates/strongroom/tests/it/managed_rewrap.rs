//! Rewrapping is proved: another server with a key of the same name has done nothing, and no envelope
//! takes the place of the only one before it was unwrapped.

use std::path::PathBuf;

use strongroom::ErrorKind;
use strongroom::managed::{NewestKey, Proof, Rewrapped, rewrap_file};
use strongroom_crypto::DataKey;
use strongroom_kms::{Binding, Envelope, KeyProvider, Probe, Result};
use strongroom_luks::Version;
use strongroom_model::KmsKind;

use crate::managed_volume::{Place, RecordingKms, new_version, on};

/// A KMS on another server: its key is called as one that the envelopes name.
#[derive(Debug)]
struct OnServer {
    inner: RecordingKms,
    key_id: String,
    endpoint: &'static str,
    /// What it makes of an envelope is one of another data key.
    confuses: bool,
}

impl OnServer {
    fn new(inner: RecordingKms, place: &Place, endpoint: &'static str) -> Self {
        let key_id = place.envelope.wrapped.key_id.clone();
        Self { inner, key_id, endpoint, confuses: false }
    }

    fn shown(&self, mut envelope: Envelope) -> Envelope {
        envelope.wrapped.key_id.clone_from(&self.key_id);
        envelope.wrapped.endpoint = Some(self.endpoint.to_owned());
        envelope
    }

    fn own(&self, envelope: &Envelope) -> Result<Envelope> {
        let key = strongroom_kms::new_data_key(&mut strongroom::system_rng());
        let mut own = envelope.clone();
        own.wrapped.key_id = self.inner.wrap(&key, &Binding::image("x"))?.wrapped.key_id;
        Ok(own)
    }
}

impl KeyProvider for OnServer {
    fn kind(&self) -> KmsKind {
        self.inner.kind()
    }

    fn label(&self) -> String {
        self.inner.label()
    }

    fn wrap(&self, key: &DataKey, binding: &Binding) -> Result<Envelope> {
        Ok(self.shown(self.inner.wrap(key, binding)?))
    }

    fn unwrap(&self, envelope: &Envelope, binding: &Binding) -> Result<DataKey> {
        self.inner.unwrap(&self.own(envelope)?, binding)
    }

    fn verify(&self, envelope: &Envelope) -> Result<()> {
        self.inner.verify(&self.own(envelope)?)
    }

    fn rewrap(&self, envelope: &Envelope) -> Result<Envelope> {
        let mut new = self.shown(self.inner.rewrap(&self.own(envelope)?)?);
        if self.confuses {
            let other = strongroom_kms::new_data_key(&mut strongroom::system_rng());
            new.wrapped.ciphertext =
                self.inner.wrap(&other, &Binding::image("x"))?.wrapped.ciphertext;
        }
        Ok(new)
    }

    fn probe(&self) -> Result<Probe> {
        self.inner.probe()
    }
}

/// Rewraps a volume by its header, by its record, and the record by itself.
fn each_way(place: &Place, kms: &dyn KeyProvider) -> Vec<strongroom::Result<Rewrapped>> {
    let newest = NewestKey::ask(kms).unwrap();
    let path = place.record();
    vec![
        on(place.disk(), None, |v| v.rewrap(kms, &newest)),
        on(place.disk(), Some(&path), |v| v.rewrap(kms, &newest)),
        rewrap_file(&path, kms, &newest),
    ]
}

#[test]
fn the_key_of_the_same_name_on_another_server_has_not_rewrapped_it() {
    let place = Place::new(Version::Luks2);
    let before = std::fs::read(place.record()).unwrap();
    let other = OnServer::new(place.kms("other"), &place, "https://b");
    for refused in each_way(&place, &other) {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Image);
    }
    assert_eq!(std::fs::read(place.record()).unwrap(), before);
}

#[test]
fn the_same_key_at_another_address_proves_that_it_is_by_unwrapping() {
    let place = Place::new(Version::Luks2);
    let again = OnServer::new(place.kms("kek"), &place, "https://b");
    for done in each_way(&place, &again) {
        assert_eq!(done.unwrap(), Rewrapped::Already { version: Some("1".to_owned()) });
    }
    assert!(again.inner.calls().contains(&"unwrap"));
    assert!(!again.inner.calls().contains(&"rewrap"));
    // Who may not unwrap is told by the KMS, which takes the envelope for one of its own.
    let denied = place.kms("kek").denying("unwrap");
    let again = OnServer::new(denied, &place, "https://b");
    let newest = NewestKey::ask(&again).unwrap();
    let done = on(place.disk(), None, |v| v.rewrap(&again, &newest)).unwrap();
    assert_eq!(done, Rewrapped::Already { version: Some("1".to_owned()) });
    assert!(again.inner.calls().contains(&"rewrap"));
}

#[test]
fn an_envelope_of_another_data_key_does_not_replace_a_record() {
    let place = Place::new(Version::Luks1);
    new_version(place.folder.path(), "kek");
    let before = std::fs::read(place.record()).unwrap();
    let confused =
        OnServer { confuses: true, ..OnServer::new(place.kms("kek"), &place, "https://b") };
    let newest = NewestKey::ask(&confused).unwrap();
    let refused = rewrap_file(&place.record(), &confused, &newest).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Image, "{refused}");
    assert_eq!(std::fs::read(place.record()).unwrap(), before);
}

#[test]
fn a_record_that_nobody_may_unwrap_is_kept_beside_the_new_one() {
    let place = Place::new(Version::Luks1);
    new_version(place.folder.path(), "kek");
    let kms = place.kms("kek").denying("unwrap");
    let newest = NewestKey::ask(&kms).unwrap();
    let done = rewrap_file(&place.record(), &kms, &newest).unwrap();
    assert!(matches!(done, Rewrapped::Done { proof: Proof::Told, .. }));
    let old: PathBuf = place.folder.path().join(".record.json.old");
    assert_eq!(strongroom::envelopes::read_file(&old).unwrap(), place.envelope);
}
