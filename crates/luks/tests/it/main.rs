//! The formats as their users see them.

mod damaged_luks1;
mod damaged_luks2;
mod device;
mod flips;
mod lifecycle;
mod recovery;
mod reencryption;
mod volume;
