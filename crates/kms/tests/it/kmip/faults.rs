//! Networks and servers that fail, and come back.

use std::time::{Duration, Instant};

use strongroom_kms::ErrorKind;
use strongroom_testkit::{TcpFault, TcpProxy, free_port};

use super::{Place, binding, data_key, round_trip, told};

#[test]
fn every_outage_is_told_and_over_when_it_is_over() {
    let test = "every_outage_is_told_and_over_when_it_is_over";
    let Some(place) = Place::new(test) else { return };
    let proxy = TcpProxy::start(place.server.port());
    let provider = place.provider_at(&format!("127.0.0.1:{}", proxy.port()), "kek");
    let envelope = provider.wrap(&data_key(), &binding()).unwrap();
    for fault in [
        TcpFault::Down,
        TcpFault::Reset,
        TcpFault::Truncate(0),
        TcpFault::Truncate(7),
        TcpFault::Truncate(300),
        TcpFault::Garbage,
    ] {
        proxy.set(fault);
        let begun = Instant::now();
        let error = provider.unwrap(&envelope, &binding()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}: {}", told(&error));
        assert!(begun.elapsed() < Duration::from_secs(5), "{fault:?}: {:?}", begun.elapsed());
        // A provider that was never connected says the same.
        let fresh = place.provider_at(&format!("127.0.0.1:{}", proxy.port()), "kek");
        let error = fresh.unwrap(&envelope, &binding()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}: {}", told(&error));
        proxy.set(TcpFault::None);
        assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key(), "{fault:?}");
    }
}

#[test]
fn answers_may_end_anywhere() {
    let Some(place) = Place::new("answers_may_end_anywhere") else { return };
    let envelope = place.provider("kek").wrap(&data_key(), &binding()).unwrap();
    let proxy = TcpProxy::start(place.server.port());
    let endpoint = format!("127.0.0.1:{}", proxy.port());
    let mut whole = 0;
    let mut cut = 0;
    // The handshake takes most of it, and its length differs from time to time.
    for len in (600..1700).step_by(60) {
        proxy.set(TcpFault::Truncate(len));
        match place.provider_at(&endpoint, "kek").unwrap(&envelope, &binding()) {
            Ok(key) => whole += usize::from(key == data_key()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{len}: {}", told(&error));
                cut += 1;
            }
        }
    }
    assert_eq!(whole + cut, 19);
    assert!(whole > 0 && cut > 5, "{whole} whole, {cut} cut");
}

#[test]
fn answers_in_small_pieces_are_put_together() {
    let Some(place) = Place::new("answers_in_small_pieces_are_put_together") else { return };
    let proxy = TcpProxy::start(place.server.port());
    proxy.set(TcpFault::Slow(50, Duration::from_millis(1)));
    round_trip(&*place.provider_at(&format!("127.0.0.1:{}", proxy.port()), "kek")).unwrap();
}

#[test]
fn one_connection_serves_many_calls() {
    let Some(place) = Place::new("one_connection_serves_many_calls") else { return };
    let proxy = TcpProxy::start(place.server.port());
    let provider = place.provider_at(&format!("127.0.0.1:{}", proxy.port()), "kek");
    for _ in 0..5 {
        round_trip(&*provider).unwrap();
    }
    assert_eq!(proxy.accepted(), 1);
}

#[test]
fn a_server_may_restart_between_two_calls() {
    let Some(mut place) = Place::new("a_server_may_restart_between_two_calls") else { return };
    let provider = place.provider("kek");
    let envelope = provider.wrap(&data_key(), &binding()).unwrap();
    place.server.restart();
    assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key());
    place.server.stop();
    let error = provider.unwrap(&envelope, &binding()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(told(&error).contains("the server cannot be reached"), "{}", told(&error));
    place.server.restart();
    assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key());
}

#[test]
fn another_endpoint_is_asked_when_the_first_is_down() {
    let test = "another_endpoint_is_asked_when_the_first_is_down";
    let Some(place) = Place::new(test) else { return };
    let mut request = place.request("kek");
    request.endpoints.insert(0, format!("127.0.0.1:{}", free_port()));
    round_trip(&*strongroom_kms::open(&request, place.credentials()).unwrap()).unwrap();
}
