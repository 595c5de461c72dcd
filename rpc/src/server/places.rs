//! The places for connections, and who has to go when there are too few.
//!
//! A connection is silent until its peer has opened HTTP/2, then a stranger's until a call on it
//! has shown a valid credential, then known. Where nobody is authenticated, whoever opens HTTP/2 is
//! known. A known connection is never closed to make room, and strangers have half of the places at
//! most, so that silence and idle connections keep nobody out: a newcomer takes the place of a
//! stranger, of the peer address that has most of them. Silent ones go before others, the oldest
//! first.
//!
//! Each address, and each caller's name, has a share of its own, so that one of them cannot take
//! all. An address has a share of strangers only: known callers may all come through one proxy.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Of the places, the part that strangers may have, silent ones included.
const STRANGERS: usize = 2;
/// The part that silent connections may have, and the strangers of one address.
const SILENT: usize = 4;

/// The places of a listener.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    /// Nobody is authenticated.
    open: bool,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    /// By number: the oldest first.
    taken: BTreeMap<u64, Taken>,
    /// Known connections by their caller's name.
    known: HashMap<Arc<str>, usize>,
    /// Connections that are to go and have not gone yet.
    going: usize,
}

#[derive(Debug)]
struct Taken {
    peer: IpAddr,
    standing: Standing,
    end: CancellationToken,
}

/// What is known of a connection's peer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing: it has not opened HTTP/2.
    Silent,
    /// It speaks HTTP/2.
    Stranger,
    /// Its caller's name; none where nobody is authenticated.
    Known(Option<Arc<str>>),
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    among: Places,
    number: u64,
    peer: IpAddr,
    end: CancellationToken,
}

impl Places {
    /// So many places; `open`: nobody is authenticated.
    pub(crate) fn new(most: usize, open: bool) -> Self {
        Self(Arc::new(Shared { most, open, table: Mutex::default() }))
    }

    /// A place for a connection from an address, which ends with `cut` or when it has to make room.
    /// None: all are taken by known ones.
    pub(crate) fn enter(&self, peer: IpAddr, cut: &CancellationToken) -> Option<Place> {
        let peer = network(peer);
        let mut table = self.table();
        table.make_room(self.0.most, peer)?;
        table.last += 1;
        let (number, end) = (table.last, cut.child_token());
        let taken = Taken { peer, standing: Standing::Silent, end: end.clone() };
        table.taken.insert(number, taken);
        Some(Place { among: self.clone(), number, peer, end })
    }

    /// How many connections there are.
    pub(crate) fn count(&self) -> usize {
        let table = self.table();
        table.taken.len() + table.going
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Makes room for a newcomer from an address.
    fn make_room(&mut self, most: usize, peer: IpAddr) -> Option<()> {
        let (strangers, silent) = (most.div_ceil(STRANGERS), most.div_ceil(SILENT));
        let of_peer = |it: &Taken| it.is_stranger() && it.peer == peer;
        let is_silent = |it: &Taken| it.standing == Standing::Silent;
        while self.count(of_peer) >= silent {
            self.evict(of_peer)?;
        }
        while self.count(is_silent) >= silent {
            self.evict(is_silent)?;
        }
        while self.count(Taken::is_stranger) >= strangers || self.taken.len() >= most {
            self.evict(Taken::is_stranger)?;
        }
        Some(())
    }

    fn count(&self, which: impl Fn(&Taken) -> bool) -> usize {
        self.taken.values().filter(|it| which(it)).count()
    }

    /// Ends one of these: of the address that has most strangers a silent one, else the oldest.
    fn evict(&mut self, which: impl Fn(&Taken) -> bool) -> Option<()> {
        let mut strangers: HashMap<IpAddr, usize> = HashMap::new();
        for it in self.taken.values().filter(|it| it.is_stranger()) {
            *strangers.entry(it.peer).or_default() += 1;
        }
        let rank = |(number, it): &(&u64, &Taken)| {
            let fellows = strangers.get(&it.peer).copied().unwrap_or(0);
            (fellows, it.standing == Standing::Silent, u64::MAX - **number)
        };
        let (&number, _) = self.taken.iter().filter(|(_, it)| which(it)).max_by_key(rank)?;
        let evicted = self.taken.remove(&number)?;
        evicted.end.cancel();
        self.going += 1;
        Some(())
    }
}

impl Taken {
    fn is_stranger(&self) -> bool {
        !matches!(self.standing, Standing::Known(_))
    }
}

impl Place {
    /// The address, or network, that the connection is from.
    pub(crate) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Cancelled when the connection has to end.
    pub(crate) fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// The peer has opened HTTP/2.
    pub(crate) fn spoke(&self) {
        let open = self.among.0.open;
        if let Some(taken) = self.among.table().taken.get_mut(&self.number)
            && taken.standing == Standing::Silent
        {
            taken.standing = if open { Standing::Known(None) } else { Standing::Stranger };
        }
    }

    /// A call has shown a valid credential. Says whether the connection counts as known: it does
    /// not where that name has its share already, one part in so many of all places.
    pub(crate) fn know(&self, actor: &Arc<str>, part: usize) -> bool {
        let most = self.among.0.most.div_ceil(part);
        let mut table = self.among.table();
        let Table { taken, known, .. } = &mut *table;
        let Some(taken) = taken.get_mut(&self.number).filter(|it| it.is_stranger()) else {
            return true;
        };
        let own = known.get(actor).copied().unwrap_or(0);
        if own >= most {
            return false;
        }
        known.insert(Arc::clone(actor), own + 1);
        taken.standing = Standing::Known(Some(Arc::clone(actor)));
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.among.table();
        let Some(taken) = table.taken.remove(&self.number) else {
            table.going -= 1;
            return;
        };
        if let Standing::Known(Some(actor)) = taken.standing
            && let Some(own) = table.known.get_mut(&actor)
        {
            *own -= 1;
            if *own == 0 {
                table.known.remove(&actor);
            }
        }
    }
}

/// What counts as one address: of IPv6 a /64, which one customer has.
fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(addr) => {
            let network = addr.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        addr @ IpAddr::V4(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    struct World {
        places: Places,
        cut: CancellationToken,
    }

    impl World {
        fn new(most: usize, open: bool) -> Self {
            Self { places: Places::new(most, open), cut: CancellationToken::new() }
        }

        fn enter(&self, last: u8) -> Option<Place> {
            self.places.enter(peer(last), &self.cut)
        }

        fn known(&self, last: u8, name: &str) -> Place {
            let place = self.enter(last).unwrap();
            place.spoke();
            assert!(place.know(&name.into(), 4), "{name}");
            place
        }
    }

    fn open(places: &[Place]) -> usize {
        places.iter().filter(|place| !place.end().is_cancelled()).count()
    }

    #[test]
    fn silence_keeps_nobody_out_and_the_known_stay() {
        let world = World::new(16, false);
        let known: Vec<_> = (0..3).map(|_| world.known(1, "shop")).collect();
        let mut flood = Vec::new();
        for _ in 0..100 {
            flood.push(world.enter(9).unwrap());
            assert!(open(&flood) <= 4);
        }
        // Who comes meanwhile has the time to show who he is.
        let newcomer = world.enter(2).unwrap();
        for _ in 0..100 {
            flood.push(world.enter(9).unwrap());
        }
        newcomer.spoke();
        assert!(!newcomer.end().is_cancelled() && newcomer.know(&"billing".into(), 4));
        assert_eq!((open(&known), open(&flood)), (3, 3), "the newcomer was silent too");
        assert_eq!(world.places.count(), 3 + 1 + 200, "those who go have not gone yet");
        drop(flood);
        assert_eq!(world.places.count(), 4);
    }

    #[test]
    fn strangers_who_speak_have_half_of_the_places() {
        let world = World::new(16, false);
        let mut strangers = Vec::new();
        for n in 0..60 {
            let place = world.enter(n).unwrap();
            place.spoke();
            strangers.push(place);
        }
        assert_eq!(open(&strangers), 8);
        let known: Vec<_> =
            (0..8).map(|n| world.known(100 + n, if n < 4 { "shop" } else { "billing" })).collect();
        assert_eq!(open(&known), 8);
    }

    #[test]
    fn one_name_has_its_share_of_known_connections() {
        let world = World::new(16, false);
        let own: Vec<_> = (0..4).map(|_| world.known(1, "viewer")).collect();
        let fifth = world.enter(1).unwrap();
        assert!(!fifth.know(&"viewer".into(), 4), "it stays a stranger's");
        assert!(fifth.know(&"shop".into(), 4));
        drop(own);
        let _again: Vec<_> = (0..4).map(|_| world.known(1, "viewer")).collect();
        assert!(world.places.table().known.len() == 2);
    }

    #[test]
    fn where_nobody_is_authenticated_who_speaks_is_known() {
        let world = World::new(4, true);
        let spoken: Vec<_> = (0..4)
            .map(|_| {
                let place = world.enter(1).unwrap();
                place.spoke();
                place
            })
            .collect();
        assert!(world.enter(1).is_none(), "those who have a place keep it");
        assert_eq!(open(&spoken), 4);
    }

    #[test]
    fn an_address_is_a_host_or_a_network_of_one() {
        let parse = |text: &str| network(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:192.0.2.7"), parse("192.0.2.7"));
        assert_ne!(parse("192.0.2.6"), parse("192.0.2.7"));
    }
}
