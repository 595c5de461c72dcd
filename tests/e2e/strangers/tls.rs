//! A listener beyond loopback: TLS, and certificates that change.

use tempfile::TempDir;

use super::{Token, list_tenants, write_tokens};
use crate::harness::tls::Authority;
use crate::harness::{Grpcurl, Standalone, eventually};

/// A Pregón on every address, whose files lie in a directory.
struct Beyond {
    pregon: Standalone,
    dir: TempDir,
    token: Token,
}

impl Beyond {
    async fn start(authority: &Authority, client_ca: Option<&Authority>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let token = Token::of("viewer").await;
        let tokens = write_tokens(dir.path(), &[&token]).display().to_string();
        let [cert, key] = authority.write_pair(dir.path(), "server");
        let client_ca = client_ca.map(Authority::file);
        let mut args = vec!["standalone", "--in-memory", "--listen", "0.0.0.0:0"];
        args.extend(["--tls-cert-file", &cert, "--tls-key-file", &key, "--tokens-file", &tokens]);
        if let Some(file) = &client_ca {
            args.extend(["--tls-client-ca-file", file]);
        }
        let pregon = Standalone::exactly(&args, None).await;
        Self { pregon, dir, token }
    }

    /// grpcurl that believes an authority, with a valid token.
    fn grpcurl(&self, authority: &Authority, more: &[&str]) -> Grpcurl {
        let ca = authority.file();
        let flags = [&["-cacert", ca.as_str(), "-connect-timeout", "5"], more].concat();
        Grpcurl::over_tls(self.pregon.addr(), &flags).with_token(&self.token.token)
    }
}

/// Whether a connection could be made at all: `list` fails without one.
async fn connects(grpc: &Grpcurl) -> Result<(), String> {
    let output = grpc.run(&[], &["list"], "").await;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[tokio::test]
async fn beyond_loopback_callers_speak_tls_and_have_a_token() {
    let authority = Authority::new();
    let server = Beyond::start(&authority, None).await;
    list_tenants(&server.grpcurl(&authority, &[])).await.unwrap();
    // In clear there is nobody there.
    let plain = Grpcurl::over_tls(server.pregon.addr(), &["-plaintext", "-connect-timeout", "5"]);
    assert!(connects(&plain).await.is_err());
    // A server of another authority is not believed.
    let said = connects(&server.grpcurl(&Authority::new(), &[])).await.unwrap_err();
    assert!(said.contains("certificate"), "{said}");
    // TLS alone lets nobody in.
    let stranger = Grpcurl::over_tls(server.pregon.addr(), &["-cacert", &authority.file()]);
    let said = connects(&stranger).await.unwrap_err();
    assert!(said.contains("Unauthenticated"), "{said}");
}

#[tokio::test]
async fn with_a_client_ca_callers_show_a_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = Beyond::start(&authority, Some(&clients)).await;
    let [cert, key] = clients.write_pair(server.dir.path(), "client");
    let known = server.grpcurl(&authority, &["-cert", &cert, "-key", &key]);
    list_tenants(&known).await.unwrap();
    connects(&server.grpcurl(&authority, &[])).await.unwrap_err();
    let [cert, key] = Authority::new().write_pair(server.dir.path(), "stranger");
    let stranger = server.grpcurl(&authority, &["-cert", &cert, "-key", &key]);
    connects(&stranger).await.unwrap_err();
    list_tenants(&known).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_changed_while_it_serves() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = Beyond::start(&old, None).await;
    let (before, after) = (server.grpcurl(&old, &[]), server.grpcurl(&new, &[]));
    connects(&before).await.unwrap();
    connects(&after).await.unwrap_err();
    new.write_pair(server.dir.path(), "server");
    eventually("the new certificate is served", || connects(&after)).await;
    connects(&before).await.unwrap_err();
    // A key that cannot be read is named in the log, and the last good one stays.
    std::fs::write(server.dir.path().join("server.key"), "no key").unwrap();
    eventually("the file is named", || async {
        match server.pregon.output() {
            output if output.contains("server.key: must hold a private key") => Ok(()),
            output => Err(output),
        }
    })
    .await;
    connects(&after).await.unwrap();
}
