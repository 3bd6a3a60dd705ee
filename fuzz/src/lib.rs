//! What the fuzz targets share: a device in memory, LUKS2 headers whose checksums hold, a server, and the
//! promises that every header and every image keep. A broken promise is a panic, which is what a
//! fuzzer looks for.

mod device;
mod image;
mod luks2_copies;
mod metered;
mod nbd;
mod promises;
mod shadow;

pub use device::Device;
pub use image::{Input, use_image};
pub use luks2_copies::{BINARY_LEN, Copies};
pub use nbd::{SIMPLE, STRUCTURED, serve_nbd};
pub use promises::{check_head, check_header};
