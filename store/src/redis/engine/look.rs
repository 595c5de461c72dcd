//! Why a server does not answer, as far as one more connection to its address shows.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use redis::{Client, ConnectionAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// How long connecting may take, and how long the answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// First byte of what a TLS server says to who speaks no TLS: an alert.
const TLS_ALERT: u8 = 0x15;

/// What is the matter, in words; none where a connection is made and nothing is said.
pub(in crate::redis) async fn look(client: &Client) -> Option<String> {
    match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, port) => look_at(host, *port, false).await,
        ConnectionAddr::TcpTls { host, port, .. } => look_at(host, *port, true).await,
        ConnectionAddr::Unix(path) => {
            let socket = path.display().to_string();
            let connected = timeout(PATIENCE, UnixStream::connect(path)).await.ok()?;
            connected.err().map(|error| away(&socket, &error))
        }
        _ => None,
    }
}

async fn look_at(host: &str, port: u16, tls: bool) -> Option<String> {
    let at = format!("{host}:{port}");
    let connected = timeout(PATIENCE, TcpStream::connect((host, port))).await;
    let Ok(connected) = connected else {
        return Some(format!("{at} cannot be reached: no connection is made"));
    };
    match connected {
        Ok(stream) => mismatch(&said(stream).await?, tls).map(|what| format!("{at} {what}")),
        Err(error) => Some(away(&at, &error)),
    }
}

fn away(at: &str, error: &Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => format!("nobody listens at {at}"),
        ErrorKind::NotFound => format!("there is no socket {at}"),
        _ => format!("{at} cannot be reached: {error}"),
    }
}

/// What is answered to a command in plain text.
async fn said(mut stream: TcpStream) -> Option<Vec<u8>> {
    let mut answer = vec![0; 64];
    let ask = async {
        stream.write_all(b"PING\r\n").await?;
        stream.read(&mut answer).await
    };
    let len = timeout(PATIENCE, ask).await.ok()?.ok()?;
    answer.truncate(len);
    Some(answer)
}

/// Where one side speaks TLS and the other does not.
fn mismatch(said: &[u8], tls: bool) -> Option<&'static str> {
    match (said.first()?, tls) {
        (b'+' | b'-', true) => Some("speaks no TLS: it wants redis://, or name its TLS port"),
        (&TLS_ALERT, false) => Some("speaks TLS: it wants rediss://"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_on_one_side_only_is_told() {
        assert!(mismatch(b"+PONG\r\n", true).is_some_and(|what| what.contains("no TLS")));
        assert!(mismatch(b"-NOAUTH", true).is_some_and(|what| what.contains("no TLS")));
        assert!(mismatch(b"\x15\x03\x03", false).is_some_and(|what| what.contains("rediss")));
        assert_eq!(mismatch(b"+PONG\r\n", false), None, "it answers, slowly");
        assert_eq!(mismatch(b"\x15\x03\x03", true), None);
        assert_eq!(mismatch(b"", true), None);
    }
}
