//! A key encryption key in a server that speaks KMIP (OASIS Key Management Interoperability
//! Protocol), versions 1.2 to 2.1.
//!
//! The server encrypts and decrypts; the key never leaves it. Who we are shows by the client
//! certificate alone. KMIP keys have no versions: a key that was replaced by another one says so,
//! and that is what [`rewrap`](crate::KeyProvider::rewrap) follows.
//!
//! What stands alone and costs bounded time on whatever bytes is public: the encoding ([`ttlv`]) and
//! the responses in it ([`messages`]).

mod certificate;
mod client;
mod endpoint;
mod kek;
pub mod messages;
mod probe;
mod reason;
#[cfg(test)]
mod scripted;
mod session;
mod tag;
mod trouble;
pub mod ttlv;

use rustls::pki_types::ServerName;
use strongroom_model::KmsRequest;

use self::client::{Client, Limits};
use self::endpoint::Endpoint;
use self::kek::KmipKek;
use self::session::Session;
use crate::breaker::Guarded;
use crate::kek::Provider;
use crate::{Credentials, Error, ErrorKind, KeyProvider, Result, tls};

/// Returns the provider of the server and key that a request names.
pub(crate) fn open(
    request: &KmsRequest,
    credentials: &Credentials,
    limits: &crate::Limits,
) -> Result<Box<dyn KeyProvider>> {
    let own = Limits {
        connect: limits.connect,
        exchange: limits.request,
        call: limits.total,
        pause: limits.backoff,
    };
    Ok(Box::new(Provider::new(Guarded::new(kek(request, credentials, own)?, limits))))
}

fn kek(request: &KmsRequest, credentials: &Credentials, limits: Limits) -> Result<KmipKek> {
    let missing = |what: &str, flag: &str| {
        Error::new(ErrorKind::Misconfigured, "kmip", format!("{what} is missing"))
            .hinted(format!("give it with {flag}"))
    };
    if request.endpoints.is_empty() {
        return Err(missing("the host and port of the server", "--kms-endpoint"));
    }
    let authorities = credentials
        .authorities
        .as_deref()
        .ok_or_else(|| missing("the certificate of the server's CA", "--kms-ca-file"))?;
    let certificate = credentials
        .certificate
        .as_deref()
        .ok_or_else(|| missing("the client's certificate", "--kms-cert-file"))?;
    if credentials.private_key.is_none() {
        return Err(missing("the key of the client's certificate", "--kms-key-file"));
    }
    if request.key_id.as_deref().is_some_and(str::is_empty) {
        return Err(missing("the identifier or name of the key", "--kms-key-id"));
    }
    let endpoints =
        request.endpoints.iter().map(|text| Endpoint::parse(text)).collect::<Result<Vec<_>>>()?;
    let server_name = match &request.server_name {
        Some(name) => Some(ServerName::try_from(name.clone()).map_err(|error| {
            let problem = format!("{name:?} is no name of a server");
            Error::new(ErrorKind::Misconfigured, "kmip", problem)
                .hinted("give --kms-server-name the name in the server's certificate")
                .with_source(error)
        })?),
        None => None,
    };
    let client = Client::new(
        endpoints,
        tls::config(credentials, "kmip")?,
        server_name,
        limits,
        certificate::first_expiry(certificate),
    );
    let authority_expiry = certificate::soonest_expiry(authorities);
    Ok(KmipKek::new(Session::new(client), request.key_id.clone(), authority_expiry))
}

#[cfg(test)]
mod tests;
