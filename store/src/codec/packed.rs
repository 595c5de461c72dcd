//! Attempts, packed by the settlement that brought them.
//!
//! Records of one settlement resemble each other (tenants, types, URLs, nodes), so they are
//! encoded together and compressed, by the caller and not by the engine's writer.
//!
//! A chunk begins with the length of its encoded records. The highest bit of that says that they
//! have all fields that records have; without it, they were written before the last [`ADDED`] were.

use std::sync::Arc;

use pregon_core::attempt::{AttemptRecord, RecordKind};
use pregon_core::outcome::AttemptOutcome;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use crate::batch::Token;

/// Records in a chunk at most: reading one attempt unpacks a whole chunk.
const RECORDS: usize = 256;

/// In a chunk's length: its records have all fields.
const WHOLE: u32 = 1 << 31;
/// Bytes that LZ4 makes of one at most: a length goes on by 255 for each further byte of it.
const LZ4_MOST: usize = 255;
/// Fields at the end of a record that chunks without the bit do not have.
const ADDED: usize = 2;

/// What a chunk tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing but successes at the first attempt.
    Smooth,
    /// Trouble; kept as long as failed deliveries are.
    Trouble,
}

/// A chunk before it is stored.
pub(crate) struct Packed {
    /// What it tells of.
    pub kind: Kind,
    /// The highest number of an event that it tells of.
    pub max_n: u64,
    /// Its records, encoded and compressed.
    pub data: Vec<u8>,
    /// For each record its batch and its event.
    pub records: Vec<(Token, u64)>,
}

impl Packed {
    /// The batches that its records name.
    pub fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.records.iter().map(|(token, _)| *token)
    }
}

/// Packs attempts.
pub(crate) fn pack(
    attempts: &[(Token, Arc<AttemptRecord>)],
) -> Result<Vec<Packed>, postcard::Error> {
    attempts.chunks(RECORDS).map(pack_one).collect()
}

/// A chunk's records without some of them, packed as one chunk, however few or none are left; none
/// where all of them stay.
pub(crate) fn without(
    records: Vec<AttemptRecord>,
    gone: impl Fn(&AttemptRecord) -> bool,
) -> Result<Option<Vec<u8>>, postcard::Error> {
    let before = records.len();
    let token = Token { incarnation: 0, sequence: 0 };
    let rest = records.into_iter().filter(|record| !gone(record));
    let rest: Vec<_> = rest.map(|record| (token, Arc::new(record))).collect();
    if rest.len() == before {
        return Ok(None);
    }
    pack_one(&rest).map(|packed| Some(packed.data))
}

/// A chunk's records, those that are named stripped of what their events may have left in them, and
/// with them those of the same requests; none where nothing is to be taken away.
pub(crate) fn stripped(
    mut records: Vec<AttemptRecord>,
    names: impl Fn(&AttemptRecord) -> bool,
) -> Result<Option<Vec<u8>>, postcard::Error> {
    let named: Vec<_> = records.iter().filter(|it| names(it)).collect();
    let goes = |it: &AttemptRecord| named.iter().any(|own| own.key == it.key || shares(own, it));
    let go: Vec<bool> = records.iter().map(|it| !it.is_stripped() && goes(it)).collect();
    if !go.contains(&true) {
        return Ok(None);
    }
    for (record, _) in records.iter_mut().zip(go).filter(|(_, goes)| *goes) {
        *record = record.stripped();
    }
    whole(records).map(Some)
}

/// Whether two records tell of one request for several events, as far as records tell: all but the
/// first are without the answer's body.
fn shares(one: &AttemptRecord, other: &AttemptRecord) -> bool {
    let request =
        |it: &AttemptRecord| (it.key.lane, it.number, it.start, it.timing, it.remote, it.status);
    let without = |it: &AttemptRecord| {
        it.response.as_ref().is_some_and(|head| head.truncated && head.body.is_empty())
    };
    request(one) == request(other) && one.node == other.node && (without(one) || without(other))
}

/// Records as one chunk, however many; what was late is said by them.
pub(crate) fn whole(records: Vec<AttemptRecord>) -> Result<Vec<u8>, postcard::Error> {
    let token = Token { incarnation: 0, sequence: 0 };
    let all: Vec<_> = records.into_iter().map(|record| (token, Arc::new(record))).collect();
    pack_one(&all).map(|packed| packed.data)
}

fn pack_one(attempts: &[(Token, Arc<AttemptRecord>)]) -> Result<Packed, postcard::Error> {
    let smooth = |record: &AttemptRecord| {
        record.kind == RecordKind::Attempt
            && record.outcome == Some(AttemptOutcome::Succeeded)
            && record.number == 1
    };
    let records: Vec<&AttemptRecord> = attempts.iter().map(|(_, record)| &**record).collect();
    let encoded = postcard::to_stdvec(&records)?;
    let kind =
        if records.iter().all(|record| smooth(record)) { Kind::Smooth } else { Kind::Trouble };
    let length = u32::try_from(encoded.len()).unwrap_or(u32::MAX) | WHOLE;
    let mut data = length.to_le_bytes().to_vec();
    data.extend(lz4_flex::compress(&encoded));
    Ok(Packed {
        kind,
        max_n: records.iter().map(|record| record.key.position.n).max().unwrap_or(0),
        data,
        records: attempts.iter().map(|(token, record)| (*token, record.key.position.n)).collect(),
    })
}

/// Reads a chunk's records; `late` are the places of those whose lease was gone. An error says
/// what is wrong with it.
pub(crate) fn unpack(
    data: &[u8],
    late: impl IntoIterator<Item = usize>,
) -> Result<Vec<AttemptRecord>, String> {
    let (length, compressed) = data.split_first_chunk().ok_or("chunk: too short")?;
    let length = u32::from_le_bytes(*length);
    let size = usize::try_from(length & !WHOLE).unwrap_or(usize::MAX);
    // That much memory is taken before a byte is read.
    if size > compressed.len().saturating_mul(LZ4_MOST) {
        return Err(format!("chunk: {} bytes cannot be {size}", compressed.len()));
    }
    let encoded =
        lz4_flex::decompress(compressed, size).map_err(|error| format!("chunk: {error}"))?;
    let records = match length & WHOLE {
        0 => Older.deserialize(&mut postcard::Deserializer::from_bytes(&encoded)),
        _ => postcard::from_bytes(&encoded),
    };
    let mut records: Vec<AttemptRecord> = records.map_err(|error| format!("chunk: {error}"))?;
    for i in late {
        if let Some(record) = records.get_mut(i) {
            record.late = true;
        }
    }
    Ok(records)
}

/// Reads a list of records that lack the last fields.
struct Older;

impl<'de> DeserializeSeed<'de> for Older {
    type Value = Vec<AttemptRecord>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Older {
    type Value = Vec<AttemptRecord>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("records of attempts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut records = Vec::with_capacity(list.size_hint().unwrap_or(0).min(RECORDS));
        while let Some(record) = list.next_element_seed(Short)? {
            records.push(record);
        }
        Ok(records)
    }
}

/// Reads a record that lacks the last fields: they have their defaults.
struct Short;

impl<'de> DeserializeSeed<'de> for Short {
    type Value = AttemptRecord;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<AttemptRecord, D::Error> {
        AttemptRecord::deserialize(WithoutLast(from))
    }
}

/// Reads a struct by all but its last fields.
struct WithoutLast<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for WithoutLast<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(fields.len().saturating_sub(ADDED), visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, D::Error> {
        Err(D::Error::custom("a record is a struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use pregon_core::attempt::ResponseHead;
    use pregon_core::id::{DeliveryKey, Position};

    use super::*;
    use crate::codec::test_reply::tests::record;

    /// Chunks outlive the build that wrote them.
    #[test]
    fn records_of_before_their_last_fields_are_read() {
        let all: Vec<AttemptRecord> = (1..=3).map(record).collect();
        let mut encoded = vec![3];
        for record in &all {
            let whole = postcard::to_stdvec(record).unwrap();
            // "Was not sent twice" and "no headers".
            assert_eq!(whole[whole.len() - 2..], [0, 0]);
            encoded.extend(&whole[..whole.len() - 2]);
        }
        let data = lz4_flex::compress_prepend_size(&encoded);
        assert_eq!(unpack(&data, []).unwrap(), all);
        let token = Token { incarnation: 1, sequence: 1 };
        let packed =
            pack(&all.iter().map(|record| (token, Arc::new(record.clone()))).collect::<Vec<_>>())
                .unwrap();
        assert_eq!(unpack(&packed[0].data, []).unwrap(), all);
        for broken in [&data[..2], &data[..9], &[]] {
            assert!(unpack(broken, []).is_err());
        }
    }

    /// The memory for it is taken before a byte is read.
    #[test]
    fn a_chunk_that_cannot_be_as_long_as_it_says_is_refused() {
        let token = Token { incarnation: 1, sequence: 1 };
        let packed = pack(&[(token, Arc::new(record(1)))]).unwrap();
        let mut data = packed[0].data.clone();
        data[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(unpack(&data, []).unwrap_err().contains("cannot be 2147483647"));
        // What resembles itself as much as can be is read all the same.
        let alike: Vec<_> = (0..256).map(|_| (token, Arc::new(record(1)))).collect();
        let packed = pack(&alike).unwrap();
        assert_eq!(unpack(&packed[0].data, []).unwrap().len(), 256);
    }

    /// The answer may echo any of the events that it is to.
    #[test]
    fn what_went_together_is_stripped_together() {
        let response = |body: &[u8], truncated| {
            Some(ResponseHead { headers: Vec::new(), body: body.to_vec(), truncated })
        };
        let like = |n, response| {
            let one = record(1);
            let position = Position { n, ..one.key.position };
            AttemptRecord { key: DeliveryKey { position, ..one.key }, response, ..one }
        };
        let first = like(1, response(b"got 1, 2 and 3", false));
        let all = vec![
            first.clone(),
            like(2, response(b"", true)),
            like(3, response(b"", true)),
            // Of another request.
            AttemptRecord { number: 2, ..like(4, response(b"got 4", false)) },
        ];
        for erased in 1..=3 {
            let named = |it: &AttemptRecord| it.key.position.n == erased;
            let data = stripped(all.clone(), named).unwrap().unwrap();
            let left = unpack(&data, []).unwrap();
            let there: Vec<_> = left.iter().map(|it| it.response.is_some()).collect();
            assert!(!there[0] && there[3], "{erased}: {there:?}");
        }
        let alone = stripped(all, |it| it.key.position.n == 4).unwrap().unwrap();
        let left = unpack(&alone, []).unwrap();
        assert_eq!(left[..1], [first]);
        assert!(left[3].is_stripped());
    }
}
