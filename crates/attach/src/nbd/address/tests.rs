use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use super::*;

#[test]
fn a_slash_makes_a_path() {
    assert_eq!(Address::parse("/run/a.sock").unwrap(), Address::Socket("/run/a.sock".into()));
    assert_eq!(
        Address::parse("127.0.0.1:10809").unwrap(),
        Address::Port("127.0.0.1:10809".parse().unwrap())
    );
    assert_eq!(Address::parse("[::1]:1").unwrap(), Address::Port("[::1]:1".parse().unwrap()));
    for bad in ["", "nothing", "10809", "127.0.0.1", "127.0.0.1:x", "/"] {
        assert_eq!(Address::parse(bad).unwrap_err().kind(), ErrorKind::Request, "{bad}");
    }
}

#[test]
fn a_socket_is_its_owners_alone_and_goes_with_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nbd");
    let address = Address::Socket(path.clone());
    let listening = address.listen(Path::new("/backing")).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    UnixStream::connect(&path).unwrap();
    drop(listening);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nbd");
    let address = Address::Socket(path.clone());
    let live = UnixListener::bind(&path).unwrap();
    assert_eq!(address.listen(Path::new("/backing")).unwrap_err().kind(), ErrorKind::Busy);
    address.clean().unwrap();
    assert!(path.exists());
    drop(live);
    assert!(path.exists());
    drop(address.listen(Path::new("/backing")).unwrap());
    let stale = UnixListener::bind(&path).unwrap();
    drop(stale);
    address.clean().unwrap();
    assert!(!path.exists());
    address.clean().unwrap();
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nbd");
    fs::write(&path, "precious").unwrap();
    let error = Address::Socket(path.clone()).listen(Path::new("/backing")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_place_without_a_server_has_none() {
    let directory = tempfile::tempdir().unwrap();
    let address = Address::Socket(directory.path().join("gone/nbd"));
    assert_eq!(address.server().unwrap(), None);
    address.clean().unwrap();
    assert!(Address::Socket("/proc/nbd".into()).listen(Path::new("/backing")).is_err());
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x".repeat(120));
    let error = Address::Socket(path).listen(Path::new("/backing")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    assert!(error.hint().unwrap().contains("107"));
}
