//! A database whose routes cannot all be listed: nobody's weights wait for that, and no route is made before it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::Notify;
use weir_drivers::kong::{Admin, Answer, Carry, Failure, Listener, Question};
use weir_sandbox::kong::{Database, Options, Still};

use crate::busy::{Running, asked_after};
use crate::stage::*;

/// A Kong that takes up at once what is in its database, by whatever stands before it.
#[derive(Debug)]
struct Lists {
    kong: Still,
    fails: AtomicBool,
    /// What was asked: method and path.
    asked: Mutex<Vec<String>>,
    /// Rung by each question, once it is answered.
    rung: Notify,
}

impl Lists {
    fn ask(&self, method: &Method, path: &str, status: bool, body: Option<&(String, Vec<u8>)>) -> Answer {
        self.kong.looks();
        self.kong.rebuilds();
        let body = body.map(|(kind, bytes)| (kind.as_str(), bytes.as_slice()));
        let said = self.kong.ask(status, method, path, body);
        Answer {
            status: StatusCode::from_u16(said.status).unwrap(),
            kind: said.kind.to_owned(),
            hint: None,
            body: said.body,
        }
    }

    /// The weight of the target of a split's first backend.
    fn gives(&self, split: &str) -> Option<u64> {
        let path = format!("upstreams/weir.{split}.default/targets");
        let answer: Value = serde_json::from_slice(&self.ask(&Method::GET, &path, false, None).body).unwrap();
        let mut targets = answer["data"].as_array()?.iter();
        // Kong lists what was made in one second in any order.
        targets.find(|one| ["10.0.0.1:80", "10.0.2.1:80"].contains(&one["target"].as_str().unwrap()))?["weight"].as_u64()
    }

    /// What was asked since the last time, as far as it begins so.
    fn asked(&self, begins: &str) -> Vec<usize> {
        let asked = self.asked.lock().unwrap();
        let all = asked
            .iter()
            .enumerate()
            .filter(|(_, what)| what.starts_with(begins));
        all.map(|(at, _)| at).collect()
    }
}

#[derive(Debug)]
struct By(Arc<Lists>);

impl Carry for By {
    fn carry<'a>(&'a self, question: Question) -> BoxFuture<'a, Result<Answer, Failure>> {
        let Question {
            listener,
            method,
            path,
            body,
        } = question;
        let what = format!("{method} {path}");
        let fails = what.starts_with(LISTING) && self.0.fails.load(Ordering::Relaxed);
        self.0.asked.lock().unwrap().push(what);
        let mut answer = self
            .0
            .ask(&method, &path, listener == Listener::Status, body.as_ref());
        if fails {
            answer.status = StatusCode::INTERNAL_SERVER_ERROR;
        }
        self.0.rung.notify_one();
        futures::future::ready(Ok(answer)).boxed()
    }
}

const LISTING: &str = "GET routes?size";

#[tokio::test(start_paused = true)]
async fn nobodys_weights_wait_for_a_list_of_all_routes() {
    let kong = Arc::new(Lists {
        kong: Still::on(&Database::new(), Options::default()).unwrap(),
        fails: AtomicBool::new(false),
        asked: Mutex::default(),
        rung: Notify::new(),
    });
    let node = Admin::carried("http://kong", true, Box::new(By(Arc::clone(&kong))));
    let agent = Running::of(vec![node]);
    let checkout = |vm| own_door("checkout", vm, BY_ADDRESS);
    let first = with_database(&[checkout(90)], None);
    agent.want(&first);
    agent.exact(&first, "checkout", Duration::from_secs(30)).await;
    // Weights move, and only then somebody asks whose requests are whose.
    kong.fails.store(true, Ordering::Relaxed);
    asked_after(Duration::from_secs(60), &kong.rung).await;
    kong.asked.lock().unwrap().clear();
    let second = with_database(&[checkout(50), own_door("basket", 100, BASKET)], Some(&first));
    agent.want(&second);
    asked_after(Duration::from_secs(60), &kong.rung).await;
    assert_eq!(kong.gives("checkout"), Some(30_000));
    let (patches, lists) = (kong.asked("PATCH upstreams"), kong.asked(LISTING));
    assert!(
        patches.last() < lists.first() && !patches.is_empty(),
        "{patches:?} {lists:?}"
    );
    // Less and less often.
    assert!((1..=8).contains(&lists.len()), "{lists:?}");
    // All of the other one is there but the route, which says why.
    assert_eq!(kong.gives("basket"), Some(60_000));
    assert!(
        kong.kong.all("routes").len() == 1,
        "{:?}",
        kong.kong.all("routes")
    );
    let told = agent.link.told.borrow().clone();
    let held = door(&told, &second, "basket").unwrap().held.clone().unwrap();
    assert!(
        held.contains("before it is known who else takes its requests"),
        "{held}"
    );
    let back = with_database(&[checkout(90), own_door("basket", 100, BASKET)], Some(&second));
    agent.want(&back);
    let given = async {
        while kong.gives("checkout") != Some(54_000) {
            kong.rung.notified().await;
        }
    };
    let so = tokio::time::timeout(Duration::from_secs(1), given).await;
    assert!(so.is_ok(), "{:?}", kong.gives("checkout"));
    kong.fails.store(false, Ordering::Relaxed);
    agent.exact(&back, "checkout", Duration::from_secs(90)).await;
    agent.exact(&back, "basket", Duration::from_secs(90)).await;
    agent.stopped().await;
}
