//! The handshake: what a client and the server agree on before the first request.
//!
//! [`Negotiation`] is a function of the bytes that a client sends; who reads and writes them is below.

use std::io::{self, Read, Write};

use super::export::Export;
use super::wire::*;

/// What was agreed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Replies to reads come in chunks.
    pub(super) structured: bool,
    /// The client may ask which parts are holes.
    pub(super) allocation: bool,
}

/// Whether a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tls {
    /// It is not and will not be.
    None,
    /// It has to be, and is not yet.
    Wanted,
    /// It is.
    Active,
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Requests follow.
    Transmission(Agreed),
    /// TLS follows, and then the handshake from the first option on.
    Tls,
    /// The client has gone, or has to go.
    Closed,
}

/// The state of a handshake.
#[derive(Debug)]
pub(super) struct Negotiation<'a> {
    export: &'a Export,
    tls: Tls,
    no_zeroes: bool,
    structured: bool,
    /// The name of the export for which the client wants to know what is allocated.
    allocation_of: Option<Vec<u8>>,
}

impl<'a> Negotiation<'a> {
    /// Begins one.
    pub(super) fn new(export: &'a Export, tls: Tls, flags: ClientFlags) -> Self {
        let ClientFlags { no_zeroes } = flags;
        Self { export, tls, no_zeroes, structured: false, allocation_of: None }
    }

    /// Takes an option with its data, and adds what there is to reply. Returns the end if this is it.
    pub(super) fn option(
        &mut self,
        option: u32,
        data: &[u8],
        replies: &mut Vec<u8>,
    ) -> Option<End> {
        if self.tls == Tls::Wanted {
            match option {
                OPT_STARTTLS | OPT_ABORT => {}
                OPT_EXPORT_NAME => return Some(End::Closed),
                _ => {
                    option_reply(replies, option, REP_ERR_TLS_REQD, &[]);
                    return None;
                }
            }
        }
        match option {
            OPT_EXPORT_NAME => return Some(self.export_name(data, replies)),
            OPT_ABORT => {
                option_reply(replies, option, REP_ACK, &[]);
                return Some(End::Closed);
            }
            OPT_LIST => self.list(data, replies),
            OPT_STARTTLS => return self.start_tls(data, replies),
            OPT_INFO | OPT_GO => return self.info(option, data, replies),
            OPT_STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                option_reply(replies, option, REP_ACK, &[]);
            }
            OPT_STRUCTURED_REPLY => option_reply(replies, option, REP_ERR_INVALID, &[]),
            OPT_LIST_META_CONTEXT | OPT_SET_META_CONTEXT => self.contexts(option, data, replies),
            _ => option_reply(replies, option, REP_ERR_UNSUP, &[]),
        }
        None
    }

    /// The old way to choose an export, which has no way to say no.
    fn export_name(&self, name: &[u8], replies: &mut Vec<u8>) -> End {
        if !self.export.is_called(name) {
            return End::Closed;
        }
        replies.extend_from_slice(&self.export.len().to_be_bytes());
        replies.extend_from_slice(&self.export.flags(self.structured).to_be_bytes());
        if !self.no_zeroes {
            replies.extend_from_slice(&[0; 124]);
        }
        End::Transmission(self.agreed(name))
    }

    fn list(&self, data: &[u8], replies: &mut Vec<u8>) {
        if !data.is_empty() {
            return option_reply(replies, OPT_LIST, REP_ERR_INVALID, &[]);
        }
        let name = self.export.name().as_bytes();
        let len = u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes();
        option_reply(replies, OPT_LIST, REP_SERVER, &[&len, name]);
        option_reply(replies, OPT_LIST, REP_ACK, &[]);
    }

    fn start_tls(&mut self, data: &[u8], replies: &mut Vec<u8>) -> Option<End> {
        let refusal = match self.tls {
            _ if !data.is_empty() => REP_ERR_INVALID,
            Tls::None => REP_ERR_POLICY,
            Tls::Active => REP_ERR_INVALID,
            Tls::Wanted => {
                option_reply(replies, OPT_STARTTLS, REP_ACK, &[]);
                return Some(End::Tls);
            }
        };
        option_reply(replies, OPT_STARTTLS, refusal, &[]);
        None
    }

    fn info(&self, option: u32, data: &[u8], replies: &mut Vec<u8>) -> Option<End> {
        let refusal = match InfoRequest::parse(data) {
            None => REP_ERR_INVALID,
            Some(request) if !self.export.is_called(request.name) => REP_ERR_UNKNOWN,
            Some(request) => {
                self.describe(option, &request, replies);
                option_reply(replies, option, REP_ACK, &[]);
                let agreed = || self.agreed(request.name);
                return (option == OPT_GO).then(|| End::Transmission(agreed()));
            }
        };
        option_reply(replies, option, refusal, &[]);
        None
    }

    fn describe(&self, option: u32, request: &InfoRequest<'_>, replies: &mut Vec<u8>) {
        let export = INFO_EXPORT.to_be_bytes();
        let len = self.export.len().to_be_bytes();
        let flags = self.export.flags(self.structured).to_be_bytes();
        option_reply(replies, option, REP_INFO, &[&export, &len, &flags]);
        if request.wants(INFO_NAME) {
            let name = self.export.name().as_bytes();
            option_reply(replies, option, REP_INFO, &[&INFO_NAME.to_be_bytes(), name]);
        }
        let [smallest, preferred, largest] = Export::BLOCK_SIZES.map(u32::to_be_bytes);
        let kind = INFO_BLOCK_SIZE.to_be_bytes();
        option_reply(replies, option, REP_INFO, &[&kind, &smallest, &preferred, &largest]);
    }

    fn contexts(&mut self, option: u32, data: &[u8], replies: &mut Vec<u8>) {
        let is_set = option == OPT_SET_META_CONTEXT;
        if is_set {
            // What was set before is forgotten, also when this one is wrong.
            self.allocation_of = None;
        }
        let refusal = match ContextRequest::parse(data) {
            None => REP_ERR_INVALID,
            Some(_) if !self.structured => REP_ERR_INVALID,
            Some(request) if !self.export.is_called(request.name) => REP_ERR_UNKNOWN,
            Some(request) => {
                let all = !is_set && request.queries.is_empty();
                let asks = |query: &&[u8]| *query == ALLOCATION || (!is_set && *query == b"base:");
                if all || request.queries.iter().any(asks) {
                    let id = if is_set { ALLOCATION_ID } else { 0 };
                    let parts: [&[u8]; 2] = [&id.to_be_bytes(), ALLOCATION];
                    option_reply(replies, option, REP_META_CONTEXT, &parts);
                    if is_set {
                        self.allocation_of = Some(request.name.to_vec());
                    }
                }
                REP_ACK
            }
        };
        option_reply(replies, option, refusal, &[]);
    }

    fn agreed(&self, name: &[u8]) -> Agreed {
        let allocation = self.allocation_of.as_deref() == Some(name);
        Agreed { structured: self.structured, allocation }
    }
}

/// Greets a client and reads how it speaks. `None` when it has gone or speaks otherwise.
pub(super) fn greet(stream: &mut (impl Read + Write)) -> io::Result<Option<ClientFlags>> {
    stream.write_all(&greeting())?;
    let mut flags = [0; 4];
    stream.read_exact(&mut flags)?;
    Ok(ClientFlags::parse(flags))
}

/// Talks about options with a client until the handshake ends. Not a byte more is read than belongs to
/// it: what follows may have to be encrypted.
pub(super) fn run(
    negotiation: &mut Negotiation<'_>,
    stream: &mut (impl Read + Write),
) -> io::Result<End> {
    let mut data = Vec::new();
    let mut replies = Vec::new();
    for _ in 0..MOST_OPTIONS {
        let mut head = [0; OptionHead::LEN];
        stream.read_exact(&mut head)?;
        let Some(head) = OptionHead::parse(head) else { return Ok(End::Closed) };
        if head.len > LONGEST_SKIPPED {
            return Ok(End::Closed);
        }
        data.clear();
        replies.clear();
        let mut limited = stream.take(u64::from(head.len));
        let end = if head.len > LONGEST_OPTION {
            io::copy(&mut limited, &mut io::sink())?;
            option_reply(&mut replies, head.option, REP_ERR_TOO_BIG, &[]);
            (head.option == OPT_EXPORT_NAME).then_some(End::Closed)
        } else {
            limited.read_to_end(&mut data)?;
            if data.len() < head.len as usize {
                return Ok(End::Closed);
            }
            negotiation.option(head.option, &data, &mut replies)
        };
        stream.write_all(&replies)?;
        if let Some(end) = end {
            return Ok(end);
        }
    }
    Ok(End::Closed)
}

const ALLOCATION: &[u8] = b"base:allocation";

/// How replies name the context.
pub(super) const ALLOCATION_ID: u32 = 1;

/// More options than any client sends.
const MOST_OPTIONS: u32 = 64;

/// The most bytes of data of an option that are kept: a name has at most 4096.
const LONGEST_OPTION: u32 = 16 << 10;

/// The most bytes of data that are read to stay in step.
const LONGEST_SKIPPED: u32 = 1 << 20;

#[cfg(test)]
mod tests;
