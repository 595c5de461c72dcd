//! Several events in one request: `batch`.

use std::time::Duration;

use super::fault::{optional, parsed};
use super::signature::member_path;
use super::spec::ContractSpec;
use crate::contract::compiled::{BATCH_BYTES, BATCH_EVENTS, BATCH_WAIT, Batch, BodyFormat};
use crate::yaml::{At, Fault, Reader};

/// Reads it; the body is there already.
pub(super) fn read(reader: &mut Reader, at: &At<'_>, spec: &ContractSpec) -> Option<Batch> {
    let map = reader.map(at, &["list", "max_events", "max_bytes", "max_wait"])?;
    let list = optional(reader, &map, "list", |reader, at| parsed(reader, at, member_path));
    let events = reader.check(map.required("max_events").and_then(|at| size(at, BATCH_EVENTS)));
    let bytes =
        optional(reader, &map, "max_bytes", |reader, at| reader.check(size(at, BATCH_BYTES)));
    let wait = optional(reader, &map, "max_wait", |reader, at| {
        reader.check(at.duration(Duration::ZERO..=BATCH_WAIT))
    });
    let batch = Batch {
        list: list?.unwrap_or_default(),
        max_events: events?,
        max_bytes: bytes?.unwrap_or(*BATCH_BYTES.end()),
        max_wait: wait?.unwrap_or(Duration::from_secs(1)),
    };
    if spec.body_format != BodyFormat::Json {
        reader.add(at.fault("is for body_format json"));
    } else if !batch.fits(&spec.body) {
        let place = map.get("list").unwrap_or(at);
        let rule = "needs a list with one element, which is always there, in the body: at list, or the body itself";
        reader.add(place.fault(rule));
    }
    Some(batch)
}

fn size(at: &At<'_>, bounds: std::ops::RangeInclusive<usize>) -> Result<usize, Fault> {
    let wide = |bound: &usize| u64::try_from(*bound).unwrap_or(u64::MAX);
    let size = at.integer(wide(bounds.start())..=wide(bounds.end()))?;
    Ok(usize::try_from(size).unwrap_or(usize::MAX))
}
