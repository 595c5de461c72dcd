//! The KMS that opens the wrapped keys of a key file, and how it is reached.

use std::path::PathBuf;

use clap::Args;
use http::HeaderValue;
use pregon_core::tls::certificates;

use super::Wrongs;
use crate::keys::kms::{Address, TransitOptions};

/// The setting that names the KMS.
pub(super) const KMS_ADDRESS: &str = "--kms-address";
/// Characters of a key's name, of an engine's path and of a namespace: far more than anybody uses.
const NAME_LEN: usize = 256;
/// Bytes of certificate authorities, in PEM.
const PEM_LEN: usize = 1 << 20;

/// These settings, as text.
#[derive(Args, Clone, Debug)]
pub struct KmsArgs {
    /// The KMS that opens the wrapped keys of the key file, a Vault or an OpenBao with its transit
    /// engine: https://HOST:PORT, or http://… on loopback.
    ///
    /// Without it the keys stand in the file in clear. It is asked at the start, and for new lines
    /// of the file; a process that runs goes on without it.
    #[arg(long, env = "PREGON_KMS_ADDRESS", value_name = "URL")]
    kms_address: Option<String>,

    /// Name of the transit key that wraps the keys.
    #[arg(long, env = "PREGON_KMS_KEY", default_value = "pregon", value_name = "NAME")]
    kms_key: String,

    /// Path at which the transit engine is enabled.
    #[arg(long, env = "PREGON_KMS_MOUNT", default_value = "transit", value_name = "PATH")]
    kms_mount: String,

    /// File with the token for the KMS, alone on its line; none is sent if not given.
    ///
    /// Read again for each call, so that an agent may renew it. Leave it out where the address is an
    /// agent's that adds a token itself.
    #[arg(long, env = "PREGON_KMS_TOKEN_FILE", value_name = "FILE")]
    kms_token_file: Option<PathBuf>,

    /// Namespace of the KMS that the engine is in; its root if not given.
    #[arg(long, env = "PREGON_KMS_NAMESPACE", value_name = "PATH")]
    kms_namespace: Option<String>,

    /// PEM file with the certificate authorities of an https:// KMS; the web's if not given.
    #[arg(long, env = "PREGON_KMS_CA_FILE", value_name = "FILE")]
    kms_ca_file: Option<PathBuf>,
}

impl KmsArgs {
    /// Whether a KMS is named, rightly or not.
    pub(super) fn is_given(&self) -> bool {
        self.kms_address.is_some()
    }

    /// Reads the settings; none: no KMS is named.
    pub(super) fn read(self, wrong: &mut Wrongs) -> Option<TransitOptions> {
        let Some(address) = self.kms_address else {
            for (flag, given) in [
                ("--kms-token-file", self.kms_token_file.is_some()),
                ("--kms-namespace", self.kms_namespace.is_some()),
                ("--kms-ca-file", self.kms_ca_file.is_some()),
            ] {
                if given {
                    wrong.add(KMS_ADDRESS, format_args!("must be set with {flag}"), ());
                }
            }
            return None;
        };
        let address = address.parse::<Address>();
        let address = address.map_or_else(|rule| wrong.add(KMS_ADDRESS, rule, None), Some);
        let rule = "must be 1 to 256 letters, digits, '.', '_', '-', and '/' in between";
        for (flag, path) in [
            ("--kms-mount", Some(&self.kms_mount)),
            ("--kms-namespace", self.kms_namespace.as_ref()),
        ] {
            if path.is_some_and(|path| !path.trim_end_matches('/').split('/').all(is_name)) {
                wrong.add(flag, rule, ());
            }
        }
        if !is_name(&self.kms_key) {
            wrong.add("--kms-key", "must be 1 to 256 letters, digits, '.', '_' and '-'", ());
        }
        if let Some(path) = &self.kms_token_file {
            wrong.readable("--kms-token-file", path);
        }
        let ca_pem = self.kms_ca_file.as_deref().and_then(|path| wrong.roots(path));
        Some(TransitOptions {
            address: address?,
            key: self.kms_key,
            mount: self.kms_mount.trim_end_matches('/').to_owned(),
            token_file: self.kms_token_file,
            namespace: self.kms_namespace.and_then(|text| HeaderValue::from_str(&text).ok()),
            ca_pem,
        })
    }

    /// The same for a command that needs one.
    ///
    /// # Errors
    ///
    /// What is wrong, or that none is named.
    pub fn named(self) -> anyhow::Result<TransitOptions> {
        let mut wrong = Wrongs::default();
        let given = self.is_given();
        let read = self.read(&mut wrong);
        if !given {
            wrong.add(KMS_ADDRESS, "must be set", ());
        }
        let all: Vec<_> = wrong.0.iter().map(ToString::to_string).collect();
        match read {
            Some(options) if all.is_empty() => Ok(options),
            Some(_) | None => anyhow::bail!("{}", all.join("; ")),
        }
    }

    /// The same for a command that goes without one, too.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn perhaps(self) -> anyhow::Result<Option<TransitOptions>> {
        let mut wrong = Wrongs::default();
        let read = self.read(&mut wrong);
        let all: Vec<_> = wrong.0.iter().map(ToString::to_string).collect();
        anyhow::ensure!(all.is_empty(), "{}", all.join("; "));
        Ok(read)
    }
}

impl Wrongs {
    /// Certificate authorities, which are read once.
    fn roots(&mut self, path: &std::path::Path) -> Option<Vec<u8>> {
        let flag = "--kms-ca-file";
        let pem = match std::fs::read(path) {
            Ok(pem) if pem.len() <= PEM_LEN => pem,
            Ok(_) => {
                let rule = format!("{} must have {PEM_LEN} bytes at most", path.display());
                return self.add(flag, rule, None);
            }
            Err(error) => {
                let rule = format!("cannot read {}: {error}", path.display());
                return self.add(flag, rule, None);
            }
        };
        match certificates(&pem) {
            Ok(_) => Some(pem),
            Err(why) => self.add(flag, format!("{} {why}", path.display()), None),
        }
    }
}

/// A part of a path: it needs no encoding, and leads nowhere else.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=NAME_LEN).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: KmsArgs,
    }

    fn read(line: &[&str]) -> Result<Option<TransitOptions>, Vec<&'static str>> {
        let line = std::iter::once("pregon").chain(line.iter().copied());
        let args = Line::try_parse_from(line).unwrap().args;
        let mut wrong = Wrongs::default();
        let options = args.read(&mut wrong);
        match wrong.0.is_empty() {
            true => Ok(options),
            false => Err(wrong.0.iter().map(|it| it.flag).collect()),
        }
    }

    #[test]
    fn a_kms_is_named_by_its_address_and_the_rest_has_defaults() {
        assert_eq!(read(&[]).unwrap(), None);
        let options = read(&["--kms-address", "https://vault.internal:8200"]).unwrap().unwrap();
        assert_eq!((&*options.key, &*options.mount), ("pregon", "transit"));
        assert!(options.token_file.is_none() && options.ca_pem.is_none());
        let line = ["--kms-address", "http://[::1]:8200", "--kms-mount", "team/transit/"];
        let options =
            read(&[&line[..], &["--kms-namespace", "eu/shop"]].concat()).unwrap().unwrap();
        assert_eq!(options.mount, "team/transit");
        assert_eq!(options.namespace.unwrap(), "eu/shop");
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let line = [
            "--kms-address",
            "http://vault.internal:8200",
            "--kms-mount",
            "../sys",
            "--kms-namespace",
            "a b",
            "--kms-key",
            "a/b",
            "--kms-token-file",
            "/nowhere/token",
            "--kms-ca-file",
            "/dev/null",
        ];
        let flags = ["--kms-address", "--kms-mount", "--kms-namespace", "--kms-key"];
        let files = ["--kms-token-file", "--kms-ca-file"];
        assert_eq!(read(&line).unwrap_err(), [&flags[..], &files].concat());
        assert_eq!(read(&["--kms-namespace", "eu"]).unwrap_err(), ["--kms-address"]);
    }
}
