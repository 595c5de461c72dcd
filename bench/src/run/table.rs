//! What a run measured, as Markdown.

pub mod redis;

use std::collections::BTreeSet;
use std::fmt::Write;

use super::Report;
use super::measure::Ceiling;
use super::outcome::Outcome;
use super::scenario;

/// The table with the facts about the machine above it, each figure the median over the rounds.
pub fn markdown(report: &Report) -> String {
    let mut out = facts(report);
    out.push_str(
        "| scenario | events/s published | deliveries/s | of the ceiling | ack p50 / p99 | \
         received p50 / p99 | CPU s per 1,000: load / server / sink | stored / written B per event \
         | written B per delivery | server memory | others' CPU |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    out.push_str(&ceiling_rows(&report.ceilings, report.size));
    for scenario in scenario::ALL {
        let rounds: Vec<&Outcome> =
            report.outcomes.iter().filter(|outcome| outcome.scenario == scenario.key).collect();
        if !rounds.is_empty() {
            out.push_str(&row(scenario.title, &rounds));
        }
    }
    for (store, alone, beside) in
        [("embedded", "alone", "beside"), ("Redis", "redis-alone", "redis-beside")]
    {
        if let Some(isolation) = isolation(&report.outcomes, alone, beside) {
            let _ = writeln!(out, "\nIsolation, {store}: {isolation}");
        }
    }
    out.push_str(&slots(&report.outcomes));
    out.push_str(&backlogs(&report.outcomes));
    out.push_str(&compared(&report.outcomes, &report.against));
    out.push_str(&redis::costs(&report.outcomes));
    out.push_str(&redis::sizings(&report.sizings, report.size));
    out
}

fn facts(report: &Report) -> String {
    let machine = &report.machine;
    let levels = report.outcomes.iter().map(|outcome| outcome.load.durability.as_str());
    let durability = levels.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("`, `");
    let rounds = report.outcomes.iter().map(|outcome| outcome.round + 1).max().unwrap_or(0);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} cores ({}), {} GiB, Linux {}; store on {}, where 4 KiB are durable in {} ms (p50) and \
         {} ms (p99); durability `{durability}`; {} B of data per event; {}; {}{}; load average {} \
         before; {rounds} rounds, medians.\n",
        machine.cores,
        machine.cpu,
        machine.memory_gib,
        machine.kernel,
        machine.file_system,
        ms(machine.fsync.p50_us),
        ms(machine.fsync.p99_us),
        report.size,
        machine.server,
        machine.rustc,
        if machine.optimised { "" } else { " (NOT optimised)" },
        machine.load_average,
    );
    out
}

/// A row for each size of data: first that of most events.
fn ceiling_rows(ceilings: &[Ceiling], usual: u32) -> String {
    let mut sizes: Vec<u32> = ceilings.iter().map(|ceiling| ceiling.data).collect();
    sizes.sort_unstable_by_key(|size| (*size != usual, *size));
    sizes.dedup();
    let rows = sizes.into_iter().map(|size| {
        let of_size: Vec<&Ceiling> = ceilings.iter().filter(|it| it.data == size).collect();
        let title = match size == usual {
            true => "ceiling: straight to the sink".to_owned(),
            false => format!("ceiling with {} B of data", count(size.into())),
        };
        ceiling_row(&title, &of_size)
    });
    rows.collect()
}

fn ceiling_row(title: &str, ceilings: &[&Ceiling]) -> String {
    let figure = |of: fn(&Ceiling) -> f64| median(ceilings.iter().map(|ceiling| of(ceiling)));
    format!(
        "| {title} | | {} | 100 % | | {} / {} ms | {:.4} / – / {:.4} | | | | {:.0} % |\n",
        count(figure(|ceiling| ceiling.per_second)),
        ms(figure(|ceiling| ceiling.latency.p50_us)),
        ms(figure(|ceiling| ceiling.latency.p99_us)),
        figure(|ceiling| ceiling.cpu.load),
        figure(|ceiling| ceiling.cpu.sink),
        figure(|ceiling| ceiling.others) * 100.0,
    )
}

fn row(title: &str, rounds: &[&Outcome]) -> String {
    let figure = |of: fn(&Outcome) -> f64| median(rounds.iter().map(|outcome| of(outcome)));
    let ratios = || rounds.iter().map(|outcome| outcome.ratio * 100.0);
    let (least, most) = (ratios().fold(f64::MAX, f64::min), ratios().fold(0.0, f64::max));
    let spread = match rounds.len() {
        1 => String::new(),
        _ => format!(" ({least:.1}–{most:.1})"),
    };
    format!(
        "| {title} | {} | {} | {:.1} %{spread} | {} / {} ms | {} / {} ms | {:.4} / {:.4} / {:.4} \
         | {} / {} | {} | {:.0} MiB | {:.0} % |\n",
        count(figure(|outcome| outcome.load.acks_per_second)),
        count(figure(|outcome| outcome.per_second)),
        median(ratios()),
        ms(figure(|outcome| outcome.load.ack_latency.p50_us)),
        ms(figure(|outcome| outcome.load.ack_latency.p99_us)),
        ms(figure(|outcome| outcome.sink.latency.p50_us)),
        ms(figure(|outcome| outcome.sink.latency.p99_us)),
        figure(|outcome| outcome.cpu.load),
        figure(|outcome| outcome.cpu.server),
        figure(|outcome| outcome.cpu.sink),
        count(figure(|outcome| outcome.stored_per_event)),
        count(figure(|outcome| outcome.written_per_event)),
        count(figure(|outcome| outcome.written_per_delivery)),
        figure(|outcome| outcome.peak_memory as f64 / f64::from(1 << 20)),
        figure(|outcome| outcome.others) * 100.0,
    )
}

/// How much of what the slots of their lanes allow scenarios reached whose receivers take their
/// time. Nothing where that is far above the ceiling.
fn slots(outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for scenario in scenario::ALL {
        let rounds = outcomes.iter().filter(|outcome| outcome.scenario == scenario.key);
        let rounds: Vec<&Outcome> = rounds.collect();
        let (Some(allowed), false) = (scenario.slots_allow(), rounds.is_empty()) else { continue };
        if allowed > median(rounds.iter().map(|outcome| outcome.ceiling)) {
            continue;
        }
        let share = median(rounds.iter().filter_map(|outcome| outcome.of_slots));
        let (title, allowed) = (scenario.title, count(allowed));
        let _ = writeln!(
            out,
            "\n{title}: {:.1} % of the {allowed}/s that its slots allow.",
            share * 100.0
        );
    }
    out
}

/// What the figures of scenarios mean whose receiver was down.
fn backlogs(outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for scenario in scenario::ALL {
        let rounds = outcomes.iter().filter(|outcome| outcome.scenario == scenario.key);
        let rounds: Vec<&Outcome> = rounds.filter(|outcome| outcome.waiting.is_some()).collect();
        if rounds.is_empty() {
            continue;
        }
        let figure = |of: fn(&Outcome) -> f64| median(rounds.iter().map(|outcome| of(outcome)));
        let _ = writeln!(
            out,
            "\n{}: all figures but those of publishing and memory are from the moment that the \
             receiver was up again; {} deliveries waited then, {} of them never attempted, after {} \
             refused attempts.",
            scenario.title,
            count(figure(|outcome| outcome.waiting.unwrap_or(0) as f64)),
            count(figure(|outcome| {
                outcome.expected.saturating_sub(outcome.sink.refused_events) as f64
            })),
            count(figure(|outcome| outcome.sink.refused as f64)),
        );
    }
    out
}

/// How this build compares to the other: ratios of medians, and of each round's share of the ceiling
/// the least and the most. Nothing where there was no other.
fn compared(these: &[Outcome], others: &[Outcome]) -> String {
    let mut out = String::new();
    for scenario in scenario::ALL {
        let of = |all: &[Outcome]| -> Vec<Outcome> {
            all.iter().filter(|outcome| outcome.scenario == scenario.key).cloned().collect()
        };
        let (these, others) = (of(these), of(others));
        if these.is_empty() || others.is_empty() {
            continue;
        }
        if out.is_empty() {
            out.push_str(
                "\nThis build over the other, by turns:\n\n| scenario | deliveries/s | share of the \
                 ceiling | server's CPU | Redis's CPU | written B per delivery | received p50 | \
                 received p99 | server memory |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            );
        }
        let ratio =
            |of: fn(&Outcome) -> f64| median(these.iter().map(of)) / median(others.iter().map(of));
        let redis = ratio(|it| it.redis.as_ref().map_or(f64::NAN, |redis| redis.delivery_us));
        let redis = if redis.is_nan() { String::new() } else { format!("{redis:.3}") };
        let rounds = these.iter().zip(&others).map(|(this, other)| this.ratio / other.ratio);
        let (least, most) =
            rounds.fold((f64::MAX, 0.0_f64), |(least, most), it| (least.min(it), most.max(it)));
        let _ = writeln!(
            out,
            "| {} | {:.3} | {:.3} ({least:.2}–{most:.2}) | {:.3} | {redis} | {:.2} | {:.2} | {:.2} | \
             {:.2} |",
            scenario.title,
            ratio(|it| it.per_second),
            ratio(|it| it.ratio),
            ratio(|it| it.cpu.server),
            ratio(|it| it.written_per_delivery),
            ratio(|it| it.sink.latency.p50_us),
            ratio(|it| it.sink.latency.p99_us),
            ratio(|it| it.peak_memory as f64),
        );
    }
    out
}

/// How much longer the healthy receiver waits beside one that never answers.
fn isolation(outcomes: &[Outcome], alone: &str, beside: &str) -> Option<String> {
    let p99 = |key: &str| {
        let of = outcomes.iter().filter(|outcome| outcome.scenario == key);
        let of: Vec<f64> = of.map(|outcome| outcome.sink.latency.p99_us).collect();
        (!of.is_empty()).then(|| median(of.into_iter()))
    };
    let (alone, beside) = (p99(alone)?, p99(beside)?);
    Some(format!(
        "the healthy receiver's p99 is {} ms alone and {} ms beside one that never \
         answers, {:.2} times as much.",
        ms(alone),
        ms(beside),
        beside / alone
    ))
}

/// The middle one; of an even number the mean of the middle two; 0 of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.as_slice() {
        [] => 0.0,
        values if values.len() % 2 == 1 => values[half],
        values => (values[half - 1] + values[half]) / 2.0,
    }
}

/// A whole number, with commas.
pub fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (position, digit) in digits.char_indices() {
        if position > 0 && (digits.len() - position) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds as milliseconds, with three figures that mean something.
pub fn ms(micros: f64) -> String {
    let ms = micros / 1000.0;
    match ms {
        ..10.0 => format!("{ms:.2}"),
        10.0..100.0 => format!("{ms:.1}"),
        _ => count(ms),
    }
}
