//! The server as a whole, over loopback.

mod access;
mod described;
mod documents;
mod full;
mod house;
mod kubectl;
mod logged;
mod server;
mod watching;
