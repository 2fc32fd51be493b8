//! Every answer that a write can get, told to people: whose fault it is and whether waiting helps. A transcript to read.

use std::fmt::Write as _;

use serde_json::Value;
use weir_drivers::{Outcome, ZoneDriver as _};

use crate::cluster::{Cluster, Instead, OURS};
use crate::plan::put;

#[tokio::test]
async fn as_a_table() {
    let answers: Vec<Value> = serde_json::from_str(include_str!("answers.json")).unwrap();
    let mut table = String::new();
    for answer in &answers {
        let headers = answer["headers"].as_object().unwrap();
        let headers = headers
            .values()
            .map(|v| ("retry-after", v.as_str().unwrap().to_owned()));
        let bytes = match &answer["body"] {
            Value::String(text) => text.clone().into_bytes(),
            value => value.to_string().into_bytes(),
        };
        let code = u16::try_from(answer["code"].as_u64().unwrap()).unwrap();
        let cluster = Cluster::new();
        cluster.on("PATCH", OURS, Instead::Status(code, headers.collect(), bytes));
        let what = answer["what"].as_str().unwrap();
        let source = match answer["recorded"].as_bool().unwrap() {
            true => "recorded",
            false => "written after the documentation",
        };
        writeln!(table, "{what} ({source})").unwrap();
        match cluster.driver().apply(&put([9000, 1000], 7)).await {
            Err(error) => {
                let waits = match error.fault.passes() {
                    true => "waiting helps",
                    false => "waiting does not help",
                };
                writeln!(
                    table,
                    "  {:?}, {waits}\n  {}\n  {}\n",
                    error.fault, error.why, error.help
                )
                .unwrap();
            }
            Ok(Outcome::Yielded(why)) => writeln!(table, "  left alone\n  {why}\n").unwrap(),
            Ok(Outcome::Done { .. }) => panic!("{what} is no success"),
        }
    }
    insta::assert_snapshot!(table);
}
