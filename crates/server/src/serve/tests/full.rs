use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use strongroom_crypto::Token;
use strongroom_testkit::skip;

use super::server::{Answered, IMAGES, SECRETS, Server, image, secret};
use crate::client::{Client, FailureKind, ImagePlace};

/// A file system in memory; dropped, it goes.
struct Small(tempfile::TempDir);

impl Small {
    /// Mounts one; `None` where that is not allowed.
    fn mount() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("small")).unwrap();
        let small = Self(place);
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=100m", "tmpfs"]).arg(small.path());
        command.output().is_ok_and(|done| done.status.success()).then_some(small)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("small")
    }

    /// Makes it larger.
    fn grow(&self) {
        let mut command = Command::new("mount");
        command.args(["-o", "remount,size=400m"]).arg(self.path());
        assert!(command.status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn an_upload_for_which_there_is_no_room_is_told_so_and_goes_on_when_there_is() {
    let Some(small) = Small::mount() else {
        let name = "an_upload_for_which_there_is_no_room_is_told_so_and_goes_on_when_there_is";
        return skip(name, "tmpfs cannot be mounted");
    };
    let data = small.path().join("data");
    let server = Server::start(&data);
    let ready = || Answered::read(server.open("GET /readyz", "", b""));
    assert_eq!(ready().body, "ok");
    server.create(IMAGES, &image("disk"));
    let mut file = tempfile::tempfile().unwrap();
    for number in 0..200_u8 {
        file.write_all(&vec![number | 1; 1 << 20]).unwrap();
    }
    let token = Token::new(server.admin().as_bytes().to_vec());
    let url = format!("http://{}", server.address);
    let client = Client::new(&url, Some(&token), None).unwrap();
    let place = ImagePlace { namespace: "lab".to_owned(), name: "disk".to_owned() };
    let told: Arc<dyn Fn(u64, u64) + Send + Sync> = Arc::new(|_, _| {});
    let failure = client.upload(&place, &file, &told).unwrap_err();
    let text = failure.to_string();
    assert_eq!(failure.kind, FailureKind::Server, "{text}");
    let full = format!("{} is full", data.display());
    assert!(text.starts_with(&full), "{text}");
    assert!(text.contains("of the 209715200 bytes of image lab/disk") && text.contains("missing"));
    let unready = ready();
    assert_eq!(unready.code, 503, "{}", unready.body);
    let nearly = format!("{} is nearly full", data.display());
    assert!(unready.body.starts_with(&nearly), "{}", unready.body);

    // The part that came leaves no room for documents either, nor for volumes.
    let filler = small.path().join("filler");
    let _ = std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(&filler).unwrap());
    let refused = (0..).map(|number| {
        let secret = secret(&format!("large-{number}"), &"x".repeat(256 << 10));
        server.admin_asks(&format!("POST {SECRETS}"), &secret)
    });
    let refused = refused.take(64).find(|answer| answer.code != 201).expect("the disk is full");
    assert_eq!(refused.code, 507, "{}", refused.body);
    assert!(refused.body.contains("InsufficientStorage"), "{}", refused.body);
    let volume = "<volume><name>a</name><capacity unit='MiB'>4</capacity>\
                  <target><encryption format='luks'/></target></volume>";
    let make = "POST /v1/libvirt/volumes";
    let refused = server.ask(server.admin(), make, "application/xml", volume);
    assert_eq!(refused.code, 507, "{}", refused.body);
    std::fs::remove_file(filler).unwrap();

    small.grow();
    assert_eq!(ready().body, "ok");
    assert_eq!(client.upload(&place, &file, &told).unwrap(), 200 << 20);
    server.stop();
}
