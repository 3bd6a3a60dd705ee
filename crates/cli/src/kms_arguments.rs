//! Which KMS wraps a data key, and what proves to it who is asking.
//!
//! The same options exist for each key that a command may be about ([`Side`]), under other names.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use strongroom_crypto::Token;
use strongroom_kms::{Credentials, Envelope};
use strongroom_model::dialect::osc::{CredentialsSecret, Encryption, StorageClass};
use strongroom_model::{KmsKind, KmsLogin, KmsRequest};
use zeroize::Zeroizing;

use crate::command_error::CommandError;
use crate::passphrases::read_file;

/// Which key of a command options are about.
pub(crate) trait Side: fmt::Debug + Send + Sync + 'static {
    /// What the options are called.
    const NAMES: Names;
    /// Under what the help lists them.
    const HEADING: &'static str;
    /// What the names of the options begin with.
    const PREFIX: &'static str;
}

/// The key of the image.
#[derive(Debug)]
pub(crate) struct Own;

/// The key that the image will have.
#[derive(Debug)]
pub(crate) struct New;

/// The key of the other image.
#[derive(Debug)]
pub(crate) struct Other;

/// The names of the options, without the dashes.
pub(crate) struct Names {
    kms: &'static str,
    endpoint: &'static str,
    key_id: &'static str,
    kek_file: &'static str,
    token_file: &'static str,
    ca_file: &'static str,
    cert_file: &'static str,
    key_file: &'static str,
    namespace: &'static str,
    mount: &'static str,
    server_name: &'static str,
    auth: &'static str,
    role: &'static str,
    auth_mount: &'static str,
    storage_class_file: &'static str,
    envelope_file: &'static str,
}

macro_rules! names {
    ($prefix:literal) => {
        Names {
            kms: concat!($prefix, "kms"),
            endpoint: concat!($prefix, "kms-endpoint"),
            key_id: concat!($prefix, "kms-key-id"),
            kek_file: concat!($prefix, "kms-kek-file"),
            token_file: concat!($prefix, "kms-token-file"),
            ca_file: concat!($prefix, "kms-ca-file"),
            cert_file: concat!($prefix, "kms-cert-file"),
            key_file: concat!($prefix, "kms-key-file"),
            namespace: concat!($prefix, "kms-namespace"),
            mount: concat!($prefix, "kms-mount"),
            server_name: concat!($prefix, "kms-server-name"),
            auth: concat!($prefix, "kms-auth"),
            role: concat!($prefix, "kms-role"),
            auth_mount: concat!($prefix, "kms-auth-mount"),
            storage_class_file: concat!($prefix, "storage-class-file"),
            envelope_file: concat!($prefix, "envelope-file"),
        }
    };
}

impl Side for Own {
    const NAMES: Names = names!("");
    const HEADING: &'static str = "Key management system (KMS)";
    const PREFIX: &'static str = "";
}

impl Side for New {
    const NAMES: Names = names!("new-");
    const HEADING: &'static str = "KMS of the new key";
    const PREFIX: &'static str = "new-";
}

impl Side for Other {
    const NAMES: Names = names!("other-");
    const HEADING: &'static str = "KMS of the other image";
    const PREFIX: &'static str = "other-";
}

/// Where a KMS is, and what it takes for a proof.
#[derive(Debug, Clone)]
pub(crate) struct KmsArgs<S: Side = Own> {
    kind: Option<KmsKind>,
    endpoints: Vec<String>,
    key_id: Option<String>,
    kek_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    namespace: Option<String>,
    mount: Option<String>,
    server_name: Option<String>,
    auth: Option<Login>,
    role: Option<String>,
    auth_mount: Option<String>,
    storage_class_file: Option<PathBuf>,
    envelope_file: Option<PathBuf>,
    side: PhantomData<S>,
}

/// What opens an image, as far as the options for a KMS say it.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// They say nothing.
    Nothing,
    /// A passphrase, says the StorageClass of this name.
    Passphrase(String),
    /// This KMS.
    Kms(Box<KmsRequest>),
}

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Login {
    Token,
    AppRole,
    Kubernetes,
    Certificate,
}

impl<S: Side> KmsArgs<S> {
    /// Tells whether the options name a KMS, by themselves or by a StorageClass.
    pub(crate) fn name_one(&self) -> bool {
        self.kind.is_some() || self.storage_class_file.is_some()
    }

    /// Returns what was said of the KMS, besides secrets.
    ///
    /// # Errors
    ///
    /// When the options do not fit each other, or the StorageClass cannot be read.
    pub(crate) fn wanted(&self) -> Result<Wanted, CommandError> {
        self.wanted_beside(None)
    }

    /// Returns what was said of the KMS, besides secrets; what was not said is as it is recorded.
    ///
    /// # Errors
    ///
    /// As [`wanted`](Self::wanted).
    pub(crate) fn wanted_beside(
        &self,
        recorded: Option<&KmsRequest>,
    ) -> Result<Wanted, CommandError> {
        let names = S::NAMES;
        let base = match (self.kind, &self.storage_class_file) {
            (Some(_), Some(_)) => {
                let (kms, class) = (names.kms, names.storage_class_file);
                let problem = format!("--{kms} and --{class} both say which KMS it is");
                return Err(CommandError::request(problem).hinted("leave one of them out"));
            }
            (Some(kind), None) => match recorded {
                Some(recorded) if recorded.kind == kind => recorded.clone(),
                _ => KmsRequest::new(kind),
            },
            (None, Some(path)) => match self.class(path)? {
                Wanted::Kms(request) => *request,
                other => return Ok(other),
            },
            (None, None) => match (recorded, self.given().first()) {
                (Some(recorded), _) => recorded.clone(),
                (None, None) => return Ok(Wanted::Nothing),
                (None, Some(name)) => {
                    return Err(CommandError::request(format!("--{name} was given, but no KMS"))
                        .hinted(format!("say which kind it is with --{}", names.kms)));
                }
            },
        };
        let own = options_of::<S>(base.kind);
        if let Some(name) = self.given().into_iter().find(|name| !own.contains(name)) {
            let problem = format!("--{name} does not go with a KMS of kind {}", base.kind);
            return Err(CommandError::request(problem).hinted("leave it out"));
        }
        let endpoints = match self.endpoints.as_slice() {
            [] => base.endpoints,
            given => given.to_vec(),
        };
        Ok(Wanted::Kms(Box::new(KmsRequest {
            kind: base.kind,
            endpoints,
            key_id: self.key_id.clone().or(base.key_id),
            kek_file: self.kek_file.clone().or(base.kek_file),
            namespace: self.namespace.clone().or(base.namespace),
            mount: self.mount.clone().or(base.mount),
            server_name: self.server_name.clone().or(base.server_name),
            login: if self.names_login() { self.login()? } else { base.login },
        })))
    }

    /// Returns what a StorageClass says.
    fn class(&self, path: &Path) -> Result<Wanted, CommandError> {
        let class = StorageClass::parse(&read_file(path)?)?;
        let name = class.name().to_owned();
        match (class.encryption(), self.given().first()) {
            (Encryption::Kms(request), _) => Ok(Wanted::Kms(request.clone())),
            (Encryption::Passphrase, None) => Ok(Wanted::Passphrase(name)),
            (Encryption::Passphrase, Some(option)) => Err(CommandError::request(format!(
                "StorageClass {name} names no KMS but a passphrase: --{option} says nothing then"
            ))
            .hinted("leave it out")),
            (Encryption::None, _) => Err(CommandError::request(format!(
                "StorageClass {name} has no encryption: it names neither a KMS nor a passphrase"
            ))),
        }
    }

    /// Returns where an envelope lies or will lie besides the header, if somebody said so.
    pub(crate) fn envelope_file(&self) -> Option<&Path> {
        self.envelope_file.as_deref()
    }

    /// Reads the file of the envelope, if one was named.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or holds no envelope.
    pub(crate) fn read_envelope(&self) -> Result<Option<Envelope>, CommandError> {
        let Some(path) = &self.envelope_file else { return Ok(None) };
        let envelope = strongroom::envelopes::read_file(path)?;
        Ok(Some(envelope))
    }

    /// Reads what proves to the KMS who is asking: what the options name, and what they do not from
    /// a Secret.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or the Secret lacks something.
    pub(crate) fn credentials(
        &self,
        kind: KmsKind,
        secret: Option<&Path>,
    ) -> Result<Credentials, CommandError> {
        let mut credentials = match secret {
            Some(path) => from_secret(path, kind)?,
            None => Credentials::default(),
        };
        let read = |path: &Option<PathBuf>| path.as_deref().map(read_file).transpose();
        if let Some(mut token) = read(&self.token_file)? {
            credentials.secret = Some(Token::new(take(&mut token)));
        }
        if let Some(mut pem) = read(&self.ca_file)? {
            credentials.authorities = Some(take(&mut pem));
        }
        if let Some(mut pem) = read(&self.cert_file)? {
            credentials.certificate = Some(take(&mut pem));
        }
        if let Some(mut pem) = read(&self.key_file)? {
            credentials.private_key = Some(Token::new(take(&mut pem)));
        }
        Ok(credentials)
    }

    /// Tells whether something was given that proves who is asking.
    pub(crate) fn has_credentials(&self) -> bool {
        self.token_file.is_some() || self.cert_file.is_some() || self.key_file.is_some()
    }

    fn names_login(&self) -> bool {
        self.auth.is_some() || self.role.is_some() || self.auth_mount.is_some()
    }

    fn login(&self) -> Result<KmsLogin, CommandError> {
        let (role, mount) = (self.role.clone(), self.auth_mount.clone());
        let needed = |role: Option<String>, what: &str| {
            role.ok_or_else(|| {
                let problem = format!("this login needs {what}");
                CommandError::request(problem).hinted(format!("give it with --{}", S::NAMES.role))
            })
        };
        Ok(match self.auth.unwrap_or(Login::Token) {
            Login::Token => {
                let given =
                    [(role.is_some(), S::NAMES.role), (mount.is_some(), S::NAMES.auth_mount)];
                if let Some((_, name)) = given.into_iter().find(|(given, _)| *given) {
                    let problem = format!("--{name} is for other logins than with a token");
                    return Err(CommandError::request(problem)
                        .hinted(format!("say how to log in with --{}", S::NAMES.auth)));
                }
                KmsLogin::Token
            }
            Login::AppRole => {
                KmsLogin::AppRole { role_id: needed(role, "the identifier of the role")?, mount }
            }
            Login::Kubernetes => KmsLogin::Kubernetes { role: needed(role, "a role")?, mount },
            Login::Certificate => KmsLogin::Certificate { role, mount },
        })
    }

    /// Returns the names of all options that were given, but for the kind and the envelope.
    fn given(&self) -> Vec<&'static str> {
        let names = S::NAMES;
        [
            (!self.endpoints.is_empty(), names.endpoint),
            (self.key_id.is_some(), names.key_id),
            (self.kek_file.is_some(), names.kek_file),
            (self.token_file.is_some(), names.token_file),
            (self.ca_file.is_some(), names.ca_file),
            (self.cert_file.is_some(), names.cert_file),
            (self.key_file.is_some(), names.key_file),
            (self.namespace.is_some(), names.namespace),
            (self.mount.is_some(), names.mount),
            (self.server_name.is_some(), names.server_name),
            (self.auth.is_some(), names.auth),
            (self.role.is_some(), names.role),
            (self.auth_mount.is_some(), names.auth_mount),
        ]
        .into_iter()
        .filter_map(|(given, name)| given.then_some(name))
        .collect()
    }
}

/// Reads the credentials in a Secret.
fn from_secret(path: &Path, kind: KmsKind) -> Result<Credentials, CommandError> {
    let parts = CredentialsSecret::parse(&read_file(path)?)?.into_parts(kind)?;
    Ok(strongroom::credentials(parts))
}

/// Takes bytes over without leaving a copy.
fn take(bytes: &mut Zeroizing<Vec<u8>>) -> Vec<u8> {
    std::mem::take(bytes)
}

/// Returns the names of the options that mean something to a kind of KMS.
fn options_of<S: Side>(kind: KmsKind) -> Vec<&'static str> {
    let names = S::NAMES;
    let tls = [names.ca_file, names.cert_file, names.key_file, names.server_name];
    match kind {
        KmsKind::Passphrase => vec![names.key_id],
        KmsKind::Local => vec![names.kek_file, names.key_id],
        KmsKind::Transit => {
            let own = [
                names.endpoint,
                names.key_id,
                names.token_file,
                names.namespace,
                names.mount,
                names.auth,
                names.role,
                names.auth_mount,
            ];
            [&own[..], &tls].concat()
        }
        KmsKind::Kmip => [&[names.endpoint, names.key_id][..], &tls].concat(),
        KmsKind::Pkcs11 => vec![names.endpoint, names.key_id, names.token_file],
    }
}

impl<S: Side> Args for KmsArgs<S> {
    fn augment_args(command: Command) -> Command {
        options::<S>()
            .into_iter()
            .fold(command, |command, option| command.arg(option.help_heading(S::HEADING)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Side> FromArgMatches for KmsArgs<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let names = S::NAMES;
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
        Ok(Self {
            kind: matches.get_one::<KmsKind>(names.kms).copied(),
            endpoints: matches
                .get_many::<String>(names.endpoint)
                .map(|endpoints| endpoints.cloned().collect())
                .unwrap_or_default(),
            key_id: text(names.key_id),
            kek_file: path(names.kek_file),
            token_file: path(names.token_file),
            ca_file: path(names.ca_file),
            cert_file: path(names.cert_file),
            key_file: path(names.key_file),
            namespace: text(names.namespace),
            mount: text(names.mount),
            server_name: text(names.server_name),
            auth: matches.get_one::<Login>(names.auth).copied(),
            role: text(names.role),
            auth_mount: text(names.auth_mount),
            storage_class_file: path(names.storage_class_file),
            envelope_file: path(names.envelope_file),
            side: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Returns the options in the order in which the help lists them.
fn options<S: Side>() -> Vec<Arg> {
    let names = S::NAMES;
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let path = |name, help| text(name, "FILE", help).value_parser(ValueParser::path_buf());
    vec![
        text(names.kms, "KIND", KMS).value_parser(|name: &str| name.parse::<KmsKind>()),
        text(names.endpoint, "URL", ENDPOINT).action(ArgAction::Append),
        text(names.key_id, "KEY", KEY_ID),
        path(names.kek_file, KEK_FILE),
        path(names.token_file, TOKEN_FILE),
        path(names.ca_file, "Trust the certificates in this PEM file alone"),
        path(names.cert_file, "Show this client certificate (PEM, with its chain)"),
        path(names.key_file, "The key of the client certificate (PEM)"),
        text(names.namespace, "NAMESPACE", "The namespace in the KMS (transit)"),
        text(names.mount, "PATH", "Where the engine is mounted (transit) [default: transit]"),
        text(names.server_name, "NAME", "The name in the server's certificate, if it is another"),
        text(names.auth, "METHOD", AUTH).value_parser(login),
        text(names.role, "ROLE", "The role to log in with; of an AppRole its identifier"),
        text(names.auth_mount, "PATH", "Where the method of the login is mounted"),
        path(names.storage_class_file, STORAGE_CLASS_FILE).value_name("SC.yaml"),
        path(names.envelope_file, ENVELOPE_FILE),
    ]
}

fn login(name: &str) -> Result<Login, &'static str> {
    match name {
        "token" => Ok(Login::Token),
        "approle" => Ok(Login::AppRole),
        "kubernetes" => Ok(Login::Kubernetes),
        "cert" => Ok(Login::Certificate),
        _ => Err("it is one of token, approle, kubernetes, cert"),
    }
}

const KMS: &str = "The kind of KMS that wraps the key: passphrase (from the options for \
                   passphrases), local, transit (OpenBao, Vault), kmip or pkcs11";

const ENDPOINT: &str = "Where the KMS is: a URL (transit), HOST:PORT (kmip) or a pkcs11: URI; may be \
                        repeated, the first one that answers counts";

const KEY_ID: &str = "The key in the KMS; for opening, the image names it";

const KEK_FILE: &str = "The file of the key (local), as `strongroom kms init-local` makes it";

const TOKEN_FILE: &str = "Read the token from this file, `-` for standard input; for other logins the \
                          AppRole's secret identifier, the service account's web token or the PIN. It \
                          is the exact bytes";

const AUTH: &str = "How to log in: token, approle, kubernetes or cert [default: token]";

const STORAGE_CLASS_FILE: &str = "Take the KMS from this Kubernetes StorageClass, whose Secret the \
                                  option for Secrets names; other options win over it";

const ENVELOPE_FILE: &str = "The file of the wrapped key, where the header has no room for it (luks1, \
                             qcow2-luks), or beside the header; written for a new image";
