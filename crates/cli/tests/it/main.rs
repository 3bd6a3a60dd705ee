//! The program as people run it, against the tools that they run beside it.

mod arguments;
mod concurrency;
mod interop;
mod kill;
mod secrecy;
mod sources;
mod workplace;
