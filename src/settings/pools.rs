//! The file of egress pools: ways out of the network.
//!
//! One pool a line, `key=value` in any order, `#` begins a comment:
//!
//! ```text
//! name=fixed    source=203.0.113.7,2001:db8::7 addresses=203.0.113.7,2001:db8::7
//! name=partners proxy=http://proxy.internal:3128 user=pregon password_file=/run/proxy addresses=198.51.100.0/28
//! name=bank     proxy=socks5://10.0.0.9:1080 cert_file=/run/bank.pem key_file=/run/bank.key
//! ```
//!
//! A line named `default` says how requests leave that name no pool. Control planes and nodes have
//! the same file: control planes refuse names that are not in it and show the addresses, nodes
//! send by it. Passwords and keys lie in files of their own, which nodes alone read.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use ipnet::IpNet;
use pregon_core::id::PoolName;
use pregon_core::pool::{POOLS_MAX, Pool};
use pregon_dataplane::egress::{Identity, Login, PoolOptions, ProxyKind, ProxyOptions, Via};
use zeroize::Zeroizing;

use super::Wrongs;

/// Bytes of the file: some hundred for each pool.
const FILE_LEN: u64 = 64 * 1024;
/// Bytes of a password's file: a line (RFC 1929 allows 255).
const PASSWORD_LEN: u64 = 256;
/// Bytes of a certificate's or key's file, in PEM.
const PEM_LEN: u64 = 1 << 20;
/// Networks that a pool may say its requests come from.
const ADDRESSES: usize = 64;
const FLAG: &str = "--egress-pools-file";

/// A pool, as its line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLine {
    /// Its name, and what receivers see of it.
    pub pool: Pool,
    way: WayLine,
    /// Files of a certificate and its key.
    identity: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum WayLine {
    Direct,
    Source(Option<Ipv4Addr>, Option<Ipv6Addr>),
    Proxy { kind: ProxyKind, host: String, port: u16, login: Option<(String, PathBuf)> },
}

/// Reads the file; every wrong line is told.
pub(super) fn read(path: &Path, wrong: &mut Wrongs) -> Vec<PoolLine> {
    let text = match contents(path, FILE_LEN) {
        Ok(bytes) => String::from_utf8(bytes.to_vec()).map_err(|_| "is not text".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match text {
        Ok(text) => parse(&text).unwrap_or_else(|rules| {
            rules.into_iter().for_each(|rule| wrong.add(FLAG, rule, ()));
            Vec::new()
        }),
        Err(error) => wrong.add(FLAG, format!("cannot read {}: {error}", path.display()), vec![]),
    }
}

/// A file of so many bytes at most.
fn contents(path: &Path, most: u64) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let length = std::fs::metadata(path)?.len();
    if length > most {
        return Err(std::io::Error::other(format!("it must have {most} bytes at most")));
    }
    std::fs::read(path).map(Zeroizing::new)
}

fn parse(text: &str) -> Result<Vec<PoolLine>, Vec<String>> {
    let (mut pools, mut wrong) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match parse_line(line) {
            Ok(pool) if !names.insert(pool.pool.name.clone()) => {
                wrong.push(format!("line {number}: the pool {} stands twice", pool.pool.name));
            }
            Ok(pool) => pools.push(pool),
            Err(rule) => wrong.push(format!("line {number}: {rule}")),
        }
    }
    if pools.len() > POOLS_MAX {
        wrong.push(format!("must hold {POOLS_MAX} pools at most"));
    }
    if wrong.is_empty() { Ok(pools) } else { Err(wrong) }
}

/// The fields of a line as they stand there.
#[derive(Default)]
struct Fields<'a> {
    name: Option<&'a str>,
    source: Option<&'a str>,
    proxy: Option<&'a str>,
    user: Option<&'a str>,
    password_file: Option<&'a str>,
    cert_file: Option<&'a str>,
    key_file: Option<&'a str>,
    addresses: Option<&'a str>,
}

fn parse_line(line: &str) -> Result<PoolLine, String> {
    const KEYS: &str = "name, source, proxy, user, password_file, cert_file, key_file, addresses";
    let mut fields = Fields::default();
    for field in line.split_whitespace() {
        let (key, value) = field.split_once('=').ok_or("every field must be key=value")?;
        let place = match key {
            "name" => &mut fields.name,
            "source" => &mut fields.source,
            "proxy" => &mut fields.proxy,
            "user" => &mut fields.user,
            "password_file" => &mut fields.password_file,
            "cert_file" => &mut fields.cert_file,
            "key_file" => &mut fields.key_file,
            "addresses" => &mut fields.addresses,
            _ => return Err(format!("there is no key {key}; there are {KEYS}")),
        };
        if value.is_empty() || place.replace(value).is_some() {
            return Err(format!("{key} must have one value"));
        }
    }
    let name = fields.name.ok_or("name must be set")?;
    let name = PoolName::parse(name).map_err(|rule| format!("name {}", rule.description))?;
    let addresses = networks(fields.addresses)?;
    let identity = match (fields.cert_file, fields.key_file) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err("cert_file and key_file must be set together".to_owned());
        }
    };
    let login = match (fields.user, fields.password_file) {
        (Some(user), Some(file)) if (1..=255).contains(&user.len()) && !user.contains(':') => {
            Some((user.to_owned(), file.into()))
        }
        (Some(_), Some(_)) => return Err("user must be 1 to 255 bytes without a colon".to_owned()),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err("user and password_file must be set together".to_owned());
        }
    };
    let way = match (fields.proxy, fields.source) {
        (Some(_), Some(_)) => return Err("proxy and source exclude each other".to_owned()),
        (Some(url), None) => proxy(url, login)?,
        (None, _) if login.is_some() => return Err("user wants a proxy".to_owned()),
        (None, Some(text)) => source(text)?,
        (None, None) => WayLine::Direct,
    };
    Ok(PoolLine { pool: Pool { name, addresses }, way, identity })
}

fn networks(text: Option<&str>) -> Result<Vec<IpNet>, String> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let network = |text: &str| {
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map_err(|_| format!("addresses: {text:?} must be an address or a network"))
    };
    let networks: Vec<_> = text.split(',').map(network).collect::<Result<_, _>>()?;
    match networks.len() <= ADDRESSES {
        true => Ok(networks),
        false => Err(format!("addresses must be {ADDRESSES} at most")),
    }
}

fn source(text: &str) -> Result<WayLine, String> {
    let (mut v4, mut v6) = (None, None);
    for text in text.split(',') {
        let twice = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => v4.replace(ip).is_some(),
            Ok(IpAddr::V6(ip)) => v6.replace(ip).is_some(),
            Err(_) => return Err(format!("source: {text:?} must be an address")),
        };
        if twice {
            return Err("source must be one address of each family at most".to_owned());
        }
    }
    Ok(WayLine::Source(v4, v6))
}

fn proxy(text: &str, login: Option<(String, PathBuf)>) -> Result<WayLine, String> {
    let rule = "proxy must be http://HOST:PORT or socks5://HOST:PORT";
    let (kind, rest) = match text.split_once("://") {
        Some(("http", rest)) => (ProxyKind::Connect, rest),
        Some(("socks5", rest)) => (ProxyKind::Socks5, rest),
        Some(_) | None => return Err(rule.to_owned()),
    };
    let (host, port) = rest.rsplit_once(':').ok_or(rule)?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or(rule)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(ip) => ip.parse::<Ipv6Addr>().map_err(|_| rule)?.to_string(),
        None => host.to_ascii_lowercase(),
    };
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    match bare.is_some() || (!host.is_empty() && host.len() <= 253 && host.bytes().all(good)) {
        true => Ok(WayLine::Proxy { kind, host, port, login }),
        false => Err(rule.to_owned()),
    }
}

impl PoolLine {
    /// The pool as a node sends by it: its files are read.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or holds no password.
    pub fn open(&self) -> anyhow::Result<PoolOptions> {
        let read = |path: &Path, most| {
            let name = &self.pool.name;
            let what = || format!("{FLAG}: pool {name}: cannot read {}", path.display());
            contents(path, most).with_context(what)
        };
        let via = match &self.way {
            WayLine::Direct => Via::Direct,
            WayLine::Source(v4, v6) => Via::Source { v4: *v4, v6: *v6 },
            WayLine::Proxy { kind, host, port, login } => {
                let login = match login {
                    None => None,
                    Some((user, path)) => {
                        let user = user.clone();
                        Some(Login { user, password: password(&read(path, PASSWORD_LEN)?, path)? })
                    }
                };
                Via::Proxy(ProxyOptions { kind: *kind, host: host.clone(), port: *port, login })
            }
        };
        let identity = match &self.identity {
            None => None,
            Some((cert, key)) => {
                let certificate = read(cert, PEM_LEN)?.to_vec();
                Some(Identity { certificate, key: read(key, PEM_LEN)? })
            }
        };
        Ok(PoolOptions { name: self.pool.name.clone(), via, identity })
    }
}

/// One line of text; what is wrong with it is said without it.
fn password(bytes: &[u8], path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.len() > 255 || text.contains(['\r', '\n']) {
        anyhow::bail!("{FLAG}: {} must hold one line of 1 to 255 bytes", path.display());
    }
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests;
