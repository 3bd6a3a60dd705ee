//! What is being worked on: one call for each volume or snapshot at a time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tonic::Status;

/// The names of all that is being worked on.
#[derive(Debug, Clone, Default)]
pub(crate) struct InFlight {
    names: Arc<Mutex<HashSet<String>>>,
}

/// The right to work on something; dropped, it lets go.
#[derive(Debug)]
pub(crate) struct Turn {
    all: InFlight,
    name: String,
}

impl InFlight {
    /// Begins to work on something: `volume a` for instance.
    ///
    /// # Errors
    ///
    /// `ABORTED` when another call does, as CSI asks for.
    pub(crate) fn begin(&self, name: String) -> Result<Turn, Status> {
        if self.names().insert(name.clone()) {
            return Ok(Turn { all: self.clone(), name });
        }
        Err(Status::aborted(format!(
            "another call is at work on {name}: try again when it is done"
        )))
    }

    /// Nobody panics while the set is half changed.
    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all.names().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_at_a_time_works_on_a_volume() {
        let all = InFlight::default();
        let turn = all.begin("volume a".to_owned()).unwrap();
        let refused = all.begin("volume a".to_owned()).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Aborted);
        assert!(refused.message().contains("volume a"));
        let other = all.begin("volume b".to_owned()).unwrap();
        drop((turn, other));
        all.begin("volume a".to_owned()).unwrap();
    }
}
