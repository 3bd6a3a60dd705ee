//! Edge. Disks: a length and bytes at offsets, whatever they lie in.
//!
//! Every kind of disk implements the trait [`Disk`] and passes the suite in [`conformance`]:
//! [`Raw`] is a plain file or a block device, [`Encrypted`] a view that encrypts on the way down,
//! [`Slice`] a view of a range, [`Padded`] one with zeros behind its end, [`Memory`] a sparse disk
//! without a file, [`qcow2::Qcow2`] an image inside another disk. [`NewFile`] is a raw file that gets
//! its name only when it is whole. [`Outlet`] is a pipe, which only takes what comes in order.
//! [`Checked`] is a source whose checksum is taken while it is read, and [`Unfinished`] a file that
//! has no magic until it is whole. [`Overlay`] is an encrypted child over a parent with another key; of
//! which blocks the child holds, a [`Layer`] tells.
//!
//! All I/O is synchronous and positional; a disk may be used by any number of threads at once.

pub mod conformance;
pub mod qcow2;

mod checked;
mod disk;
mod encrypted;
mod error;
mod hashing_reader;
mod lock;
mod memory;
mod new_file;
mod outlet;
mod overlay;
mod padded;
mod permit;
mod raw;
mod resizable;
mod sharing;
mod slice;
mod unfinished;
mod unlock;

pub use checked::Checked;
pub use disk::{Disk, Extent, ExtentKind, Extents};
pub use encrypted::{Discards, Encrypted, NewEnds};
pub use error::{Error, ErrorKind, Operation, Result};
pub use hashing_reader::HashingReader;
pub use lock::{LockGuard, LockMode};
pub use memory::Memory;
pub use new_file::{NewFile, Overwrite};
pub use outlet::Outlet;
pub use overlay::{Layer, LayerIdentity, Mapped, Overlay, Sparse};
pub use padded::Padded;
pub use permit::FormatPermit;
pub use raw::{Access, Raw};
pub use resizable::{ReadOnly, Resizable};
pub use sharing::share_blocks;
pub use slice::Slice;
pub use unfinished::{Unfinished, is_marked};
