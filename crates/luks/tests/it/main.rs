//! The formats as their users see them.

mod device;
mod lifecycle;
