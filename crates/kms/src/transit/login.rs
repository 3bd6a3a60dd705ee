//! The token: from a file or from a login, and what keeps it alive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strongroom_crypto::Token;
use strongroom_model::KmsLogin;

use super::answers::{self, Login, TokenInfo, account};
use super::client::{Answer, Client};
use super::requests::{self, Request};
use crate::error::Outage;
use crate::{Error, ErrorKind, Result};

/// How tokens are come by, and the one that is in use. It is in memory alone.
///
/// Whoever needs a token while another thread renews it, or logs in, waits for that: each happens
/// once.
pub(crate) struct Session {
    login: KmsLogin,
    /// What the login asks for.
    secret: Option<Token>,
    state: Mutex<State>,
}

/// A token in use.
pub(crate) struct Held {
    token: Token,
    since: Instant,
}

struct State {
    held: Option<Arc<Held>>,
    /// When to look whether it lasts; `None` for never.
    due: Option<Instant>,
    /// When a token could last not be had since nobody answered, and what was the matter.
    failed: Option<(Instant, String, Outage)>,
}

impl Session {
    /// Returns a session that nobody has logged in to yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misconfigured`] when the secret is missing, or cannot be sent as it is.
    pub(crate) fn new(login: &KmsLogin, secret: Option<Token>) -> Result<Self> {
        let wrong = |problem: String| Error::new(ErrorKind::Misconfigured, "transit", problem);
        let missing = |what: &str, login: &str| {
            let problem = format!("{what} is missing");
            wrong(problem).hinted(format!("give its file with --kms-token-file{login}"))
        };
        let state = |held| Mutex::new(State { held, due: Some(Instant::now()), failed: None });
        let (what, method) = match login {
            KmsLogin::Token => {
                let other = ", or log in otherwise with --kms-auth";
                let token = secret.ok_or_else(|| missing("the token", other))?;
                if let Some(flaw) = requests::flaw(&token) {
                    let problem = format!("the token cannot be sent as it is: {flaw}");
                    return Err(wrong(problem).hinted(
                        "nothing is trimmed: write the token without a line break, with printf %s",
                    ));
                }
                let held = Arc::new(Held { token, since: Instant::now() });
                return Ok(Self { login: login.clone(), secret: None, state: state(Some(held)) });
            }
            KmsLogin::AppRole { mount, .. } => ("the secret identifier of the AppRole", mount),
            KmsLogin::Kubernetes { mount, .. } => ("the token of the service account", mount),
            KmsLogin::Certificate { mount, .. } => ("", mount),
        };
        if let Some(mount) = method.as_deref().filter(|mount| !requests::is_path(mount)) {
            return Err(wrong(format!("no login can be mounted at {mount:?}")));
        }
        match &secret {
            None if !what.is_empty() => return Err(missing(what, "")),
            Some(secret) if std::str::from_utf8(secret.expose_bytes()).is_err() => {
                return Err(wrong(format!("{what} is not UTF-8 text")));
            }
            _ => {}
        }
        Ok(Self { login: login.clone(), secret, state: state(None) })
    }

    /// Sends a request with the token. Where the token turns out to have ended, logs in anew once.
    ///
    /// # Errors
    ///
    /// Those of [`Client::call`], and those of logging in.
    pub(crate) fn call(&self, client: &Client, request: &Request) -> Result<Answer> {
        let held = self.held(client)?;
        let answer = client.call(request, Some(&held.token))?;
        if !answer.is_denied() {
            return Ok(answer);
        }
        match self.replace(client, &held)? {
            Some(held) => client.call(request, Some(&held.token)),
            None => Ok(answer),
        }
    }

    /// Asks what the token is worth; `None` when the token has ended, or may not even ask that.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] when nobody answers, and those of logging in.
    pub(crate) fn token_info(&self, client: &Client) -> Result<Option<TokenInfo>> {
        let held = self.held(client)?;
        look_up(client, &held.token)
    }

    /// Returns the token, one that lasts where that can be had.
    fn held(&self, client: &Client) -> Result<Arc<Held>> {
        let came = Instant::now();
        let mut state = self.state();
        // Who has waited for another's attempt does not go through the same again.
        let failed = state.failed.as_ref().filter(|(at, ..)| *at >= came);
        if let Some((_, problem, outage)) = failed {
            let label = format!("transit at {}", client.endpoint());
            let error = Error::new(ErrorKind::Unavailable, label, problem.as_str());
            return Err(error.of_outage(*outage));
        }
        let result = self.lasting(client, &mut state);
        state.failed = match &result {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                Some((Instant::now(), error.problem().to_owned(), error.outage()))
            }
            _ => None,
        };
        result
    }

    fn lasting(&self, client: &Client, state: &mut State) -> Result<Arc<Held>> {
        let held = match &state.held {
            None => return self.log_in(client, state),
            Some(held) => Arc::clone(held),
        };
        if state.due.is_some_and(|due| Instant::now() >= due) {
            return self.look_after(client, state, held);
        }
        Ok(held)
    }

    /// Renews a token that has not long to live, and says when to look again.
    fn look_after(&self, client: &Client, state: &mut State, held: Arc<Held>) -> Result<Arc<Held>> {
        let Some(info) = look_up(client, &held.token)? else {
            if self.can_log_in() {
                return self.log_in(client, state);
            }
            // The request at hand tells whether the token has ended or may only not ask.
            state.due = None;
            return Ok(held);
        };
        let Some(left) = info.left() else {
            state.due = None;
            return Ok(held);
        };
        let wait = left.saturating_sub(reserve(info.granted()));
        if !wait.is_zero() {
            state.due = Some(Instant::now() + wait);
            return Ok(held);
        }
        if info.renewable
            && let Some(lease) = renew(client, &held.token)?
        {
            state.due = Some(Instant::now() + lease.saturating_sub(reserve(lease)).max(SHORTEST));
            return Ok(held);
        }
        if self.can_log_in() {
            return self.log_in(client, state);
        }
        state.due = Some(Instant::now() + (left / 4).max(SHORTEST));
        Ok(held)
    }

    /// Returns another token than one that was refused; `None` when that one is good, or there is
    /// no way to another.
    fn replace(&self, client: &Client, refused: &Arc<Held>) -> Result<Option<Arc<Held>>> {
        if !self.can_log_in() {
            return Ok(None);
        }
        let mut state = self.state();
        match &state.held {
            Some(held) if !Arc::ptr_eq(held, refused) => return Ok(Some(Arc::clone(held))),
            _ => {}
        }
        // A token that is good is refused for what it may do, and so would the next one be.
        if refused.since.elapsed() < SHORTEST || look_up(client, &refused.token)?.is_some() {
            return Ok(None);
        }
        self.log_in(client, &mut state).map(Some)
    }

    fn log_in(&self, client: &Client, state: &mut State) -> Result<Arc<Held>> {
        let answer = client.call(&self.request(), None)?;
        if !answer.is_success() {
            return Err(self.refused(&answer));
        }
        let Login { token, lease } = answer.read(answers::login)?;
        if requests::flaw(&token).is_some() {
            let problem = "the token that it gives cannot be sent as it is";
            return Err(Error::new(ErrorKind::Misconfigured, answer.label, problem));
        }
        let now = Instant::now();
        let held = Arc::new(Held { token, since: now });
        state.due = lease.map(|lease| now + lease.saturating_sub(reserve(lease)).max(SHORTEST));
        state.held = Some(Arc::clone(&held));
        Ok(held)
    }

    fn request(&self) -> Request {
        let secret = self.secret.as_ref().map(Token::expose_bytes).unwrap_or_default();
        let secret = std::str::from_utf8(secret).expect("it was looked at when it was given");
        let at = |mount: &Option<String>, usual: &str| {
            mount.as_deref().unwrap_or(usual).trim_start_matches("auth/").to_owned()
        };
        match &self.login {
            KmsLogin::AppRole { role_id, mount } => {
                requests::app_role_login(&at(mount, "approle"), role_id, secret)
            }
            KmsLogin::Kubernetes { role, mount } => {
                requests::kubernetes_login(&at(mount, "kubernetes"), role, secret)
            }
            KmsLogin::Certificate { role, mount } => {
                requests::certificate_login(&at(mount, "cert"), role.as_deref())
            }
            // Nobody logs in who has a token; the server would say what it takes.
            KmsLogin::Token => requests::certificate_login("cert", None),
        }
    }

    fn refused(&self, answer: &Answer) -> Error {
        let reason = account(answer.status, &answer.body);
        let secret = self.secret.as_ref().map(Token::expose_bytes).unwrap_or_default();
        let error = |kind, problem: &str| Error::new(kind, &*answer.label, problem);
        match answer.status {
            404 => error(ErrorKind::Misconfigured, &format!("nobody logs in there ({reason})"))
                .hinted("look at --kms-auth, and whether the server has that method there"),
            _ if secret.ends_with(b"\n") => {
                error(ErrorKind::Denied, &format!("the login is refused ({reason})"))
                    .hinted("the secret ends with a line break, which is sent along")
            }
            _ => error(ErrorKind::Denied, &format!("the login is refused ({reason})"))
                .hinted("look at --kms-role and at the secret; it may have ended"),
        }
    }

    fn can_log_in(&self) -> bool {
        self.login != KmsLogin::Token
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked has left either the old token or a new one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("login", &self.login).finish_non_exhaustive()
    }
}

fn look_up(client: &Client, token: &Token) -> Result<Option<TokenInfo>> {
    let answer = client.call(&requests::lookup_self(), Some(token))?;
    if answer.is_success() { answer.read(answers::token_info).map(Some) } else { Ok(None) }
}

/// Asks for more time, and returns how much there is; `None` when it is not given.
fn renew(client: &Client, token: &Token) -> Result<Option<Duration>> {
    let answer = client.call(&requests::renew_self(), Some(token))?;
    if !answer.is_success() {
        return Ok(None);
    }
    Ok(answer.read(answers::login)?.lease)
}

/// Returns how much of its time a token should have left: a third to a half, so that not everybody
/// who was started together comes together.
fn reserve(granted: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or_default();
    granted.mul_f64(1.0 / 3.0 + f64::from(random) / f64::from(u32::MAX) / 6.0)
}

/// How long to leave a token alone at least.
const SHORTEST: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Option<Token> {
        Some(Token::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_token_is_sent_as_it_is_or_not_at_all() {
        let error = Session::new(&KmsLogin::Token, token("s.canary\n")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert_eq!(
            error.to_string(),
            "transit: the token cannot be sent as it is: byte 9 of 9 is a line break"
        );
        assert!(!format!("{error:?}").contains("canary"));
        assert!(Session::new(&KmsLogin::Token, token("s.canary")).is_ok());
    }

    #[test]
    fn says_which_secret_is_missing() {
        let role = KmsLogin::AppRole { role_id: "r".to_owned(), mount: None };
        let error = Session::new(&role, None).unwrap_err();
        assert!(error.to_string().contains("secret identifier"), "{error}");
        assert!(Session::new(&KmsLogin::Token, None).is_err());
        let certificate = KmsLogin::Certificate { role: None, mount: None };
        assert!(Session::new(&certificate, None).is_ok());
    }

    #[test]
    fn logs_in_nowhere_else() {
        let mount = Some("../sys".to_owned());
        let login = KmsLogin::Kubernetes { role: "csi".to_owned(), mount };
        assert!(Session::new(&login, token("a.b.c")).is_err());
    }

    #[test]
    fn keeps_a_third_to_a_half_in_reserve() {
        for _ in 0..100 {
            let reserve = reserve(Duration::from_secs(60)).as_secs_f64();
            assert!((20.0..=30.0).contains(&reserve), "{reserve}");
        }
    }

    #[test]
    fn shows_no_secret() {
        let session = Session::new(&KmsLogin::Token, token("s.canary")).unwrap();
        assert!(!format!("{session:?}").contains("canary"));
    }
}
