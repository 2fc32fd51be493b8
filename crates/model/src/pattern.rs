//! Regular expressions that every proxy reads alike.
//!
//! Envoy runs RE2. The `regex` crate descends from it and knows a little more; what RE2 lacks or reads
//! differently is refused here, and what only RE2 knows (`\Q..\E`, `\C`, octal escapes) as well.

use std::collections::BTreeMap;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ast::{self, Ast, Visitor};

use crate::limits;

/// Deepest nesting of groups.
const DEPTH: u32 = 50;
/// RE2's highest count in `x{n,m}`.
const REPEAT: u32 = 1_000;

/// Checks one expression.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it is empty and matches only an empty value".to_owned());
    }
    if text.len() > limits::TEXT {
        return Err(format!("it has more than {} characters", limits::TEXT));
    }
    let tree = ast::parse::ParserBuilder::new()
        .nest_limit(DEPTH)
        .build()
        .parse(text)
        .map_err(|error| error.kind().to_string())?;
    ast::visit(&tree, Re2)?;
    compile(text).map(drop)
}

/// Expressions compiled on demand and kept while routes are compared.
#[derive(Debug, Default)]
pub(crate) struct Patterns(BTreeMap<String, Option<Regex>>);

impl Patterns {
    /// Whether a whole value matches; `None` where that is not known for certain.
    pub(crate) fn matches(&mut self, expression: &str, value: &str) -> Option<bool> {
        // Compiled for bytes, `.` is one byte: an answer about other characters could be wrong.
        if !value.is_ascii() {
            return None;
        }
        if !self.0.contains_key(expression) {
            self.0.insert(expression.to_owned(), compile(expression).ok());
        }
        Some(self.0.get(expression)?.as_ref()?.is_match(value.as_bytes()))
    }
}

/// Compiles for matching whole values. As in RE2, `\w`, `\d` and `\b` are ASCII, unless a Unicode class asks for more.
fn compile(text: &str) -> Result<Regex, String> {
    let build = |unicode: bool| {
        RegexBuilder::new(&format!("^(?:{text})$"))
            .unicode(unicode)
            .nest_limit(DEPTH + 2)
            .size_limit(limits::REGEX_BYTES)
            .dfa_size_limit(limits::REGEX_BYTES)
            .build()
    };
    let built = match build(false) {
        Err(regex::Error::Syntax(_)) => build(true),
        other => other,
    };
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large once compiled".to_owned(),
        other => other.to_string().lines().last().unwrap_or_default().to_owned(),
    })
}

/// Refuses what RE2 does not know.
struct Re2;

impl Visitor for Re2 {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, tree: &Ast) -> Result<(), String> {
        match tree {
            Ast::Flags(set) => flags(&set.flags),
            Ast::Group(group) => group.flags().map_or(Ok(()), flags),
            Ast::Literal(literal) => self::literal(literal),
            Ast::Assertion(assertion) => match assertion.kind {
                ast::AssertionKind::StartLine
                | ast::AssertionKind::EndLine
                | ast::AssertionKind::StartText
                | ast::AssertionKind::EndText
                | ast::AssertionKind::WordBoundary
                | ast::AssertionKind::NotWordBoundary => Ok(()),
                _ => Err("it has a word boundary that RE2 does not know (only \\b and \\B)".to_owned()),
            },
            Ast::Repetition(repetition) => {
                let highest = match &repetition.op.kind {
                    ast::RepetitionKind::Range(
                        ast::RepetitionRange::Exactly(n)
                        | ast::RepetitionRange::AtLeast(n)
                        | ast::RepetitionRange::Bounded(_, n),
                    ) => *n,
                    _ => 0,
                };
                if highest > REPEAT {
                    return Err(format!("it repeats more than {REPEAT} times"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), String> {
        match item {
            ast::ClassSetItem::Bracketed(_) => Err(
                "it has a `[` inside a character class, which RE2 reads as a character: write \\[".to_owned(),
            ),
            ast::ClassSetItem::Literal(literal) => self::literal(literal),
            ast::ClassSetItem::Range(range) => literal(&range.start).and_then(|()| literal(&range.end)),
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), String> {
        Err("it has `&&`, `--` or `~~` inside a character class".to_owned())
    }
}

fn literal(literal: &ast::Literal) -> Result<(), String> {
    use ast::{HexLiteralKind, LiteralKind};
    match literal.kind {
        LiteralKind::HexFixed(HexLiteralKind::UnicodeShort | HexLiteralKind::UnicodeLong)
        | LiteralKind::HexBrace(HexLiteralKind::UnicodeShort | HexLiteralKind::UnicodeLong) => {
            Err("it has a `\\u` escape: write \\x{...}".to_owned())
        }
        _ => Ok(()),
    }
}

fn flags(flags: &ast::Flags) -> Result<(), String> {
    let known = |item: &ast::FlagsItem| match item.kind {
        ast::FlagsItemKind::Negation => true,
        ast::FlagsItemKind::Flag(flag) => matches!(
            flag,
            ast::Flag::CaseInsensitive
                | ast::Flag::MultiLine
                | ast::Flag::DotMatchesNewLine
                | ast::Flag::SwapGreed
        ),
    };
    if flags.items.iter().all(known) {
        Ok(())
    } else {
        Err("it sets a flag that RE2 does not know (only i, m, s and U)".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{Patterns, check};

    #[test]
    fn what_every_proxy_reads_alike_is_taken_and_the_rest_refused() {
        for good in [
            "^[0-4]?[0-9]$",
            "a|b",
            "(?i)beta.*",
            "[[:alpha:]]+",
            r"\d{3}-\w+",
            r"\x{e9}",
            r"a\[b",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "(",
            "a{1001}",
            "(?=a)",
            r"(a)\1",
            "[a&&b]",
            "[[a]b]",
            "(?x) a",
            r"\u{e9}",
            r"\<a",
            "(a{999}){999}",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&"(".repeat(1000)).is_err());
        let mut patterns = Patterns::default();
        assert_eq!(patterns.matches("[0-9]+|b", "12"), Some(true));
        assert_eq!(patterns.matches("[0-9]+|b", "12a"), Some(false));
        assert_eq!(patterns.matches(".", "é"), None);
    }
}
