//! Tokens: kept verbatim, added, removed, assigned (specification, section 3.6).

use serde_json::Value;

use super::metadata::MAX_OBJECTS;
use super::{Header, ParsedDocument};
use crate::{Error, Version};

impl Header {
    /// Returns token `id` as JSON text.
    ///
    /// # Errors
    ///
    /// [`Error::Token`] when there is none.
    pub(crate) fn token_text(&self, id: u32) -> Result<String, Error> {
        self.document
            .0
            .get("tokens")
            .and_then(|tokens| tokens.get(id.to_string()))
            .map(Value::to_string)
            .ok_or_else(|| missing(id))
    }

    /// Returns the header with a token read from JSON text, and the token's number.
    pub(crate) fn with_token(&self, id: Option<u32>, text: &str) -> Result<(u32, Self), Error> {
        let id = match id {
            Some(id) if self.metadata.tokens.contains_key(&id) => {
                return Err(Error::Token { id, problem: "exists already".to_owned() });
            }
            Some(id) => id,
            None => (0..MAX_OBJECTS).find(|id| !self.metadata.tokens.contains_key(id)).ok_or_else(
                || Error::unfit(Version::Luks2, format!("all {MAX_OBJECTS} tokens are in use")),
            )?,
        };
        let token = parsed(id, text)?;
        let header = self.edited(|document| {
            document.section("tokens").insert(id.to_string(), token);
        })?;
        Ok((id, header))
    }

    /// Returns the header with another token in the place of token `id`, under its number.
    pub(crate) fn with_token_replaced(&self, id: u32, text: &str) -> Result<Self, Error> {
        self.token_text(id)?;
        let token = parsed(id, text)?;
        self.edited(|document| {
            document.section("tokens").insert(id.to_string(), token);
        })
    }

    /// Returns the header without token `id`.
    pub(crate) fn without_token(&self, id: u32) -> Result<Self, Error> {
        self.token_text(id)?;
        self.edited(|document| {
            document.section("tokens").shift_remove(&id.to_string());
        })
    }

    /// Returns the header with token `id` assigned to exactly `keyslots`.
    pub(crate) fn with_token_keyslots(&self, id: u32, keyslots: &[u32]) -> Result<Self, Error> {
        self.token_text(id)?;
        for keyslot in keyslots {
            self.keyslot(*keyslot)?;
        }
        self.edited(|document| {
            let numbers = keyslots.iter().map(|id| Value::String(id.to_string())).collect();
            if let Some(token) =
                document.section("tokens").get_mut(&id.to_string()).and_then(Value::as_object_mut)
            {
                token.insert("keyslots".to_owned(), Value::Array(numbers));
            }
        })
    }
}

/// Reads the text of a token that is to get number `id`.
pub(super) fn parsed(id: u32, text: &str) -> Result<Value, Error> {
    let token = serde_json::from_str::<ParsedDocument>(text)
        .map_err(|error| Error::Token { id, problem: format!("is not valid JSON ({error})") })?
        .into_value();
    let kind = token.get("type").and_then(Value::as_str).unwrap_or_default();
    let wrong = |problem: &str| Error::Token { id, problem: problem.to_owned() };
    if kind == "luks2-keyring" {
        let described = token.get("key_description").is_some_and(Value::is_string);
        if !described || token.as_object().is_none_or(|members| members.len() != 3) {
            return Err(wrong("of type luks2-keyring has type, keyslots and key_description only"));
        }
    } else if kind.starts_with("luks2-") {
        return Err(wrong("has a type that begins with luks2-, which is reserved"));
    }
    Ok(token)
}

fn missing(id: u32) -> Error {
    Error::Token { id, problem: "does not exist".to_owned() }
}
