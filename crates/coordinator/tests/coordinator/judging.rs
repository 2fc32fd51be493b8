//! Orders, judged before anything is planned by them: pure.

use std::sync::Arc;

use crate::repository::declaration;
use weir_coordinator::judging::{Ground, Judged, judge};
use weir_coordinator::ledger::{Order, OrderKind};
use weir_model::{BackendName, Declaration, SourceFile, SourceName, SplitName};

fn declared() -> Declaration {
    let file = SourceFile {
        source: SourceName("main".to_owned()),
        path: "a.yaml".to_owned(),
        bytes: Arc::from(declaration("shop", "80", "20").into_bytes()),
    };
    weir_model::parse(&[file]).declaration
}

fn backend(name: &str) -> BackendName {
    BackendName::new(name).unwrap()
}

fn order(kind: OrderKind) -> Order {
    Order {
        id: kind.word().to_owned(),
        kind,
        split: SplitName::new("checkout").ok(),
        reason: "new kernel".to_owned(),
        who: "ada".to_owned(),
    }
}

fn drain(name: &str) -> Order {
    order(OrderKind::Drain {
        backend: backend(name),
        to: None,
    })
}

fn undrain(name: &str) -> Order {
    order(OrderKind::Undrain {
        backend: backend(name),
    })
}

/// The backends that are drained then, and the refusals.
fn came_of(judged: &Judged) -> (Vec<String>, Vec<String>) {
    let drains = judged.orders.drains.values().flat_map(|of| of.keys());
    let refused = judged.waiting.iter().filter_map(|(_, refused)| refused.clone());
    (drains.map(ToString::to_string).collect(), refused.collect())
}

/// While it is not known what is declared, an order about a backend is neither refused nor answered, and what stands stays.
#[test]
fn what_cannot_be_judged_yet_waits() {
    let ground = Ground {
        declared: None,
        plan: None,
    };
    let waiting = vec![drain("vm"), undrain("cloud"), order(OrderKind::Freeze)];
    let judged = judge(waiting, vec![drain("cloud")], ground);
    assert_eq!(came_of(&judged), (vec!["cloud".to_owned()], Vec::new()));
    let answered: Vec<&str> = judged
        .waiting
        .iter()
        .map(|(order, _)| order.kind.word())
        .collect();
    assert_eq!(answered, ["freeze"]);
}

/// One after the other, as they were given: each is judged by what stands after those before it.
#[test]
fn orders_of_one_look_are_judged_one_after_the_other() {
    let declared = declared();
    let ground = Ground {
        declared: Some(&declared),
        plan: None,
    };
    let judged = judge(
        vec![drain("vm"), drain("cloud"), undrain("lab")],
        Vec::new(),
        ground,
    );
    let (drains, refused) = came_of(&judged);
    assert_eq!(drains, ["vm"]);
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].contains("nobody else has a share"), "{refused:?}");
    assert!(
        refused[1].contains("backend lab of split checkout is not drained"),
        "{refused:?}"
    );
    let judged = judge(vec![undrain("vm"), drain("cloud")], vec![drain("vm")], ground);
    assert_eq!(came_of(&judged), (vec!["cloud".to_owned()], Vec::new()));
}
