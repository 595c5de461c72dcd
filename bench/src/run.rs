//! The one command: everything that is measured, in one run, with the ceiling beside it.
//!
//! A machine is never quite idle and never quite the same an hour later. So each scenario is
//! measured between two measurements of the ceiling (the load generator straight against the
//! sink), and what counts is the ratio to their mean; so rounds are repeated and the median is
//! shown; and how much CPU everything else on the machine took meanwhile is shown too. Each
//! scenario has a server and a store of its own, that no measurement inherits the files, the
//! caches or the backlog of another. None counts unless every event arrived and the server's own
//! books agree with ours.

mod bench;
mod child;
mod collector;
mod deployment;
mod machine;
mod measure;
mod outcome;
mod redis;
mod scenario;
mod setup;
pub mod sink_client;
mod sizing;
mod table;
#[cfg(test)]
mod tests;
mod usage;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Serialize;

use child::Part;
use machine::Machine;
use measure::Ceiling;
use outcome::Outcome;
use scenario::{Scenario, Size, StoreKind};
use sizing::Sizing;

use crate::stamp;

/// Measures a server and prints a table.
///
/// Starts a sink and `pregon standalone`, or with --store redis a redis-server, `pregon control` and
/// `pregon dataplane`, all on free ports of the loopback interface and in a temporary directory,
/// measures scenario after scenario, and ends what it started. Fails when events are missing or the
/// books do not balance.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The server's binary. Default: `pregon` beside this one.
    #[arg(long, value_name = "PATH")]
    pub pregon: Option<PathBuf>,
    /// Another server's binary, measured by turns with this one; prints how they compare.
    #[arg(long, value_name = "PATH")]
    pub against: Option<PathBuf>,
    /// Redis's binary, 7.0 or later.
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    pub redis_server: PathBuf,
    /// The OpenTelemetry Collector's binary, for scenarios with telemetry: one with an OTLP receiver
    /// and a nop exporter, such as scripts/tools.sh builds.
    #[arg(long, value_name = "PATH", default_value = "otelcol")]
    pub otelcol: PathBuf,
    /// More arguments for `pregon standalone`, or for each `pregon dataplane`, one by one.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub pregon_arg: Vec<String>,
    /// On which store to measure; both: `embedded,redis`.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "embedded")]
    pub store: Vec<StoreKind>,
    /// Measure only these, on whatever store they are. Default: all of --store that are not optional.
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Times that everything is measured. Default: 3, with --quick 1.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: Option<u32>,
    /// Deliveries of a flat-out scenario; of some a share. Default: 100000, with --quick 2000.
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..=4_000_000))]
    pub events: Option<u64>,
    /// Seconds that a scenario with a fixed rate lasts. Default: 20, with --quick 2.
    #[arg(long, value_parser = crate::seconds)]
    pub seconds: Option<f64>,
    /// Bytes of data of each event, where a scenario has no size of its own.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(crate::stamp::MIN_SIZE as i64..=30_000))]
    pub size: u32,
    /// A smoke test: seconds instead of minutes, and figures that mean little.
    #[arg(long)]
    pub quick: bool,
    /// Print everything that was measured as JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Where to make the temporary directory: on the disk that is to be measured.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Keep the temporary directory, with the server's logs and stores.
    #[arg(long)]
    pub keep: bool,
}

/// Everything that one run measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// On what it was measured.
    pub machine: Machine,
    /// Bytes of data of each event.
    pub size: u32,
    /// The ceiling, before the first scenario and after each.
    pub ceilings: Vec<Ceiling>,
    /// The scenarios, in the order measured.
    pub outcomes: Vec<Outcome>,
    /// The same of the other binary, if there is one.
    pub against: Vec<Outcome>,
    /// What things take of Redis's memory.
    pub sizings: Vec<Sizing>,
}

/// Measures everything and prints it; false when something did not add up.
///
/// # Errors
/// When a part cannot be started, or ends before its time.
pub async fn run(args: RunArgs) -> anyhow::Result<bool> {
    let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut directory = tempfile::Builder::new()
        .prefix("pregon-bench-")
        .tempdir_in(&base)
        .with_context(|| format!("cannot make a directory in {}", base.display()))?;
    directory.disable_cleanup(args.keep);
    let measured = tokio::select! {
        measured = measure_all(&args, directory.path()) => measured,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    };
    if args.keep {
        eprintln!("kept {}", directory.path().display());
    }
    let report = measured?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", table::markdown(&report));
    }
    let outcomes = report.outcomes.iter().chain(&report.against);
    let faults = outcomes.flat_map(|outcome| {
        outcome.faults.iter().map(|fault| format!("{}: {fault}", outcome.scenario))
    });
    let faults = faults.chain(report.sizings.iter().flat_map(|sizing| sizing.faults.clone()));
    Ok(faults.inspect(|fault| eprintln!("FAULT {fault}")).count() == 0)
}

async fn measure_all(args: &RunArgs, directory: &Path) -> anyhow::Result<Report> {
    let (scenarios, sizing) = wanted(&args.only, &args.store)?;
    let pregon = pregon(args)?;
    let other = args.against.clone().map(is_server).transpose()?;
    let size = Size::of(args);
    let mut report = Report {
        machine: Machine::look(directory, &pregon).await?,
        size: args.size,
        ceilings: Vec::new(),
        outcomes: Vec::new(),
        against: Vec::new(),
        sizings: Vec::new(),
    };
    let sink = Part::sink(directory, "sink", &[]).await?;
    let mut phase = 1;
    report.ceilings.push(measure::ceiling(&sink, &size, phase).await?);
    for round in 0..size.rounds {
        for scenario in &scenarios {
            let mut turns = vec![(Build::This, pregon.as_path())];
            turns.extend(other.as_deref().map(|other| (Build::Other, other)));
            if round % 2 == 1 {
                turns.reverse(); // so that neither is always the later
            }
            for (build, pregon) in turns {
                let title = scenario.title;
                eprintln!("round {} of {}: {title}{}", round + 1, size.rounds, build.suffix());
                let directory =
                    directory.join(format!("{}-{round}{}", scenario.key, build.suffix()));
                std::fs::create_dir(&directory)?;
                let size = scenario.size(&size);
                let bench = bench::Bench { pregon, args, size: &size, directory: &directory };
                phase = phase % (stamp::MAX_PHASE - 8) + 1; // no neighbours are alike
                let before = match report.ceilings.last() {
                    Some(last) if last.data == size.data => last.per_second,
                    _ => {
                        let ceiling = measure::ceiling(&sink, &size, phase).await?;
                        report.ceilings.push(ceiling);
                        report.ceilings.last().map_or(0.0, |last| last.per_second)
                    }
                };
                let mut outcome = measure::scenario(&bench, scenario, &sink, phase + 1).await?;
                phase += 3;
                let after = measure::ceiling(&sink, &size, phase).await?;
                outcome.set_ceiling(round, (before + after.per_second) / 2.0);
                eprintln!("  {}", outcome.line());
                report.ceilings.push(after);
                match build {
                    Build::This => report.outcomes.push(outcome),
                    Build::Other => report.against.push(outcome),
                }
                if !args.keep {
                    std::fs::remove_dir_all(&directory)?;
                }
            }
        }
    }
    sink.stop().await?;
    if sizing {
        eprintln!("memory in Redis");
        let directory = directory.join(sizing::KEY);
        std::fs::create_dir(&directory)?;
        let bench = bench::Bench { pregon: &pregon, args, size: &size, directory: &directory };
        report.sizings = sizing::measure(&bench).await?;
    }
    Ok(report)
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    /// The binary that is measured.
    This,
    /// The one that it is compared to.
    Other,
}

impl Build {
    /// What tells its files and lines from the first one's.
    fn suffix(self) -> &'static str {
        match self {
            Build::This => "",
            Build::Other => "-against",
        }
    }
}

/// Which scenarios are to be measured, and whether what things take of Redis's memory.
fn wanted(only: &[String], stores: &[StoreKind]) -> anyhow::Result<(Vec<Scenario>, bool)> {
    let keys = scenario::ALL.iter().map(|scenario| scenario.key);
    let keys: Vec<&str> = keys.chain([sizing::KEY]).collect();
    if let Some(unknown) = only.iter().find(|key| !keys.contains(&key.as_str())) {
        bail!("no scenario {unknown}: there are {}", keys.join(", "));
    }
    let is_wanted = |scenario: &&Scenario| match only {
        [] => !scenario.optional && stores.contains(&scenario.store.kind()),
        only => only.iter().any(|key| key == scenario.key),
    };
    let sizing = match only {
        [] => stores.contains(&StoreKind::Redis),
        only => only.iter().any(|key| key == sizing::KEY),
    };
    Ok((scenario::ALL.iter().filter(is_wanted).cloned().collect(), sizing))
}

fn pregon(args: &RunArgs) -> anyhow::Result<PathBuf> {
    let path = match &args.pregon {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("pregon"),
    };
    is_server(path)
}

fn is_server(path: PathBuf) -> anyhow::Result<PathBuf> {
    ensure!(path.is_file(), "no server at {}: build it, or say where it is", path.display());
    Ok(path)
}
