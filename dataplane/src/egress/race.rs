//! Happy eyeballs (RFC 8305): a receiver's addresses are tried in turn, each a little after the one
//! before or as soon as that one has failed, and the first that answers is taken.
//!
//! Which one that was is remembered for a while, so that a receiver with a dead address is not
//! waited for at each connect.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use pregon_core::outcome::ErrorClass;
use tokio::time::{Instant, sleep_until};

use super::fault::Fault;

/// How long one address has before the next is tried beside it: 250 ms, "Connection Attempt Delay"
/// of RFC 8305 section 8.
const STAGGER: Duration = Duration::from_millis(250);
/// How long it is remembered which address answered: 10 min, as RFC 6555 section 4.1 has it.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Receivers of which it is remembered: a hundred bytes each.
const RECEIVERS: usize = 4096;

/// Tries the addresses. `place` gives a place for each try, which the winner keeps; it is told
/// whether nothing else is under way. An address without a place waits for those under way. `tried`
/// notes each as its try begins; its last is the one that answered, if one did.
///
/// Where all fail, the receiver's own verdict (CONNECT) is told rather than a fault of the way to it.
pub(super) async fn race<P, T, F>(
    addresses: &[SocketAddr],
    place: impl Fn(bool) -> Result<P, Fault>,
    dial: impl Fn(SocketAddr) -> F,
    tried: &mut Vec<SocketAddr>,
) -> Result<(T, SocketAddr, P), Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut waiting = addresses.iter().copied();
    let mut next = waiting.next();
    let mut under_way = FuturesUnordered::new();
    let mut turn = Instant::now();
    let mut fault: Option<Fault> = None;
    loop {
        let alone = under_way.is_empty();
        if let Some(remote) = next.filter(|_| alone || turn <= Instant::now()) {
            turn = Instant::now() + STAGGER;
            match place(alone) {
                Ok(place) => {
                    tried.push(remote);
                    let dialled = dial(remote);
                    under_way.push(async move { (remote, dialled.await, place) });
                    next = waiting.next();
                }
                Err(none) if alone => return Err(none),
                Err(_) => {} // those under way go on
            }
        }
        tokio::select! {
            done = under_way.next() => match done {
                Some((remote, Ok(connected), place)) => return Ok((connected, remote, place)),
                // The node's own fault, which the next address would meet as well.
                Some((_, Err(why), _)) if why.class == ErrorClass::Local => return Err(why),
                Some((_, Err(why), _)) => {
                    let receivers = |fault: &Fault| fault.class == ErrorClass::Connect;
                    if receivers(&why) || !fault.as_ref().is_some_and(receivers) {
                        fault = Some(why);
                    }
                    turn = Instant::now(); // nothing to wait for: the next one begins
                }
                None if next.is_none() => {
                    let none = || Fault::new(ErrorClass::Connect, "no address to connect to");
                    return Err(fault.unwrap_or_else(none));
                }
                None => {}
            },
            () = sleep_until(turn), if next.is_some() => {}
        }
    }
}

/// A fault with the addresses that were tried: what a name stood for is not to be seen later.
pub(super) fn told(mut fault: Fault, tried: &[SocketAddr]) -> Fault {
    let mut detail = fault.detail.into_owned();
    for (number, remote) in tried.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = match number {
            0 => write!(detail, " (tried {}", remote.ip()),
            _ => write!(detail, ", {}", remote.ip()),
        };
    }
    if !tried.is_empty() {
        detail.push(')');
    }
    fault.detail = detail.into();
    fault
}

/// Which address of a receiver answered last.
#[derive(Default)]
pub(super) struct Winners(Mutex<HashMap<Receiver, Winner>>);

/// A name and a port.
type Receiver = (Arc<str>, u16);
/// An address, and until when it is remembered.
type Winner = (IpAddr, Instant);

impl Winners {
    /// Puts the address that answered last in front, if it is still among them.
    pub fn prefer(&self, host: &Arc<str>, port: u16, addresses: &mut [IpAddr]) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(host), port);
        let winner = known.get(&key).filter(|(_, until)| Instant::now() < *until);
        let place = winner.and_then(|(won, _)| addresses.iter().position(|it| it == won));
        if let Some(place) = place {
            addresses[..=place].rotate_right(1);
        }
    }

    /// Remembers who answered.
    pub fn won(&self, host: &Arc<str>, port: u16, address: IpAddr) {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(host), port);
        if known.len() >= RECEIVERS && !known.contains_key(&key) {
            known.retain(|_, (_, until)| now < *until);
            if known.len() >= RECEIVERS {
                known.clear(); // worth no more than one try too many for each
            }
        }
        known.insert(key, (address, now + REMEMBERED));
    }

    /// Forgets a receiver of whose addresses none answered.
    pub fn forget(&self, host: &Arc<str>, port: u16) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(Arc::clone(host), port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|n| SocketAddr::from(([192, 0, 2, n], 443))).collect()
    }

    /// Dials addresses that answer after so many milliseconds; none: they refuse at once.
    async fn raced(answers: &[Option<u64>]) -> (Result<SocketAddr, ErrorClass>, usize, Duration) {
        let all = addresses(u8::try_from(answers.len()).unwrap());
        let begin = Instant::now();
        let mut tried = Vec::new();
        let dial = |remote: SocketAddr| {
            let place = all.iter().position(|it| *it == remote).unwrap();
            let answer = answers[place];
            async move {
                match answer {
                    Some(after) => {
                        tokio::time::sleep(Duration::from_millis(after)).await;
                        Ok(())
                    }
                    None => Err(Fault::new(ErrorClass::Connect, "connection refused")),
                }
            }
        };
        let won = race(&all, |_| Ok(()), dial, &mut tried).await;
        (won.map(|((), who, ())| who).map_err(|fault| fault.class), tried.len(), begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_address_begins_a_quarter_of_a_second_later_or_when_one_fails() {
        let all = addresses(8);
        let dead = Some(60_000);
        let ms = Duration::from_millis;
        assert_eq!(raced(&[Some(100), Some(1)]).await, (Ok(all[0]), 1, ms(100)));
        assert_eq!(raced(&[dead, Some(100)]).await, (Ok(all[1]), 2, ms(350)));
        assert_eq!(raced(&[dead, dead, dead, Some(1)]).await, (Ok(all[3]), 4, ms(751)));
        assert_eq!(raced(&[None, None, Some(5)]).await, (Ok(all[2]), 3, ms(5)));
        // The first answers after all, while the second is tried.
        assert_eq!(raced(&[Some(300), Some(100)]).await, (Ok(all[0]), 2, ms(300)));
        assert_eq!(raced(&[None, None]).await, (Err(ErrorClass::Connect), 2, ms(0)));
        assert_eq!(raced(&[]).await, (Err(ErrorClass::Connect), 0, ms(0)));
    }

    #[tokio::test]
    async fn of_several_faults_the_receivers_is_told() {
        use ErrorClass::{Connect, Egress};
        let told = async |faults: &[ErrorClass]| {
            let all = addresses(u8::try_from(faults.len()).unwrap());
            let dial = |remote: SocketAddr| {
                let class = faults[all.iter().position(|it| *it == remote).unwrap()];
                async move { Err::<(), _>(Fault::new(class, "failed")) }
            };
            race(&all, |_| Ok(()), dial, &mut Vec::new()).await.unwrap_err().class
        };
        assert_eq!(told(&[Connect, Egress]).await, Connect);
        assert_eq!(told(&[Egress, Connect]).await, Connect);
        assert_eq!(told(&[Egress, Connect, Egress]).await, Connect);
        assert_eq!(told(&[Egress, Egress]).await, Egress);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_without_a_place_waits_for_those_under_way() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let (open, most_seen) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        for places in [0, 1, 2] {
            let (all, mut tried) = (addresses(3), Vec::new());
            let place = |_| {
                let none = || Fault::new(ErrorClass::Local, "too many connections are open");
                let slot = super::super::connection::OpenSlot::take(&open, places);
                most_seen.fetch_max(open.load(Ordering::SeqCst), Ordering::SeqCst);
                slot.ok_or_else(none)
            };
            let dial = |remote: SocketAddr| {
                let last = remote == all[2];
                async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    let refused = Fault::new(ErrorClass::Connect, "connection refused");
                    if last { Ok(()) } else { Err(refused) }
                }
            };
            let won = race(&all, place, dial, &mut tried).await.map_err(|fault| fault.class);
            match (places, won) {
                (0, Err(ErrorClass::Local)) => assert!(tried.is_empty()),
                (0, other) => panic!("{other:?}"),
                (_, won) => {
                    let (_, who, slot) = won.unwrap();
                    assert_eq!((who, open.load(Ordering::SeqCst)), (all[2], 1), "{places}");
                    drop(slot);
                }
            }
            assert_eq!(most_seen.load(Ordering::SeqCst), places);
            assert_eq!(open.load(Ordering::SeqCst), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_winner_comes_first_for_ten_minutes() {
        let winners = Winners::default();
        let host: Arc<str> = "receiver.test".into();
        let all: Vec<IpAddr> = addresses(4).iter().map(SocketAddr::ip).collect();
        let order = |port| {
            let mut order = all.clone();
            winners.prefer(&host, port, &mut order);
            order.iter().map(|it| all.iter().position(|of| of == it).unwrap()).collect::<Vec<_>>()
        };
        winners.won(&host, 443, all[2]);
        assert_eq!((order(443), order(80)), (vec![2, 0, 1, 3], vec![0, 1, 2, 3]));
        tokio::time::advance(Duration::from_secs(599)).await;
        assert_eq!(order(443), [2, 0, 1, 3]);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(order(443), [0, 1, 2, 3]);
        winners.won(&host, 443, all[1]);
        winners.forget(&host, 443);
        assert_eq!(order(443), [0, 1, 2, 3]);
        for number in 0..2 * RECEIVERS {
            winners.won(&format!("n{number}.test").into(), 443, all[0]);
        }
        assert!(winners.0.lock().unwrap().len() <= RECEIVERS);
    }

    #[test]
    fn a_fault_says_which_addresses_were_tried() {
        let fault = || Fault::new(ErrorClass::Connect, "connection refused");
        let all = addresses(2);
        assert_eq!(told(fault(), &all).detail, "connection refused (tried 192.0.2.1, 192.0.2.2)");
        assert_eq!(told(fault(), &[]).detail, "connection refused");
    }
}
