//! Where two answers differ, and which differences a list allows.

use std::collections::BTreeSet;

use serde_json::Value;

/// A place where two values differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// As a JSON pointer.
    pub path: String,
    /// What is there in the first, or `nothing`.
    pub first: String,
    /// And in the second.
    pub second: String,
}

impl Difference {
    /// Whether its path begins as the pattern does, in which `*` is any one step. `""` is the whole answer.
    pub fn is_at(&self, pattern: &str) -> bool {
        let (mut wanted, mut given) = (pattern.split('/'), self.path.split('/'));
        wanted.all(|step| given.next().is_some_and(|here| step == "*" || step == here))
    }
}

/// A difference that a double is allowed: which answer, a pattern of the place in it, why.
pub type Allowed = (&'static str, &'static str, &'static str);

/// Answers held against recorded ones, by a list of the differences that are allowed.
#[derive(Debug)]
pub struct Held {
    allowed: &'static [Allowed],
    /// Whether the first of an allowance means the answer of this name.
    means: fn(&str, &str) -> bool,
    used: BTreeSet<usize>,
    wrong: Vec<String>,
}

impl Held {
    /// Against this list.
    pub fn by(allowed: &'static [Allowed], means: fn(&str, &str) -> bool) -> Self {
        Self {
            allowed,
            means,
            used: BTreeSet::new(),
            wrong: Vec::new(),
        }
    }

    /// Compares one answer with the recorded one.
    pub fn compare(&mut self, name: &str, recorded: &Value, now: &Value) {
        for found in differences(recorded, now) {
            let mut allowed = self.allowed.iter();
            match allowed.position(|(of, pattern, _)| (self.means)(of, name) && found.is_at(pattern)) {
                Some(at) => {
                    self.used.insert(at);
                }
                None => self.wrong.push(format!(
                    "{name} {}\n  recorded: {}\n  now:      {}",
                    found.path, found.first, found.second
                )),
            }
        }
    }

    /// Nothing differs but what is allowed to.
    ///
    /// # Panics
    /// If anything does.
    pub fn nothing_else_differs(&self) {
        assert!(
            self.wrong.is_empty(),
            "{} differences:\n{}",
            self.wrong.len(),
            self.wrong.join("\n")
        );
    }

    /// The same, and all that is allowed to differ does: an allowance that nobody needs is a lie.
    ///
    /// # Panics
    /// If not.
    pub fn differs_as_allowed(&self) {
        self.nothing_else_differs();
        let unused: Vec<_> = (0..self.allowed.len())
            .filter(|at| !self.used.contains(at))
            .map(|at| self.allowed[at])
            .collect();
        assert!(
            unused.is_empty(),
            "allowed, but nothing differs there any more: {unused:?}"
        );
    }
}

/// All differences, in order.
pub fn differences(first: &Value, second: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    collect("", first, second, &mut found);
    found
}

fn collect(path: &str, first: &Value, second: &Value, found: &mut Vec<Difference>) {
    let mut at = |path: String, a: Option<&Value>, b: Option<&Value>| match (a, b) {
        (Some(a), Some(b)) => collect(&path, a, b, found),
        (a, b) => {
            let show = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
            found.push(Difference {
                path,
                first: show(a),
                second: show(b),
            });
        }
    };
    match (first, second) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                at(
                    format!("{path}/{}", key.replace('/', "~1")),
                    a.get(key),
                    b.get(key),
                );
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for n in 0..a.len().max(b.len()) {
                at(format!("{path}/{n}"), a.get(n), b.get(n));
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(Difference {
            path: path.to_owned(),
            first: a.to_string(),
            second: b.to_string(),
        }),
    }
}
