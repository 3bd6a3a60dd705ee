//! One request for a run of blocks, until they are all here or cannot be had.

use std::ops::Range;
use std::sync::Arc;

use crate::Error;
use crate::again::check_part;
use crate::blocks::BLOCK;
use crate::link::Question;
use crate::remote::Shared;
use crate::retry::{Attempts, Trouble};

/// Blocks that are on their way. Those that have not come when it is dropped have failed.
pub(crate) struct Claim {
    shared: Arc<Shared>,
    /// The blocks that have not come yet.
    missing: Range<u64>,
    error: Error,
}

impl Claim {
    /// Takes over blocks that [`Blocks::reserve`](crate::blocks::Blocks::reserve) has returned.
    pub(crate) fn new(shared: Arc<Shared>, blocks: Range<u64>) -> Self {
        Self { shared, missing: blocks, error: Error::Cancelled }
    }

    /// Fetches the blocks.
    pub(crate) async fn fetch(mut self) {
        let shared = Arc::clone(&self.shared);
        let len = shared.len();
        let bytes = self.missing.start * BLOCK..len.min(self.missing.end * BLOCK);
        let mut transfer = Transfer { due: bytes.clone(), buffer: Vec::new() };
        let mut attempts = Attempts::new(shared.link.name(), shared.link.patience(), bytes.start);
        while let Err(trouble) = self.run(&mut transfer).await {
            if let Err(error) = attempts.after(trouble, transfer.due.start).await {
                if matches!(error, Error::Changed { .. } | Error::Answer { .. }) {
                    shared.blocks().fail(error.clone());
                }
                self.error = error;
                return;
            }
        }
    }

    /// Asks for what is still due, and takes in what comes.
    async fn run(&mut self, transfer: &mut Transfer) -> Result<(), Trouble> {
        let shared = Arc::clone(&self.shared);
        let (link, identity) = (&shared.link, &shared.identity);
        if !transfer.due.is_empty() {
            let question = Question::part(transfer.due.clone(), identity);
            let mut response = link.ask(&question).await?;
            check_part(link.name(), identity, &question, &response)?;
            while let Some(mut chunk) = link.chunk(&mut response).await? {
                while !chunk.is_empty() {
                    let piece = chunk.split_to(transfer.room(link.name())?.min(chunk.len()));
                    self.take_in(transfer, &piece);
                }
            }
        }
        if !transfer.due.is_empty() {
            let (at, end) = (transfer.due.start, transfer.due.end);
            let url = link.name().to_owned();
            return Err(Trouble::Passing(Error::Cut { url, at, end }, None));
        }
        // Only now it is certain that the answer is no longer than it said.
        self.arrive(std::mem::take(&mut transfer.buffer));
        Ok(())
    }

    fn take_in(&mut self, transfer: &mut Transfer, piece: &[u8]) {
        if transfer.buffer.len() as u64 == BLOCK {
            self.arrive(std::mem::take(&mut transfer.buffer));
        }
        if transfer.buffer.capacity() == 0 {
            transfer.buffer = self.shared.blocks().buffer();
        }
        transfer.buffer.extend_from_slice(piece);
        transfer.due.start += piece.len() as u64;
    }

    fn arrive(&mut self, bytes: Vec<u8>) {
        self.shared.blocks().arrive(self.missing.start, bytes);
        self.missing.start += 1;
        self.shared.arrived.notify_all();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.blocks().end_request(self.missing.clone(), &self.error);
        self.shared.arrived.notify_all();
    }
}

/// What has come of a claim.
struct Transfer {
    /// The bytes that have not come yet.
    due: Range<u64>,
    /// The last block that was begun.
    buffer: Vec<u8>,
}

impl Transfer {
    /// Returns how many bytes the present block, or the next one if that is full, can take.
    fn room(&self, url: &str) -> Result<usize, Error> {
        if self.due.is_empty() {
            let reason = "it holds more bytes than its Content-Range".to_owned();
            return Err(Error::Answer { url: url.to_owned(), reason });
        }
        let in_block = BLOCK - self.due.start % BLOCK;
        Ok(in_block.min(self.due.end - self.due.start) as usize)
    }
}
