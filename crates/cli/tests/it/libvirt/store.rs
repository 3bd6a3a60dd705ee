//! Secrets and volumes of a test's own.

use std::process::Command;

use strongroom_testkit::{Outcome, run};

use crate::secrecy::holds_canary;
use crate::workplace::Workplace;

/// A place with a pool `pool` and a data directory `data`, whose file `pw` has a canary in it. When it is
/// over, nothing that was said or is kept holds the canary.
pub(crate) struct Store {
    pub(crate) place: Workplace,
    said: std::cell::RefCell<String>,
}

impl Store {
    pub(crate) fn new() -> Self {
        let place = Workplace::with_canaries();
        std::fs::create_dir(place.path("pool")).unwrap();
        Self { place, said: std::cell::RefCell::default() }
    }

    /// Runs `strongroom libvirt …`.
    pub(crate) fn run(&self, words: &str) -> Outcome {
        self.run_reading(words, b"")
    }

    pub(crate) fn run_reading(&self, words: &str, input: &[u8]) -> Outcome {
        let outcome = run(self.command(words), input);
        self.said.borrow_mut().push_str(&format!("{}{}", outcome.stdout, outcome.stderr));
        outcome
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = self.place.command(&format!("libvirt {words}"));
        command.env("STRONGROOM_DATA", self.place.path("data"));
        command
    }

    pub(crate) fn json(&self, words: &str) -> serde_json::Value {
        serde_json::from_str(&self.run(&format!("{words} --json")).ok()).unwrap()
    }

    /// Writes a document into a file, and returns the file's name.
    pub(crate) fn document(&self, text: &str) -> &'static str {
        self.place.write("document.xml", text);
        "document.xml"
    }

    /// Defines a secret for a volume of the pool, with the value in the file `pw`.
    pub(crate) fn secret(&self, uuid: &str, volume: &str) {
        let path = self.place.path("pool").canonicalize().unwrap().join(volume);
        let document = self.document(&format!(
            "<secret ephemeral='no' private='no'><uuid>{uuid}</uuid><usage type='volume'><volume>{}</volume>\
             </usage></secret>",
            path.display()
        ));
        assert_eq!(self.run(&format!("secret-define {document}")).ok().trim(), uuid);
        self.run(&format!("secret-set-value {uuid} --file pw")).ok();
    }

    /// Makes a volume of 4 MiB in the pool; `target` is what stands in its target.
    pub(crate) fn volume(&self, name: &str, target: &str) -> Outcome {
        let document = self.document(&volume(name, 4 << 20, target));
        self.run(&format!("vol-create {document} --pool pool --pbkdf-iterations 1000"))
    }

    /// Makes a copy of a volume in the pool.
    pub(crate) fn copy(&self, name: &str, target: &str, source: &str) -> Outcome {
        let document = self.document(&volume(name, 0, target));
        self.run(&format!(
            "vol-create-from {document} {source} --pool pool --input-pool pool --pbkdf-iterations 1000"
        ))
    }

    /// Writes the value of the secret that was made for a volume of the pool to a file.
    pub(crate) fn value_of(&self, volume: &str, file: &str) {
        let document = self.json(&format!("vol-dumpxml {volume} --pool pool"));
        let document = document["document"].as_str().unwrap();
        let at = document.find("uuid='").or(document.find("uuid=\"")).expect("it names a secret");
        let uuid = &document[at + 6..at + 42];
        self.run(&format!("secret-get-value {uuid} --out {file}")).ok();
    }

    /// Reads the contents of a volume of the pool with `qemu-img`, by the value in a file.
    pub(crate) fn qemu_reads(&self, driver: &str, volume: &str, value: &str) -> Outcome {
        let key = if driver == "luks" { "key-secret" } else { "encrypt.key-secret" };
        self.place.qemu_img(&format!(
            "convert --object secret,id=s,file={value} --image-opts \
             driver={driver},file.filename=pool/{volume},{key}=s -O raw read"
        ))
    }

    /// Writes plain contents into an encrypted raw volume of the pool by `qemu-img`.
    pub(crate) fn qemu_writes(&self, contents: &str, volume: &str, value: &str) {
        self.place
            .qemu_img(&format!(
                "convert -f raw {contents} -n --object secret,id=s,file={value} --target-image-opts \
                 driver=luks,file.filename=pool/{volume},key-secret=s"
            ))
            .ok();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        assert!(!holds_canary(self.said.borrow().as_bytes()), "a secret was said");
        let mut folders = vec![self.place.path("data")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.is_file() {
                    assert!(!holds_canary(&std::fs::read(&path).unwrap()), "{}", path.display());
                }
            }
        }
    }
}

/// Returns the document of a volume.
pub(crate) fn volume(name: &str, capacity: u64, target: &str) -> String {
    format!(
        "<volume>\n  <name>{name}</name>\n  <capacity>{capacity}</capacity>\n  <target>{target}</target>\n\
         </volume>\n"
    )
}

/// Returns an encryption by a secret with a cipher.
pub(crate) fn encrypted(format: &str, uuid: &str, cipher: &str) -> String {
    format!(
        "<encryption format='{format}'><secret type='passphrase' uuid='{uuid}'/>{cipher}</encryption>"
    )
}

pub(crate) const ONE: &str = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f";
pub(crate) const OTHER: &str = "1b92e6c3-9514-4c34-89e7-32ddd3e91e70";
