//! How many envelopes a real OpenBao on this machine rewraps in a second, one after the other and
//! with eight threads. `scripts/install-test-servers` gets it.
//!
//! ```text
//! cargo run --release -p strongroom-kms --example transit_rate [COUNT]
//! ```

#![allow(clippy::print_stdout, reason = "it prints figures")]

use std::time::Instant;

use serde_json::json;
use strongroom_crypto::{DataKey, Token};
use strongroom_kms::{Binding, Credentials, Envelope, KeyProvider, open};
use strongroom_model::{KmsKind, KmsRequest};
use strongroom_testkit::OpenBao;

fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .map_or(2000, |count| count.parse().expect("the argument is a number of envelopes"));
    let Some(bao) = OpenBao::start() else {
        println!("OpenBao is not installed: scripts/install-test-servers");
        return;
    };
    bao.create_key("kek");
    bao.driver_policy("kek");
    let rewrap = "path \"transit/rewrap/kek\" { capabilities = [\"update\"] }";
    bao.policy("rewrap", rewrap);
    for (what, policies) in [
        ("by the server", &["pvc-enc", "rewrap"][..]),
        ("with encrypt and decrypt alone", &["pvc-enc"][..]),
    ] {
        for (way, url) in [("http", bao.url()), ("https", bao.tls_url())] {
            let provider = provider(&bao, &url, policies);
            let envelope = provider
                .wrap(&DataKey::new(vec![b'k'; 43]), &Binding::volume("pvc-1"))
                .expect("the key exists");
            for threads in [1, 8] {
                let rate = rate(&*provider, &envelope, count, threads);
                println!("rewrap {what}, {way}, {threads} threads: {rate:.0} per second");
            }
        }
    }
}

fn provider(bao: &OpenBao, url: &str, policies: &[&str]) -> Box<dyn KeyProvider> {
    let token = bao.token(policies, &json!({"period": "1h"}));
    let credentials = Credentials {
        secret: Some(Token::new(token.into_bytes())),
        authorities: Some(bao.authority().pem().into_bytes()),
        ..Credentials::default()
    };
    let request = KmsRequest {
        endpoints: vec![url.to_owned()],
        key_id: Some("kek".to_owned()),
        ..KmsRequest::new(KmsKind::Transit)
    };
    open(&request, credentials).expect("nothing is missing in it")
}

/// Returns how many envelopes are rewrapped in a second.
fn rate(provider: &dyn KeyProvider, envelope: &Envelope, count: usize, threads: usize) -> f64 {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..count / threads {
                    provider.rewrap(envelope).expect("the server works");
                }
            });
        }
    });
    (count / threads * threads) as f64 / begun.elapsed().as_secs_f64()
}
