//! What can be wrong between here and a coordinator: what, why, and what to do.

use crate::layout::{Page, Paint};
use crate::output::Exit;

/// What kind of trouble: it decides how a command ends, and whether waiting helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asked or set up wrongly.
    Asked,
    /// Nobody answered; somebody may later.
    Silent,
    /// Answered, and it is no.
    Refused,
}

/// One trouble.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Trouble {
    /// Its kind.
    pub kind: Kind,
    /// What happened.
    pub what: String,
    /// Why.
    pub why: Option<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Trouble {
    /// Without a why.
    pub fn new(kind: Kind, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            why: None,
            help: Some(help.into()),
        }
    }

    /// Adds why.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// How a command ends that meets it.
    pub fn exit(&self) -> Exit {
        match self.kind {
            Kind::Asked => Exit::Usage,
            Kind::Silent | Kind::Refused => Exit::Failure,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut page = Page::new();
        page.words(0, 2, Paint::Plain, &format!("error: {}", self.what));
        if let Some(why) = &self.why {
            page.words(2, 2, Paint::Plain, &format!("why: {why}"));
        }
        if let Some(help) = &self.help {
            page.words(2, 2, Paint::Plain, &format!("help: {help}"));
        }
        page.text()
    }
}
