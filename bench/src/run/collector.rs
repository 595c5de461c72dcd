//! A collector that takes everything and keeps nothing, for what telemetry costs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use super::child::Part;

/// Starts one that works in a directory.
///
/// # Errors
/// When it does not start.
pub async fn start(otelcol: &Path, directory: &Path) -> anyhow::Result<Part> {
    let address = free_address()?;
    let file = directory.join("collector.yaml");
    std::fs::write(&file, configuration(address))?;
    let args = ["--config".to_owned(), file.display().to_string()];
    Part::collector(otelcol, directory, address, &args).await
}

fn configuration(address: SocketAddr) -> String {
    let pipeline = "{ receivers: [otlp], exporters: [nop] }";
    format!(
        "receivers: {{ otlp: {{ protocols: {{ grpc: {{ endpoint: '{address}' }} }} }} }}\n\
         exporters: {{ nop: {{}} }}\n\
         service:\n  telemetry: {{ metrics: {{ level: none }} }}\n  pipelines:\n    \
         traces: {pipeline}\n    metrics: {pipeline}\n    logs: {pipeline}\n"
    )
}

/// An address that nobody listens at just now.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
