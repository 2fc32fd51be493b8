//! What an agent posted and never heard of, and what is declared and not in force: neither keeps another split at a Kong.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use weir_agent::gateways::{FIRST, Gateways, Keep, Memory, Refusals, Shared, Wanted};
use weir_drivers::Kong as Driver;
use weir_drivers::dns::Names;
use weir_drivers::kong::pins::Sight;
use weir_drivers::kong::{Admin, Answer, Carry, Failure, Listener, Question};
use weir_planner::Plan;
use weir_sandbox::kong::{Options, Still};

use super::stage::*;

/// Answers at once, until a document is posted: of that nobody hears, nor of anything after it.
#[derive(Debug)]
struct Until {
    kong: Arc<Still>,
    deaf: bool,
    over: Mutex<bool>,
}

impl Carry for Until {
    fn carry<'a>(&'a self, question: Question) -> BoxFuture<'a, Result<Answer, Failure>> {
        if *self.over.lock().unwrap() {
            return futures::future::pending().boxed();
        }
        let status = question.listener == Listener::Status;
        let body = question
            .body
            .as_ref()
            .map(|(kind, bytes)| (kind.as_str(), bytes.as_slice()));
        let said = self.kong.ask(status, &question.method, &question.path, body);
        if question.method == Method::POST && self.deaf {
            *self.over.lock().unwrap() = true;
            return futures::future::pending().boxed();
        }
        let answer = Answer {
            status: StatusCode::from_u16(said.status).unwrap(),
            kind: said.kind.to_owned(),
            hint: None,
            body: said.body,
        };
        futures::future::ready(Ok(answer)).boxed()
    }
}

#[derive(Default, Clone)]
struct Disk(Arc<Mutex<Memory>>);

impl Keep for Disk {
    fn keep(&self, memory: &Memory) -> io::Result<()> {
        *self.0.lock().unwrap() = memory.clone();
        Ok(())
    }
}

/// One turn of an agent that starts with what is on its disk; true if it came to its end.
fn turn(kong: &Arc<Still>, disk: &Disk, plan: &Plan, held: &[&str], deaf: bool) -> bool {
    let part = part(plan);
    let mut items = part.items.clone();
    items.retain(|split, _| !held.contains(&split.as_str()));
    let wanted = Wanted {
        plan: part,
        items,
        next: BTreeMap::new(),
        ahead: BTreeSet::new(),
        pins: BTreeMap::new(),
        sight: Sight::default(),
        back: BTreeSet::new(),
    };
    turn_for(kong, disk, &wanted, deaf)
}

/// The same for what is wanted.
fn turn_for(kong: &Arc<Still>, disk: &Disk, wanted: &Wanted, deaf: bool) -> bool {
    let carrier = Until {
        kong: Arc::clone(kong),
        deaf,
        over: Mutex::new(false),
    };
    let node = Admin::carried("http://kong", true, Box::new(carrier));
    let driver = Driver::carried(vec![node], tokio::time::Instant::now).unwrap();
    let drivers = BTreeMap::from([(edge(), Arc::new(driver))]);
    let known = Known::default();
    known.0.lock().unwrap().insert([10, 0, 2, 9].into());
    let names: Arc<dyn Names> = Arc::new(known);
    let (task, link) = Gateways::new(drivers, names, disk.clone());
    let shared = Shared::new(disk.0.lock().unwrap().clone());
    let mut refusals = Refusals::new(FIRST);
    let newer = link.want.subscribe();
    let name = edge();
    let turned = task.turn(&name, (wanted, newer), &shared, &mut refusals);
    turned.now_or_never().is_some()
}

fn routes(kong: &Still) -> Vec<String> {
    let routes = kong.ways().into_iter();
    let routes = routes.map(|way| way.route["name"].as_str().unwrap().to_owned());
    routes.collect()
}

/// What a Kong gives the first backend of `basket`.
fn of_basket(kong: &Still) -> u64 {
    gives(kong, "basket", "10.0.2.1:80").unwrap()
}

/// What a Kong gives an address by a route; none if the site's own service has it.
fn gives(kong: &Still, route: &str, address: &str) -> Option<u64> {
    let mut ways = kong.ways().into_iter();
    let way = ways.find(|way| way.route["name"] == route).unwrap();
    way.gives?.get(address).copied()
}

fn without_base(splits: &[String], before: Option<&Plan>) -> Plan {
    plan_of("{name: edge, channel: admin-dbless}", BASE, splits, before)
}

#[test]
fn the_last_door_goes_though_nobody_heard_that_it_came() {
    let kong = Arc::new(Still::without_database(Options::default()).unwrap());
    let disk = Disk::default();
    let first = without_base(&[own_door("checkout", 90, BY_ADDRESS)], None);
    assert!(!turn(&kong, &disk, &first, &[], true), "killed before it heard");
    assert_eq!(routes(&kong), ["weir.checkout.default"]);
    let none = without_base(&[], Some(&first));
    assert!(turn(&kong, &disk, &none, &[], false));
    assert_eq!(routes(&kong), [] as [&str; 0]);
}

#[test]
fn a_split_that_is_not_in_force_keeps_no_other_one() {
    let kong = Arc::new(Still::without_database(Options::default()).unwrap());
    let disk = Disk::default();
    let first = without_base(&[own_door("checkout", 90, BY_ADDRESS)], None);
    assert!(turn(&kong, &disk, &first, &[], false));
    // What is in force already and cannot be said now stays.
    assert!(turn(&kong, &disk, &first, &["checkout"], false));
    assert_eq!(routes(&kong), ["weir.checkout.default"]);
    let other = without_base(&[own_door("basket", 70, BASKET)], Some(&first));
    assert!(turn(&kong, &disk, &other, &["basket"], false));
    assert_eq!(routes(&kong), [] as [&str; 0]);
    assert!(turn(&kong, &disk, &other, &[], false));
    assert_eq!(routes(&kong), ["weir.basket.default"]);
}

/// Nor does one that was there, is declared, and is held back by its zone: it stays as it was posted, for as long as it is there
/// as this agent posted it, and the others have their reverts meanwhile.
#[test]
fn a_split_that_waits_to_come_back_stays_beside_the_others() {
    let kong = Arc::new(Still::without_database(Options::default()).unwrap());
    let (disk, other) = (Disk::default(), Disk::default());
    let of = |checkout: u32, basket: u32, before: Option<&Plan>| {
        let splits = [
            split("checkout", checkout, BY_ADDRESS),
            split("basket", basket, BASKET),
        ];
        plan(BASE, &splits, before)
    };
    let both = || (gives(&kong, "checkout", "10.0.0.1:80"), of_basket(&kong));
    let first = of(90, 20, None);
    assert!(turn(&kong, &disk, &first, &[], false));
    assert_eq!(both(), (Some(27), 1));
    let second = of(50, 80, Some(&first));
    assert!(turn(&kong, &disk, &second, &["checkout"], false));
    assert_eq!(both(), (Some(27), 4), "the revert of basket waited for checkout");
    // Somebody who knows more brought a newer one of it: that is not written over, and whoever knows it goes on.
    assert!(turn(&kong, &other, &second, &[], false));
    let third = of(50, 20, Some(&second));
    assert_eq!(both(), (Some(3), 4));
    assert!(turn(&kong, &disk, &third, &["checkout"], false));
    assert_eq!(both(), (Some(3), 4));
    assert!(turn(&kong, &other, &third, &["checkout"], false));
    assert_eq!(both(), (Some(3), 1));
    // Where it is gone it does not come back by what was posted once.
    let new = Arc::new(Still::without_database(Options::default()).unwrap());
    assert!(turn(&new, &other, &third, &["checkout"], false));
    assert_eq!(
        (gives(&new, "checkout", "10.0.0.1:80"), of_basket(&new)),
        (None, 1)
    );
}

/// An agent that is killed before it hears what became of a revert that went ahead of the mesh takes nothing back.
#[test]
fn a_revert_of_which_nobody_heard_is_not_taken_back() {
    let kong = Arc::new(Still::without_database(Options::default()).unwrap());
    let disk = Disk::default();
    let of = |vm: u32, before: Option<&Plan>| plan(BASE, &[split("basket", vm, BASKET)], before);
    let first = of(80, None);
    let second = of(20, Some(&first));
    let back = of(80, Some(&second));
    let gives = || of_basket(&kong);
    assert!(turn(&kong, &disk, &first, &[], false));
    assert!(turn(&kong, &disk, &second, &[], false));
    assert_eq!(gives(), 1);
    let mut wanted = Wanted {
        plan: part(&back),
        items: part(&back).items.clone(),
        next: BTreeMap::new(),
        ahead: [name("basket")].into(),
        pins: BTreeMap::new(),
        sight: Sight::default(),
        back: BTreeSet::new(),
    };
    assert!(!turn_for(&kong, &disk, &wanted, true));
    assert_eq!(gives(), 4);
    // It starts anew, and cannot see the mesh, which has what was before.
    wanted.items = part(&second).items.clone();
    wanted.next = part(&back).items.clone();
    wanted.ahead.clear();
    assert!(turn_for(&kong, &disk, &wanted, false));
    assert_eq!(gives(), 4);
}

/// Nor does one that had a full disk from then on, and knows no more of the mesh than what it had before: what its gateway runs is
/// its own by the hash, and newer than that (I7).
#[test]
fn what_a_full_disk_kept_of_a_step_is_enough_to_leave_it() {
    // What it has by an address, and what only the newer one has by a name.
    for newer in [BASKET, "vm: \"10.0.2.1:80\", cloud: \"cloud.example.com:80\""] {
        step_that_is_left(newer);
    }
}

fn step_that_is_left(newer: &str) {
    let kong = Arc::new(Still::without_database(Options::default()).unwrap());
    let disk = Disk::default();
    let of = |vm: u32, addresses: &str, before: Option<&Plan>| {
        plan(BASE, &[split("basket", vm, addresses)], before)
    };
    let first = of(80, BASKET, None);
    let second = of(20, newer, Some(&first));
    let gives = || of_basket(&kong);
    assert!(turn(&kong, &disk, &first, &[], false));
    assert_eq!(gives(), 4);
    assert!(!turn(&kong, &disk, &second, &[], true));
    assert_eq!(gives(), 1);
    let mut wanted = Wanted {
        plan: part(&second),
        items: part(&first).items.clone(),
        next: part(&second).items.clone(),
        ahead: BTreeSet::new(),
        pins: BTreeMap::new(),
        sight: Sight::default(),
        back: BTreeSet::new(),
    };
    assert!(turn_for(&kong, &disk, &wanted, false));
    assert_eq!(gives(), 1, "generation 1 was written over generation 2");
    // What comes after is written as ever.
    let third = of(80, BASKET, Some(&second));
    (wanted.plan, wanted.items) = (part(&third), part(&third).items.clone());
    wanted.next.clear();
    assert!(turn_for(&kong, &disk, &wanted, false));
    assert_eq!(gives(), 4);
}
