//! Key derivation from passphrases, what it costs, and what cost is allowed.
//!
//! Costs are *nominal*: they follow from the parameters alone, at fixed rates of a modest machine.
//! A busy machine therefore never makes a header weaker, and a header is judged before any work.

use std::fmt;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};

use crate::{Error, Hash, Passphrase};

/// A key derivation function with all its parameters but the salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kdf {
    /// PBKDF2 with HMAC (RFC 8018).
    Pbkdf2 {
        /// The hash inside HMAC.
        hash: Hash,
        /// Iterations of HMAC.
        iterations: u32,
    },
    /// Argon2 (RFC 9106), version 0x13.
    Argon2 {
        /// Which of the two that LUKS2 knows.
        variant: Argon2Variant,
        /// Passes over the memory.
        time: u32,
        /// Memory in KiB.
        memory_kib: u32,
        /// Lanes that may run side by side.
        lanes: u32,
    },
}

/// The Argon2 variants that LUKS2 knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argon2Variant {
    /// Data-independent memory access.
    Argon2i,
    /// Data-independent in the first half pass, then dependent.
    Argon2id,
}

/// The most that a derivation may cost before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostPolicy {
    /// Memory in KiB.
    pub max_memory_kib: u64,
    /// Nominal processor time.
    pub max_time: Duration,
}

/// What is left of the time that the derivations of one unlock may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostBudget {
    limit: Duration,
    left: Duration,
}

impl Kdf {
    /// What new LUKS2 keyslots get: Argon2id, 4 passes over 512 MiB in 4 lanes.
    ///
    /// Fixed, so that the same command gives the same strength on every machine, and small enough
    /// to open in a container limited to 1 GiB.
    pub const DEFAULT_ARGON2ID: Self = Self::Argon2 {
        variant: Argon2Variant::Argon2id,
        time: 4,
        memory_kib: 512 * 1024,
        lanes: 4,
    };

    /// The fewest PBKDF2 iterations that LUKS allows.
    pub const MIN_PBKDF2_ITERATIONS: u32 = 1000;

    /// Returns PBKDF2 with the default number of iterations: two nominal seconds' worth.
    pub fn default_pbkdf2(hash: Hash) -> Self {
        let iterations = 2 * pbkdf2_rate(hash);
        Self::Pbkdf2 { hash, iterations: u32::try_from(iterations).unwrap_or(u32::MAX) }
    }

    /// Returns PBKDF2 for a key that is random already, where stretching adds nothing.
    pub fn for_random_key(hash: Hash) -> Self {
        Self::Pbkdf2 { hash, iterations: Self::MIN_PBKDF2_ITERATIONS }
    }

    /// Returns the name that LUKS2 headers use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pbkdf2 { .. } => "pbkdf2",
            Self::Argon2 { variant: Argon2Variant::Argon2i, .. } => "argon2i",
            Self::Argon2 { variant: Argon2Variant::Argon2id, .. } => "argon2id",
        }
    }

    /// Returns the function if LUKS allows its parameters.
    ///
    /// # Errors
    ///
    /// [`Error::CostOutOfRange`] names the parameter and the values that work.
    pub fn checked(self) -> Result<Self, Error> {
        let out_of_range = |parameter, value: u32, allowed| Error::CostOutOfRange {
            kdf: self.name(),
            parameter,
            value: u64::from(value),
            allowed,
        };
        match self {
            Self::Pbkdf2 { iterations, .. } if iterations < Self::MIN_PBKDF2_ITERATIONS => {
                Err(out_of_range("iterations", iterations, "at least 1000"))
            }
            Self::Argon2 { time, .. } if time < 4 => {
                Err(out_of_range("iterations", time, "at least 4"))
            }
            Self::Argon2 { memory_kib, .. } if !(32..=4 * 1024 * 1024).contains(&memory_kib) => {
                Err(out_of_range("memory in KiB", memory_kib, "from 32 to 4194304"))
            }
            Self::Argon2 { lanes, .. } if !(1..=4).contains(&lanes) => {
                Err(out_of_range("parallel lanes", lanes, "from 1 to 4"))
            }
            _ => Ok(self),
        }
    }

    /// Fills `out` with the key derived from `passphrase` and `salt`.
    ///
    /// # Errors
    ///
    /// Whatever `policy` refuses, before any work; [`Error::CostOutOfRange`] for parameters that
    /// Argon2 itself does not take.
    pub fn derive(
        &self,
        passphrase: &Passphrase,
        salt: &[u8],
        policy: &CostPolicy,
        out: &mut [u8],
    ) -> Result<(), Error> {
        policy.check(self, out.len())?;
        match *self {
            Self::Pbkdf2 { hash, iterations } => {
                hash.pbkdf2(passphrase.expose_bytes(), salt, iterations, out);
                Ok(())
            }
            Self::Argon2 { variant, time, memory_kib, lanes } => {
                let algorithm = match variant {
                    Argon2Variant::Argon2i => Algorithm::Argon2i,
                    Argon2Variant::Argon2id => Algorithm::Argon2id,
                };
                let refused = |error| match error {
                    argon2::Error::OutOfMemory => {
                        Error::OutOfMemory { kdf: self.name(), needed_kib: u64::from(memory_kib) }
                    }
                    _ => Error::CostOutOfRange {
                        kdf: self.name(),
                        parameter: "memory in KiB",
                        value: u64::from(memory_kib),
                        allowed: "at least 8 for each lane, with at least 1 iteration",
                    },
                };
                let params =
                    Params::new(memory_kib, time, lanes, Some(out.len())).map_err(refused)?;
                Argon2::new(algorithm, Version::V0x13, params)
                    .hash_password_into(passphrase.expose_bytes(), salt, out)
                    .map_err(refused)
            }
        }
    }

    /// Returns the memory that the derivation takes, in KiB.
    pub fn memory_kib(&self) -> u64 {
        match *self {
            Self::Pbkdf2 { .. } => 0,
            Self::Argon2 { memory_kib, .. } => u64::from(memory_kib),
        }
    }

    /// Returns the processor time that deriving `out_len` bytes takes at the nominal rates.
    ///
    /// PBKDF2 runs all its iterations for every block of output as long as a digest.
    pub fn nominal_time(&self, out_len: usize) -> Duration {
        let milliseconds = match *self {
            Self::Pbkdf2 { hash, iterations } => {
                let blocks = out_len.div_ceil(hash.digest_len()).max(1) as u64;
                u64::from(iterations).saturating_mul(1000).saturating_mul(blocks)
                    / pbkdf2_rate(hash)
            }
            Self::Argon2 { time, memory_kib, .. } => {
                u64::from(time).saturating_mul(u64::from(memory_kib)).saturating_mul(1000)
                    / ARGON2_KIB_PER_SECOND
            }
        };
        Duration::from_millis(milliseconds)
    }

    /// Returns the function with its iterations scaled so that a derivation which took `measured`
    /// takes about `target`, but never with fewer iterations than it has now.
    pub fn calibrated(self, measured: Duration, target: Duration) -> Self {
        let scale = |iterations: u32| {
            let scaled = u128::from(iterations) * target.as_micros() / measured.as_micros().max(1);
            u32::try_from(scaled).unwrap_or(u32::MAX).max(iterations)
        };
        match self {
            Self::Pbkdf2 { hash, iterations } => {
                Self::Pbkdf2 { hash, iterations: scale(iterations) }
            }
            Self::Argon2 { variant, time, memory_kib, lanes } => {
                Self::Argon2 { variant, time: scale(time), memory_kib, lanes }
            }
        }
    }

    fn iterations(&self) -> u32 {
        match *self {
            Self::Pbkdf2 { iterations, .. } => iterations,
            Self::Argon2 { time, .. } => time,
        }
    }
}

impl CostPolicy {
    /// How many times the limit of one keyslot all keyslots of an unlock may cost together: eight
    /// of those that a fast machine made for a few seconds each stay below it.
    pub const UNLOCK_FACTOR: u32 = 2;

    /// Returns the time that all keyslots which one unlock tries may take together.
    pub fn unlock_budget(&self) -> CostBudget {
        let limit = self.max_time.saturating_mul(Self::UNLOCK_FACTOR);
        CostBudget { limit, left: limit }
    }

    /// Refuses a derivation of `out_len` bytes that costs more than this policy allows.
    ///
    /// # Errors
    ///
    /// [`Error::CostMemory`] or [`Error::CostTime`].
    pub fn check(&self, kdf: &Kdf, out_len: usize) -> Result<(), Error> {
        if kdf.memory_kib() > self.max_memory_kib {
            return Err(Error::CostMemory {
                kdf: kdf.name(),
                needed_kib: kdf.memory_kib(),
                limit_kib: self.max_memory_kib,
            });
        }
        let needed = kdf.nominal_time(out_len);
        if needed > self.max_time {
            return Err(Error::CostTime {
                kdf: kdf.name(),
                iterations: kdf.iterations(),
                needed_seconds: needed.as_secs(),
                limit_seconds: self.max_time.as_secs(),
                note: match kdf {
                    Kdf::Pbkdf2 { .. } => "",
                    Kdf::Argon2 { .. } => {
                        ": for argon2 an iteration is a full pass over the memory, 4 are usual"
                    }
                },
            });
        }
        Ok(())
    }

    /// Returns the policy for what follows a derivation of `out_len` bytes, so that both together
    /// stay inside this one.
    ///
    /// # Errors
    ///
    /// As [`CostPolicy::check`].
    pub fn after(&self, kdf: &Kdf, out_len: usize) -> Result<Self, Error> {
        self.check(kdf, out_len)?;
        Ok(Self { max_time: self.max_time.saturating_sub(kdf.nominal_time(out_len)), ..*self })
    }
}

impl CostBudget {
    /// Takes the time of another keyslot out of the budget.
    ///
    /// # Errors
    ///
    /// [`Error::CostTotal`] when less is left; the budget then stays as it is.
    pub fn spend(&mut self, time: Duration) -> Result<(), Error> {
        self.left = self.left.checked_sub(time).ok_or(Error::CostTotal {
            needed_seconds: time.as_secs(),
            left_seconds: self.left.as_secs(),
            limit_seconds: self.limit.as_secs(),
        })?;
        Ok(())
    }
}

impl Default for CostPolicy {
    /// 4 GiB of memory and two nominal minutes.
    fn default() -> Self {
        Self { max_memory_kib: 4 * 1024 * 1024, max_time: Duration::from_secs(120) }
    }
}

impl fmt::Display for Argon2Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argon2i => "argon2i",
            Self::Argon2id => "argon2id",
        })
    }
}

/// Returns the nominal PBKDF2 iterations per second, for one block of output.
fn pbkdf2_rate(hash: Hash) -> u64 {
    match hash {
        Hash::Sha1 | Hash::Sha224 | Hash::Sha256 => 1_000_000,
        Hash::Sha384 | Hash::Sha512 | Hash::Blake2b512 | Hash::Blake2s256 => 500_000,
        Hash::Ripemd160 => 500_000,
        Hash::Sha3_224 | Hash::Sha3_256 | Hash::Sha3_384 | Hash::Sha3_512 => 250_000,
        Hash::Whirlpool => 200_000,
    }
}

/// Memory that Argon2 passes over in a nominal second, in KiB.
const ARGON2_KIB_PER_SECOND: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Kdf =
        Kdf::Argon2 { variant: Argon2Variant::Argon2id, time: 3, memory_kib: 32, lanes: 4 };

    fn derive(kdf: Kdf) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; 32];
        let passphrase = Passphrase::new(b"password".to_vec());
        kdf.derive(&passphrase, b"somesaltsomesalt", &CostPolicy::default(), &mut out)?;
        Ok(out)
    }

    #[test]
    fn argon2_variants_differ_and_repeat() {
        let Kdf::Argon2 { time, memory_kib, lanes, .. } = CHEAP else { unreachable!() };
        let other = Kdf::Argon2 { variant: Argon2Variant::Argon2i, time, memory_kib, lanes };
        assert_eq!(derive(CHEAP), derive(CHEAP));
        assert_ne!(derive(CHEAP), derive(other));
    }

    #[test]
    fn refuses_argon2_with_pbkdf2_iterations_and_says_why() {
        let kdf = Kdf::Argon2 {
            variant: Argon2Variant::Argon2i,
            time: 200_000,
            memory_kib: 1024 * 1024,
            lanes: 4,
        };
        let text = derive(kdf).unwrap_err().to_string();
        assert!(text.contains("200000 iterations"), "{text}");
        assert!(text.contains("full pass over the memory"), "{text}");
    }

    #[test]
    fn refuses_more_memory_than_the_policy_before_any_work() {
        let policy = CostPolicy { max_memory_kib: 31, ..CostPolicy::default() };
        assert!(matches!(policy.check(&CHEAP, 32), Err(Error::CostMemory { .. })));
    }

    #[test]
    fn refuses_endless_pbkdf2() {
        let kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: u32::MAX };
        assert!(matches!(derive(kdf), Err(Error::CostTime { .. })));
    }

    #[test]
    fn pbkdf2_costs_its_iterations_for_every_block_of_output() {
        let kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 2_000_000 };
        for (out_len, seconds) in [(0, 2), (1, 2), (32, 2), (33, 4), (64, 4), (512, 32)] {
            assert_eq!(kdf.nominal_time(out_len), Duration::from_secs(seconds), "{out_len}");
        }
        let policy = CostPolicy { max_time: Duration::from_secs(3), ..CostPolicy::default() };
        assert_eq!(policy.check(&kdf, 32), Ok(()));
        assert!(matches!(policy.check(&kdf, 64), Err(Error::CostTime { .. })));
    }

    #[test]
    fn a_derivation_leaves_less_for_what_follows_it() {
        let kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 2_000_000 };
        let policy = CostPolicy { max_time: Duration::from_secs(3), ..CostPolicy::default() };
        let rest = policy.after(&kdf, 32).unwrap();
        assert_eq!(rest.max_time, Duration::from_secs(1));
        assert!(rest.after(&kdf, 32).is_err());
    }

    #[test]
    fn eight_slow_keyslots_fit_one_unlock_and_hostile_ones_do_not() {
        let policy = CostPolicy::default();
        let kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 10_000_000 };
        let mut budget = policy.unlock_budget();
        assert!((0..8).all(|_| budget.spend(kdf.nominal_time(64)).is_ok()));
        let mut budget = policy.unlock_budget();
        let spent = (0..32).filter(|_| budget.spend(policy.max_time).is_ok()).count();
        assert_eq!(spent, 2);
        let text = budget.spend(Duration::from_secs(7)).unwrap_err().to_string();
        assert!(text.contains("7 s more"), "{text}");
    }

    #[test]
    fn luks_bounds_are_checked_by_name() {
        let kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 999 };
        let text = kdf.checked().unwrap_err().to_string();
        assert_eq!(text, "pbkdf2 does not allow iterations 999: at least 1000");
        assert!(CHEAP.checked().is_err());
        assert!(Kdf::DEFAULT_ARGON2ID.checked().is_ok());
    }

    #[test]
    fn calibration_never_weakens() {
        let kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 5000 };
        let slower = kdf.calibrated(Duration::from_millis(10), Duration::from_millis(100));
        assert_eq!(slower, Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 50_000 });
        assert_eq!(kdf.calibrated(Duration::from_secs(10), Duration::from_millis(1)), kdf);
    }

    #[test]
    fn defaults_stay_inside_the_default_policy() {
        let policy = CostPolicy::default();
        assert_eq!(policy.check(&Kdf::DEFAULT_ARGON2ID, 64), Ok(()));
        for hash in Hash::ALL {
            assert_eq!(policy.check(&Kdf::default_pbkdf2(hash), 64), Ok(()));
        }
    }
}
