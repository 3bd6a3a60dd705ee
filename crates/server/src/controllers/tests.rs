//! What follows from documents, with everything real below: the store, the pool, the library, the jobs.

mod claims;
mod images;
mod imports;
mod longhorn;
mod many;
mod restart;
