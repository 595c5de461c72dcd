//! Where gRPC is served, and what keeps strangers out: the settings that every command which serves
//! has in common. Each gives the address that it listens on by default.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use pregon_rpc::server::{Listen, TLS_CERT_FILE, TOKENS_FILE, TlsFiles};

use super::Wrongs;

/// Settings of a gRPC listener, as text.
#[derive(Args, Clone, Debug, Default)]
pub struct ListenArgs {
    /// Where gRPC is served, reflection and health included; loopback if not given.
    ///
    /// Port 0 takes a free one and prints it. Beyond loopback --tls-cert-file and --tokens-file
    /// must be set.
    #[arg(long, env = "PREGON_LISTEN", value_name = "ADDR:PORT")]
    listen: Option<String>,

    /// PEM file with the certificate that gRPC is served with, and its chain behind it.
    ///
    /// Read again when it changes; the next connection gets the new one.
    #[arg(long, env = "PREGON_TLS_CERT_FILE", value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,

    /// PEM file with the key of the certificate. Read again when it changes.
    #[arg(long, env = "PREGON_TLS_KEY_FILE", value_name = "FILE")]
    tls_key_file: Option<PathBuf>,

    /// PEM file with certificate authorities: then callers need a certificate of one of them.
    ///
    /// Besides a token, not in its place. Read again when it changes.
    #[arg(long, env = "PREGON_TLS_CLIENT_CA_FILE", value_name = "FILE")]
    tls_client_ca_file: Option<PathBuf>,

    /// File with the tokens of callers, one a line, as `pregon token` prints them.
    ///
    /// Without it nobody is authenticated, and whoever reaches the port can do everything: on
    /// loopback that is this machine only. Beyond loopback `pregon standalone` wants API keys then,
    /// and makes a first one. Read again when it changes.
    #[arg(long, env = "PREGON_TOKENS_FILE", value_name = "FILE")]
    tokens_file: Option<PathBuf>,

    /// Serve gRPC beyond loopback without TLS.
    ///
    /// For where TLS ends before the port, as in the sidecar of a service mesh. Tokens are wanted
    /// all the same; on a network they would travel in clear.
    #[arg(long, env = "PREGON_ALLOW_PLAINTEXT")]
    allow_plaintext: bool,
}

impl ListenArgs {
    /// Reads the settings; `default` is where the command listens if nobody says otherwise.
    /// Where there is no file of tokens beyond loopback, `keys` says whether API keys may do.
    pub(super) fn read(self, default: SocketAddr, keys: bool, wrong: &mut Wrongs) -> Listen {
        let parsed = self.listen.map_or(Ok(default), |text| text.parse());
        let rule = "must be an address and a port, as in 127.0.0.1:7070";
        let addr = wrong.take("--listen", parsed, rule);
        for (flag, file) in [
            (TLS_CERT_FILE, &self.tls_cert_file),
            ("--tls-key-file", &self.tls_key_file),
            ("--tls-client-ca-file", &self.tls_client_ca_file),
            (TOKENS_FILE, &self.tokens_file),
        ] {
            if let Some(path) = file {
                wrong.readable(flag, path);
            }
        }
        let tls = match (self.tls_cert_file, self.tls_key_file) {
            (Some(cert), Some(key)) => {
                Some(TlsFiles { cert, key, client_ca: self.tls_client_ca_file })
            }
            (Some(_), None) => {
                wrong.add("--tls-key-file", "must be set with --tls-cert-file", None)
            }
            (None, Some(_)) => {
                wrong.add("--tls-cert-file", "must be set with --tls-key-file", None)
            }
            (None, None) if self.tls_client_ca_file.is_some() => {
                let rule = "must be set with --tls-client-ca-file, and --tls-key-file too";
                wrong.add("--tls-cert-file", rule, None)
            }
            (None, None) => None,
        };
        let allow_plaintext = self.allow_plaintext;
        let tokens = self.tokens_file;
        let mut listen = Listen { addr, tls, tokens, keys: false, allow_plaintext };
        listen.keys = keys && listen.tokens.is_none() && !listen.is_loopback();
        for lack in listen.lacks() {
            // What is half set was said above.
            if wrong.0.iter().all(|it| !it.flag.starts_with("--tls") || lack.setting() != it.flag) {
                wrong.add(lack.setting(), lack.rule(), ());
            }
        }
        listen
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ListenArgs,
    }

    fn read(line: &[&str]) -> Result<Listen, Vec<&'static str>> {
        let line = std::iter::once("pregon").chain(line.iter().copied());
        let args = Line::try_parse_from(line).unwrap().args;
        let mut wrong = Wrongs::default();
        let listen = args.read(SocketAddr::from(([127, 0, 0, 1], 7070)), false, &mut wrong);
        match wrong.0.is_empty() {
            true => Ok(listen),
            false => Err(wrong.0.iter().map(|it| it.flag).collect()),
        }
    }

    const BEYOND: [&str; 2] = ["--listen", "0.0.0.0:7070"];
    /// A file that can be read; what it holds is not looked at here.
    const FILE: &str = "/dev/null";
    const PAIR: [&str; 4] = ["--tls-cert-file", FILE, "--tls-key-file", FILE];
    const TOKENS: [&str; 2] = ["--tokens-file", FILE];
    const CA: [&str; 2] = ["--tls-client-ca-file", FILE];
    const PLAIN: [&str; 1] = ["--allow-plaintext"];

    #[test]
    fn loopback_needs_nothing() {
        assert_eq!(read(&[]), Ok(Listen::open("127.0.0.1:7070".parse().unwrap())));
        assert!(read(&["--listen", "[::1]:0"]).is_ok());
        let guarded = read(&[&PAIR[..], &CA, &TOKENS].concat()).unwrap();
        assert_eq!(guarded.tls.unwrap().client_ca, Some(FILE.into()));
        assert_eq!(guarded.tokens, Some(FILE.into()));
    }

    #[test]
    fn beyond_loopback_everything_that_is_missing_is_said_at_once() {
        let both = vec!["--tls-cert-file", "--tokens-file"];
        assert_eq!(read(&BEYOND), Err(both));
        assert_eq!(read(&[&BEYOND[..], &PAIR].concat()), Err(vec!["--tokens-file"]));
        assert_eq!(read(&[&BEYOND[..], &TOKENS].concat()), Err(vec!["--tls-cert-file"]));
        assert_eq!(read(&[&BEYOND[..], &PLAIN].concat()), Err(vec!["--tokens-file"]));
        assert!(read(&[&BEYOND[..], &PLAIN, &TOKENS].concat()).is_ok());
        assert!(read(&[&BEYOND[..], &PAIR, &TOKENS].concat()).is_ok());
    }

    #[test]
    fn files_that_are_not_there_are_said_at_once() {
        let flags = ["--tls-cert-file", "--tls-key-file", "--tls-client-ca-file", "--tokens-file"];
        let line: Vec<_> = flags.iter().flat_map(|flag| [*flag, "/nowhere/file"]).collect();
        assert_eq!(read(&line), Err(flags.to_vec()));
    }

    #[test]
    fn tls_is_set_as_a_whole() {
        assert_eq!(read(&PAIR[..2]), Err(vec!["--tls-key-file"]));
        assert_eq!(read(&PAIR[2..]), Err(vec!["--tls-cert-file"]));
        assert_eq!(read(&CA), Err(vec!["--tls-cert-file"]));
        let half = [&BEYOND[..], &CA, &TOKENS].concat();
        assert_eq!(read(&half), Err(vec!["--tls-cert-file"]), "said once");
    }
}
