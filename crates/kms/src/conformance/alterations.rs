//! Envelopes that somebody has written or changed.

use std::net::TcpListener;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use strongroom_crypto::DataKey;

use super::secrecy::check_error;
use super::{Suite, binding, data_key, is, other_kinds};
use crate::{Envelope, ErrorKind, Wrapped};

pub(super) fn check(suite: &Suite<'_>) {
    let key = data_key(43);
    let envelope = suite.wrap(&key, &binding());
    let victim = Victim { suite, key, envelope };
    victim.refuses_every_flipped_bit();
    victim.refuses_what_is_cut_or_missing();
    victim.does_not_mend_by_rewrapping();
    victim.refuses_other_kinds();
    victim.refuses_unknown_keys();
    victim.survives_hostile_strings();
    victim.talks_to_nobody_that_an_envelope_names();
}

/// An envelope that is changed in every way.
struct Victim<'a> {
    suite: &'a Suite<'a>,
    key: DataKey,
    envelope: Envelope,
}

impl Victim<'_> {
    fn refuses_every_flipped_bit(&self) {
        let (_, bytes) = self.ciphertext();
        for bit in self.bits(bytes.len()) {
            self.refused(&format!("bit {bit} of the ciphertext flipped"), |wrapped| {
                self.edit_ciphertext(wrapped, |bytes| flip(bytes, bit));
            });
        }
        for (name, part) in PARTS {
            let len = part(&mut self.envelope.wrapped.clone()).as_ref().map_or(0, Vec::len);
            for bit in self.bits(len) {
                self.refused(&format!("bit {bit} of the {name} flipped"), |wrapped| {
                    part(wrapped).iter_mut().for_each(|bytes| flip(bytes, bit));
                });
            }
        }
    }

    fn refuses_what_is_cut_or_missing(&self) {
        let (_, bytes) = self.ciphertext();
        let cuts = self.bits(bytes.len()).into_iter().map(|bit| bit / 8);
        let mut cuts: Vec<usize> = cuts.collect();
        cuts.dedup();
        for len in cuts {
            self.refused(&format!("a ciphertext cut to {len} bytes"), |wrapped| {
                self.edit_ciphertext(wrapped, |bytes| bytes.truncate(len));
            });
        }
        for more in [1, 16, 4096] {
            self.refused(&format!("a ciphertext with {more} bytes more"), |wrapped| {
                self.edit_ciphertext(wrapped, |bytes| bytes.resize(bytes.len() + more, 0));
            });
        }
        for text in ["", "=", "vault:v1:", "vault:v999999999999999999999:AAAA", "\u{0}", "*", "A"] {
            self.refused(&format!("the ciphertext {text:?}"), |wrapped| {
                wrapped.ciphertext = text.to_owned();
            });
        }
        for (name, part) in PARTS {
            if part(&mut self.envelope.wrapped.clone()).is_none() {
                continue;
            }
            self.refused(&format!("no {name}"), |wrapped| *part(wrapped) = None);
            for len in [0, 1, 4, 8, 11, 15, 17, 64] {
                self.refused(&format!("the {name} in {len} bytes"), |wrapped| {
                    part(wrapped).iter_mut().for_each(|bytes| {
                        // The right length is no alteration.
                        let same = bytes.len() == len;
                        bytes.resize(if same { len + 1 } else { len }, 0);
                    });
                });
            }
        }
    }

    fn does_not_mend_by_rewrapping(&self) {
        let (_, bytes) = self.ciphertext();
        for bit in [0, bytes.len() * 4, bytes.len() * 8 - 1] {
            let altered = self.altered(|wrapped| {
                self.edit_ciphertext(wrapped, |bytes| flip(bytes, bit));
            });
            match self.suite.provider.rewrap(&altered) {
                Err(error) => check_error(&error, &self.key),
                Ok(rewrapped) => {
                    let what = format!("bit {bit} flipped, and rewrapped");
                    self.suite.refuses(&rewrapped, &binding(), &self.key, &what);
                }
            }
        }
    }

    fn refuses_other_kinds(&self) {
        for kind in other_kinds(self.envelope.kind) {
            let mut foreign = self.envelope.clone();
            foreign.kind = kind;
            let what = format!("an envelope of the kind {kind}");
            let error = self.suite.refuses(&foreign, &binding(), &self.key, &what);
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{what}: {error}");
            let error = self.suite.provider.rewrap(&foreign).err();
            let found = error.map(|error| error.kind());
            assert_eq!(found, Some(ErrorKind::Misconfigured), "it rewrapped {what}");
        }
    }

    fn refuses_unknown_keys(&self) {
        let unknown = self.altered(|wrapped| wrapped.key_id.push_str("-nobody"));
        let error = self.suite.refuses(&unknown, &binding(), &self.key, "an unknown key's name");
        let expected = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Denied);
        assert!(expected, "an unknown key is {:?}: {error}", error.kind());
    }

    fn survives_hostile_strings(&self) {
        let long = "a".repeat(64 << 10);
        for text in HOSTILE.into_iter().chain([long.as_str()]) {
            self.refused_kindly(&format!("the key {:?}", start(text)), |wrapped| {
                wrapped.key_id = text.to_owned();
            });
            let prefixed = format!("{}/../{text}", self.envelope.wrapped.key_id);
            self.refused_kindly(&format!("the key {:?}", start(&prefixed)), |wrapped| {
                wrapped.key_id.clone_from(&prefixed);
            });
            for (name, edit) in TEXTS {
                let altered = self.altered(|wrapped| edit(wrapped, text.to_owned()));
                let unwrapped = self.suite.provider.unwrap(&altered, &binding());
                match &unwrapped {
                    // What a kind of KMS does not look at cannot hurt it.
                    Ok(_) => assert!(is(&self.key, unwrapped), "{name} {text:?} changed the key"),
                    Err(error) => {
                        check_error(error, &self.key);
                        let what = format!("{name} {:?}: {error}", start(text));
                        assert_ne!(error.kind(), ErrorKind::Unavailable, "{what}");
                    }
                }
            }
        }
    }

    fn talks_to_nobody_that_an_envelope_names(&self) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("a socket can be asked without waiting");
        let address = listener.local_addr().expect("it is bound");
        for endpoint in [
            address.to_string(),
            format!("http://{address}"),
            format!("https://{address}/v1"),
            format!("pkcs11:?module-path=//{address}"),
        ] {
            let altered = self.altered(|wrapped| wrapped.endpoint = Some(endpoint.clone()));
            let unwrapped = self.suite.provider.unwrap(&altered, &binding());
            if let Err(error) = &unwrapped {
                check_error(error, &self.key);
            } else {
                assert!(is(&self.key, unwrapped), "the endpoint {endpoint} changed the key");
            }
            let _ = self.suite.provider.rewrap(&altered);
            assert!(listener.accept().is_err(), "it talks to {endpoint} since an envelope says so");
        }
    }

    /// Checks that an alteration is noticed.
    fn refused(&self, what: &str, edit: impl FnOnce(&mut Wrapped)) {
        let altered = self.altered(edit);
        assert_ne!(altered, self.envelope, "{what} alters nothing");
        let error = self.suite.refuses(&altered, &binding(), &self.key, what);
        // Whether a passphrase is wrong or a ciphertext altered cannot be told apart.
        let expected = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Denied);
        assert!(expected, "{what} is {:?}: {error}", error.kind());
    }

    /// Checks that a name is refused and not taken for an outage, which others would suffer from.
    fn refused_kindly(&self, what: &str, edit: impl FnOnce(&mut Wrapped)) {
        let error = self.suite.refuses(&self.altered(edit), &binding(), &self.key, what);
        assert_ne!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
    }

    fn altered(&self, edit: impl FnOnce(&mut Wrapped)) -> Envelope {
        let mut envelope = self.envelope.clone();
        edit(&mut envelope.wrapped);
        envelope
    }

    /// Returns the ciphertext's bytes, and the text that stands before them.
    fn ciphertext(&self) -> (&str, Vec<u8>) {
        let text = &self.envelope.wrapped.ciphertext;
        let (prefix, base64) = text.split_at(text.rfind(':').map_or(0, |colon| colon + 1));
        (prefix, STANDARD.decode(base64).expect("the ciphertext is base64, with a prefix or not"))
    }

    fn edit_ciphertext(&self, wrapped: &mut Wrapped, edit: impl FnOnce(&mut Vec<u8>)) {
        let (prefix, mut bytes) = self.ciphertext();
        edit(&mut bytes);
        wrapped.ciphertext = format!("{prefix}{}", STANDARD.encode(bytes));
    }

    /// Returns which bits of so many bytes are flipped: evenly spread, the last one included.
    fn bits(&self, len: usize) -> Vec<usize> {
        let bits = len * 8;
        let count = self.suite.harness.flips().min(bits);
        let mut chosen: Vec<usize> = (0..count).map(|index| index * bits / count).collect();
        chosen.extend(bits.checked_sub(1));
        chosen.dedup();
        chosen
    }
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Returns as much of a text as a message shows.
fn start(text: &str) -> String {
    text.chars().take(40).collect()
}

type Part = fn(&mut Wrapped) -> &mut Option<Vec<u8>>;

const PARTS: [(&str, Part); 2] =
    [("IV", |wrapped| &mut wrapped.iv), ("tag", |wrapped| &mut wrapped.tag)];

type Edit = fn(&mut Wrapped, String);

const TEXTS: [(&str, Edit); 5] = [
    ("the endpoint", |wrapped, text| wrapped.endpoint = Some(text)),
    ("the namespace", |wrapped, text| wrapped.namespace = Some(text)),
    ("the mount", |wrapped, text| wrapped.mount = Some(text)),
    ("the version", |wrapped, text| wrapped.key_version = Some(text)),
    ("the algorithm", |wrapped, text| wrapped.algorithm = text),
];

/// What goes wrong where a name becomes part of a path, a header, a log or a terminal's line.
const HOSTILE: [&str; 13] = [
    "",
    " ",
    ".",
    "..",
    "../../sys/seal",
    "a/../../../sys/seal",
    "%2e%2e%2fsys%2fseal",
    "key?list=true",
    "key#fragment",
    "key\0",
    "key\r\nX-Vault-Token: canary",
    "\u{1b}[2J\u{1b}]0;title\u{7}",
    "\u{202e}\u{feff}ключ",
];
