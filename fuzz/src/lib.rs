//! What the fuzz targets share: a device in memory, LUKS2 headers whose checksums hold, and the
//! promises that every header keeps. A broken promise is a panic, which is what a fuzzer looks for.

mod device;
mod luks2_copies;
mod promises;

pub use device::Device;
pub use luks2_copies::{BINARY_LEN, Copies};
pub use promises::{check_head, check_header};
