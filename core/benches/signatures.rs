//! Signatures per second of one core, by algorithm, over the 500 bytes of a usual body.
//!
//! `cargo bench -p pregon-core --bench signatures`

#![allow(missing_docs, reason = "criterion's macros write functions")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed benchmark")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pregon_core::clock::Timestamp;
use pregon_core::contract::{EcdsaForm, SignatureAlgorithm, SigningKey};
use pregon_core::id::SecretId;
use pregon_core::secret::{SecretBytes, pair_generate};

/// Bytes of a body.
const BODY: [u8; 500] = [b'x'; 500];

fn key(algorithm: SignatureAlgorithm) -> SigningKey {
    let kind = algorithm.kind();
    let secret = match kind.pair() {
        Some(pair) => pair_generate(pair).unwrap(),
        None => SecretBytes::new(vec![7; 32]),
    };
    SigningKey::new(SecretId::parse("k").unwrap(), kind, &secret, Timestamp::MIN, None).unwrap()
}

fn signatures(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sign");
    group.throughput(Throughput::Elements(1));
    for algorithm in SignatureAlgorithm::ALL {
        let key = key(*algorithm);
        group.bench_function(algorithm.word(), |bencher| {
            bencher.iter(|| {
                let mut signer = key.signer(*algorithm, EcdsaForm::Der).unwrap();
                signer.update(black_box(&BODY));
                signer.finish().unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, signatures);
criterion_main!(benches);
