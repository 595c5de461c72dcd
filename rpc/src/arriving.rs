//! Requests that have not arrived whole: how many bytes they may be, and for how long.
//!
//! A message is gathered until all of it is there, and many streams may each send one. So the
//! length that stands before a message is looked at as soon as it is there, and room for the whole
//! message is taken before more of it is read: of its connection's, its caller's and everybody's.
//! A unary call keeps it until it is answered, a stream until its next message. What fits in a
//! frame needs none.
//!
//! Until there is room, what a peer has sent lies in its stream's window, and the connection's
//! window is as large as those of all its streams: who waits never keeps out who has room. A
//! message that has room has a time within which it must be whole.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

use crate::method::TIME_MAX;
use crate::unsent::{Room, units};

/// Bytes that a peer may send on a stream before they are read: what clients begin with, too.
pub(crate) const WINDOW: u32 = 64 * 1024;
/// Messages up to this length take no room: they come in a frame or two.
const SMALL: usize = 16 * 1024;
/// Before a message: whether it is compressed, and its length in four bytes.
const PREFIX: usize = 5;

type Permits = Vec<OwnedSemaphorePermit>;

/// The room of the message that a call reads or works on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(Arc<Mutex<Permits>>);

impl Kept {
    fn permits(&self) -> MutexGuard<'_, Permits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body, which is read as far as there is room for it.
pub(crate) struct Arriving {
    inner: Body,
    /// The widest stands last: who waits for it holds what is his own.
    rooms: Vec<Room>,
    messages: Messages,
    kept: Kept,
    /// A message's room is given back when the next is wanted.
    stream: bool,
    waits: Option<Waits>,
    /// The message that is read has its room until then.
    until: Option<Pin<Box<Sleep>>>,
}

/// A frame that is passed on when there is room for its message.
struct Waits {
    frame: Bytes,
    room: Pin<Box<dyn Future<Output = Permits> + Send>>,
}

impl Arriving {
    /// A body whose messages take room of these. `kept` is what they have of it; of a stream's,
    /// nobody else holds it.
    pub(crate) fn new(inner: Body, rooms: Vec<Room>, kept: Kept, stream: bool) -> Self {
        let messages = Messages::default();
        Self { inner, rooms, messages, kept, stream, waits: None, until: None }
    }

    /// A frame came: it is passed on unless it begins a message that has to wait for room.
    fn came(&mut self, frame: Bytes) -> Option<Bytes> {
        let Some(begun) = self.messages.read(&frame) else { return Some(frame) };
        // Whoever held one message's room while he waits for another's could wait for himself.
        self.kept.permits().clear();
        let rooms = self.rooms.clone();
        let room = Box::pin(async move {
            let mut permits = Permits::new();
            for room in &rooms {
                permits.extend(room.take(units(begun)).await);
            }
            permits
        });
        self.waits = Some(Waits { frame, room });
        None
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(waits) = &mut this.waits {
                let permits = ready!(waits.room.as_mut().poll(cx));
                let frame = std::mem::take(&mut waits.frame);
                this.waits = None;
                *this.kept.permits() = permits;
                this.until = Some(Box::pin(sleep(TIME_MAX)));
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
            if this.messages.left == 0 {
                this.until = None;
                if this.stream {
                    this.kept.permits().clear();
                }
            }
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => match this.came(data) {
                        Some(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                        None => continue,
                    },
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                Poll::Ready(other) => return Poll::Ready(other),
                Poll::Pending => {}
            }
            let late = this.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready());
            return match late {
                true => Poll::Ready(Some(Err(too_slow()))),
                false => Poll::Pending,
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waits.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn too_slow() -> Status {
    let seconds = TIME_MAX.as_secs();
    Status::deadline_exceeded(format!("a message did not arrive whole within {seconds} s"))
}

/// Where in the messages of a body its bytes stand.
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; PREFIX],
    /// Bytes of it that are there.
    known: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    /// It is longer than any may be: its call is refused, and where messages begin is not known.
    lost: bool,
}

impl Messages {
    /// Reads on. Says how long the message is that these bytes began and did not end, if it is
    /// worth taking room for.
    fn read(&mut self, mut bytes: &[u8]) -> Option<usize> {
        let mut begun = None;
        while !bytes.is_empty() && !self.lost {
            if self.left > 0 {
                let some = self.left.min(bytes.len());
                (self.left, bytes) = (self.left - some, &bytes[some..]);
                continue;
            }
            let some = (PREFIX - self.known).min(bytes.len());
            self.prefix[self.known..self.known + some].copy_from_slice(&bytes[..some]);
            (self.known, bytes) = (self.known + some, &bytes[some..]);
            if self.known == PREFIX {
                let [_, length @ ..] = self.prefix;
                self.known = 0;
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.lost = self.left > crate::MESSAGE_LEN;
                begun = Some(self.left);
            }
        }
        begun.filter(|length| self.left > 0 && *length > SMALL && !self.lost)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body::Body as _;
    use tokio::sync::mpsc;

    use super::*;

    /// Frames as they are sent.
    struct Sent(mpsc::Receiver<Vec<u8>>);

    impl http_body::Body for Sent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.poll_recv(cx).map(|some| some.map(|some| Ok(Frame::data(some.into()))))
        }
    }

    /// A peer that sends, and the body that arrives.
    struct Call {
        peer: mpsc::Sender<Vec<u8>>,
        body: Arriving,
        kept: Kept,
    }

    impl Call {
        fn new(room: &Room, stream: bool) -> Self {
            let (peer, sent) = mpsc::channel(8);
            let kept = Kept::default();
            let body =
                Arriving::new(Body::new(Sent(sent)), vec![room.clone()], kept.clone(), stream);
            Self { peer, body, kept }
        }

        fn send(&self, bytes: &[u8]) {
            self.peer.try_send(bytes.to_vec()).unwrap();
        }

        /// Bytes that are passed on, if they are within a second.
        async fn next(&mut self) -> Option<Result<usize, Status>> {
            let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx));
            let frame =
                tokio::time::timeout(std::time::Duration::from_secs(1), frame).await.ok()?;
            Some(frame?.map(|frame| frame.into_data().unwrap().len()))
        }

        async fn passed(&mut self) -> Option<usize> {
            self.next().await.map(|passed| passed.unwrap())
        }
    }

    const MIB: usize = 1 << 20;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes.resize(PREFIX + length, 7);
        bytes
    }

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let lengths = [0, 1, 20_000, SMALL, 3 * SMALL, 5];
        let bytes: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
        for step in [1, 4, 5, 6, 1000, 16_384] {
            let mut messages = Messages::default();
            let begun: Vec<_> = bytes.chunks(step).filter_map(|some| messages.read(some)).collect();
            assert_eq!(begun, [20_000, 3 * SMALL], "in steps of {step}");
            assert_eq!((messages.left, messages.known), (0, 0));
        }
        let mut messages = Messages::default();
        assert_eq!(messages.read(&message(crate::MESSAGE_LEN + 1)), None);
        assert!(messages.lost);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_read_when_there_is_room_for_all_of_it() {
        let room = Room::new(5 * MIB);
        let (mut one, mut other) = (Call::new(&room, false), Call::new(&room, false));
        let (large, small) = (message(3 * MIB), message(100));
        one.send(&large[..1000]);
        assert_eq!(one.passed().await, Some(1000));
        assert_eq!(room.left(), 2 * MIB, "for the whole message");
        other.send(&large[..1000]);
        assert_eq!(other.passed().await, None);
        let mut third = Call::new(&room, false);
        third.send(&small);
        assert_eq!(third.passed().await, Some(small.len()), "needs none");
        one.send(&large[1000..]);
        assert_eq!(one.passed().await, Some(large.len() - 1000));
        drop(one.body);
        assert_eq!(other.passed().await, None, "the call is not answered yet");
        drop(one.kept);
        assert_eq!(other.passed().await, Some(1000));
        drop(other);
        assert_eq!(room.left(), 5 * MIB);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_has_room_for_one_message_at_a_time() {
        let room = Room::new(5 * MIB);
        let mut stream = Call::new(&room, true);
        let large = message(3 * MIB);
        for _ in 0..2 {
            stream.send(&large[..10]);
            stream.send(&[&large[10..], &large[..1000]].concat());
            stream.send(&large[1000..]);
            for length in [10, large.len() - 10 + 1000, large.len() - 1000] {
                assert_eq!(stream.passed().await, Some(length));
                assert_eq!(room.left(), 2 * MIB);
            }
        }
        assert_eq!(stream.passed().await, None);
        assert_eq!(room.left(), 5 * MIB, "it is idle");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_never_ends_loses_its_room() {
        let room = Room::new(5 * MIB);
        let mut slow = Call::new(&room, true);
        slow.send(&message(MIB)[..1000]);
        assert_eq!(slow.passed().await, Some(1000));
        let begun = tokio::time::Instant::now();
        let refused = loop {
            if let Some(next) = slow.next().await {
                break next.unwrap_err();
            }
        };
        assert_eq!(refused.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(begun.elapsed().as_secs(), TIME_MAX.as_secs());
    }
}
