//! Every document of `examples/` is applied, in the order of the files' names.

use std::fs;
use std::path::Path;

use super::{elsewhere, with_images};

#[test]
fn every_example_is_applied_and_comes_about() {
    let served = with_images();
    let source = elsewhere(&served.place, "plain.qcow2");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut count = 0;
    for folder in ["longhorn", "harvester", "osc", "strongroom"] {
        let mut files: Vec<_> = fs::read_dir(examples.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let text = text.replace("https://images.example.org/", &source.url("/"));
            let name = file.file_name().unwrap().to_str().unwrap();
            served.place.write(name, text);
            served.run(&format!("apply -f {name}")).ok();
            count += 1;
            // What comes next needs what these ask for.
            match name {
                "30-images.yaml" => {
                    served.image("longhorn-system", "lab-encrypted");
                }
                "10-image.yaml" | "20-encrypt.yaml" => {
                    let image = if name == "10-image.yaml" { "lab" } else { "lab-encrypted" };
                    served.until(&format!("vmimage {image}"), |image| {
                        image["status"]["progress"] == 100
                    });
                }
                _ => {}
            }
        }
    }
    assert!(count >= 14, "{count}");
    for name in ["database", "ledger", "lab-disk", "database-restored", "local-data"] {
        served.bound("default", name);
    }
    for name in ["lab-copy", "lab-decrypted", "from-lab-volume"] {
        served.image("longhorn-system", name);
    }
    served.until("vm machine", |machine| machine.to_string().contains("\"some\""));
}
