//! What every provider must do, as a suite that each of them runs in its tests.

mod alterations;
mod secrecy;

use strongroom_crypto::DataKey;
use strongroom_model::KmsKind;

use self::secrecy::check_error;
use crate::{Binding, Envelope, Error, ErrorKind, KeyProvider, Result};

/// What the suite needs of a KMS.
pub trait Harness: Sync {
    /// Returns a new provider of the same key encryption key, which may wrap, unwrap and rewrap.
    fn provider(&self) -> Box<dyn KeyProvider>;

    /// Makes a newer version of the key encryption key, or one in its place, and returns whether
    /// the KMS has such a thing. What was wrapped before must still unwrap.
    fn rotate(&self) -> bool {
        false
    }

    /// Returns how many bits of each part of an envelope are flipped, one at a time: all of them
    /// unless that takes too long.
    fn flips(&self) -> usize {
        usize::MAX
    }
}

/// Checks a provider.
///
/// # Panics
///
/// When it breaks the contract of [`KeyProvider`]; the message says which part of it.
pub fn run(harness: &dyn Harness) {
    let suite = Suite { harness, provider: harness.provider() };
    suite.says_what_it_is();
    suite.unwraps_what_it_has_wrapped();
    suite.refuses_data_keys_of_no_use();
    suite.never_wraps_the_same_way_twice();
    suite.gives_no_key_in_the_place_of_another();
    suite.rewraps_without_changing_what_it_is();
    suite.reads_old_versions_and_rewraps_to_the_newest();
    suite.works_for_many_at_once();
    suite.says_what_works();
    alterations::check(&suite);
    secrecy::check(&suite);
    // Whatever an envelope has said by now, the KMS must have survived it.
    suite.unwraps_what_it_has_wrapped();
}

/// A provider and what it was made of.
struct Suite<'a> {
    harness: &'a dyn Harness,
    provider: Box<dyn KeyProvider>,
}

impl Suite<'_> {
    fn says_what_it_is(&self) {
        let label = self.provider.label();
        assert!(!label.trim().is_empty(), "the provider has no label");
        assert!(!label.contains(char::is_control), "the label has control characters: {label:?}");
        let kind = self.wrap(&data_key(43), &binding()).kind;
        assert_eq!(kind, self.provider.kind(), "the envelope is of another kind");
    }

    fn unwraps_what_it_has_wrapped(&self) {
        let others = self.harness.provider();
        for len in LENGTHS {
            let key = data_key(len);
            let envelope = self.wrap(&key, &binding());
            assert!(envelope.fingerprint.matches(&key), "the fingerprint is of another data key");
            assert!(humantime::parse_rfc3339(&envelope.created).is_ok(), "created is no time");
            self.gives(&envelope, &binding(), &key);
            // What was stored in between is all that another process has.
            let read = Envelope::parse(envelope.to_json().as_bytes(), "stored envelope")
                .expect("what was written is an envelope");
            assert_eq!(read, envelope, "the envelope does not survive JSON");
            let unwrapped = others.unwrap(&read, &binding());
            assert!(is(&key, unwrapped), "another provider gives another key of {len} bytes");
        }
    }

    fn refuses_data_keys_of_no_use(&self) {
        for len in [0, 513, 70_000] {
            let error = self.provider.wrap(&data_key(len), &binding()).err();
            let kind = error.map(|error| error.kind());
            assert_eq!(kind, Some(ErrorKind::Misconfigured), "it wrapped a key of {len} bytes");
        }
    }

    fn never_wraps_the_same_way_twice(&self) {
        let key = data_key(43);
        let [one, other] = [0; 2].map(|_| self.wrap(&key, &binding()));
        assert_ne!(one.wrapped.ciphertext, other.wrapped.ciphertext, "two ciphertexts are equal");
        assert_ne!(one.fingerprint, other.fingerprint, "two fingerprints have the same salt");
        assert!(
            one.wrapped.iv.is_none() || one.wrapped.iv != other.wrapped.iv,
            "two IVs are equal"
        );
    }

    fn gives_no_key_in_the_place_of_another(&self) {
        let (key, other_key) = (data_key(43), data_key(43));
        let (mine, other) = (binding(), Binding::image("00000000-0000-4000-8000-00000000000b"));
        let envelope = self.wrap(&key, &mine);
        let elsewhere = self.wrap(&other_key, &other);
        let sibling = self.wrap(&other_key, &mine);
        let rewrapped = self.rewrap(&elsewhere);
        let same_name = Binding::image("pvc-1");
        for (envelope, binding, what) in [
            (&envelope, &other, "an envelope of another image"),
            (&elsewhere, &mine, "an envelope of another image"),
            (&rewrapped, &mine, "a rewrapped envelope of another image"),
            (&envelope, &same_name, "an envelope of a volume for an image of the same name"),
            (&with_wrapped(&envelope, &elsewhere), &mine, "the ciphertext of another image"),
            (&with_wrapped(&envelope, &elsewhere), &other, "the ciphertext of another image"),
            (
                &with_wrapped(&envelope, &rewrapped),
                &mine,
                "a rewrapped ciphertext of another image",
            ),
            // Same binding, but a key that was replaced: the fingerprint tells.
            (&with_wrapped(&envelope, &sibling), &mine, "an older key of the same image"),
            (&with_wrapped(&envelope, &self.rewrap(&sibling)), &mine, "a rewrapped older key"),
        ] {
            let error = self.refuses(envelope, binding, &key, what);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        }
        for (envelope, what) in [
            (&with_wrapped(&envelope, &sibling), "an older key of the same image"),
            (&with_wrapped(&envelope, &elsewhere), "the ciphertext of another image"),
        ] {
            let error = self.provider.verify(envelope).err();
            assert!(error.is_some(), "it verified {what}");
            let error = error.expect("it was looked at");
            check_error(&error, &key);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        }
        // To rewrap a mixture may work, but must not mend it.
        for mixture in [with_wrapped(&envelope, &elsewhere), with_wrapped(&envelope, &sibling)] {
            if let Ok(rewrapped) = self.provider.rewrap(&mixture) {
                self.refuses(&rewrapped, &mine, &key, "a mixture that was rewrapped");
            }
        }
    }

    fn rewraps_without_changing_what_it_is(&self) {
        let key = data_key(43);
        let envelope = self.wrap(&key, &binding());
        let rewrapped = self.rewrap(&envelope);
        self.check_same(&envelope, &rewrapped, &key);
        let again = self.rewrap(&rewrapped);
        self.check_same(&envelope, &again, &key);
        // The old one stays good until nobody needs it any more.
        self.gives(&envelope, &binding(), &key);
    }

    fn check_same(&self, old: &Envelope, new: &Envelope, key: &DataKey) {
        assert_eq!(new.kind, old.kind, "rewrapping changed the kind");
        assert_eq!(new.fingerprint, old.fingerprint, "rewrapping changed the fingerprint");
        assert_eq!(new.created, old.created, "rewrapping changed when it was made");
        assert_ne!(new.wrapped.ciphertext, old.wrapped.ciphertext, "rewrapping changed nothing");
        self.gives(new, &binding(), key);
    }

    fn reads_old_versions_and_rewraps_to_the_newest(&self) {
        let key = data_key(43);
        let old = self.wrap(&key, &binding());
        if !self.harness.rotate() {
            return;
        }
        let rotated = Suite { harness: self.harness, provider: self.harness.provider() };
        rotated.gives(&old, &binding(), &key);
        let which = |envelope: &Envelope| {
            (envelope.wrapped.key_id.clone(), envelope.wrapped.key_version.clone())
        };
        let new = rotated.wrap(&key, &binding());
        assert_ne!(which(&new), which(&old), "it wraps under the old version");
        let rewrapped = rotated.rewrap(&old);
        rotated.check_same(&old, &rewrapped, &key);
        assert_eq!(which(&rewrapped), which(&new), "it rewraps to another version than the newest");
        let other = Binding::volume("pvc-2");
        let error = rotated.refuses(&rewrapped, &other, &key, "another volume after rotation");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "another volume after rotation: {error}");
        let probe = rotated.provider.probe().expect("the KMS can be asked");
        assert!(
            probe.key_version.is_none() || probe.key_version == new.wrapped.key_version,
            "the newest version is {:?}, and the KMS says {:?}",
            new.wrapped.key_version,
            probe.key_version
        );
    }

    fn works_for_many_at_once(&self) {
        let shared = data_key(43);
        let envelope = self.wrap(&shared, &binding());
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (shared, envelope) = (&shared, &envelope);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let key = data_key(43);
                        let own = Binding::volume(&format!("pvc-{thread}-{round}"));
                        self.gives(&self.wrap(&key, &own), &own, &key);
                        self.gives(envelope, &binding(), shared);
                        self.gives(&self.rewrap(envelope), &binding(), shared);
                    }
                });
            }
        });
    }

    fn says_what_works(&self) {
        let probe = self.provider.probe().expect("the KMS can be asked");
        for what in ["encrypt", "decrypt"] {
            assert!(probe.allowed.iter().any(|it| it == what), "the probe misses {what}");
        }
    }

    fn wrap(&self, key: &DataKey, binding: &Binding) -> Envelope {
        self.provider.wrap(key, binding).expect("the data key can be wrapped")
    }

    fn rewrap(&self, envelope: &Envelope) -> Envelope {
        self.provider.rewrap(envelope).expect("the envelope can be rewrapped")
    }

    /// Checks that an envelope gives this key.
    fn gives(&self, envelope: &Envelope, binding: &Binding, key: &DataKey) {
        let unwrapped = self.provider.unwrap(envelope, binding);
        if let Err(error) = &unwrapped {
            check_error(error, key);
        }
        let why = unwrapped.as_ref().err().map(ToString::to_string);
        assert_eq!(why, None, "it does not unwrap");
        let why = self.provider.verify(envelope).err().map(|error| error.to_string());
        assert_eq!(why, None, "it unwraps, but does not verify");
        assert!(is(key, unwrapped), "it unwrapped to another key");
    }

    /// Checks that an envelope gives no key, and returns why.
    fn refuses(&self, envelope: &Envelope, binding: &Binding, key: &DataKey, what: &str) -> Error {
        let error = self.provider.unwrap(envelope, binding).err();
        assert!(error.is_some(), "it unwrapped {what}");
        let error = error.expect("it was looked at");
        check_error(&error, key);
        error
    }
}

/// Returns a data key of so many random bytes.
fn data_key(len: usize) -> DataKey {
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    DataKey::new(bytes)
}

fn binding() -> Binding {
    Binding::volume("pvc-1")
}

fn is(key: &DataKey, unwrapped: Result<DataKey>) -> bool {
    unwrapped.is_ok_and(|unwrapped| unwrapped == *key)
}

/// Returns an envelope with what another has wrapped.
fn with_wrapped(envelope: &Envelope, other: &Envelope) -> Envelope {
    envelope.rewrapped(other.wrapped.clone())
}

/// Returns the kinds that a provider is not.
fn other_kinds(kind: KmsKind) -> impl Iterator<Item = KmsKind> {
    KmsKind::ALL.into_iter().filter(move |other| *other != kind)
}

/// Data keys from one byte to more than anybody needs, ours among them.
const LENGTHS: [usize; 8] = [1, 2, 16, 32, 43, 64, 255, 512];

const THREADS: usize = 8;
const ROUNDS: usize = 4;

#[cfg(test)]
mod tests;
