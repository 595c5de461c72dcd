//! What Redis spent, as Markdown.

use std::fmt::Write;

use super::{count, median};
use crate::run::outcome::Outcome;
use crate::run::redis::RedisCost;
use crate::run::scenario;
use crate::run::sizing::Sizing;

/// A row for each scenario on Redis, each figure the median over the rounds; nothing if there is none.
pub fn costs(outcomes: &[Outcome]) -> String {
    let mut rows = String::new();
    for scenario in scenario::ALL {
        let rounds = outcomes.iter().filter(|outcome| outcome.scenario == scenario.key);
        let rounds: Vec<&RedisCost> = rounds.filter_map(|outcome| outcome.redis.as_ref()).collect();
        if !rounds.is_empty() {
            rows.push_str(&row(scenario.title, &rounds));
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "\nRedis, per event:\n\n\
         | scenario | CPU µs: main thread / process | main thread's CPU µs per delivery | µs in scripts | commands / scripts \
         | socket reads / writes | bytes in / out | AOF B | memory B |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n{rows}"
    )
}

fn row(title: &str, rounds: &[&RedisCost]) -> String {
    let figure = |of: fn(&RedisCost) -> f64| median(rounds.iter().map(|cost| of(cost)));
    format!(
        "| {title} | {}{} / {} | {} | {} | {} / {} | {} / {} | {} / {} | {} | {} |\n",
        small(figure(|cost| cost.main_us)),
        spread(rounds.iter().map(|cost| cost.main_us)),
        small(figure(|cost| cost.process_us)),
        small(figure(|cost| cost.delivery_us)),
        small(figure(|cost| cost.scripts_us)),
        small(figure(|cost| cost.commands)),
        small(figure(|cost| cost.scripts)),
        small(figure(|cost| cost.reads)),
        small(figure(|cost| cost.writes)),
        count(figure(|cost| cost.bytes_in)),
        count(figure(|cost| cost.bytes_out)),
        count(figure(|cost| cost.aof)),
        count(figure(|cost| cost.memory)),
    )
}

/// The least and the most of several rounds, in brackets.
fn spread(figures: impl ExactSizeIterator<Item = f64> + Clone) -> String {
    if figures.len() < 2 {
        return String::new();
    }
    let (least, most) = (figures.clone().fold(f64::MAX, f64::min), figures.fold(0.0, f64::max));
    format!(" ({}–{})", small(least), small(most))
}

/// A row for each thing that takes memory; nothing if none was measured.
pub fn sizings(sizings: &[Sizing], size: u32) -> String {
    let mut out = String::new();
    if !sizings.is_empty() {
        let _ = writeln!(
            out,
            "\nRedis's memory:\n\n| of | B each | beside its {size} B of data | measured with | \
             attempts |\n|---|--:|--:|--:|--:|"
        );
    }
    for sizing in sizings {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            sizing.title,
            count(sizing.bytes),
            count(sizing.bytes - f64::from(size)),
            count(sizing.events as f64),
            count(sizing.attempts as f64),
        );
    }
    out
}

/// A number, with three figures that mean something.
pub fn small(number: f64) -> String {
    match number {
        ..1.0 => format!("{number:.3}"),
        1.0..10.0 => format!("{number:.2}"),
        10.0..100.0 => format!("{number:.1}"),
        _ => count(number),
    }
}
