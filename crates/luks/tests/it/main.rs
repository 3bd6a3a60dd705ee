//! The formats as their users see them.

mod damaged_luks1;
mod damaged_luks2;
mod device;
mod lifecycle;
mod volume;
