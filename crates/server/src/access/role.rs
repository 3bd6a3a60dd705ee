//! What each role allows.

use serde::{Deserialize, Serialize};
use strongroom_model::dialect::resource::{Resource, Scope};

use super::Caller;
use crate::api::{Target, Verb};
use crate::store::Part;

/// What the owner of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Everything in the namespaces of the token, but what is about tokens. Of what belongs to no namespace:
    /// read it; with a token for all namespaces, also put it in and change it.
    Operator,
    /// Read everything in the namespaces of the token but Secrets, and what belongs to no namespace.
    Viewer,
}

/// What somebody wants.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish<'a> {
    /// Something with documents.
    Documents(&'a Target, Verb),
    /// See what is there to be asked for, and how things are on the whole.
    LookAround,
    /// See jobs.
    SeeJobs,
    /// Stop a job.
    CancelJob,
    /// Move the bytes of images, or make volumes appear, in a namespace.
    Contents(&'a str),
    /// See what secrets there are that belong to no namespace; their values are told to nobody.
    SeeSecrets,
    /// Make or change what belongs to no namespace.
    Change,
    /// Take away what belongs to no namespace.
    Destroy,
    /// See, make or take away tokens.
    Tokens,
}

impl Wish<'_> {
    /// Returns why a caller may not have it, `None` when he may.
    pub(crate) fn denied(&self, caller: &Caller) -> Option<String> {
        let role = caller.role;
        if role == Role::Admin {
            return None;
        }
        let may = match *self {
            Self::Documents(target, verb) => return denied(target, verb, caller),
            Self::LookAround | Self::SeeJobs => true,
            Self::CancelJob => role == Role::Operator,
            Self::Contents(namespace) => role == Role::Operator && caller.reaches(namespace),
            Self::SeeSecrets => role == Role::Operator,
            Self::Change => role == Role::Operator && caller.reaches_everything(),
            Self::Destroy | Self::Tokens => false,
        };
        (!may).then(|| format!("the token {} does not allow that", caller.name))
    }
}

fn denied(target: &Target, verb: Verb, caller: &Caller) -> Option<String> {
    let resource = target.resource;
    let what = format!(
        "the token {} cannot {} {}",
        caller.name,
        verb.word(),
        match resource.group() {
            "" => resource.plural().to_owned(),
            group => format!("{}.{group}", resource.plural()),
        }
    );
    let by_role = match (caller.role, resource.scope()) {
        // What controllers have found out is not for others to say.
        (Role::Operator, _) if target.part == Part::Status && !verb.only_reads() => false,
        (Role::Operator, Scope::Cluster) => {
            let deletes = matches!(verb, Verb::Delete | Verb::DeleteCollection);
            verb.only_reads() || (caller.reaches_everything() && !deletes)
        }
        (Role::Admin, _) | (Role::Operator, Scope::Namespaced) => true,
        (Role::Viewer, _) => verb.only_reads() && resource != Resource::Secret,
    };
    if !by_role {
        return Some(what);
    }
    match (resource.scope(), &target.namespace) {
        (Scope::Cluster, _) => None,
        (Scope::Namespaced, Some(namespace)) => {
            (!caller.reaches(namespace)).then(|| format!("{what} in the namespace {namespace}"))
        }
        (Scope::Namespaced, None) => (!caller.reaches_everything())
            .then(|| format!("{what} in all namespaces: name one that the token is for")),
    }
}
