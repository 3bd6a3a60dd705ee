//! Which ciphers, key sizes and costs go together, by their names alone.

use crate::{EncryptionSettings, Pbkdf};

/// What is wrong with settings, with the key of the Secret that says so.
pub(super) struct Problem {
    pub(super) key: &'static str,
    pub(super) message: String,
}

/// Refuses settings with which nothing could be encrypted, or only after hours.
pub(super) fn check(settings: &EncryptionSettings) -> Vec<Problem> {
    [cipher(settings), hash(settings), costs(settings)].into_iter().flatten().collect()
}

fn cipher(settings: &EncryptionSettings) -> Option<Problem> {
    let problem = |key, message| Some(Problem { key, message });
    let (name, mode) = settings.cipher.split_once('-').unwrap_or((&settings.cipher, "plain"));
    let Some((_, sizes)) = CIPHERS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = CIPHERS.iter().map(|(name, _)| *name).collect();
        let message = format!("the cipher is not one of {}: {IN_DOUBT}", known.join(", "));
        return problem(CIPHER, message);
    };
    let (mode, iv) = match mode.split_once('-') {
        Some(parts) => parts,
        // cryptsetup's short form.
        None if mode == "plain" => ("cbc", mode),
        None => (mode, ""),
    };
    if let Some(message) = unsafe_or_unknown(mode, iv, sizes) {
        return problem(CIPHER, format!("{message}: {IN_DOUBT}"));
    }
    let sizes: Vec<u32> = match (mode, name) {
        // An XTS key is two keys. Kernels refuse AES-192 in XTS.
        ("xts", "aes") => vec![256, 512],
        ("xts", _) => sizes.iter().map(|size| size * 2).collect(),
        _ => sizes.to_vec(),
    };
    if sizes.contains(&settings.key_size_bits) {
        return None;
    }
    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    let message = format!(
        "{name} in the mode {mode} has no keys of this size, but of {} bits",
        sizes.join(", ")
    );
    problem(SIZE, message)
}

/// Returns what is wrong with a mode and its IV, for a cipher with these key sizes.
fn unsafe_or_unknown(mode: &str, iv: &str, sizes: &[u32]) -> Option<&'static str> {
    if iv == "null" || mode == "ecb" {
        return Some("with this mode equal sectors would be equal in the ciphertext");
    }
    if !matches!(mode, "xts" | "cbc" | "ctr") {
        return Some("the mode is not one of xts, cbc, ctr");
    }
    if mode == "xts" && !sizes.contains(&256) {
        return Some("xts needs a cipher with blocks of 128 bits");
    }
    let (iv, hash) = iv.split_once(':').unwrap_or((iv, ""));
    match (iv, HASHES.iter().find(|(name, _)| *name == hash)) {
        ("plain" | "plain64" | "plain64be", _) => None,
        ("essiv", Some((_, bits))) if sizes.contains(bits) => None,
        ("essiv", _) => {
            Some("essiv needs a hash as long as a key of the cipher, as in essiv:sha256")
        }
        _ => Some("the IV is not one of plain, plain64, plain64be, essiv:HASH"),
    }
}

fn hash(settings: &EncryptionSettings) -> Option<Problem> {
    if HASHES.iter().any(|(name, _)| *name == settings.hash) {
        return None;
    }
    let known: Vec<&str> = HASHES.iter().map(|(name, _)| *name).collect();
    let message = format!("the hash is not one of {}", known.join(", "));
    Some(Problem { key: "CRYPTO_KEY_HASH", message })
}

fn costs(settings: &EncryptionSettings) -> Option<Problem> {
    let problem = |key, message: &str| Some(Problem { key, message: message.to_owned() });
    let (iterations, memory) = (settings.pbkdf_iterations, settings.pbkdf_memory_kib);
    if settings.pbkdf == Pbkdf::Pbkdf2 {
        return match (iterations, memory) {
            (_, Some(_)) => {
                problem(MEMORY, "pbkdf2 takes no memory: leave it out, or use argon2id")
            }
            (Some(..1000), _) => problem(ITERATIONS, "pbkdf2 takes 1000 iterations at least"),
            (Some(n), _) if n > MOST_PBKDF2 => {
                problem(ITERATIONS, "this takes minutes with each use: 60000000 is the most")
            }
            _ => None,
        };
    }
    match memory {
        Some(..32) => return problem(MEMORY, "argon2 takes 32 KiB of memory at least"),
        Some(kib) if kib > MOST_MEMORY_KIB => {
            return problem(MEMORY, "argon2 takes 4194304 KiB of memory at most, which is 4 GiB");
        }
        _ => {}
    }
    let passes = u64::from(iterations?);
    if passes < 4 {
        return problem(ITERATIONS, "argon2 takes 4 iterations at least");
    }
    let kib = u64::from(memory.unwrap_or(DEFAULT_MEMORY_KIB));
    if passes * kib > MOST_SECONDS * KIB_PER_SECOND {
        return problem(
            ITERATIONS,
            "this takes minutes or hours with each use: for argon2 an iteration is a pass over all of \
             its memory, 4 are usual; leave it out, or use pbkdf2 if many iterations are meant",
        );
    }
    None
}

/// The ciphers and the sizes of one of their keys in bits.
const CIPHERS: [(&str, &[u32]); 7] = [
    ("aes", &[128, 192, 256]),
    ("camellia", &[128, 192, 256]),
    ("cast5", &[128]),
    ("des3", &[192]),
    ("des3_ede", &[192]),
    ("serpent", &[128, 192, 256]),
    ("twofish", &[128, 192, 256]),
];

/// The hashes and the sizes of their digests in bits.
const HASHES: [(&str, u32); 13] = [
    ("sha256", 256),
    ("sha384", 384),
    ("sha512", 512),
    ("sha1", 160),
    ("sha224", 224),
    ("sha3-224", 224),
    ("sha3-256", 256),
    ("sha3-384", 384),
    ("sha3-512", 512),
    ("ripemd160", 160),
    ("whirlpool", 512),
    ("blake2b-512", 512),
    ("blake2s-256", 256),
];

const IN_DOUBT: &str = "use aes-xts-plain64 if in doubt";
const CIPHER: &str = "CRYPTO_KEY_CIPHER";
const SIZE: &str = "CRYPTO_KEY_SIZE";
const MEMORY: &str = "CRYPTO_PBKDF_MEMORY";
const ITERATIONS: &str = "CRYPTO_PBKDF_FORCE_ITERATIONS";

/// What one nominal minute can do.
const MOST_PBKDF2: u32 = 60_000_000;
/// What cryptsetup takes at most.
const MOST_MEMORY_KIB: u32 = 4 << 20;
/// What argon2 takes when nobody says.
const DEFAULT_MEMORY_KIB: u32 = 1 << 19;
/// The nominal speed of argon2, and how long it may take with it.
const KIB_PER_SECOND: u64 = 1 << 20;
const MOST_SECONDS: u64 = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(cipher: &str, bits: u32) -> EncryptionSettings {
        EncryptionSettings {
            cipher: cipher.to_owned(),
            key_size_bits: bits,
            hash: "sha256".to_owned(),
            pbkdf: Pbkdf::Argon2i,
            pbkdf_memory_kib: None,
            pbkdf_iterations: None,
        }
    }

    #[test]
    fn each_cipher_of_harvesters_list_has_the_key_sizes_that_exist() {
        let cases = [
            ("aes-xts-plain", [true, false, true]),
            ("aes-xts-plain64", [true, false, true]),
            ("aes-cbc-plain", [true, false, false]),
            ("aes-cbc-plain64", [true, false, false]),
            ("aes-cbc-essiv:sha256", [true, false, false]),
            ("serpent-xts-plain64", [true, true, true]),
        ];
        for (cipher, possible) in cases {
            for (bits, possible) in [256, 384, 512].into_iter().zip(possible) {
                let found = check(&settings(cipher, bits));
                assert_eq!(found.is_empty(), possible, "{cipher} {bits}");
                assert!(found.iter().all(|problem| problem.key == SIZE));
            }
        }
    }

    #[test]
    fn ciphers_that_hide_nothing_and_unknown_ones_are_refused() {
        for cipher in [
            "aes-ecb",
            "aes-xts-null",
            "rot13-xts-plain64",
            "aes-gcm-plain64",
            "",
            "aes-",
            "aes-xts",
            "aes-cbc-essiv",
            "aes-cbc-essiv:sha512",
            "cast5-xts-plain64",
            "aes-xts-random",
        ] {
            assert!(!check(&settings(cipher, 256)).is_empty(), "{cipher}");
        }
        assert!(check(&settings("aes", 128)).is_empty());
        let md5 = EncryptionSettings { hash: "md5".to_owned(), ..settings("aes", 256) };
        assert_eq!(check(&md5).len(), 1);
    }

    #[test]
    fn costs_that_nobody_can_wait_for_are_refused() {
        let with = |pbkdf, iterations, memory| {
            let settings = EncryptionSettings {
                pbkdf,
                pbkdf_iterations: iterations,
                pbkdf_memory_kib: memory,
                ..settings("aes-xts-plain64", 256)
            };
            check(&settings).into_iter().map(|problem| problem.key).collect::<Vec<_>>()
        };
        assert_eq!(with(Pbkdf::Argon2i, Some(200_000), None), [ITERATIONS]);
        assert_eq!(with(Pbkdf::Argon2id, Some(4), Some(65536)), [""; 0]);
        assert_eq!(with(Pbkdf::Argon2id, Some(1), None), [ITERATIONS]);
        assert_eq!(with(Pbkdf::Argon2id, None, Some(u32::MAX)), [MEMORY]);
        assert_eq!(with(Pbkdf::Argon2id, Some(u32::MAX), Some(32)), [ITERATIONS]);
        assert_eq!(with(Pbkdf::Pbkdf2, Some(200_000), None), [""; 0]);
        assert_eq!(with(Pbkdf::Pbkdf2, Some(999), None), [ITERATIONS]);
        assert_eq!(with(Pbkdf::Pbkdf2, Some(u32::MAX), None), [ITERATIONS]);
        assert_eq!(with(Pbkdf::Pbkdf2, None, Some(65536)), [MEMORY]);
    }
}
