//! Functions of our own: hashes, keyed ones, and the checksum that some senders sign.

#![expect(clippy::needless_pass_by_value, reason = "the engine's signature of an overload")]

use super::overload::{Args, Entry, Outcome, octets, text, wrong_types};
use super::work::{charge, failed};
use cel::ExecutionError;
use cel::common::types::{CelBytes, CelInt};
use cel::common::value::CowVal;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

/// Units per byte that is hashed: slower than a scan.
const HASH: usize = 8;

/// Units of beginning and ending a hash.
const BLOCKS: usize = 512;

/// What `hmac` takes as its first argument.
pub(super) const ALGORITHMS: [&str; 4] = ["md5", "sha1", "sha256", "sha512"];

/// The functions, as the rewriting names them.
pub(super) const FUNCTIONS: [Entry; 6] = [
    ("@crc32", 1..=1, crc32),
    ("@hmac", 3..=3, hmac),
    ("@md5", 1..=1, md5),
    ("@sha1", 1..=1, sha1),
    ("@sha256", 1..=1, sha256),
    ("@sha512", 1..=1, sha512),
];

fn md5<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    digest::<Md5>("md5", &args)
}

fn sha1<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    digest::<Sha1>("sha1", &args)
}

fn sha256<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    digest::<Sha256>("sha256", &args)
}

fn sha512<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    digest::<Sha512>("sha512", &args)
}

fn digest<'b, 'v, D: Digest>(name: &str, args: &[CowVal<'_, '_>]) -> Outcome<'b, 'v> {
    let data = octets(args, 0).ok_or_else(|| wrong_types(name, args))?;
    pay(data)?;
    Ok(CowVal::owned(CelBytes::from(D::digest(data).to_vec())))
}

/// `crc32(x)`: the checksum of ISO 3309, as gzip and PNG have it, as an int from 0 to 2^32 - 1.
fn crc32<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let data = octets(&args, 0).ok_or_else(|| wrong_types("crc32", &args))?;
    charge(data.len())?;
    Ok(CowVal::owned(CelInt::from(i64::from(crc32fast::hash(data)))))
}

/// `hmac(algorithm, key, text)`: RFC 2104 with one of [`ALGORITHMS`].
fn hmac<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
    let (Some(algorithm), Some(key), Some(data)) =
        (text(&args, 0), octets(&args, 1), octets(&args, 2))
    else {
        return Err(wrong_types("hmac", &args));
    };
    pay(key)?;
    pay(data)?;
    let made = match algorithm {
        "md5" => mac::<Hmac<Md5>>(key, data),
        "sha1" => mac::<Hmac<Sha1>>(key, data),
        "sha256" => mac::<Hmac<Sha256>>(key, data),
        "sha512" => mac::<Hmac<Sha512>>(key, data),
        _ => None,
    };
    Ok(CowVal::owned(CelBytes::from(made.ok_or_else(|| failed("hmac"))?)))
}

fn mac<M: Mac + KeyInit>(key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let mut mac = <M as Mac>::new_from_slice(key).ok()?;
    mac.update(data);
    Some(mac.finalize().into_bytes().to_vec())
}

fn pay(data: &[u8]) -> Result<(), ExecutionError> {
    charge(data.len().saturating_mul(HASH).saturating_add(BLOCKS))
}
