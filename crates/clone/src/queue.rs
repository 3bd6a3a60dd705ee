//! What hands out the work, and hears what is done.

use std::sync::Mutex;

use strongroom_disk::{Extent, ExtentKind};

use crate::ledger::Ledger;
use crate::rate::Throttle;
use crate::workers::Brake;
use crate::{Error, Plan, Zeroes};

/// Hands out the pieces of a source in order, to any number of takers.
pub(crate) struct Queue<'a, S> {
    source: Mutex<S>,
    zeroes: Zeroes,
    ledger: Option<&'a Ledger<'a>>,
    throttle: Option<Throttle>,
}

impl<'a, S> Queue<'a, S> {
    pub(crate) fn new(source: S, plan: &Plan, ledger: Option<&'a Ledger<'a>>) -> Self {
        let throttle = plan.rate_limit.map(Throttle::new);
        Self { source: Mutex::new(source), zeroes: plan.zeroes, ledger, throttle }
    }

    /// Returns the piece that `take` takes next from the source, as soon as work on it may begin;
    /// `None` when there is no more to do. One thread takes at a time.
    pub(crate) fn take(
        &self,
        brake: &Brake<'_>,
        take: impl FnOnce(&mut S) -> Result<Option<Extent>, Error>,
    ) -> Result<Option<Extent>, Error> {
        let piece = {
            // Where someone panicked, the source may have lost bytes; nothing more is done with it.
            let Ok(mut source) = self.source.lock() else { return Ok(None) };
            if !brake.go_on()? {
                return Ok(None);
            }
            if let Some(ledger) = self.ledger
                && !ledger.make_room(brake)?
            {
                return Ok(None);
            }
            let Some(piece) = take(&mut source)? else { return Ok(None) };
            if let Some(ledger) = self.ledger {
                ledger.begin(&piece.range, self.work(&piece));
            }
            piece
        };
        if let Some(throttle) = &self.throttle
            && !throttle.wait(self.work(&piece), brake)?
        {
            return Ok(None);
        }
        Ok(Some(piece))
    }

    /// Hears that a piece is in the target.
    pub(crate) fn finish(&self, piece: &Extent) -> Result<(), Error> {
        match self.ledger {
            Some(ledger) => ledger.finish(&piece.range),
            None => Ok(()),
        }
    }

    /// Returns the source, `None` when someone panicked while taking from it.
    pub(crate) fn into_source(self) -> Option<S> {
        self.source.into_inner().ok()
    }

    /// Returns how many bytes have to be moved for a piece.
    fn work(&self, piece: &Extent) -> u64 {
        match (piece.kind, self.zeroes) {
            (ExtentKind::Zero | ExtentKind::Unallocated, Zeroes::Skip) => 0,
            _ => piece.range.end - piece.range.start,
        }
    }
}
