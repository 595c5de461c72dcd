//! How a process reaches its Redis, and what that must promise.

use std::path::{Path, PathBuf};

use clap::Args;
use pregon_store::intake::Durability;
use pregon_store::redis::{ClientPem, RedisOptions};
use zeroize::Zeroizing;

use super::Wrongs;

/// A password is a line; whatever is longer is another file.
const PASSWORD_LEN: usize = 4096;
/// Certificates of a chain, or of a system's authorities, in PEM.
const PEM_LEN: usize = 1 << 20;

/// These settings, as text.
#[derive(Args, Clone, Debug)]
pub struct RedisArgs {
    /// The Redis of this deployment: redis://HOST:PORT/DB, rediss://… for TLS, or
    /// redis+unix:///PATH?db=DB.
    ///
    /// Redis 7.0 or Valkey 7.2, or later, with maxmemory-policy noeviction. A password belongs into
    /// --redis-password-file: others can see command lines.
    #[arg(
        long,
        env = "PREGON_REDIS_URL",
        default_value = "redis://127.0.0.1:6379/0",
        value_name = "URL",
        hide_env_values = true
    )]
    redis_url: String,

    /// ACL user at Redis; the default one if not given.
    #[arg(long, env = "PREGON_REDIS_USER", value_name = "NAME")]
    redis_user: Option<String>,

    /// File with the password at Redis.
    #[arg(long, env = "PREGON_REDIS_PASSWORD_FILE", value_name = "FILE")]
    redis_password_file: Option<PathBuf>,

    /// PEM file with the certificate authorities of a rediss:// server; the system's if not given.
    #[arg(long, env = "PREGON_REDIS_CA_FILE", value_name = "FILE")]
    redis_ca_file: Option<PathBuf>,

    /// PEM file with the certificate that is shown to a rediss:// server that asks for one.
    #[arg(long, env = "PREGON_REDIS_CERT_FILE", value_name = "FILE")]
    redis_cert_file: Option<PathBuf>,

    /// PEM file with the key of that certificate.
    #[arg(long, env = "PREGON_REDIS_KEY_FILE", value_name = "FILE")]
    redis_key_file: Option<PathBuf>,

    /// What an acknowledged write survives: `memory` the process's end, `fsync` a power cut at
    /// Redis, `replicated` the loss of its machine.
    ///
    /// fsync, because an acknowledged event must never be lost. It wants appendonly yes and
    /// appendfsync always, or everysec on a Redis that can say when its disk has a write (8.2 can,
    /// Valkey 9.1 cannot). A level that the server cannot give is refused at the start.
    #[arg(long, env = "PREGON_DURABILITY", default_value = "fsync", value_name = "LEVEL")]
    durability: String,

    /// Replicas that must have a write with --durability replicated, 1 to 16.
    #[arg(long, env = "PREGON_REPLICAS", default_value = "1", value_name = "N")]
    replicas: String,
}

impl RedisArgs {
    /// Reads the settings, and the files that they name.
    pub(super) fn read(self, wrong: &mut Wrongs) -> RedisOptions {
        let password = self
            .redis_password_file
            .and_then(|path| file("--redis-password-file", &path, PASSWORD_LEN, wrong))
            .and_then(|bytes| password(&bytes, wrong));
        let ca_pem = self
            .redis_ca_file
            .and_then(|path| file("--redis-ca-file", &path, PEM_LEN, wrong))
            .map(|pem| pem.to_vec());
        let client_pem = match (self.redis_cert_file, self.redis_key_file) {
            (Some(cert), Some(key)) => {
                let cert = file("--redis-cert-file", &cert, PEM_LEN, wrong);
                let key = file("--redis-key-file", &key, PEM_LEN, wrong);
                cert.zip(key).map(|(cert, key)| ClientPem { certificate: cert.to_vec(), key })
            }
            (Some(_), None) => {
                wrong.add("--redis-key-file", "must be set with --redis-cert-file", None)
            }
            (None, Some(_)) => {
                wrong.add("--redis-cert-file", "must be set with --redis-key-file", None)
            }
            (None, None) => None,
        };
        let durability = match self.durability.as_str() {
            "memory" => Durability::Memory,
            "fsync" => Durability::Fsync,
            "replicated" => Durability::Replicated,
            _ => {
                let rule = "must be memory, fsync or replicated";
                wrong.add("--durability", rule, Durability::Fsync)
            }
        };
        let replicas = wrong.number("--replicas", &self.replicas, 1, 16);
        RedisOptions {
            user: self.redis_user,
            password,
            ca_pem,
            client_pem,
            durability,
            replicas: u32::try_from(replicas).unwrap_or(1),
            janitor: false,
            ..RedisOptions::new(&self.redis_url)
        }
    }
}

/// A small file's contents.
fn file(
    flag: &'static str,
    path: &Path,
    most: usize,
    wrong: &mut Wrongs,
) -> Option<Zeroizing<Vec<u8>>> {
    match std::fs::read(path).map(Zeroizing::new) {
        Ok(bytes) if bytes.len() <= most => Some(bytes),
        Ok(_) => {
            wrong.add(flag, format!("{} must have {most} bytes at most", path.display()), None)
        }
        Err(error) => wrong.add(flag, format!("cannot read {}: {error}", path.display()), None),
    }
}

/// One line of text; what is wrong with it is said without it.
fn password(bytes: &[u8], wrong: &mut Wrongs) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.contains(['\r', '\n']) {
        return wrong.add("--redis-password-file", "must hold one line of text", None);
    }
    Some(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RedisArgs,
    }

    fn read(line: &[&str]) -> Result<RedisOptions, Vec<String>> {
        let line = std::iter::once("pregon").chain(line.iter().copied());
        let mut wrong = Wrongs::default();
        let options = Line::try_parse_from(line).unwrap().args.read(&mut wrong);
        match wrong.0.is_empty() {
            true => Ok(options),
            false => Err(wrong.0.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn defaults_keep_what_is_acknowledged() {
        let options = read(&[]).unwrap();
        assert_eq!(options.url, "redis://127.0.0.1:6379/0");
        assert_eq!(options.durability, Durability::Fsync);
        assert!(options.password.is_none() && options.ca_pem.is_none() && !options.janitor);
    }

    #[test]
    fn a_password_is_one_line_of_a_file_and_is_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let arg = path.display().to_string();
        std::fs::write(&path, "canary\n").unwrap();
        let options = read(&["--redis-password-file", &arg]).unwrap();
        assert_eq!(options.password.as_deref().map(String::as_str), Some("canary"));
        assert!(!format!("{options:?}").contains("canary"));
        for bad in ["canary\ncanary", "", "\n"] {
            std::fs::write(&path, bad).unwrap();
            let wrong = read(&["--redis-password-file", &arg]).unwrap_err();
            assert!(wrong.len() == 1 && !wrong[0].contains("canary"), "{wrong:?}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let line = ["--durability", "hope", "--replicas", "0", "--redis-cert-file", "c"];
        let wrong = read(&[&line[..], &["--redis-ca-file", "/nowhere/ca"]].concat()).unwrap_err();
        let said = wrong.join("\n");
        for flag in ["--durability", "--replicas", "--redis-key-file", "--redis-ca-file"] {
            assert!(said.contains(flag), "{flag}: {said}");
        }
        assert_eq!(wrong.len(), 4, "{said}");
    }
}
