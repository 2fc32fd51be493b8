//! Reading fields of one file: every typed access says what is wrong where it stands, and reading goes on.

use crate::codes;
use crate::declaration::Place;
use crate::diagnostic::{Code, Diagnostic, Label, Severity, Span};
use crate::names::DnsLabel;
use crate::nearest::nearest;
use crate::shape::{Form, Shape};
use crate::yaml::{Entry, Node, Scalar, Value};

/// A value read, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

impl<T> At<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At {
            value: change(self.value),
            place: self.place,
        }
    }
}

impl Place {
    /// A label at this place.
    pub(crate) fn label(&self, text: impl Into<String>) -> Label {
        Label {
            source: self.source.clone(),
            file: self.file.clone(),
            span: self.span.clone(),
            text: text.into(),
        }
    }
}

impl Diagnostic {
    /// An error at a place.
    pub(crate) fn error(code: Code, message: impl Into<String>, primary: Label) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            labels: vec![primary],
            help: None,
        }
    }

    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    pub(crate) fn also(mut self, label: Label) -> Self {
        self.labels.push(label);
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The fields of one mapping, checked against its shape.
pub(crate) struct Fields<'n> {
    entries: Vec<&'n Entry>,
    /// All of the shape's required fields are there.
    pub(crate) complete: bool,
}

impl<'n> Fields<'n> {
    pub(crate) fn get(&self, name: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == name).copied()
    }
}

/// One file being read.
pub(crate) struct Reader<'f> {
    file: &'f Place,
    pub(crate) diagnostics: &'f mut Vec<Diagnostic>,
}

impl<'f> Reader<'f> {
    /// `file` gives source and path; its span is not used.
    pub(crate) fn new(file: &'f Place, diagnostics: &'f mut Vec<Diagnostic>) -> Self {
        Self { file, diagnostics }
    }

    pub(crate) fn place(&self, span: &Span) -> Place {
        Place {
            source: self.file.source.clone(),
            file: self.file.file.clone(),
            span: span.clone(),
        }
    }

    pub(crate) fn at<T>(&self, value: T, span: &Span) -> At<T> {
        At {
            value,
            place: self.place(span),
        }
    }

    pub(crate) fn error(
        &mut self,
        code: Code,
        span: &Span,
        message: impl Into<String>,
        label: &str,
        help: impl Into<String>,
    ) {
        let label = self.place(span).label(label);
        self.diagnostics
            .push(Diagnostic::error(code, message, label).help(help));
    }

    pub(crate) fn wrong_type(&mut self, node: &Node, what: &str, wanted: &str, help: &str) {
        let found = match (&node.value, node.scalar()) {
            (Value::Unreadable, _) => return,
            (Value::Sequence(_), _) => "a list",
            (Value::Mapping(_), _) => "a mapping",
            (_, Some(Scalar::Null)) => "nothing",
            (_, Some(Scalar::Bool(_))) => "true or false",
            (_, Some(Scalar::Number(_))) => "a number",
            (_, Some(Scalar::Text(_)) | None) => "text",
        };
        let message = format!("{what} must be {wanted}, but here is {found}");
        self.error(
            codes::WRONG_TYPE,
            &node.span,
            message,
            &format!("this is {found}"),
            help,
        );
    }

    /// A mapping's entries, each key once: of a key that stands twice the first counts.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<Vec<&'n Entry>> {
        let Value::Mapping(entries) = &node.value else {
            let help = "write `name: value` lines, indented below the key, or `{name: value}`";
            self.wrong_type(node, what, "a mapping", help);
            return None;
        };
        let mut first: std::collections::BTreeMap<&str, &Entry> = std::collections::BTreeMap::new();
        let mut kept = Vec::new();
        for entry in entries.iter().filter(|entry| !entry.hole) {
            if let Some(earlier) = first.get(entry.key.as_str()) {
                let diagnostic = Diagnostic::error(
                    codes::DUPLICATE_KEY,
                    format!("`{}` stands twice in {what}", shown(&entry.key)),
                    self.place(&entry.key_span).label("again here"),
                )
                .also(self.place(&earlier.key_span).label("first here"))
                .help("keep one of the two: a mapping has each key once");
                self.diagnostics.push(diagnostic);
            } else {
                first.insert(&entry.key, entry);
                kept.push(entry);
            }
        }
        Some(kept)
    }

    /// A mapping's fields: unknown and missing ones are reported. `owner` is where a missing field is
    /// shown: the key that the mapping stands under.
    pub(crate) fn fields<'n>(&mut self, node: &'n Node, shape: &Shape, owner: &Span) -> Option<Fields<'n>> {
        let entries = self.entries(node, shape.title)?;
        // A field that is likely there under a wrong name, or behind a merge key, is not missing as well.
        let mut misspelt = Vec::new();
        let holes = matches!(&node.value, Value::Mapping(all) if all.iter().any(|entry| entry.hole));
        for entry in &entries {
            if !shape.fields.iter().any(|field| field.name == entry.key) {
                misspelt.extend(self.unknown_field(entry, shape));
            }
        }
        let mut complete = true;
        for field in shape.fields.iter().filter(|field| field.required) {
            if !entries.iter().any(|entry| entry.key == field.name) {
                complete = false;
                if holes || misspelt.contains(&field.name) {
                    continue;
                }
                self.error(
                    codes::MISSING_FIELD,
                    owner,
                    format!("{} has no `{}`", shape.title, field.name),
                    &format!("`{}` is missing here", field.name),
                    format!("add `{}`: {}", field.name, lower_first(field.doc)),
                );
            }
        }
        let refused = shape
            .fields
            .iter()
            .filter(|field| matches!(field.form, Form::Refused));
        let refused = refused
            .map(|field| field.name)
            .any(|name| entries.iter().any(|e| e.key == name));
        let misspelt = misspelt.iter().any(|name| shape.one_of.contains(name));
        if !shape.one_of.is_empty() && (refused || holes || misspelt) {
            complete = false;
        } else if !shape.one_of.is_empty() {
            complete &= self.exactly_one(&entries, shape, owner);
        }
        Some(Fields { entries, complete })
    }

    fn exactly_one(&mut self, entries: &[&Entry], shape: &Shape, owner: &Span) -> bool {
        let names: Vec<String> = shape.one_of.iter().map(|name| format!("`{name}`")).collect();
        let names = names.join(", ");
        let found: Vec<&&Entry> = entries
            .iter()
            .filter(|entry| shape.one_of.contains(&entry.key.as_str()))
            .collect();
        match found.as_slice() {
            [] => self.error(
                codes::NOT_EXACTLY_ONE,
                owner,
                format!("{} has none of {names}", shape.title),
                "one of them is missing here",
                format!("give exactly one of {names}"),
            ),
            [_] => return true,
            [first, second, ..] => {
                let diagnostic = Diagnostic::error(
                    codes::NOT_EXACTLY_ONE,
                    format!("{} has more than one of {names}", shape.title),
                    self.place(&second.key_span).label("and this"),
                )
                .also(self.place(&first.key_span).label("this"))
                .help("keep one of them");
                self.diagnostics.push(diagnostic);
            }
        }
        false
    }

    /// Returns the field that was likely meant.
    fn unknown_field(&mut self, entry: &Entry, shape: &Shape) -> Option<&'static str> {
        let known: Vec<&'static str> = shape.usable().map(|field| field.name).collect();
        let meant = nearest(&entry.key, known.iter().copied());
        let help = match meant {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the fields of {} are: {}", shape.title, known.join(", ")),
        };
        let message = format!("{} has no field `{}`", shape.title, entry.key);
        self.error(
            codes::UNKNOWN_FIELD,
            &entry.key_span,
            message,
            "unknown field",
            help,
        );
        meant
    }

    /// A list's items, at most `limit`.
    pub(crate) fn list<'n>(&mut self, node: &'n Node, what: &str, limit: usize) -> Option<&'n [Node]> {
        let Value::Sequence(items) = &node.value else {
            let help = "write each item on a line of its own that begins with `- `, or `[a, b]`";
            self.wrong_type(node, what, "a list", help);
            return None;
        };
        self.count(node, items.len(), what, limit).then_some(items)
    }

    /// Whether a number of entries is within its limit.
    pub(crate) fn count(&mut self, node: &Node, found: usize, what: &str, limit: usize) -> bool {
        if found > limit {
            self.error(
                codes::TOO_MANY_ENTRIES,
                &node.span,
                format!("{what} has {found} entries, and may have {limit}"),
                "too many",
                "leave out what is not needed, or declare several splits",
            );
        }
        found <= limit
    }

    /// Text. What YAML reads as a number or a truth value must be quoted, as in Kubernetes.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match node.scalar() {
            Some(Scalar::Text(text)) => return Some(text),
            Some(Scalar::Number(_) | Scalar::Bool(_)) => {
                self.wrong_type(node, what, "text", "put the value in quotes: \"...\"");
            }
            _ => self.wrong_type(node, what, "text", "write text after the colon"),
        }
        None
    }

    /// `true` or `false`, without quotes.
    pub(crate) fn flag(&mut self, node: &Node, what: &str) -> Option<At<bool>> {
        if let Some(Scalar::Bool(value)) = node.scalar() {
            return Some(self.at(value, &node.span));
        }
        self.wrong_type(
            node,
            what,
            "true or false",
            "write `true` or `false`, without quotes",
        );
        None
    }

    /// A whole number within bounds, decimal.
    pub(crate) fn whole(&mut self, node: &Node, what: &str, least: u32, most: u32) -> Option<u32> {
        let help = format!("write a whole number between {least} and {most}, without quotes");
        let Some(Scalar::Number(text)) = node.scalar() else {
            self.wrong_type(node, what, "a whole number", &help);
            return None;
        };
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            let message = format!("{what} must be a whole number, but here is `{}`", shown(text));
            self.error(codes::WRONG_TYPE, &node.span, message, "not a whole number", help);
            return None;
        }
        let number = text.strip_prefix('+').unwrap_or(text).parse::<u32>().ok();
        let number = number.filter(|n| (least..=most).contains(n));
        if number.is_none() {
            let message = format!("{what} must be between {least} and {most}");
            self.error(codes::NUMBER_RANGE, &node.span, message, "out of range", help);
        }
        number
    }

    /// An RFC 1035 label that is a value.
    pub(crate) fn label(&mut self, node: &Node, what: &str) -> Option<At<DnsLabel>> {
        let text = self.text(node, what)?;
        self.name(text, &node.span, what)
    }

    /// An RFC 1035 label that may be a key.
    pub(crate) fn name(&mut self, text: &str, span: &Span, what: &str) -> Option<At<DnsLabel>> {
        match DnsLabel::new(text) {
            Ok(label) => Some(self.at(label, span)),
            Err(error) => {
                self.error(
                    codes::BAD_NAME,
                    span,
                    format!("{what} is not a name: {error}"),
                    "not an RFC 1035 label",
                    "use 1 to 63 of a-z, 0-9 and `-`, a letter first, no `-` last",
                );
                None
            }
        }
    }
}

/// Text of others inside a message: short, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    if text.chars().count() > 40 {
        text.chars().take(39).map(visible).chain(['…']).collect()
    } else {
        text.chars().map(visible).collect()
    }
}

fn lower_first(sentence: &str) -> String {
    let sentence = sentence.trim_end_matches('.');
    let mut chars = sentence.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
