//! Volumes made by one tool and read by another, both ways, contents compared byte for byte.

mod headers;
mod keys;
mod matrix;
