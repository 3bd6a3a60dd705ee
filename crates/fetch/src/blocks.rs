//! Which blocks of a resource are here or on their way, within a fixed amount of memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::Error;

/// The blocks of a resource: a cache, and the ledger of what is being fetched.
///
/// # Guarantees
///
/// - A block is on its way at most once.
/// - No more blocks take memory at once than [`CAPACITY`] without one for each connection.
#[derive(Debug)]
pub(crate) struct Blocks {
    count: u64,
    slots: HashMap<u64, Slot>,
    /// Memory of blocks that were given up.
    spare: Vec<Vec<u8>>,
    capacity: usize,
    /// How many more requests may begin.
    lines: usize,
    /// How many blocks one request asks for.
    per_request: u64,
    clock: u64,
    broken: Option<Error>,
}

/// How it stands with a block.
#[derive(Debug, Clone)]
pub(crate) enum Lookup {
    /// It is here.
    Ready(Arc<Vec<u8>>),
    /// It is on its way, or nobody has asked for it.
    Missing,
    /// It could not be fetched.
    Failed(Error),
}

#[derive(Debug)]
enum Slot {
    Pending,
    Ready { bytes: Arc<Vec<u8>>, unread: usize, used: u64 },
    Failed(Error),
}

impl Blocks {
    /// Returns a cache without contents for a resource of `len` bytes that is fetched by as many
    /// as `connections` requests at a time.
    pub(crate) fn new(len: u64, connections: usize) -> Self {
        Self {
            count: len.div_ceil(BLOCK),
            slots: HashMap::new(),
            spare: Vec::new(),
            capacity: CAPACITY - connections,
            lines: connections,
            per_request: (ON_THE_WAY / connections as u64).clamp(1, 4),
            clock: 0,
            broken: None,
        }
    }

    /// Returns how it stands with a block.
    pub(crate) fn look_up(&mut self, index: u64) -> Lookup {
        if let Some(error) = &self.broken {
            return Lookup::Failed(error.clone());
        }
        self.clock += 1;
        match self.slots.get_mut(&index) {
            Some(Slot::Ready { bytes, used, .. }) => {
                *used = self.clock;
                Lookup::Ready(Arc::clone(bytes))
            }
            Some(Slot::Failed(error)) => Lookup::Failed(error.clone()),
            Some(Slot::Pending) | None => Lookup::Missing,
        }
    }

    /// Returns whether everything fails from now on.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Forgets that a block could not be fetched.
    pub(crate) fn forgive(&mut self, index: u64) {
        if matches!(self.slots.get(&index), Some(Slot::Failed(_))) {
            self.slots.remove(&index);
        }
    }

    /// Notes that so many bytes of a block were read. One that was read whole is the first to go.
    pub(crate) fn consume(&mut self, index: u64, bytes: usize) {
        if let Some(Slot::Ready { unread, .. }) = self.slots.get_mut(&index) {
            *unread = unread.saturating_sub(bytes);
        }
    }

    /// Returns what is to be fetched now so that the blocks `wanted` come soon, and after them the
    /// blocks `ahead`: the blocks of one request each, which are on their way from now on.
    ///
    /// For the first block that is wanted any other goes; for the rest only those that were read.
    pub(crate) fn reserve(&mut self, wanted: Range<u64>, ahead: Range<u64>) -> Vec<Range<u64>> {
        let mut requests = Vec::new();
        let first = wanted.start;
        for range in [wanted, ahead] {
            let mut next = range.start;
            let end = range.end.min(self.count);
            while self.lines > 0 {
                let Some(start) = (next..end).find(|index| !self.slots.contains_key(index)) else {
                    break;
                };
                let most = end.min(start + self.per_request);
                let end = (start..most).find(|index| self.slots.contains_key(index));
                let request = start..end.unwrap_or(most);
                let claimed = self.claim(request, start == first);
                if claimed.is_empty() {
                    break;
                }
                next = claimed.end;
                self.lines -= 1;
                requests.push(claimed);
            }
        }
        requests
    }

    /// Returns memory for a block that is on its way.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK as usize))
    }

    /// Takes a block in that was on its way.
    pub(crate) fn arrive(&mut self, index: u64, bytes: Vec<u8>) {
        self.clock += 1;
        let unread = bytes.len();
        let slot = Slot::Ready { bytes: Arc::new(bytes), unread, used: self.clock };
        self.slots.insert(index, slot);
    }

    /// Ends a request, of which the blocks `missing` have not come because of `error`.
    pub(crate) fn end_request(&mut self, missing: Range<u64>, error: &Error) {
        self.lines += 1;
        for index in missing {
            self.slots.insert(index, Slot::Failed(error.clone()));
        }
    }

    /// Fails everything from now on: the resource is not what it was.
    pub(crate) fn fail(&mut self, error: Error) {
        self.broken.get_or_insert(error);
    }

    /// Marks as many of the blocks, from the first on, as there is room for. A request that is not
    /// urgent is better made whole and later than at once and short.
    fn claim(&mut self, request: Range<u64>, urgent: bool) -> Range<u64> {
        let mut end = request.start;
        if urgent {
            if !self.make_room(Room::Urgent) {
                return request.start..request.start;
            }
            self.slots.insert(end, Slot::Pending);
            end += 1;
        } else if (self.room() as u64) < request.end - request.start {
            return request.start..request.start;
        }
        while end < request.end && self.make_room(Room::Spare) {
            self.slots.insert(end, Slot::Pending);
            end += 1;
        }
        request.start..end
    }

    /// Returns how many blocks could be taken in without losing one that may be wanted.
    fn room(&self) -> usize {
        let given_up = self.slots.values().filter(|slot| slot.is_given_up()).count();
        self.capacity.saturating_sub(self.slots.len()) + given_up
    }

    /// Makes sure that there is room for one more block, and returns whether there is.
    fn make_room(&mut self, room: Room) -> bool {
        if self.slots.len() < self.capacity {
            return true;
        }
        let goes = |slot: &Slot| slot.is_given_up() || room == Room::Urgent && slot.is_idle();
        let candidates = self.slots.iter().filter(|(_, slot)| goes(slot));
        let oldest = candidates.min_by_key(|(_, slot)| (!slot.is_given_up(), slot.used()));
        let Some(index) = oldest.map(|(&index, _)| index) else { return false };
        if let Some(Slot::Ready { bytes, .. }) = self.slots.remove(&index)
            && let Some(mut bytes) = Arc::into_inner(bytes)
        {
            bytes.clear();
            self.spare.push(bytes);
        }
        true
    }
}

/// For what room is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// For what someone is waiting for.
    Urgent,
    /// For what someone may want.
    Spare,
}

impl Slot {
    /// Whether nobody is likely to want it again.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Ready { bytes, unread, .. } => *unread == 0 && Arc::strong_count(bytes) == 1,
            Self::Failed(_) => true,
            Self::Pending => false,
        }
    }

    /// Whether nobody is reading or fetching it.
    fn is_idle(&self) -> bool {
        match self {
            Self::Ready { bytes, .. } => Arc::strong_count(bytes) == 1,
            Self::Failed(_) => true,
            Self::Pending => false,
        }
    }

    fn used(&self) -> u64 {
        match self {
            Self::Ready { used, .. } => *used,
            Self::Failed(_) | Self::Pending => 0,
        }
    }
}

/// The length of a block in bytes; the last one may be shorter.
pub(crate) const BLOCK: u64 = 1 << 20;

/// How many blocks are read ahead of a run. The others are for those who read what has come.
pub(crate) const AHEAD: u64 = 8;

/// How many blocks are in memory, whether here or on their way, if each connection had none. It
/// takes about as much as a block for its own buffers.
const CAPACITY: usize = 16;

/// How many blocks all requests together ask for.
const ON_THE_WAY: u64 = 8;

#[cfg(test)]
mod tests;
