//! Many envelopes rewrapped at once.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use strongroom_crypto::CostPolicy;
use strongroom_disk::Access;
use strongroom_kms::KeyProvider;

use super::{ManagedVolume, NewestKey, Rewrapped, rewrap_file};
use crate::{Device, Result};

/// A piece of work on many files.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// LUKS2 images and devices; a name that ends in `.json` is that of an envelope.
    pub paths: &'a [PathBuf],
    /// How many to work on at a time. They wait for the KMS and the medium rather than for the
    /// processor, so it may be many more than that has cores.
    pub threads: NonZeroUsize,
    /// What trying keyslots may cost; none is tried.
    pub policy: &'a CostPolicy,
    /// Is told what became of each file, in the order in which they are done, from any thread.
    pub observer: &'a (dyn Fn(&Path, Result<Rewrapped>) + Sync),
    /// Ends the work after the files that are being worked on.
    pub cancelled: &'a AtomicBool,
}

/// What became of many files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BulkReport {
    /// How many have a new envelope.
    pub done: usize,
    /// How many had the newest one already.
    pub already: usize,
    /// How many failed.
    pub failed: usize,
    /// How many were not reached.
    pub left: usize,
}

/// Rewraps the envelopes in many files. Those under the newest version of the key cost the KMS
/// nothing, so a job that was interrupted goes on when it is given again. One that fails does not stop
/// the others.
///
/// # Errors
///
/// When the KMS does not even tell the newest version; what becomes of each file is told to the
/// observer.
pub fn rewrap_all(job: &Job<'_>, provider: &dyn KeyProvider) -> Result<BulkReport> {
    let newest = NewestKey::ask(provider)?;
    let next = AtomicUsize::new(0);
    let counts = [const { AtomicUsize::new(0) }; 3];
    let work = || {
        while !job.cancelled.load(Ordering::Relaxed) {
            let Some(path) = job.paths.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let result = rewrap_one(path, job.policy, provider, &newest);
            let [done, already, failed] = &counts;
            let count = match &result {
                Ok(Rewrapped::Done { .. }) => done,
                Ok(Rewrapped::Already { .. }) => already,
                Err(_) => failed,
            };
            count.fetch_add(1, Ordering::Relaxed);
            (job.observer)(path, result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..job.threads.get().min(job.paths.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let [done, already, failed] = counts.map(AtomicUsize::into_inner);
    Ok(BulkReport { done, already, failed, left: job.paths.len() - done - already - failed })
}

fn rewrap_one(
    path: &Path,
    policy: &CostPolicy,
    provider: &dyn KeyProvider,
    newest: &NewestKey,
) -> Result<Rewrapped> {
    if path.extension().is_some_and(|extension| extension == "json") {
        return rewrap_file(path, provider, newest);
    }
    let device = Device::open(path, None, Access::ReadWrite)?;
    ManagedVolume::new(&device, None, policy).rewrap(provider, newest)
}
