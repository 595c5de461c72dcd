//! What a function of the engine is: its entry, its arguments and what it answers.

use std::ops::RangeInclusive;

use cel::ExecutionError;
use cel::common::functions::Function;
use cel::common::types::{CelBytes, CelInt, CelString};
use cel::common::value::CowVal;

/// A function as it is declared: its name, how many arguments it takes, itself.
pub(super) type Entry = (&'static str, RangeInclusive<usize>, Function);

/// What a function is called with.
pub(super) type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;

/// What it answers.
pub(super) type Outcome<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// The error of a function that does not take such arguments.
pub(super) fn wrong_types(function: &str, args: &[CowVal<'_, '_>]) -> ExecutionError {
    let types = args.iter().map(|arg| arg.get_type().name().to_owned()).collect();
    ExecutionError::no_such_overload(function, types)
}

/// An argument that is a string.
pub(super) fn text<'a>(args: &'a [CowVal<'_, '_>], at: usize) -> Option<&'a str> {
    args.get(at)?.downcast_ref::<CelString<'_>>().map(CelString::inner)
}

/// An argument that is a string, as UTF-8, or bytes.
pub(super) fn octets<'a>(args: &'a [CowVal<'_, '_>], at: usize) -> Option<&'a [u8]> {
    let bytes = || args.get(at)?.downcast_ref::<CelBytes<'_>>().map(CelBytes::inner);
    text(args, at).map(str::as_bytes).or_else(bytes)
}

/// An argument that is an int.
pub(super) fn int(args: &[CowVal<'_, '_>], at: usize) -> Option<i64> {
    args.get(at)?.downcast_ref::<CelInt>().map(|int| *int.inner())
}
