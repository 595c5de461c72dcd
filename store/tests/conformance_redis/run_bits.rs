//! Bits as scripts handle them, against sets.

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::server::Server;

/// Bits as scripts handle them are sets of numbers, and lie as Redis counts bits.
#[test]
fn bits_of_scripts_are_sets() {
    const RUNS: &str = include_str!("../../src/redis/lua/runs.lua");
    const TEST: &str = "
        local a, b, n, most = read_bits(ARGV[1]), read_bits(ARGV[2]), ARGV[3] + 0, ARGV[4] + 0
        local more, less = read_bits(ARGV[1]), read_bits(ARGV[1])
        insert(more, n)
        remove(less, n)
        local all, fewer = read_bits(ARGV[1]), read_bits(ARGV[1])
        add_all(all, b)
        remove_all(fewer, b)
        local answer = { both(a, b), without(a, b), all, fewer, more, less, first_ones(a, most),
          below_of(a, 512, n) }
        for i, w in ipairs(answer) do answer[i] = numbers_of(w, 512) end
        return { answer, ones(a), has(a, n) and 1 or 0, bit_in(ARGV[1], 1, n) and 1 or 0,
          empty(a) and 1 or 0, bits_text(a) == ARGV[1] and 1 or 0 }";
    let server = Server::start();
    let client = redis::Client::open(server.url(0)).expect("a URL");
    let connection = RefCell::new(client.get_connection().expect("a connection"));
    let script = redis::Script::new(&format!("{RUNS}\n{TEST}"));
    let some = || proptest::collection::btree_set(512..768_u64, 0..256);
    let mut runner = TestRunner::new(Config { cases: 300, ..Config::default() });
    let sets = (some(), some(), 512..768_u64, 0..300_usize);
    runner
        .run(&sets, |(a, b, n, most)| {
            let mut connection = connection.borrow_mut();
            let mut bits = |set: &BTreeSet<u64>| {
                let (name, mut pipeline) = ("bits", redis::pipe());
                pipeline.cmd("DEL").arg(name).ignore();
                pipeline.cmd("SETBIT").arg(name).arg(255).arg(0).ignore();
                for n in set {
                    pipeline.cmd("SETBIT").arg(name).arg(n - 512).arg(1).ignore();
                }
                pipeline.cmd("GET").arg(name);
                let (bits,): (Vec<u8>,) = pipeline.query(&mut *connection).expect("bits");
                bits
            };
            let (x, y) = (bits(&a), bits(&b));
            let mut call = script.prepare_invoke();
            call.arg(x).arg(y).arg(n).arg(most);
            let (sets, count, has, in_text, empty, same): (Vec<Vec<u64>>, u64, u8, u8, u8, u8) =
                call.invoke(&mut *connection).expect("an answer");
            let (mut more, mut less) = (a.clone(), a.clone());
            more.insert(n);
            less.remove(&n);
            let expected = [
                &a & &b,
                &a - &b,
                &a | &b,
                &a - &b,
                more,
                less,
                a.iter().copied().take(most).collect(),
                a.range(..n).copied().collect(),
            ];
            let expected = expected.map(|set| set.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(sets, expected.to_vec());
            let there = u8::from(a.contains(&n));
            prop_assert_eq!((count, has, in_text), (a.len() as u64, there, there));
            prop_assert_eq!((empty, same), (u8::from(a.is_empty()), 1));
            Ok(())
        })
        .expect("sets");
}
