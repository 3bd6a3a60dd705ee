//! A stream of changes.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use reqwest::blocking::Response;
use serde_json::Value;

use super::{Failure, FailureKind};

/// Changes, as a server sends them: a JSON object `{type, object}` a line. It ends when the server ends it.
pub struct Changes {
    lines: BufReader<Response>,
    server: String,
}

impl Changes {
    pub(super) fn new(response: Response, server: String) -> Self {
        Self { lines: BufReader::new(response), server }
    }

    fn line(&mut self) -> Result<Option<Value>, Failure> {
        let mut line = Vec::new();
        let read = (&mut self.lines).take(MOST).read_until(b'\n', &mut line);
        if let Err(error) = read {
            let problem = format!("the changes from {} broke off: {error}", self.server);
            return Err(Failure::new(FailureKind::Unreachable, problem));
        }
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&line).map(Some).map_err(|_| {
            let problem = format!("the changes from {} are not understood", self.server);
            Failure::new(FailureKind::Server, problem)
        })
    }
}

/// Each change is `(type, object)`: `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`, and the document.
impl Iterator for Changes {
    type Item = Result<(String, Value), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut change = match self.line() {
            Ok(None) => return None,
            Ok(Some(change)) => change,
            Err(failure) => return Some(Err(failure)),
        };
        let happened = change["type"].as_str().unwrap_or_default().to_owned();
        let object = change["object"].take();
        if happened == "ERROR" {
            let code = object["code"].as_u64().and_then(|code| u16::try_from(code).ok());
            return Some(Err(Failure::of_status(&self.server, code.unwrap_or(500), &object)));
        }
        Some(Ok((happened, object)))
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("server", &self.server).finish_non_exhaustive()
    }
}

/// How many bytes a line has at most.
const MOST: u64 = 64 << 20;
