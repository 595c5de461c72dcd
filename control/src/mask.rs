//! Which fields an update changes.
//!
//! No mask (or an empty one): the fields that are set, so a list or a map replaces the stored one
//! and an empty one changes nothing. `*`: every field that callers can set, those left out going
//! back to their defaults. Else exactly the paths named; a message's path stands for all below it.
//! A path that names no field, or one that callers cannot set, is a violation.

use pregon_core::error::{Rule, Violations};
use prost_types::FieldMask;

/// The fields of a resource, by what callers may do to them.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    /// Fields that can be set at any time, with whether the request has set them.
    pub settable: Vec<(&'static str, bool)>,
    /// Fields that are set at creation only.
    pub immutable: &'static [&'static str],
    /// Fields that only the server sets.
    pub output_only: Vec<&'static str>,
}

/// The fields chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mask(Vec<&'static str>);

impl Mask {
    /// Every field that callers can set: for a creation.
    pub(crate) fn all(fields: &Fields) -> Self {
        Self(fields.settable.iter().map(|(path, _)| *path).collect())
    }

    /// The fields that an update chooses; notes what is wrong with `update_mask`.
    pub(crate) fn parse(
        given: Option<&FieldMask>,
        fields: &Fields,
        wrong: &mut Violations,
    ) -> Self {
        let paths = given.map_or(&[][..], |mask| &mask.paths);
        if paths.is_empty() {
            let set = fields.settable.iter().filter(|(_, set)| *set);
            return Self(set.map(|(path, _)| *path).collect());
        }
        let mut chosen = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            match choose(path, fields, paths.len()) {
                Ok(found) => chosen.extend(found),
                Err((rule, text)) => wrong.add(format!("update_mask.paths[{index}]"), rule, text),
            }
        }
        chosen.sort_unstable();
        chosen.dedup();
        Self(chosen)
    }

    /// Whether a field is chosen.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains(&path)
    }
}

/// The fields that one path of a mask stands for.
fn choose(
    path: &str,
    fields: &Fields,
    paths: usize,
) -> Result<Vec<&'static str>, (Rule, &'static str)> {
    if path == "*" {
        return match paths {
            1 => Ok(Mask::all(fields).0),
            _ => Err((Rule::Malformed, "* must be the only path")),
        };
    }
    let below = |name: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    let found: Vec<_> = fields
        .settable
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name == path || below(name))
        .collect();
    if !found.is_empty() {
        Ok(found)
    } else if fields.immutable.contains(&path) {
        Err((Rule::Immutable, "is set at creation, for good"))
    } else if fields.output_only.contains(&path) {
        Err((Rule::UnknownField, "is set by the server alone"))
    } else {
        Err((Rule::UnknownField, "must be the path of a field of the resource"))
    }
}

/// Puts a chosen field into its place; one that was not chosen stays.
pub(crate) fn put<T: Clone>(place: &mut T, chosen: Option<&T>) {
    if let Some(chosen) = chosen {
        place.clone_from(chosen);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IMMUTABLE: &[&str] = &["name", "environment"];
    const OUTPUT_ONLY: &[&str] = &["revision", "create_time"];
    const PATHS: [&str; 5] = ["display_name", "labels", "limits.a", "limits.b", "url"];

    fn resolve(paths: &[&str], set: [bool; 5]) -> (Mask, Vec<(String, Rule)>) {
        let settable = PATHS.into_iter().zip(set).collect();
        let output_only = OUTPUT_ONLY.to_vec();
        let fields = Fields { settable, immutable: IMMUTABLE, output_only };
        let mask = FieldMask { paths: paths.iter().map(|p| (*p).to_owned()).collect() };
        let mut wrong = Violations::new();
        let mask = Mask::parse(Some(&mask), &fields, &mut wrong);
        let wrong = wrong.as_slice().iter().map(|v| (v.field.clone(), v.rule)).collect();
        (mask, wrong)
    }

    #[test]
    fn a_star_stands_alone_for_everything() {
        assert_eq!(resolve(&["*"], [false; 5]).0.0, PATHS);
        let (_, wrong) = resolve(&["url", "*"], [true; 5]);
        assert_eq!(wrong, [("update_mask.paths[1]".to_owned(), Rule::Malformed)]);
    }

    #[test]
    fn a_message_stands_for_what_is_below_it() {
        assert_eq!(resolve(&["limits"], [false; 5]).0.0, ["limits.a", "limits.b"]);
        assert_eq!(resolve(&["limits.b"], [false; 5]).0.0, ["limits.b"]);
        assert_eq!(resolve(&["lim"], [false; 5]).1[0].1, Rule::UnknownField);
    }

    #[test]
    fn every_wrong_path_is_reported() {
        let paths = ["name", "url", "revision", "colour", "environment", ""];
        let (mask, wrong) = resolve(&paths, [false; 5]);
        assert_eq!(mask.0, ["url"]);
        let rules: Vec<_> = wrong.iter().map(|(field, rule)| (field.as_str(), *rule)).collect();
        assert_eq!(
            rules,
            [
                ("update_mask.paths[0]", Rule::Immutable),
                ("update_mask.paths[2]", Rule::UnknownField),
                ("update_mask.paths[3]", Rule::UnknownField),
                ("update_mask.paths[4]", Rule::Immutable),
                ("update_mask.paths[5]", Rule::UnknownField),
            ]
        );
    }

    proptest! {
        #[test]
        fn without_paths_the_set_fields_are_chosen(set: [bool; 5]) {
            let (mask, wrong) = resolve(&[], set);
            prop_assert!(wrong.is_empty());
            for (path, set) in PATHS.into_iter().zip(set) {
                prop_assert_eq!(mask.has(path), set);
            }
        }

        #[test]
        fn named_paths_are_chosen_whatever_is_set(
            set: [bool; 5], picked in prop::sample::subsequence(PATHS.to_vec(), 1..=5),
        ) {
            let (mask, wrong) = resolve(&picked, set);
            prop_assert!(wrong.is_empty());
            for path in PATHS {
                prop_assert_eq!(mask.has(path), picked.contains(&path));
            }
        }
    }
}
