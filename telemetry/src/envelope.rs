//! What stands around exported things, and how many go into one request.
//!
//! Requests for spans and for log records have one layout: the things are field 2 of a scope, which
//! is field 2 of a resource, which is field 1 of the request; resource and scope describe
//! themselves in field 1. So each thing is encoded once, by itself, and requests are cut between
//! things, by their bytes.

use std::ops::Range;

use prost::encoding::{encode_varint, encoded_len_varint};

/// Bytes of one request. Collectors take 4 MiB, compressed or not, unless told otherwise.
const REQUEST: usize = 3 << 20;

/// The key of a field of bytes with this number.
const fn key(tag: u8) -> u8 {
    tag << 3 | 2
}

/// The beginning of a field of so many bytes.
fn head(tag: u8, len: usize, to: &mut Vec<u8>) {
    to.push(key(tag));
    encode_varint(len as u64, to);
}

/// Bytes of a field of so many bytes, its head included.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// An encoded resource and an encoded scope.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) resource: Vec<u8>,
    pub(crate) scope: Vec<u8>,
}

impl Envelope {
    /// A request of some of these things.
    pub(crate) fn request(&self, items: &Items, range: Range<usize>) -> Vec<u8> {
        let items = items.bytes(range);
        let scope = field_len(self.scope.len()) + items.len();
        let resource = field_len(self.resource.len()) + field_len(scope);
        let mut request = Vec::with_capacity(field_len(resource));
        head(1, resource, &mut request);
        head(1, self.resource.len(), &mut request);
        request.extend_from_slice(&self.resource);
        head(2, scope, &mut request);
        head(1, self.scope.len(), &mut request);
        request.extend_from_slice(&self.scope);
        request.extend_from_slice(items);
        request
    }
}

/// Encoded things, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Items {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Items {
    /// Adds an encoded thing.
    pub(crate) fn push(&mut self, item: &[u8]) {
        head(2, item.len(), &mut self.bytes);
        self.bytes.extend_from_slice(item);
        self.ends.push(self.bytes.len());
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[self.start(range.start)..self.start(range.end)]
    }

    /// Where the things begin that have so many before them.
    fn start(&self, before: usize) -> usize {
        before.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// All of them, as parts that fit a request each. A thing that is too large is a part by
    /// itself.
    pub(crate) fn parts(&self) -> Vec<Range<usize>> {
        let (mut parts, mut first) = (Vec::new(), 0);
        for next in 0..self.len() {
            if next > first && self.ends[next] - self.start(first) > REQUEST {
                parts.push(first..next);
                first = next;
            }
        }
        if first < self.len() {
            parts.push(first..self.len());
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_by_bytes_and_leave_nothing_out() {
        let mut items = Items::default();
        assert!(items.parts().is_empty());
        for size in [1 << 20, 1 << 20, 1 << 20, 10, 5 << 20, 0, 7] {
            items.push(&vec![b'x'; size]);
        }
        assert_eq!(items.parts(), [0..2, 2..4, 4..5, 5..7]);
        for part in [0..2, 2..4, 5..7] {
            assert!(items.bytes(part).len() <= REQUEST);
        }
        let all: usize = items.parts().into_iter().map(|part| items.bytes(part).len()).sum();
        assert_eq!(all, items.bytes.len());
    }
}
