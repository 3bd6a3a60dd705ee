//! Lists that come in pages.

use std::str::FromStr;

use tonic::Status;

/// A page that somebody wants: how many entries, and after which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many entries at most.
    pub(crate) limit: usize,
    /// The name of the last entry of the page before.
    pub(crate) after: Option<String>,
}

impl Page {
    /// Reads what a request says.
    ///
    /// # Errors
    ///
    /// `ABORTED` for a token that was not made here, as CSI asks for: the list begins anew then.
    pub(crate) fn read(max_entries: i32, token: &str) -> Result<Self, Status> {
        let limit = usize::try_from(max_entries).map_err(|_| {
            Status::invalid_argument(format!("max_entries {max_entries} is negative"))
        })?;
        let after = match token {
            "" => None,
            token => Some(token.strip_prefix(MARK).map(str::to_owned).ok_or_else(foreign)?),
        };
        Ok(Self { limit: if limit == 0 { LARGEST } else { limit.min(LARGEST) }, after })
    }

    /// Returns the name of the last entry of the page before, as what entries are named by.
    ///
    /// # Errors
    ///
    /// `ABORTED` when no entry can have that name.
    pub(crate) fn after_id<T: FromStr>(&self) -> Result<Option<T>, Status> {
        let id = self.after.as_deref().map(str::parse).transpose();
        id.map_err(|_| foreign())
    }

    /// Returns the entries of a page, of which `found` may have one more, and the token for the next.
    pub(crate) fn cut<T>(
        &self,
        mut found: Vec<T>,
        name: impl Fn(&T) -> String,
    ) -> (Vec<T>, String) {
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        let last = found.last().filter(|_| more);
        let token = last.map(|last| format!("{MARK}{}", name(last))).unwrap_or_default();
        (found, token)
    }
}

fn foreign() -> Status {
    Status::aborted("starting_token comes from elsewhere: ask without one")
}

/// Tokens begin so.
const MARK: &str = "after:";

/// How many entries a page has at most: an answer must fit into a message.
const LARGEST: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let all = ["a", "b", "c", "d", "e"];
        let mut token = String::new();
        let mut seen: Vec<&str> = Vec::new();
        loop {
            let page = Page::read(2, &token).unwrap();
            let rest = all.iter().filter(|name| page.after.as_deref().is_none_or(|a| **name > a));
            let found: Vec<_> = rest.take(page.limit + 1).collect();
            let (entries, next) = page.cut(found, |name| (**name).to_owned());
            seen.extend(entries.into_iter().copied());
            if next.is_empty() {
                break;
            }
            token = next;
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_foreign_token_is_aborted() {
        assert_eq!(Page::read(0, "invalid-token").unwrap_err().code(), tonic::Code::Aborted);
        assert_eq!(Page::read(-1, "").unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(Page::read(0, "").unwrap(), Page { limit: LARGEST, after: None });
    }
}
