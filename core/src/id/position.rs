//! Where an event lies in the queue, and the delivery ids made from that.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Rule, Wrong};

/// The alphabet of base32hex in lower case: sorts as the number does.
const BASE32HEX: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// Characters of a position: 100 bits of five each.
const POSITION_LEN: usize = 20;

/// The number of a partition, below 4,096.
pub type PartitionNo = u16;

/// Where an event lies: partition and number, with its accept time in front so that ids sort by
/// it, and so that numbers that start again (an emptied store) make no id twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Accept time, milliseconds since the Unix epoch; 48 bits.
    pub ms: u64,
    /// The partition; 12 bits.
    pub partition: PartitionNo,
    /// The event's number within its partition, from 1; 40 bits.
    pub n: u64,
}

impl Position {
    fn bits(self) -> u128 {
        (u128::from(self.ms & 0xffff_ffff_ffff) << 52)
            | (u128::from(self.partition & 0xfff) << 40)
            | u128::from(self.n & 0xff_ffff_ffff)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.bits();
        for i in (0..POSITION_LEN).rev() {
            let digit = usize::try_from((bits >> (5 * i)) & 31).unwrap_or(0);
            fmt::Write::write_char(f, char::from(BASE32HEX[digit]))?;
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let malformed = || Wrong::new(Rule::Malformed, "must be 20 of 0-9 a-v");
        if text.len() != POSITION_LEN {
            return Err(malformed());
        }
        let mut bits = 0u128;
        for byte in text.bytes() {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'v' => byte - b'a' + 10,
                _ => return Err(malformed()),
            };
            bits = (bits << 5) | u128::from(digit);
        }
        let part = |shift: u32, mask: u64| u64::try_from(bits >> shift).map(|v| v & mask);
        let (Ok(ms), Ok(partition), Ok(n)) =
            (u64::try_from(bits >> 52), part(40, u64::MAX), u64::try_from(bits & 0xff_ffff_ffff))
        else {
            return Err(malformed());
        };
        let partition = u16::try_from(partition & 0xfff).map_err(|_| malformed())?;
        Ok(Self { ms, partition, n })
    }
}

/// The number of a lane: given to a subscription at its creation, never used again.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LaneNo(pub u64);

impl LaneNo {
    /// The lane of events that cannot be matched yet.
    pub const EVENTS: LaneNo = LaneNo(0);
}

impl fmt::Display for LaneNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut rest, mut digits) = (self.0, Vec::with_capacity(13));
        loop {
            let digit = u8::try_from(rest % 36).unwrap_or(0);
            digits.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        digits.iter().rev().try_for_each(|d| fmt::Write::write_char(f, char::from(*d)))
    }
}

impl FromStr for LaneNo {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        u64::from_str_radix(text, 36)
            .ok()
            .map(LaneNo)
            .filter(|lane| lane.to_string() == text)
            .ok_or_else(|| Wrong::new(Rule::Malformed, "must be a number in base 36"))
    }
}

/// Tells replays of one delivery apart: 8 characters of 0-9 a-v.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplayTag([u8; 8]);

impl ReplayTag {
    /// A tag made from 40 bits, such as the first five bytes of a hash of the request.
    pub fn from_bits(bits: [u8; 5]) -> Self {
        let number = bits.iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
        let mut tag = [0; 8];
        for (i, place) in tag.iter_mut().rev().enumerate() {
            let digit = usize::try_from((number >> (5 * i)) & 31).unwrap_or(0);
            *place = BASE32HEX[digit];
        }
        Self(tag)
    }

    /// All of its bits.
    pub fn bits(&self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl fmt::Display for ReplayTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ReplayTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplayTag({self})")
    }
}

impl FromStr for ReplayTag {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        <[u8; 8]>::try_from(text.as_bytes())
            .ok()
            .filter(|tag| tag.iter().all(|b| BASE32HEX.contains(b)))
            .map(Self)
            .ok_or_else(|| Wrong::new(Rule::Malformed, "must be 8 of 0-9 a-v"))
    }
}

/// One event to one lane; a replay of that has a tag. As text it is a delivery's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryKey {
    /// The event.
    pub position: Position,
    /// The subscription's lane.
    pub lane: LaneNo,
    /// Which replay; none for the delivery that the publish made.
    pub replay: Option<ReplayTag>,
}

impl DeliveryKey {
    /// The delivery that the publish made: what a receiver sees as the delivery's id, over
    /// retries and replays alike.
    pub fn original(self) -> Self {
        Self { replay: None, ..self }
    }
}

impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.position, self.lane)?;
        match self.replay {
            Some(tag) => write!(f, "-r{tag}"),
            None => Ok(()),
        }
    }
}

impl FromStr for DeliveryKey {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let malformed = || Wrong::new(Rule::Malformed, "must be a delivery id as this API gave it");
        let mut parts = text.splitn(3, '-');
        let position = parts.next().unwrap_or("").parse().map_err(|_| malformed())?;
        let lane = parts.next().unwrap_or("").parse().map_err(|_| malformed())?;
        let replay = match parts.next() {
            None => None,
            Some(tag) => {
                let tag = tag.strip_prefix('r').ok_or_else(malformed)?;
                Some(tag.parse().map_err(|_| malformed())?)
            }
        };
        Ok(Self { position, lane, replay })
    }
}
