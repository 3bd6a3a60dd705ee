//! A conversation with a server: which version of the protocol, and how often to ask.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::client::Client;
use super::messages::{Answer, Cipher, Failure, Request, Version};
use crate::{Error, ErrorKind, Result};

/// A server with which a version of the protocol was agreed, as soon as it was asked anything.
pub(crate) struct Session {
    client: Client,
    agreed: Mutex<Option<Agreed>>,
}

/// What a server speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// The version that is spoken.
    pub(crate) version: Version,
    /// All that it offers.
    pub(crate) offered: Vec<Version>,
}

impl Session {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, agreed: Mutex::default() }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns until when one call of a provider has to be done.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.client.limits().call
    }

    /// Returns what the server answers to a request, which is to be one that may be made twice.
    ///
    /// # Errors
    ///
    /// When it cannot be asked.
    pub(crate) fn ask(
        &self,
        request: Request<'_>,
        deadline: Instant,
    ) -> Result<std::result::Result<Answer, Failure>> {
        let version = self.version_for(request, deadline)?;
        let outcome = self.ask_in(version, request, deadline)?;
        match &outcome {
            Err(failure) if failure.refuses_the_version() => {
                // The server may be another one by now.
                *self.lock() = None;
                let again = self.version_for(request, deadline)?;
                if again == version { Ok(outcome) } else { self.ask_in(again, request, deadline) }
            }
            _ => Ok(outcome),
        }
    }

    /// Returns the version that is spoken, when a request can be made in it.
    fn version_for(&self, request: Request<'_>, deadline: Instant) -> Result<Version> {
        let version = self.agreed(deadline)?.version;
        if request.needs_tags() && !version.has_tags() {
            let problem =
                format!("AES-GCM needs KMIP 1.4 or later, and the server speaks {version} at most");
            return Err(self.error(ErrorKind::Misconfigured, &problem));
        }
        Ok(version)
    }

    /// Returns what the server speaks, after asking it if nobody has.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misconfigured`] when it speaks nothing that is spoken here.
    pub(crate) fn agreed(&self, deadline: Instant) -> Result<Agreed> {
        if let Some(agreed) = &*self.lock() {
            return Ok(agreed.clone());
        }
        let agreed = self.negotiate(deadline)?;
        *self.lock() = Some(agreed.clone());
        Ok(agreed)
    }

    fn negotiate(&self, deadline: Instant) -> Result<Agreed> {
        let mut refusal = None;
        // A server answers a question that is put in a version which it speaks.
        for version in ASKED_IN {
            let failure = match self.ask_in(version, Request::DiscoverVersions, deadline)? {
                Ok(Answer::Versions(offered)) => return self.choose(offered),
                Ok(_) => return Err(self.unfitting()),
                Err(failure) => failure,
            };
            if failure.refuses_the_operation() {
                return Ok(Agreed { version, offered: vec![version] });
            }
            if failure.refuses_the_client() {
                return Err(self.refused(failure));
            }
            if !failure.refuses_the_version() {
                let kind = failure.kind(super::reason::Asked::Other);
                let problem = "the server does not tell which versions of KMIP it speaks";
                return Err(self.error(kind, problem).with_source(failure));
            }
            refusal = Some(failure);
        }
        let error =
            self.error(ErrorKind::Misconfigured, "the server speaks none of KMIP 1.2 to 2.1");
        Err(match refusal {
            Some(failure) => error.with_source(failure),
            None => error,
        })
    }

    fn choose(&self, offered: Vec<Version>) -> Result<Agreed> {
        match Version::SPOKEN.into_iter().find(|version| offered.contains(version)) {
            Some(version) => Ok(Agreed { version, offered }),
            None => {
                let problem = format!(
                    "the server speaks KMIP {} only, and 1.2 to 2.1 are spoken here",
                    list(&offered)
                );
                Err(self.error(ErrorKind::Misconfigured, &problem))
            }
        }
    }

    /// Asks in one version of the protocol, some times if the server is in trouble.
    fn ask_in(
        &self,
        version: Version,
        request: Request<'_>,
        deadline: Instant,
    ) -> Result<std::result::Result<Answer, Failure>> {
        let bytes = request.to_bytes(version);
        let mut pause = self.client.limits().pause;
        let mut attempt = 1;
        let result = loop {
            let result = self.client.exchange(&bytes, deadline);
            let again = match &result {
                Ok(response) => matches!(&response.outcome, Err(failure) if failure.may_pass()),
                Err(error) => error.kind() == ErrorKind::Unavailable,
            };
            if !again || attempt == ATTEMPTS || Instant::now() + pause >= deadline {
                break result;
            }
            self.client.turn();
            thread::sleep(pause);
            pause *= 2;
            attempt += 1;
        };
        match result?.outcome {
            Ok(answer) if !request.fits(&answer) => Err(self.unfitting()),
            // Its own words may repeat what it was to encrypt, or has decrypted.
            Err(failure) if request.is_secret() => Ok(Err(Failure { message: None, ..failure })),
            outcome => Ok(outcome),
        }
    }

    /// Returns the error of an answer to something that was not asked.
    pub(crate) fn unfitting(&self) -> Error {
        let problem = "the server answers a request that was not made";
        self.error(ErrorKind::Unavailable, problem)
    }

    /// Returns the error of a server that does not know the client.
    pub(crate) fn refused(&self, failure: Failure) -> Error {
        self.error(ErrorKind::Denied, "the server does not know the client's certificate")
            .hinted(
                "give the certificate that it knows with --kms-cert-file; it needs a common name \
                 and the extended key usage for clients",
            )
            .with_source(failure)
    }

    fn error(&self, kind: ErrorKind, problem: &str) -> Error {
        Error::new(kind, self.client.label(), problem)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Agreed>> {
        // There is nothing half done in a version.
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request<'_> {
    fn needs_tags(self) -> bool {
        matches!(
            self,
            Self::Encrypt { cipher: Cipher::Gcm, .. } | Self::Decrypt { cipher: Cipher::Gcm, .. }
        )
    }

    /// Returns whether it is about what is sealed.
    fn is_secret(self) -> bool {
        matches!(self, Self::Encrypt { .. } | Self::Decrypt { .. })
    }

    fn fits(self, answer: &Answer) -> bool {
        matches!(
            (self, answer),
            (Self::DiscoverVersions, Answer::Versions(_))
                | (Self::Query, Answer::Server { .. })
                | (Self::Locate { .. }, Answer::Identifiers(_))
                | (Self::Attributes { .. }, Answer::Attributes(_))
                | (Self::Encrypt { .. }, Answer::Encrypted { .. })
                | (Self::Decrypt { .. }, Answer::Decrypted(_))
        )
    }
}

/// Returns versions as a list for people.
pub(crate) fn list(versions: &[Version]) -> String {
    // What a server makes up is not repeated without end.
    let shown: Vec<_> = versions.iter().take(MAX_SHOWN).map(Version::to_string).collect();
    shown.join(", ")
}

/// The versions in which a server is asked what it speaks.
const ASKED_IN: [Version; 3] = [Version::new(1, 2), Version::new(2, 0), Version::new(2, 1)];

/// How often a server is asked that does not answer.
const ATTEMPTS: u32 = 3;

const MAX_SHOWN: usize = 16;
