//! Logs: readable on a terminal, JSON lines otherwise.

use std::io::IsTerminal;

use clap::Args;
use tracing_subscriber::EnvFilter;

/// Settings of the log.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// What is logged: a level, or levels by module, as in `info,pregon_dataplane=debug`.
    #[arg(long, env = "PREGON_LOG", default_value = "info", global = true, value_name = "FILTER")]
    log: String,

    /// How lines look: `text`, `json`, or `auto`: text on a terminal and JSON otherwise.
    #[arg(
        long,
        env = "PREGON_LOG_FORMAT",
        default_value = "auto",
        global = true,
        value_name = "FORMAT"
    )]
    log_format: String,
}

/// Starts logging to standard error; standard output is for results.
///
/// # Errors
///
/// A filter or a format that cannot be read, as `flag: rule`.
pub fn start(args: &LogArgs) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    let filter = EnvFilter::try_new(&args.log).unwrap_or_else(|error| {
        wrong.push(format!("--log: {error}"));
        EnvFilter::new("info")
    });
    let json = match args.log_format.as_str() {
        "auto" => !std::io::stderr().is_terminal(),
        "json" => true,
        "text" => false,
        _ => {
            wrong.push("--log-format: must be auto, text or json".to_owned());
            false
        }
    };
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        builder.json().flatten_event(true).with_current_span(false).init();
    } else {
        builder.compact().with_ansi(std::io::stderr().is_terminal()).init();
    }
    Ok(())
}
