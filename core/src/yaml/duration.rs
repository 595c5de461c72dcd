//! Durations as people write them: `30s`, `5m`, `1h30m`, `2d`.

use std::time::Duration;

/// Units, largest first, in seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A duration of one or more whole numbers, each with its unit, from days down to seconds.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut units = UNITS.iter();
    let mut seconds = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let behind = super::digits(rest);
        let number: u64 = rest.get(..rest.len() - behind.len())?.parse().ok()?;
        let letter = behind.chars().next()?;
        // The iterator goes on where the last unit was found, so that none comes twice or after a
        // smaller one.
        let (_, factor) = units.find(|(unit, _)| *unit == letter)?;
        seconds = seconds.checked_add(number.checked_mul(*factor)?)?;
        rest = behind.get(letter.len_utf8()..)?;
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

/// A duration in the same form; parts of a second are left out.
pub(super) fn show(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut text = String::new();
    for (unit, factor) in UNITS {
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
