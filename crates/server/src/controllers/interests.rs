//! Who waits for which document.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::subject::Subject;

/// Who waits for which document.
///
/// Whoever reads a document says so first, so that a change between the two is not missed.
#[derive(Debug, Default)]
pub(crate) struct Interests(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    waiting: HashMap<Subject, HashSet<Subject>>,
    wanted: HashMap<Subject, Vec<Subject>>,
}

impl Interests {
    /// Says that `who` depends on `what`.
    pub(crate) fn add(&self, who: &Subject, what: Subject) {
        let mut maps = self.lock();
        if maps.waiting.entry(what.clone()).or_default().insert(who.clone()) {
            maps.wanted.entry(who.clone()).or_default().push(what);
        }
    }

    /// Forgets on what `who` depended.
    pub(crate) fn clear(&self, who: &Subject) {
        let mut maps = self.lock();
        for what in maps.wanted.remove(who).unwrap_or_default() {
            let Some(waiting) = maps.waiting.get_mut(&what) else { continue };
            waiting.remove(who);
            if waiting.is_empty() {
                maps.waiting.remove(&what);
            }
        }
    }

    /// Returns those that depend on a document, or on any of its kind.
    pub(crate) fn of(&self, what: &Subject) -> Vec<Subject> {
        let maps = self.lock();
        let all = Subject::any(what.resource);
        let found = [what, &all].into_iter().filter_map(|what| maps.waiting.get(what));
        found.flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        // At worst somebody is woken for nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use strongroom_model::dialect::resource::Resource;

    use super::*;

    #[test]
    fn those_who_wait_are_found_until_they_do_not_any_more() {
        let interests = Interests::default();
        let claim = Subject::new(Resource::PersistentVolumeClaim, Some("lab"), "data");
        let secret = Subject::new(Resource::Secret, Some("lab"), "key");
        let class = Subject::new(Resource::StorageClass, None, "fast");
        interests.add(&claim, secret.clone());
        interests.add(&claim, secret.clone());
        interests.add(&claim, Subject::any(Resource::StorageClass));
        assert_eq!(interests.of(&secret), std::slice::from_ref(&claim));
        assert_eq!(interests.of(&class), std::slice::from_ref(&claim));
        interests.clear(&claim);
        assert!(interests.of(&secret).is_empty() && interests.of(&class).is_empty());
        let maps = interests.lock();
        assert!(maps.waiting.is_empty() && maps.wanted.is_empty());
    }
}
