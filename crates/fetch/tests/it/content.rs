//! Resources of any length whose bytes follow from their offsets, and how they are opened.

use std::error::Error as StdError;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use strongroom_disk::Disk;
use strongroom_fetch::{Error, Options, Proxy, Remote, Resource, Stream};
use strongroom_testkit::{Pattern, Server};

pub(crate) const MIB: u64 = 1 << 20;

/// Returns the bytes that every resource has in `range`.
pub(crate) fn bytes(range: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    Pattern::dense(Server::PATTERN).fill(&mut bytes, range.start);
    bytes
}

/// Quick to try again, and deaf to the environment.
pub(crate) fn options() -> Options {
    Options {
        backoff: Duration::from_millis(4),
        timeout: Duration::from_secs(20),
        proxy: Proxy::Direct,
        ..Options::default()
    }
}

pub(crate) fn with_connections(connections: usize) -> Options {
    Options { connections: NonZeroUsize::new(connections).unwrap(), ..options() }
}

pub(crate) fn try_open(url: &str, options: &Options) -> Result<Resource, Error> {
    strongroom_fetch::open(url, options, Arc::new(AtomicBool::new(false)))
}

pub(crate) fn open_ranged(url: &str, options: &Options) -> Remote {
    match try_open(url, options) {
        Ok(Resource::Ranged(remote)) => remote,
        other => panic!("not a ranged resource: {other:?}"),
    }
}

pub(crate) fn open_stream(url: &str, options: &Options) -> Stream {
    match try_open(url, options) {
        Ok(Resource::Stream(stream)) => stream,
        other => panic!("not a stream: {other:?}"),
    }
}

/// Reads a range and compares it with what the resource holds.
pub(crate) fn check(disk: &dyn Disk, range: Range<u64>) {
    let mut found = vec![0; (range.end - range.start) as usize];
    if let Err(error) = disk.read_at(&mut found, range.start) {
        panic!("{}", chain(&error));
    }
    assert!(found == bytes(range.clone()), "wrong bytes in {range:?}");
}

/// Reads a range that cannot be read, and returns the error with all of its causes.
pub(crate) fn failure(disk: &dyn Disk, range: Range<u64>) -> String {
    let mut found = vec![0; (range.end - range.start) as usize];
    chain(&disk.read_at(&mut found, range.start).unwrap_err())
}

/// Returns the texts of an error and its causes.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Returns the error of an attempt to open, with all of its causes.
pub(crate) fn refusal(url: &str, options: &Options) -> String {
    chain(&try_open(url, options).unwrap_err())
}
