//! Several envelopes in one header, of which somebody may have planted some: the good one opens, and
//! the others cost little.

use std::time::Duration;

use strongroom::managed::ManagedVolume;
use strongroom::{Device, ErrorKind, Opener};
use strongroom_crypto::{CostPolicy, DataKey, Hash, Kdf};
use strongroom_kms::{Binding, Envelope, KeyProvider, Probe, new_data_key};
use strongroom_luks::{Header, Version};
use strongroom_model::KmsKind;

use crate::managed_races::SlowDisk;
use crate::managed_volume::{Place, RecordingKms, header, on, policy};

/// A KMS whose server stumbles over one envelope.
#[derive(Debug)]
struct Stumbling {
    inner: RecordingKms,
    over: Envelope,
}

impl KeyProvider for Stumbling {
    fn kind(&self) -> KmsKind {
        self.inner.kind()
    }

    fn label(&self) -> String {
        self.inner.label()
    }

    fn wrap(&self, key: &DataKey, binding: &Binding) -> strongroom_kms::Result<Envelope> {
        self.inner.wrap(key, binding)
    }

    fn unwrap(&self, envelope: &Envelope, binding: &Binding) -> strongroom_kms::Result<DataKey> {
        if *envelope == self.over {
            let (kind, label) = (strongroom_kms::ErrorKind::Unavailable, self.label());
            return Err(strongroom_kms::Error::new(kind, label, "it has trouble of its own"));
        }
        self.inner.unwrap(envelope, binding)
    }

    fn verify(&self, envelope: &Envelope) -> strongroom_kms::Result<()> {
        self.inner.verify(envelope)
    }

    fn rewrap(&self, envelope: &Envelope) -> strongroom_kms::Result<Envelope> {
        self.inner.rewrap(envelope)
    }

    fn probe(&self) -> strongroom_kms::Result<Probe> {
        self.inner.probe()
    }
}

/// Adds a token of ours.
fn plant(place: &mut Place, envelope: &Envelope, keyslots: &[u32]) {
    let keyslots: Vec<String> = keyslots.iter().map(ToString::to_string).collect();
    let text = serde_json::json!({
        "type": "strongroom-kms", "keyslots": keyslots, "envelope": envelope,
    });
    place.edit(|header| {
        let Header::Luks2(header) = header else { panic!("it is LUKS2") };
        header.import_token(None, &text.to_string()).unwrap().2
    });
}

/// Returns an envelope of another data key.
fn another(place: &Place) -> Envelope {
    let binding = Binding::image(header(&place.bytes).unwrap().uuid());
    place.kms("kek").wrap(&new_data_key(&mut strongroom::system_rng()), &binding).unwrap()
}

#[test]
fn an_envelope_over_which_the_kms_stumbles_does_not_hide_the_good_one() {
    let mut place = Place::new(Version::Luks2);
    let over = another(&place);
    plant(&mut place, &over, &[0]);
    let kms = Stumbling { inner: place.kms("kek"), over: over.clone() };
    let device = Device::on(place.disk());
    let found = device.read_header().unwrap().header;
    device.unlock(&found, Opener::kms(&kms), None, &policy()).unwrap();
    on(place.disk(), None, |v| v.rotate(&kms)).unwrap();
    // When nothing else opens, that is what is told.
    let kms = Stumbling { inner: place.kms("kek"), over: place.envelope.clone() };
    let refused = device.unlock(&found, Opener::kms(&kms), None, &policy()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KmsUnavailable);
    let refused = on(place.disk(), None, |v| v.rotate(&kms)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KmsUnavailable);
}

#[test]
fn the_same_envelope_in_many_tokens_is_unwrapped_once() {
    let mut place = Place::new(Version::Luks2);
    let other = another(&place);
    for _ in 0..5 {
        plant(&mut place, &other, &[0]);
    }
    let kms = place.kms("kek");
    let device = Device::on(place.disk());
    let found = device.read_header().unwrap().header;
    device.unlock(&found, Opener::kms(&kms), None, &policy()).unwrap();
    assert_eq!(kms.calls(), ["unwrap", "unwrap"]);
    let kms = place.kms("kek");
    on(place.disk(), None, |v| v.recover(&kms)).unwrap();
    assert_eq!(kms.calls(), ["unwrap", "unwrap"]);
}

#[test]
fn all_envelopes_together_cost_no_more_than_one_unlock_may() {
    const SLOW: Kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 30_000 };
    let mut place = Place::new(Version::Luks2);
    for text in ["one", "two", "three"] {
        place.add_passphrase(text, SLOW);
    }
    place.edit(|header| header.remove_keyslot(0, &mut strongroom::system_rng()).unwrap().1);
    for _ in 0..4 {
        let planted = another(&place);
        plant(&mut place, &planted, &[1, 2, 3]);
    }
    let cost = header(&place.bytes).unwrap().keyslot_cost(1).unwrap();
    let tight = CostPolicy { max_time: cost + Duration::from_nanos(1), ..policy() };
    let disk = SlowDisk::counting(place.disk());
    let device = Device::on(disk.clone());
    let volume = ManagedVolume::new(&device, None, &tight);
    volume.show().unwrap();
    let alone = disk.0.reads();
    volume.rotate(&place.kms("kek")).unwrap_err();
    let all = disk.0.reads() - alone;
    // The header is read twice. Two keyslots are what the budget allows, of twelve that the envelopes
    // ask for.
    assert_eq!(all, 2 * alone + 2);
}

#[test]
fn a_data_key_is_not_tried_on_what_derives_as_for_a_person() {
    const SLOW: Kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 30_000 };
    let mut place = Place::new(Version::Luks2);
    let (disk, kms) = (place.disk(), place.kms("kek"));
    let rotated = on(disk.clone(), None, |v| v.rotate(&kms)).unwrap();
    place.bytes = disk.0.replay(disk.0.changes().len()).to_vec();
    place.add_passphrase("person", SLOW);
    place.edit(|header| {
        let Header::Luks2(header) = header else { panic!("it is LUKS2") };
        header.assign_token(rotated.token.unwrap(), &[0, 1]).unwrap().1
    });
    // It would be refused for its cost, were it tried.
    let cost = header(&place.bytes).unwrap().keyslot_cost(0).unwrap();
    let tight = CostPolicy { max_time: cost / 2, ..policy() };
    let device = Device::on(place.disk());
    let rotated = ManagedVolume::new(&device, None, &tight).rotate(&kms).unwrap();
    assert_eq!(rotated.removed, [1]);
}
