//! Who may do what: tokens, roles and namespaces.

mod references;
mod role;
mod tokens;

pub(crate) use references::denied as denied_reference;
pub use role::Role;
pub(crate) use role::Wish;
pub(crate) use tokens::{Access, MARK as TOKEN_MARK, NewToken, Token};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of the token.
    pub name: String,
    /// What its owner may do.
    pub role: Role,
    /// In which namespaces; everywhere when it names none.
    pub namespaces: Vec<String>,
}

impl Caller {
    /// Returns who that is in the audit log.
    pub fn actor(&self) -> String {
        format!("token {}", self.name)
    }

    /// Tells whether a namespace is one in which the caller may do what the role allows.
    pub fn reaches(&self, namespace: &str) -> bool {
        self.reaches_everything() || self.namespaces.iter().any(|one| one == namespace)
    }

    /// Tells whether all namespaces are.
    pub fn reaches_everything(&self) -> bool {
        self.role == Role::Admin || self.namespaces.is_empty()
    }
}
