//! A private nginx on ports of loopback, in a directory of its own: a web server that others wrote,
//! which asks for client certificates. `scripts/tools.sh` installs it.

use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::eventually;
use super::redis::free_port;

/// The program, as Debian packages it; it lies where only root looks.
const PROGRAMS: [&str; 2] = ["nginx", "/usr/sbin/nginx"];

/// Versions of TLS, as nginx calls them.
pub const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

/// A web server over TLS that answers 204 to everything, and to `/ask` with an allowance.
pub struct Nginx {
    ports: [u16; 2],
    dir: TempDir,
    _running: Child,
}

impl Nginx {
    /// Starts one with this certificate and key, in PEM. Who calls must show a certificate under the
    /// authority `clients`, in PEM, if there is one.
    ///
    /// # Panics
    ///
    /// When nginx is not installed.
    pub async fn start([certificate, key]: [&str; 2], clients: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ports = [free_port(), free_port()];
        std::fs::write(dir.path().join("conf"), settings(dir.path(), ports, clients.is_some()))
            .unwrap();
        std::fs::write(dir.path().join("clients"), clients.unwrap_or_default()).unwrap();
        std::fs::write(dir.path().join("certificate"), certificate).unwrap();
        std::fs::write(dir.path().join("key"), key).unwrap();
        let start = |program| {
            Command::new(program)
                .arg("-p")
                .arg(dir.path())
                .arg("-c")
                .arg(dir.path().join("conf"))
                .arg("-e")
                .arg(dir.path().join("error"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
        };
        let running = PROGRAMS.iter().find_map(|program| start(program).ok());
        let running = running.expect("nginx can be started: scripts/tools.sh installs it");
        for port in ports {
            let listens = || async { TcpStream::connect(("127.0.0.1", port)).await.map(drop) };
            eventually("nginx listens", listens).await;
        }
        Self { ports, dir, _running: running }
    }

    /// A URL of it, by its number of [`VERSIONS`].
    pub fn url(&self, version: usize, target: &str) -> String {
        format!("https://127.0.0.1:{}{target}", self.ports[version])
    }

    /// A line for each request: the version of TLS, what became of the client's certificate, its
    /// serial number, the status, and the path.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("access")).unwrap_or_default()
    }
}

fn settings(dir: &Path, ports: [u16; 2], asks: bool) -> String {
    let ask = match asks {
        true => "ssl_client_certificate clients; ssl_verify_client on;",
        false => "",
    };
    let servers: String = ports
        .iter()
        .zip(VERSIONS)
        .map(|(port, version)| {
            format!(
                "server {{ listen 127.0.0.1:{port} ssl; ssl_protocols {version}; \
                 ssl_certificate certificate; ssl_certificate_key key; {ask}\n\
                 location /ask {{ default_type application/json; return 200 '{{\"allowed\":true}}'; }}\n\
                 location / {{ return 204; }} }}\n"
            )
        })
        .collect();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("{what}_temp_path {}/{what};\n", dir.display()))
        .collect();
    format!(
        "daemon off; master_process off; pid pid; error_log error;\n\
         events {{ worker_connections 64; }}\n\
         http {{ log_format who '$ssl_protocol $ssl_client_verify $ssl_client_serial $status $uri';\n\
         access_log access who;\n{temporary}{servers}}}\n"
    )
}
