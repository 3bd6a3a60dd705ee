//! Images on their way in and out, which are cut off and gone on with.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use strongroom_testkit::{Outcome, Pattern, run};

use super::{LEN, Served};

/// Which way is cut.
#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

/// Stands between the program and a server until so many bytes have gone over one connection; then there is
/// none any more, and no other one. Returns its URL.
fn cutting(served: &Served, way: Way, after: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = served.url.borrow().trim_start_matches("http://").to_owned();
    let (up, down) = match way {
        Way::Up => (after, u64::MAX),
        Way::Down => (u64::MAX, after),
    };
    let all = Arc::new(Mutex::new(Some(Vec::new())));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
            let both = || (client.try_clone().unwrap(), server.try_clone().unwrap());
            match &mut *all.lock().unwrap() {
                Some(open) => open.push(both()),
                None => continue,
            }
            let ((up_from, up_to), (down_to, down_from)) = (both(), both());
            for (from, to, most) in [(up_from, up_to, up), (down_from, down_to, down)] {
                let all = Arc::clone(&all);
                thread::spawn(move || {
                    if forward(from, to, most) {
                        for (client, server) in all.lock().unwrap().take().into_iter().flatten() {
                            let _ = client.shutdown(Shutdown::Both);
                            let _ = server.shutdown(Shutdown::Both);
                        }
                    }
                });
            }
        }
    });
    url
}

/// Copies bytes until one side ends, or so many have gone; then both are cut. Returns whether that was so.
fn forward(mut from: TcpStream, mut to: TcpStream, most: u64) -> bool {
    let (mut buffer, mut gone) = (vec![0; 64 << 10], 0);
    while gone < most {
        let Ok(count @ 1..) = from.read(&mut buffer) else { break };
        let count = count.min((most - gone) as usize);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        gone += count as u64;
    }
    for stream in [&from, &to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
    gone >= most
}

/// Runs the program as a client of a server that stands elsewhere.
fn run_at(served: &Served, url: &str, words: &str) -> Outcome {
    let mut command = served.client(words);
    command.env("STRONGROOM_SERVER", url);
    run(command, b"")
}

/// Returns a server, a file without holes, and the document of an image that waits for it.
fn with_upload() -> Served {
    let served = Served::new();
    served.place.image_of("dense", LEN, &Pattern::dense(7));
    served.applied(
        "apiVersion: longhorn.io/v1beta2\nkind: BackingImage\nmetadata: {name: sent, namespace: lab}\n\
         spec: {sourceType: upload, sourceParameters: {}}\n",
    );
    served
}

fn report(outcome: Outcome) -> Value {
    serde_json::from_str(&outcome.ok()).unwrap()
}

#[test]
fn an_upload_that_is_cut_goes_on_where_it_was() {
    let served = with_upload();
    let url = cutting(&served, Way::Up, 6 << 20);
    let cut = run_at(&served, &url, "upload backingimage/sent dense -n lab");
    assert_eq!(cut.code, Some(11), "{}", cut.describe());
    assert!(cut.stderr.contains("hint: the server keeps what has come"), "{}", cut.describe());
    let again = served.run("upload backingimage/sent dense -n lab");
    assert_eq!(again.code, Some(0), "{}", again.describe());
    assert!(again.stderr.contains("going on behind the first "), "{}", again.describe());
    served.image("lab", "sent");
    served.download("lab", "sent", "back");
    served.place.same("dense", "back").unwrap();
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was_and_is_checked() {
    let served = with_upload();
    served.run("upload backingimage/sent dense -n lab").ok();
    served.image("lab", "sent");
    let fetch = "download backingimage/sent back -n lab";
    let cut_off = || {
        let url = cutting(&served, Way::Down, 6 << 20);
        let cut = run_at(&served, &url, fetch);
        assert_eq!(cut.code, Some(11), "{}", cut.describe());
        assert!(cut.stderr.contains("hint: .back.partial holds the first "), "{}", cut.describe());
        assert!(!served.place.exists("back"));
    };
    cut_off();
    let again = served.run(&format!("{fetch} --json"));
    assert!(again.stderr.contains("going on behind the first "), "{}", again.describe());
    let resumed = report(again)["resumed_bytes"].as_u64().unwrap();
    assert!(((4 << 20)..(6 << 20)).contains(&resumed), "{resumed}");
    served.place.same("dense", "back").unwrap();
    let left = |place: &crate::workplace::Workplace| {
        place.exists(".back.partial") || place.exists(".back.journal")
    };
    assert!(!left(&served.place));
    served.run(fetch).fails(6);

    // What has come of another image, or of another state of this one, is not gone on with.
    std::fs::remove_file(served.place.path("back")).unwrap();
    cut_off();
    let journal = String::from_utf8(served.place.read(".back.journal")).unwrap();
    let mut other: Value = serde_json::from_str(&journal).unwrap();
    other["download"]["tag"] = "\"other\"".into();
    served.place.write(".back.journal", other.to_string());
    assert_eq!(report(served.run(&format!("{fetch} --json")))["resumed_bytes"], 0);
    served.place.same("dense", "back").unwrap();

    // What was changed meanwhile does not have the checksum.
    std::fs::remove_file(served.place.path("back")).unwrap();
    cut_off();
    let mut bytes = served.place.read(".back.partial");
    bytes[1 << 20] ^= 1;
    served.place.write(".back.partial", bytes);
    let told = served.run(fetch).fails(4);
    assert!(told.contains("does not have its checksum"), "{told}");
    assert!(!left(&served.place) && !served.place.exists("back"));
    served.run(fetch).ok();
    served.place.same("dense", "back").unwrap();
}

#[test]
fn a_download_takes_no_file_of_another_job() {
    let served = with_upload();
    served.place.write(".back.partial", "somebody's");
    let told = served.run("download backingimage/sent back -n lab").fails(6);
    assert!(told.contains("rm .back.partial"), "{told}");
    assert_eq!(served.place.read(".back.partial"), b"somebody's");
    // Of what does not come nothing is left.
    let told = served.run("download backingimage/sent other -n lab");
    assert!(told.code != Some(0) && !served.place.exists(".other.partial"), "{}", told.describe());
    assert!(!served.place.exists(".other.journal"));
}
