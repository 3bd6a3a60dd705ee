//! A key encryption key in a server that speaks KMIP (OASIS Key Management Interoperability
//! Protocol), versions 1.2 to 2.1.

pub mod ttlv;
