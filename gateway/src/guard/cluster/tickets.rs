//! Keys of TLS tickets between machines, so that a client resumes its session on any of them.
//!
//! Each guard seals its place on its chain of ticket keys to a public key that the other one makes for this alone, and
//! signs it, as all letters are. The private half is in that guard's memory only, for two periods of ticket keys at most:
//! whoever has recorded the store and steals a machine's files later reads no ticket key.
//!
//! *Invariant:* nobody seals by another machine's chain. One that is cut off goes on with its own, and knows where the
//! chains of the others are, as they walk by the time.

use std::collections::BTreeMap;

use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as HPKE,
    hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey},
};
use zeroize::Zeroizing;

use super::fact::{BOX_BYTES, ClusterFact};
use crate::{os::clock::Now, tls::Chain};

/// What the sealed is for.
const INFO: &[u8] = b"gateway cluster: ticket keys 1";

/// What is known of ticket keys.
#[derive(Default)]
pub(crate) struct TicketExchange {
    node: String,
    /// What the others encrypt to: the newest last, and the one before it.
    boxes: Vec<OwnBox>,
    peers: BTreeMap<String, Peer>,
    /// The newest box is to be told.
    is_new: bool,
}

/// What the others encrypt to.
struct OwnBox {
    /// When it was made: a period of ticket keys.
    period: u64,
    public: [u8; BOX_BYTES],
    private: HpkePrivateKey,
}

/// What is known of one other machine.
#[derive(Default)]
struct Peer {
    public: Option<[u8; BOX_BYTES]>,
    /// Where it is on its chain.
    chain: Option<Chain>,
    /// The chain before: it seals no more.
    former: Option<Chain>,
    /// What it is told, for which place of the own chain.
    told: Option<(Chain, ClusterFact)>,
    /// It is to be told at once.
    is_due: bool,
    /// It was told where the own chain is.
    knows: bool,
}

impl TicketExchange {
    /// Goes on with these machines. `true`: one of them is of the cluster no more, which knows where the own chain is.
    pub(super) fn configure(&mut self, node: &str, peers: &[&str]) -> bool {
        node.clone_into(&mut self.node);
        let gone = self.peers.extract_if(.., |name, _| !peers.contains(&name.as_str()));
        let knew = gone.filter(|(_, peer)| peer.knows).count() > 0;
        for name in peers {
            self.peers.entry((*name).to_owned()).or_default();
        }
        if self.peers.is_empty() {
            self.boxes.clear();
        }
        knew
    }

    /// Looks at the time: keys that are over are forgotten, and the own box is made anew.
    pub(crate) fn tick(&mut self, chain: &Chain, now: Now) {
        if self.peers.is_empty() {
            return;
        }
        for peer in self.peers.values_mut() {
            if let Some(chain) = &mut peer.chain {
                chain.advance(now);
            }
            peer.former = peer.former.take().and_then(|mut former| former.fade(now).then_some(former));
        }
        let period = chain.period();
        if self.boxes.last().is_some_and(|newest| newest.period == period) {
            return;
        }
        // Without randomness there is no TLS either.
        let Some(fresh) = OwnBox::new(period) else { return };
        self.boxes.push(fresh);
        let surplus = self.boxes.len().saturating_sub(2);
        self.boxes.drain(..surplus);
        self.is_new = true;
    }

    /// What the others are to be told of at once.
    pub(super) fn take_changes(&mut self, chain: &Chain) -> Vec<ClusterFact> {
        let mut facts: Vec<ClusterFact> =
            std::mem::take(&mut self.is_new).then(|| self.own_box()).flatten().into_iter().collect();
        for (name, peer) in &mut self.peers {
            let is_other = peer.told.as_ref().is_some_and(|(told, _)| !told.is_same(chain));
            if std::mem::take(&mut peer.is_due) || is_other {
                facts.extend(peer.seal(&self.node, name, chain));
            }
        }
        facts
    }

    /// All that there is to be told.
    pub(super) fn facts(&mut self, chain: &Chain) -> Vec<ClusterFact> {
        let own = self.own_box();
        let sealed = self.peers.iter_mut().filter_map(|(name, peer)| peer.seal(&self.node, name, chain));
        own.into_iter().chain(sealed).collect()
    }

    fn own_box(&self) -> Option<ClusterFact> {
        self.boxes.last().map(|newest| ClusterFact::TicketBox { key: newest.public })
    }

    /// Another machine says this. `true`: other tickets are opened from now on.
    pub(super) fn hear(&mut self, node: &str, facts: &[ClusterFact], is_whole: bool, now: Now) -> bool {
        let Some(peer) = self.peers.get_mut(node) else { return false };
        if is_whole && !facts.iter().any(|fact| matches!(fact, ClusterFact::TicketBox { .. })) {
            // It shares them no more.
            let was_known = peer.chain.is_some();
            *peer = Peer { knows: peer.knows, ..Peer::default() };
            return was_known;
        }
        let mut changed = false;
        for fact in facts {
            match fact {
                ClusterFact::TicketBox { key } if peer.public != Some(*key) => {
                    (peer.public, peer.told, peer.is_due) = (Some(*key), None, true);
                }
                ClusterFact::TicketKeys { to, sealed } if *to == self.node => {
                    let opened = self.boxes.iter().rev().find_map(|own| own.open(node, to, sealed));
                    changed |= opened.filter(|chain| chain.is_of(now)).is_some_and(|chain| peer.learn(chain, now));
                }
                _ => {}
            }
        }
        changed
    }

    /// Where the chains of the others are.
    pub(crate) fn others(&self) -> Vec<Chain> {
        self.peers.values().flat_map(|peer| peer.chain.iter().chain(&peer.former)).cloned().collect()
    }

    /// Whether the ticket keys of a machine are known.
    pub(super) fn knows(&self, node: &str) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.chain.is_some())
    }
}

impl OwnBox {
    fn new(period: u64) -> Option<Self> {
        let (public, private) = HPKE.generate_key_pair().ok()?;
        Some(Self { period, public: public.0.try_into().ok()?, private })
    }

    fn open(&self, from: &str, to: &str, sealed: &[u8]) -> Option<Chain> {
        let (secret, text) = sealed.split_at_checked(BOX_BYTES)?;
        let secret = EncapsulatedSecret(secret.to_vec());
        let opened = HPKE.open(&secret, INFO, &both(from, to), text, &self.private).ok()?;
        postcard::from_bytes(&Zeroizing::new(opened)).ok()
    }
}

impl Peer {
    /// What it is told; `None`: it is not known what to encrypt to.
    fn seal(&mut self, own: &str, name: &str, chain: &Chain) -> Option<ClusterFact> {
        let public = HpkePublicKey(self.public?.to_vec());
        if let Some((_, fact)) = self.told.as_ref().filter(|(told, _)| told == chain) {
            return Some(fact.clone());
        }
        let plain = Zeroizing::new(postcard::to_stdvec(chain).ok()?);
        let (EncapsulatedSecret(mut sealed), text) = HPKE.seal(INFO, &both(own, name), &plain, &public).ok()?;
        sealed.extend_from_slice(&text);
        let fact = ClusterFact::TicketKeys { to: name.to_owned(), sealed };
        (self.told, self.knows) = (Some((chain.clone(), fact.clone())), true);
        Some(fact)
    }

    /// It is at this place of its chain. `false`: that was known.
    fn learn(&mut self, chain: Chain, now: Now) -> bool {
        if self.chain.as_ref().is_some_and(|known| known.is_same(&chain)) {
            return false;
        }
        self.former = self.chain.replace(chain).filter(|former| former.is_of(now));
        true
    }
}

/// Who tells whom: nobody passes on what was sealed by another machine.
fn both(from: &str, to: &str) -> Vec<u8> {
    [from.as_bytes(), b"\0", to.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(period: u64) -> Now {
        Now { monotonic: 0, unix_millis: period * 6 * 3_600 * 1_000 }
    }

    /// Two machines, and the chain of each.
    struct World {
        a: (TicketExchange, Chain),
        b: (TicketExchange, Chain),
    }

    impl World {
        fn new() -> Self {
            let machine = |own: &str, other: &str| {
                let mut exchange = TicketExchange::default();
                assert!(!exchange.configure(own, &[other]));
                let chain = Chain::new(at(100)).unwrap();
                exchange.tick(&chain, at(100));
                (exchange, chain)
            };
            Self { a: machine("a", "b"), b: machine("b", "a") }
        }

        /// A says what has changed, and B hears it.
        fn a_tells(&mut self, now: Now) -> (Vec<ClusterFact>, bool) {
            let facts = self.a.0.take_changes(&self.a.1);
            let heard = self.b.0.hear("a", &facts, false, now);
            (facts, heard)
        }

        fn b_tells(&mut self, now: Now) -> bool {
            let facts = self.b.0.take_changes(&self.b.1);
            self.a.0.hear("b", &facts, false, now)
        }

        fn met() -> Self {
            let mut world = Self::new();
            world.a_tells(at(100));
            assert!(world.b_tells(at(100)), "B knows what to encrypt to");
            assert!(world.a_tells(at(100)).1);
            world
        }
    }

    #[test]
    fn machines_learn_each_others_chains() {
        let mut world = World::met();
        let World { a, b } = &world;
        assert_eq!((a.0.others(), b.0.others()), (vec![b.1.clone()], vec![a.1.clone()]));
        assert!(world.a.0.take_changes(&world.a.1).is_empty(), "told once");
        let whole = world.a.0.facts(&world.a.1);
        assert_eq!(whole.len(), 2);
        assert!(!world.b.0.hear("a", &whole, true, at(100)), "and said again");
        // The next periods: nobody has to tell of keys, but of what is encrypted to.
        for period in [101, 102] {
            world.a.1.advance(at(period));
            world.a.0.tick(&world.a.1, at(period));
            world.b.0.tick(&world.b.1, at(period));
            assert_eq!(world.b.0.others(), vec![world.a.1.clone()]);
            assert!(!world.a_tells(at(period)).1);
        }
        // Another guard of A: its tickets are opened, and those of the one before it.
        let former = world.b.0.others();
        world.a.1 = Chain::new(at(102)).unwrap();
        assert!(world.a_tells(at(102)).1);
        assert_eq!(world.b.0.others(), vec![world.a.1.clone(), former[0].clone()]);
        world.b.0.tick(&world.b.1, at(104));
        assert_eq!(world.b.0.others().len(), 1, "for two periods");
        // It shares them no more.
        assert!(world.b.0.hear("a", &[], true, at(104)) && world.b.0.others().is_empty());
    }

    /// What somebody can do with letters that they have recorded, or with another machine's.
    #[test]
    fn nobody_else_reads_them() {
        let mut world = World::met();
        let facts = world.a.0.facts(&world.a.1);
        let Some(ClusterFact::TicketKeys { to, sealed }) = facts.last() else { panic!("{facts:?}") };
        let World { a, b } = &mut world;
        let link = format!("{:?}", postcard::to_stdvec(&a.1).unwrap());
        assert!(!format!("{sealed:?}").contains(link.trim_matches(['[', ']'])));
        let mut other = Chain::new(at(100)).unwrap();
        other.advance(at(101));
        b.0.configure("b", &["a", "c"]);
        assert!(!b.0.hear("c", &facts, false, at(100)), "another machine passes it on");
        assert!(!b.0.hear("c", &[ClusterFact::TicketKeys { to: to.clone(), sealed: sealed.clone() }], false, at(100)));
        for place in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[place] ^= 1;
            let fact = ClusterFact::TicketKeys { to: to.clone(), sealed: bad };
            assert!(!b.0.hear("a", &[fact], false, at(100)), "byte {place}");
            let fact = ClusterFact::TicketKeys { to: to.clone(), sealed: sealed[..place].to_vec() };
            assert!(!b.0.hear("a", &[fact], false, at(100)), "{place} bytes");
        }
        // Two periods later the private half is gone.
        for period in [101, 102] {
            b.1.advance(at(period));
            b.0.tick(&b.1, at(period));
        }
        assert!(b.0.boxes.iter().all(|own| own.open("a", to, sealed).is_none()));
    }

    /// Keys of another time are none: they would seal, or be kept, for too long.
    #[test]
    fn keys_of_another_time() {
        for (period, expect) in [(98, false), (99, true), (100, true), (101, true), (102, false)] {
            let mut world = World::met();
            world.a.1 = Chain::new(at(period)).unwrap();
            assert_eq!(world.a_tells(at(100)).1, expect, "{period}");
        }
    }

    /// Whoever leaves the cluster knows where the chain is: the guard begins another one.
    #[test]
    fn who_leaves() {
        let mut world = World::met();
        assert!(!world.a.0.configure("a", &["b", "c"]));
        assert!(!world.a.0.configure("a", &["b"]), "C was told nothing");
        assert!(world.a.0.configure("a", &[]) && world.a.0.others().is_empty());
        assert!(world.a.0.facts(&world.a.1).is_empty() && world.a.0.boxes.is_empty());
    }
}
