//! The tokens: one in a file of the data directory, the others as digests in the catalog.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use strongroom::catalog::{self, Catalog, Kind, Record, Records};
use strongroom::hexadecimal;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Caller, Role};
use crate::{Error, Result};

/// The tokens that are known.
pub(crate) struct Access {
    catalog: Arc<dyn Catalog>,
    admin: [u8; 32],
    tokens: RwLock<Vec<Token>>,
}

/// A token that somebody wants.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// Its name.
    pub(crate) name: String,
    /// What its owner may do.
    pub(crate) role: Role,
    /// In which namespaces; everywhere when there is none.
    #[serde(default)]
    pub(crate) namespaces: Vec<String>,
}

/// What is known of a token. The token itself is not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Token {
    id: String,
    /// Its name.
    pub(crate) name: String,
    digest: String,
    /// What its owner may do.
    pub(crate) role: Role,
    /// In which namespaces; everywhere when there is none.
    pub(crate) namespaces: Vec<String>,
    /// When it was made.
    pub(crate) created: String,
}

impl Access {
    /// Reads the tokens; makes the one of the admin when its file is not there.
    ///
    /// # Errors
    ///
    /// When somebody else may read the file, and what the catalog says.
    pub(crate) fn open(admin_file: &Path, catalog: Arc<dyn Catalog>) -> Result<Self> {
        let admin = digest(&admin_token(admin_file)?);
        let mut tokens = Vec::new();
        let mut after = PREFIX.to_owned();
        // Other settings have other identifiers, and may be what no token is.
        loop {
            let page = catalog.list(Kind::Setting, Some(&after), PAGE);
            let page = page.map_err(strongroom::Error::from)?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.id);
            for document in page.iter().filter(|document| document.id.starts_with(PREFIX)) {
                let record = Records::<Token>::of(&*catalog).load(&document.id);
                tokens.extend(record.map_err(strongroom::Error::from)?.map(|stored| stored.record));
            }
            if !after.starts_with(PREFIX) {
                break;
            }
        }
        Ok(Self { catalog, admin, tokens: RwLock::new(tokens) })
    }

    /// Returns whose token that is.
    pub(crate) fn caller(&self, token: &str) -> Option<Caller> {
        let digest = digest(token);
        // Every token is compared, whichever it is.
        let is_admin: bool = digest.ct_eq(&self.admin).into();
        let mut found = is_admin.then(|| Caller {
            name: ADMIN.to_owned(),
            role: Role::Admin,
            namespaces: Vec::new(),
        });
        let hex = hexadecimal(&digest);
        for token in self.tokens.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if token.digest.as_bytes().ct_eq(hex.as_bytes()).into() {
                found = Some(Caller {
                    name: token.name.clone(),
                    role: token.role,
                    namespaces: token.namespaces.clone(),
                });
            }
        }
        found
    }

    /// Returns what is known of the tokens but the admin's first one.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells whether there is a token of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        name == ADMIN || self.tokens().iter().any(|token| token.name == name)
    }

    /// Makes a token. It is nowhere but in what this returns.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] when there is one of that name.
    pub(crate) fn create(&self, new: &NewToken) -> Result<Zeroizing<String>> {
        let exists = || Error::Exists { what: format!("token {}", new.name) };
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        if new.name == ADMIN || tokens.iter().any(|token| token.name == new.name) {
            return Err(exists());
        }
        let token = random();
        let known = Token {
            id: format!("{PREFIX}{}", new.name),
            digest: hexadecimal(&digest(&token)),
            created: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            role: new.role,
            namespaces: new.namespaces.clone(),
            name: new.name.clone(),
        };
        match Records::of(&*self.catalog).insert(known.clone()) {
            Ok(_) => {}
            Err(catalog::Error::Exists { .. }) => return Err(exists()),
            Err(error) => return Err(Error::Strongroom(error.into())),
        }
        tokens.push(known);
        Ok(token)
    }

    /// Takes a token away.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        let records = Records::<Token>::of(&*self.catalog);
        let found = records.load(&format!("{PREFIX}{name}")).map_err(strongroom::Error::from)?;
        let Some(found) = found else {
            return Err(Error::NotFound { what: format!("token {name}") });
        };
        records.remove(&found).map_err(strongroom::Error::from)?;
        tokens.retain(|token| token.name != name);
        Ok(())
    }
}

impl Record for Token {
    const KIND: Kind = Kind::Setting;

    fn id(&self) -> &str {
        &self.id
    }
}

/// Returns the token in a file, which is made when it is not there.
fn admin_token(file: &Path) -> Result<Zeroizing<String>> {
    let shown = file.display();
    let io = |what: &str| {
        let what = format!("{what} {shown}");
        move |source| Error::Io { what, source }
    };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut made) => {
            let token = random();
            let line = Zeroizing::new(format!("{}\n", *token));
            made.write_all(line.as_bytes())
                .and_then(|()| made.sync_all())
                .map_err(io("cannot write"))?;
            return Ok(token);
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io("cannot make")(error)),
    }
    let opened = OpenOptions::new().read(true).open(file).map_err(io("cannot open"))?;
    let mode = opened.metadata().map_err(io("cannot look at"))?.mode();
    if mode & 0o077 != 0 {
        let problem = format!("{shown} can be read by others: chmod 600 it, or take it away");
        return Err(Error::Settings { problem });
    }
    let mut text = Zeroizing::new(String::new());
    opened.take(LONGEST).read_to_string(&mut text).map_err(io("cannot read"))?;
    let token = Zeroizing::new(text.trim().to_owned());
    if token.len() < SHORTEST {
        let problem = format!("{shown} has no token: take it away, and a new one is made");
        return Err(Error::Settings { problem });
    }
    Ok(token)
}

fn random() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand_core::Rng::fill_bytes(&mut strongroom::system_rng(), &mut *bytes);
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes));
    Zeroizing::new(format!("{MARK}{}", *text))
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// What the token in the file is called.
const ADMIN: &str = "admin";

/// What tokens begin with, so that those who look for leaked ones know them.
pub(crate) const MARK: &str = "strongroom_";

/// What the identifiers of tokens in the catalog begin with.
const PREFIX: &str = "token/";

/// Settings that are read at once.
const PAGE: usize = 100;

/// The most characters of a file that are read.
const LONGEST: u64 = 4096;

/// The fewest characters that a token may have.
const SHORTEST: usize = 32;
