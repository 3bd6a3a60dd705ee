//! What follows from documents: images are fetched and cloned, volumes made, claims bound, and what is
//! deleted is deleted with its data.
//!
//! Each document that changes gets a turn, in which one of the reconcilers below looks at it as it is then,
//! does what is left to do, and writes down how it stands. A turn that ends half-way, for whatever reason,
//! is followed by another one that goes on: everything that must be remembered is in documents, in the
//! catalog, or in jobs. Whatever takes its time is a job, which [`Work`] does.

mod backing_image;
mod claim;
mod claimed_volume;
mod events;
mod feed;
mod interests;
mod key_material;
mod longhorn_volume;
mod moments;
mod persistent_volume;
mod provision;
mod queue;
mod snapshot;
mod subject;
mod task;
mod turn;
mod uploading;
mod virtual_machine;
mod virtual_machine_image;
mod wording;
mod work;

pub(crate) use backing_image::jobs::secret_of_volume;
pub(crate) use key_material::KeyMaterial;
pub(crate) use provision::bound_volume;
pub(crate) use turn::{Trouble, chain};
pub(crate) use uploading::Uploading;
pub(crate) use virtual_machine_image::image_of as image_of_virtual_machine_image;
pub(crate) use wording::told;
pub use work::Work;

use std::sync::Arc;
use std::thread::JoinHandle;

use self::events::Recorder;
use self::interests::Interests;
use self::queue::Queue;
use crate::Context;

/// The threads that do what follows from documents.
#[derive(Debug)]
pub struct Controllers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What all of them work with.
#[derive(Debug)]
struct Shared {
    context: Context,
    queue: Arc<Queue>,
    interests: Interests,
    recorder: Recorder,
    keys: KeyMaterial,
}

/// Starts to do what follows from the documents of a context, whose jobs are done by `work`.
pub fn start(context: Context, work: &Work) -> Controllers {
    let shared = Arc::new(Shared {
        context,
        queue: work.queue(),
        interests: Interests::default(),
        recorder: Recorder::default(),
        keys: work.keys.clone(),
    });
    let mut threads = Vec::new();
    let mut spawn = |name: &str, run: fn(&Shared)| {
        let shared = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name.to_owned());
        // Without threads nothing at all works; those that are there go on.
        threads.extend(thread.spawn(move || run(&shared)));
    };
    spawn("events", |shared| shared.recorder.run(&shared.context.store));
    for _ in 0..TURNS_AT_ONCE {
        spawn("controller", turn::run);
    }
    spawn("feed", feed::run);
    Controllers { shared, threads }
}

impl Controllers {
    /// Ends all turns, each where the next start goes on. Returns when the last one has ended.
    pub fn stop(self) {
        self.shared.queue.close();
        let (events, others): (Vec<_>, Vec<_>) =
            self.threads.into_iter().partition(|thread| thread.thread().name() == Some("events"));
        for thread in others {
            // One that has panicked has ended, too.
            let _ = thread.join();
        }
        self.shared.recorder.close();
        for thread in events {
            let _ = thread.join();
        }
    }
}

/// How many documents are looked at side by side: while one waits for the disk, another one goes on.
const TURNS_AT_ONCE: usize = 4;

#[cfg(test)]
pub(crate) mod stage;
#[cfg(test)]
mod tests;
