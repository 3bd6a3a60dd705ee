//! How long a KMS may take, and how much failure is borne.

use std::time::Duration;

use strongroom_crypto::CostPolicy;

/// How long a KMS over the network may take, how much failure is borne, and what envelopes may cost
/// that a passphrase opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a connection may take to be there.
    pub connect: Duration,
    /// How long one request may take, with its answer.
    pub request: Duration,
    /// How long one call of a provider may take, with everything that is tried again.
    pub total: Duration,
    /// How often a request is tried again.
    pub retries: u32,
    /// How long to wait before the first repetition, about. Each further one waits twice as long.
    pub backoff: Duration,
    /// How many calls in a row must find the KMS out of order before it is left alone.
    pub failures: u32,
    /// For how long it is left alone then. Each time that this did not help it is twice as long,
    /// up to a minute.
    pub pause: Duration,
    /// What deriving a key from a passphrase may cost for one envelope. All those that turn out to
    /// hold nothing may together cost what one unlock may
    /// ([`unlock_budget`](CostPolicy::unlock_budget)), until there was none for a minute.
    pub derivation: CostPolicy,
}

impl Default for Limits {
    /// Five seconds to connect, ten for a request, thirty in all; three repetitions; a pause of two
    /// seconds after five failures; the default policy.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(10),
            total: Duration::from_secs(30),
            retries: 3,
            backoff: Duration::from_millis(200),
            failures: 5,
            pause: Duration::from_secs(2),
            derivation: CostPolicy::default(),
        }
    }
}
