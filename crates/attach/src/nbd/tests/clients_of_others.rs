//! libnbd's and QEMU's clients.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use strongroom_disk::Discards;
use strongroom_testkit::{Authority, Pattern, Tool, run, skip};

use super::client::Client;
use super::*;
use crate::nbd::wire::*;

const LEN: u64 = 8 << 20;

/// Returns whether all of these are here; else the test is skipped.
fn have(test: &str, tools: &[Tool]) -> bool {
    match tools.iter().find(|tool| !tool.available()) {
        Some(tool) => {
            skip(test, &format!("no {}", tool.name()));
            false
        }
        None => true,
    }
}

fn tool(tool: Tool, arguments: &[&str]) -> String {
    let mut command = tool.command();
    command.args(arguments);
    run(command, b"").ok()
}

#[test]
fn nbdinfo_sees_what_is_offered() {
    if !have("nbdinfo_sees_what_is_offered", &[Tool::NBDINFO]) {
        return;
    }
    let disk = encrypted(LEN, SectorSize::B4096).with_discards(Discards::Pass);
    let export = Export::new(Box::new(disk), "data").with_discards(Discards::Pass);
    let local = Local::new(Server::new(export));
    let info = tool(Tool::NBDINFO, &["--json", &local.uri()]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["protocol"], "newstyle-fixed");
    assert_eq!(info["structured"], true);
    let export = &info["exports"][0];
    assert_eq!(export["export-size"], LEN);
    assert_eq!(export["contexts"][0], "base:allocation");
    assert_eq!(export["block_size_minimum"], 1);
    assert_eq!(export["block_size_maximum"], 32 << 20);
    for can in ["can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero", "can_df"] {
        assert_eq!(export[can], true, "{can}: {info}");
    }
    assert_eq!((&export["is_read_only"], &export["can_multi_conn"]), (&false.into(), &true.into()));
    let list = tool(Tool::NBDINFO, &["--list", "--json", &local.uri()]);
    assert!(list.contains("\"export-name\": \"data\""), "{list}");
    let map = tool(Tool::NBDINFO, &["--map", &local.uri()]);
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "8388608", "0", "data"]);
}

#[test]
fn nbdcopy_copies_there_and_back() {
    if !have("nbdcopy_copies_there_and_back", &[Tool::NBDCOPY]) {
        return;
    }
    let disk = Arc::new(encrypted(LEN, SectorSize::B512));
    disk.write_at(&[0x77; 1 << 20], 0).unwrap();
    let local = Local::of(Arc::clone(&disk));
    let (from, to) = (local.directory.path().join("from"), local.directory.path().join("to"));
    let mut bytes = vec![0; LEN as usize];
    Pattern::sparse(5, 65536).fill(&mut bytes, 0);
    fs::write(&from, &bytes).unwrap();
    let (from, uri) = (from.to_str().unwrap(), local.uri());
    for extra in [&["--connections=4", "--requests=16"][..], &["--synchronous"]] {
        tool(Tool::NBDCOPY, &[extra, &["--flush", from, &uri]].concat());
        let mut found = vec![0; LEN as usize];
        disk.read_at(&mut found, 0).unwrap();
        assert!(found == bytes, "{extra:?}");
        tool(Tool::NBDCOPY, &[extra, &[&uri, to.to_str().unwrap()]].concat());
        assert!(fs::read(&to).unwrap() == bytes, "{extra:?}");
    }
}

#[test]
fn qemu_reads_writes_and_compares() {
    if !have("qemu_reads_writes_and_compares", &[Tool::QEMU_IMG, Tool::QEMU_IO]) {
        return;
    }
    let local = Local::of(encrypted(LEN, SectorSize::B4096));
    let image = local.directory.path().join("image");
    let mut bytes = vec![0; LEN as usize];
    Pattern::sparse(6, 65536).fill(&mut bytes, 0);
    fs::write(&image, &bytes).unwrap();
    let (image, uri) = (image.to_str().unwrap(), local.uri());
    tool(Tool::QEMU_IMG, &["convert", "-n", "-W", "-f", "raw", "-O", "raw", image, &uri]);
    tool(Tool::QEMU_IMG, &["compare", "-f", "raw", "-F", "raw", image, &uri]);
    let commands = [
        "write -P 17 1000 70000",
        "write -z 4096 8192",
        "write -z -u 16384 4096",
        "write -f -P 18 5000000 513",
        "discard 0 1M",
        "aio_write -P 19 6M 512k",
        "aio_read -P 17 0x3000 4096",
        "aio_flush",
        "read -P 17 1000 3096",
        "read -P 0 4096 8192",
        "read -P 0 16384 4096",
        "read -P 17 20480 49000",
        "read -P 18 5000000 513",
        "read -P 19 6M 512k",
        "flush",
    ];
    let arguments: Vec<&str> = commands.iter().flat_map(|command| ["-c", command]).collect();
    let said = tool(Tool::QEMU_IO, &[&["-f", "raw"], &arguments[..], &[&uri]].concat());
    assert!(!said.contains("failed"), "{said}");
}

/// Writes what a client needs for TLS, as libnbd and QEMU want it.
fn client_files(directory: &Path, authority: &Authority) {
    let (certificate, key) = authority.client_pem("somebody");
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("ca-cert.pem"), authority.pem()).unwrap();
    fs::write(directory.join("client-cert.pem"), certificate).unwrap();
    fs::write(directory.join("client-key.pem"), key).unwrap();
}

fn server_files(directory: &Path, authority: &Authority) -> TlsFiles {
    let (certificates, key) = authority.server_pem("localhost");
    let files = TlsFiles {
        certificates: directory.join("server.pem"),
        key: directory.join("server.key"),
        client_authorities: Some(directory.join("ca.pem")),
    };
    fs::write(&files.certificates, certificates).unwrap();
    fs::write(&files.key, key).unwrap();
    fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    files
}

#[test]
fn tls_is_spoken_with_clients_that_have_a_certificate() {
    let name = "tls_is_spoken_with_clients_that_have_a_certificate";
    if !have(name, &[Tool::NBDINFO, Tool::NBDCOPY, Tool::QEMU_IMG]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(), Authority::new());
    let files = server_files(directory.path(), &ours);
    client_files(&directory.path().join("known"), &ours);
    client_files(&directory.path().join("unknown"), &others);
    fs::copy(directory.path().join("ca.pem"), directory.path().join("unknown/ca-cert.pem"))
        .unwrap();

    let disk = Arc::new(encrypted(LEN, SectorSize::B4096));
    let mut bytes = vec![0; LEN as usize];
    Pattern::dense(7).fill(&mut bytes, 0);
    disk.write_at(&bytes, 0).unwrap();
    let export = Export::new(Box::new(Arc::clone(&disk)), "data");
    let server = Server::new(export).with_tls(files.load().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| server.serve(&listener, &stopped));
        // Also when an assertion fails.
        let _stop = stop;
        let certificates = |who: &str| directory.path().join(who).display().to_string();
        let uri =
            |who: &str| format!("nbds://localhost:{port}/?tls-certificates={}", certificates(who));
        let info = tool(Tool::NBDINFO, &[&uri("known")]);
        assert!(info.contains("TLS"), "{info}");
        let copy = directory.path().join("copy");
        tool(Tool::NBDCOPY, &[&uri("known"), copy.to_str().unwrap()]);
        assert!(fs::read(&copy).unwrap() == bytes);
        bytes.reverse();
        fs::write(&copy, &bytes).unwrap();
        let credentials =
            format!("tls-creds-x509,id=t,endpoint=client,dir={}", certificates("known"));
        let target =
            format!("driver=nbd,host=127.0.0.1,port={port},tls-creds=t,tls-hostname=localhost");
        let copy = copy.to_str().unwrap();
        tool(
            Tool::QEMU_IMG,
            &[
                "convert",
                "-n",
                "--object",
                &credentials,
                "--target-image-opts",
                "-f",
                "raw",
                copy,
                &target,
            ],
        );
        let mut found = vec![0; LEN as usize];
        disk.read_at(&mut found, 0).unwrap();
        assert!(found == bytes);
        for uri in [uri("unknown"), format!("nbd://localhost:{port}/")] {
            let mut command = Tool::NBDINFO.command();
            command.arg(&uri);
            assert_ne!(run(command, b"").code, Some(0), "{uri}");
        }
    });
}

#[test]
fn what_comes_in_the_clear_after_starttls_is_not_obeyed() {
    let directory = tempfile::tempdir().unwrap();
    let files = server_files(directory.path(), &Authority::new());
    let export = Export::new(Box::new(encrypted(LEN, SectorSize::B512)), "data");
    let local = Local::new(Server::new(export).with_tls(files.load().unwrap()));
    let mut client = Client::greet(local.connect());
    let mut bytes = b"IHAVEOPT\0\0\0\x05\0\0\0\0".to_vec();
    for _ in 0..20 {
        bytes.extend_from_slice(b"IHAVEOPT\0\0\0\x03\0\0\0\0");
    }
    client.stream.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = std::io::Read::read_to_end(&mut client.stream, &mut answer);
    // The acknowledgement, and at most an alert of TLS.
    assert_eq!(answer[..8], [0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9]);
    assert_eq!(answer[12..16], REP_ACK.to_be_bytes());
    assert!(answer.len() <= 20 + 7, "{answer:x?}");
}

#[test]
fn tls_files_that_are_of_no_use_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let files = server_files(directory.path(), &Authority::new());
    for break_one in [&files.certificates, &files.key, &directory.path().join("ca.pem")] {
        let good = fs::read(break_one).unwrap();
        fs::write(break_one, "nothing").unwrap();
        let error = files.load().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        assert!(error.to_string().contains(&break_one.display().to_string()), "{error}");
        fs::write(break_one, good).unwrap();
    }
    files.load().unwrap();
}
