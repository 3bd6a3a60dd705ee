//! The sessions with a token, and the one login that they share.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::RawAuthPin;
use strongroom_crypto::Token;

use super::module::Module;
use super::uri::Uri;
use super::{Cipher, Failure, failures};
use crate::{Error, ErrorKind, Result};

/// Sessions with the token that a URI means, opened when they are needed.
pub(super) struct Sessions {
    /// Goes before the module, which takes the sessions along.
    state: Mutex<State>,
    module: Module,
    uri: Uri,
    pin: Option<Token>,
    label: String,
}

#[derive(Default)]
struct State {
    slot: Option<Slot>,
    /// Keeps the login while no other session is open.
    anchor: Option<Session>,
    idle: Vec<Session>,
    /// What the token said of its PIN before the login, which resets that.
    findings: Vec<&'static str>,
    /// The token did not take the PIN: it is not tried again.
    rejected: bool,
}

impl Sessions {
    pub(super) fn new(module: Module, uri: Uri, pin: Option<Token>, label: String) -> Self {
        Self { state: Mutex::default(), module, uri, pin, label }
    }

    /// Does something in a session that is logged in. When the token was out in between, it is done
    /// once more.
    pub(super) fn run<T>(
        &self,
        work: impl Fn(&Session, Slot) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let done = match self.once(&work) {
            Err(Failure::Token(error)) if failures::lost_session(&error) => {
                self.forget();
                self.once(&work)
            }
            done => done,
        };
        done.map_err(|failure| match failure {
            Failure::Token(error) => failures::error(error, &self.label),
            Failure::Ours(error) => error,
        })
    }

    fn once<T>(
        &self,
        work: impl Fn(&Session, Slot) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        let (session, slot) = self.take()?;
        let done = work(&session, slot);
        // After an error an operation may still be active in it: it is closed then.
        if done.is_ok() {
            let mut state = self.state();
            if state.slot == Some(slot) && state.idle.len() < MAX_IDLE {
                state.idle.push(session);
            }
        }
        done
    }

    /// Opens another session with the token. The login counts for it too.
    pub(super) fn open(&self, slot: Slot) -> std::result::Result<Session, CryptokiError> {
        self.module.open_ro_session(slot)
    }

    pub(super) fn token(&self, slot: Slot) -> std::result::Result<TokenInfo, CryptokiError> {
        self.module.get_token_info(slot)
    }

    /// Returns what people should know of the PIN and the token, as of the login.
    pub(super) fn findings(&self) -> Vec<&'static str> {
        self.state().findings.clone()
    }

    /// Returns the ciphers that the token encrypts with, the better one first.
    pub(super) fn ciphers(&self, slot: Slot) -> std::result::Result<Vec<Cipher>, CryptokiError> {
        let mechanisms = self.module.get_mechanism_list(slot)?;
        let known = Cipher::ALL.into_iter();
        Ok(known.filter(|cipher| mechanisms.contains(&cipher.mechanism())).collect())
    }

    fn take(&self) -> std::result::Result<(Session, Slot), Failure> {
        let mut state = self.state();
        let slot = match (state.slot, &state.anchor) {
            (Some(slot), Some(_)) => slot,
            _ => self.connect(&mut state)?,
        };
        let session = match state.idle.pop() {
            Some(session) => session,
            None => self.module.open_ro_session(slot)?,
        };
        Ok((session, slot))
    }

    /// Finds the token and logs in.
    fn connect(&self, state: &mut State) -> std::result::Result<Slot, Failure> {
        let slot = self.slot()?;
        let session = self.module.open_ro_session(slot)?;
        self.log_in(state, slot, &session)?;
        (state.slot, state.anchor) = (Some(slot), Some(session));
        Ok(slot)
    }

    fn log_in(
        &self,
        state: &mut State,
        slot: Slot,
        session: &Session,
    ) -> std::result::Result<(), Failure> {
        let denied = |problem: &str| Error::new(ErrorKind::Denied, &self.label, problem);
        let token = self.module.get_token_info(slot)?;
        state.findings = findings(&token);
        if state.rejected {
            let problem = "the token did not take the PIN, and it is not tried again";
            return Err(denied(problem).hinted(WRONG_PIN).into());
        }
        if token.user_pin_locked() {
            return Err(failures::error(pin_locked(), &self.label).into());
        }
        let Some(pin) = &self.pin else {
            let without = match (token.protected_authentication_path(), token.login_required()) {
                (true, _) => session.login(UserType::User, None),
                (false, false) => Ok(()),
                (false, true) => {
                    let problem = "the token wants a PIN, and none was given";
                    return Err(Error::new(ErrorKind::Misconfigured, &self.label, problem)
                        .hinted("put it into a file and name that with --kms-token-file")
                        .into());
                }
            };
            return Ok(logged_in(without)?);
        };
        self.check_pin(&token, pin)?;
        if token.user_pin_final_try() {
            let problem = "one more wrong PIN locks the token, so it is not tried from here";
            let hint = "log in once with the token's own tool, which resets the count";
            return Err(denied(problem).hinted(hint).into());
        }
        let pin = RawAuthPin::new(Box::new(pin.expose_bytes().to_vec()));
        let done = logged_in(session.login_with_raw(UserType::User, &pin));
        state.rejected = matches!(
            done,
            Err(CryptokiError::Pkcs11(RvError::PinIncorrect | RvError::PinLocked, _))
        );
        Ok(done?)
    }

    /// Refuses a PIN that cannot be right, before it counts as a wrong one.
    fn check_pin(&self, token: &TokenInfo, pin: &Token) -> Result<()> {
        let wrong = |problem: String| Error::new(ErrorKind::Misconfigured, &self.label, problem);
        if pin.expose_bytes().ends_with(b"\n") {
            return Err(wrong("the PIN ends with a newline".to_owned())
                .hinted("write the file of --kms-token-file with printf, not echo"));
        }
        let (min, max) = (token.min_pin_length(), token.max_pin_length());
        // Some tokens do not say how long a PIN may be.
        if pin.len() < min || (max > 0 && pin.len() > max) {
            return Err(wrong(format!("a PIN of the token has from {min} to {max} bytes"))
                .hinted("correct the file of --kms-token-file"));
        }
        Ok(())
    }

    /// Returns the slot with the only token that the URI means.
    fn slot(&self) -> std::result::Result<Slot, Failure> {
        let mut found = Vec::new();
        let mut seen = Vec::new();
        for slot in self.module.get_slots_with_token()? {
            let token = self.module.get_token_info(slot)?;
            if !token.token_initialized() {
                continue;
            }
            if self.means(slot, &token) {
                found.push(slot);
            }
            seen.push(format!("{:?} (serial {:?})", token.label(), token.serial_number()));
        }
        let (kind, problem, hint) = match found.as_slice() {
            [slot] => return Ok(*slot),
            [] if seen.is_empty() => {
                (ErrorKind::Unavailable, "no token is there".to_owned(), "plug it in")
            }
            [] => (
                ErrorKind::Unavailable,
                format!("the token is not there; there are {}", seen.join(", ")),
                "plug it in, or correct the token in --kms-endpoint",
            ),
            _ => (
                ErrorKind::Misconfigured,
                format!("several tokens fit the URI: {}", seen.join(", ")),
                "name one with token= or serial= in --kms-endpoint",
            ),
        };
        Err(Error::new(kind, &self.label, problem).hinted(hint).into())
    }

    fn means(&self, slot: Slot, token: &TokenInfo) -> bool {
        let fits = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.trim_end() == found.trim_end())
        };
        let Uri { token: label, manufacturer, model, serial, slot_id, .. } = &self.uri;
        fits(label, token.label())
            && fits(manufacturer, token.manufacturer_id())
            && fits(model, token.model())
            && fits(serial, token.serial_number())
            && slot_id.is_none_or(|wanted| wanted == slot.id())
    }

    /// Closes what is left of the sessions with a token that was taken out.
    fn forget(&self) {
        let mut state = self.state();
        *state = State { rejected: state.rejected, ..State::default() };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("label", &self.label).finish_non_exhaustive()
    }
}

fn findings(token: &TokenInfo) -> Vec<&'static str> {
    let findings = [
        (token.user_pin_count_low(), "somebody has tried a wrong PIN since the last login"),
        (token.user_pin_to_be_changed(), "the PIN is to be changed: use the token's own tool"),
        (token.error_state(), "the token has failed a test of its own"),
    ];
    findings.into_iter().filter(|(found, _)| *found).map(|(_, text)| text).collect()
}

/// Another provider of this process may have logged in before.
fn logged_in(
    result: std::result::Result<(), CryptokiError>,
) -> std::result::Result<(), CryptokiError> {
    match result {
        Err(CryptokiError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        result => result,
    }
}

fn pin_locked() -> CryptokiError {
    CryptokiError::Pkcs11(RvError::PinLocked, cryptoki::context::Function::Login)
}

const WRONG_PIN: &str =
    "correct the file of --kms-token-file first: a few wrong tries lock the token";

/// How many sessions are kept open for later.
const MAX_IDLE: usize = 8;
