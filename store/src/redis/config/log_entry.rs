//! An entry of the change log: `<revision>-<nonce>` with what a commit wrote.
//!
//! Field `c` carries the documents; where they are too large, field `n` carries their names alone
//! and whoever follows reads them where they are.

use bytes::Bytes;
use redis::Value;

use crate::redis::engine::fault::{Result, bad};
use crate::redis::layout::stream::Row;

/// Bytes of an entry at most. Ten thousand are kept, and most are of a kilobyte; entries of more
/// than this would let the log outgrow the configuration.
pub(in crate::redis) const ENTRY_MAX: usize = 64 * 1024;

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::redis) struct Entry {
    pub revision: i64,
    pub nonce: u32,
    pub documents: Documents,
}

/// What it carries.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::redis) enum Documents {
    /// All documents; none: deleted.
    Whole(Vec<(String, Option<Bytes>)>),
    /// Their names.
    Names(Vec<String>),
}

/// The field and value for what a commit writes.
pub(in crate::redis) fn write(
    documents: &[(String, Option<Bytes>)],
) -> Result<(&'static str, Vec<u8>)> {
    let size: usize = documents.iter().map(|(_, b)| b.as_ref().map_or(0, Bytes::len)).sum();
    if size <= ENTRY_MAX {
        let whole: Vec<(&str, Option<&[u8]>)> =
            documents.iter().map(|(name, bytes)| (name.as_str(), bytes.as_deref())).collect();
        return Ok(("c", postcard::to_stdvec(&whole)?));
    }
    let names: Vec<&str> = documents.iter().map(|(name, _)| name.as_str()).collect();
    Ok(("n", postcard::to_stdvec(&names)?))
}

/// An entry as `XRANGE` gives it.
pub(in crate::redis) fn read(entry: Value) -> Result<Entry> {
    let row = Row::read(entry)?;
    let (Ok(revision), Ok(nonce)) = (i64::try_from(row.id.n), u32::try_from(row.id.ms)) else {
        return Err(bad("the id of a change:", row.id));
    };
    let documents = match (row.get(b"c"), row.get(b"n")) {
        (Some(body), _) => {
            let documents: Vec<(String, Option<Vec<u8>>)> = postcard::from_bytes(body)?;
            let whole = documents.into_iter().map(|(name, bytes)| (name, bytes.map(Bytes::from)));
            Documents::Whole(whole.collect())
        }
        (None, Some(body)) => Documents::Names(postcard::from_bytes(body)?),
        (None, None) => return Err(bad("a change with fields", row.fields)),
    };
    Ok(Entry { revision, nonce, documents })
}

/// What is written of documents that were read whole; none: they cannot be read, or are too many.
#[cfg(any(feature = "conformance", feature = "fuzzing"))]
pub(in crate::redis) fn written_again(stored: &[u8]) -> Option<Vec<u8>> {
    let string = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
    let row = Value::Array(vec![string(b"1-1"), Value::Array(vec![string(b"c"), string(stored)])]);
    match read(row).ok()?.documents {
        Documents::Whole(documents) => {
            write(&documents).ok().filter(|(field, _)| *field == "c").map(|(_, body)| body)
        }
        Documents::Names(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(documents: &[(String, Option<Bytes>)]) -> Entry {
        let (field, body) = write(documents).unwrap();
        let string = |text: &str| Value::BulkString(text.into());
        let fields = Value::Array(vec![string(field), Value::BulkString(body)]);
        read(Value::Array(vec![string("17-4294967295"), fields])).unwrap()
    }

    #[test]
    fn entries_come_back() {
        let documents =
            [("tenants/a".to_owned(), Some(Bytes::from_static(&[0, 255]))), ("b/c".into(), None)];
        let documents_read = Documents::Whole(documents.to_vec());
        let expected = Entry { revision: 17, nonce: u32::MAX, documents: documents_read };
        assert_eq!(entry(&documents), expected);
    }

    #[test]
    fn a_large_entry_carries_names() {
        let large = Bytes::from(vec![0; ENTRY_MAX]);
        let whole = [("a/b".to_owned(), Some(large.clone()))];
        assert_eq!(entry(&whole).documents, Documents::Whole(whole.to_vec()));
        let over = [("a/b".to_owned(), Some(large)), ("c/d".to_owned(), Some("x".into()))];
        let names = vec!["a/b".to_owned(), "c/d".to_owned()];
        assert_eq!(entry(&over).documents, Documents::Names(names));
    }
}
