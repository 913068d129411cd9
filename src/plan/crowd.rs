//! Who is on a node's instances and GPUs, and what it costs to take these from them.
//!
//! A user is disturbed once, however much it loses. Whoever holds one thing alone is a number beside that thing; users
//! that hold the same several things are a group, a bit of a mask.

use std::collections::BTreeMap;

use crate::model::desired::DesiredNode;
use crate::model::observed::{Known, ObservedNode, User};

use super::cost;
use super::drain::{Court, Ruling};
use super::movers;

/// How many groups are told apart: one for each bit.
const GROUPS: usize = u128::BITS as usize;

/// Who is on an instance, or on the whole of a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// What losing it costs.
    pub weight: u64,
    /// How many are on nothing else; who it is that nobody could see counts as one.
    pub users: u32,
    /// Groups that are also elsewhere.
    pub groups: u128,
}

impl Load {
    /// Who is on this, too.
    pub fn add(&mut self, more: &Load) {
        self.weight += more.weight;
        self.users += more.users;
        self.groups |= more.groups;
    }
}

/// Everybody on a node.
#[derive(Clone, Debug, Default)]
pub struct Crowd {
    /// By GPU and instance.
    instances: Vec<Vec<Load>>,
    /// On the whole of a GPU, by GPU.
    whole: Vec<Load>,
    /// How many users each group has.
    sizes: Vec<u32>,
    /// Groups on several GPUs.
    pub spanning: u128,
    /// Who is disturbed whatever becomes of the GPUs, and so weighs nothing on them.
    pub forced: u64,
    /// Whether there are too many groups to be told apart: users of some count once for each thing that they hold.
    pub blurred: bool,
}

/// A thing to hold: a GPU, and an instance of it or (`None`) its whole.
type Thing = (usize, Option<usize>);

impl Crowd {
    /// Looks at everybody on a node.
    pub fn of(desired: &DesiredNode, node: &ObservedNode, court: &Court<'_>) -> Self {
        let forced = movers::misplaced(desired, node);
        let mut crowd = Crowd { forced: forced.len() as u64, ..Crowd::default() };
        let mut held: BTreeMap<User, Vec<Thing>> = BTreeMap::new();
        for (g, gpu) in node.gpus.iter().enumerate() {
            let mut see = |users: Known<Vec<User>>, thing: Thing, idle: u64| match users {
                Known::Unknown => Load { weight: idle + cost::REFUSED, users: 1, groups: 0 },
                Known::Known(users) => {
                    for user in users {
                        held.entry(user).or_default().push(thing);
                    }
                    Load { weight: idle, ..Load::default() }
                }
            };
            let loads = gpu.instances.iter().enumerate().map(|(i, x)| see(x.all_users(), (g, Some(i)), cost::IDLE));
            let loads = loads.collect();
            crowd.instances.push(loads);
            crowd.whole.push(see(gpu.users.clone(), (g, None), 0));
        }
        let mut groups: BTreeMap<Vec<Thing>, u32> = BTreeMap::new();
        for (user, mut things) in held {
            things.dedup();
            if forced.contains(&user) {
                continue;
            }
            let weight = match court.judge(&user, &[]) {
                Ruling::Move(_) => cost::USER,
                Ruling::No(_) => cost::REFUSED,
            };
            things.iter().for_each(|thing| crowd.change(*thing, |load| load.weight += weight));
            match &things[..] {
                [only] => crowd.change(*only, |load| load.users += 1),
                _ => *groups.entry(things).or_default() += 1,
            }
        }
        for (at, (things, size)) in groups.into_iter().enumerate() {
            if at >= GROUPS {
                crowd.blurred = true;
                things.iter().for_each(|thing| crowd.change(*thing, |load| load.users += size));
                continue;
            }
            crowd.sizes.push(size);
            things.iter().for_each(|thing| crowd.change(*thing, |load| load.groups |= 1 << at));
            if things.first().map(|(g, _)| g) != things.last().map(|(g, _)| g) {
                crowd.spanning |= 1 << at;
            }
        }
        crowd
    }

    fn change(&mut self, (g, instance): Thing, change: impl FnOnce(&mut Load)) {
        let load = match instance {
            Some(i) => self.instances.get_mut(g).and_then(|loads| loads.get_mut(i)),
            None => self.whole.get_mut(g),
        };
        if let Some(load) = load {
            change(load);
        }
    }

    /// Who is on an instance.
    pub fn instance(&self, g: usize, i: usize) -> Load {
        self.instances.get(g).and_then(|loads| loads.get(i)).copied().unwrap_or_default()
    }

    /// Who is on the whole of a GPU.
    pub fn whole(&self, g: usize) -> Load {
        self.whole.get(g).copied().unwrap_or_default()
    }

    /// How many are disturbed on one GPU, but for those who are on several, and which groups these are.
    pub fn disturbed(&self, load: &Load) -> (u64, u128) {
        let alone = self.number(load.groups & !self.spanning);
        (u64::from(load.users) + alone, load.groups & self.spanning)
    }

    /// How many users the groups have.
    pub fn number(&self, groups: u128) -> u64 {
        if groups == 0 {
            return 0;
        }
        let sizes = self.sizes.iter().enumerate().filter(|(at, _)| groups >> at & 1 == 1);
        sizes.map(|(_, size)| u64::from(*size)).sum()
    }

    /// Whether anybody holds several things, so that what keeps most and what disturbs fewest may differ.
    pub fn is_grouped(&self) -> bool {
        !self.sizes.is_empty()
    }

    /// The same where only those weigh who may not be disturbed: what keeps most then disturbs fewest.
    pub fn protected_only(&self) -> Crowd {
        let mut crowd = self.clone();
        let loads = crowd.instances.iter_mut().flatten().chain(&mut crowd.whole);
        loads.for_each(|load| load.weight -= load.weight % cost::REFUSED);
        crowd
    }
}
