//! Two texts as a unified diff: lines that go, lines that come, and three lines around them.

/// Lines around a change.
const CONTEXT: usize = 3;

/// Above this many pairs of lines, what lies between the common beginning and end is replaced whole.
const PAIRS: usize = 4_000_000;

/// One line of a diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// `@@ -1,2 +1,2 @@`: first line and number of lines, before and after.
    Hunk {
        was: (usize, usize),
        is: (usize, usize),
    },
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// The diff; empty if the texts are the same.
pub(crate) fn diff<'a>(was: &'a str, is: &'a str) -> Vec<Line<'a>> {
    let (was, is): (Vec<&str>, Vec<&str>) = (was.lines().collect(), is.lines().collect());
    hunks(&script(&was, &is))
}

/// All lines, in the order in which they are shown.
fn script<'a>(was: &[&'a str], is: &[&'a str]) -> Vec<Line<'a>> {
    let head = was.iter().zip(is).take_while(|(a, b)| a == b).count();
    let (was_rest, is_rest) = (&was[head..], &is[head..]);
    let ends = was_rest.iter().rev().zip(is_rest.iter().rev());
    let tail = ends.take_while(|(a, b)| a == b).count();
    let (was_middle, is_middle) = (
        &was_rest[..was_rest.len() - tail],
        &is_rest[..is_rest.len() - tail],
    );
    let mut script: Vec<Line<'a>> = was[..head].iter().map(|line| Line::Same(line)).collect();
    script.extend(middle(was_middle, is_middle));
    script.extend(
        was_rest[was_rest.len() - tail..]
            .iter()
            .map(|line| Line::Same(line)),
    );
    script
}

/// The longest common subsequence stays.
fn middle<'a>(was: &[&'a str], is: &[&'a str]) -> Vec<Line<'a>> {
    let replaced = || {
        let gone = was.iter().map(|line| Line::Gone(line));
        gone.chain(is.iter().map(|line| Line::New(line))).collect()
    };
    if was.len().saturating_mul(is.len()) > PAIRS {
        return replaced();
    }
    // longest[a][b]: of was[a..] and is[b..]
    let width = is.len() + 1;
    let mut longest = vec![0_u32; (was.len() + 1) * width];
    for a in (0..was.len()).rev() {
        for b in (0..is.len()).rev() {
            longest[a * width + b] = if was[a] == is[b] {
                longest[(a + 1) * width + b + 1] + 1
            } else {
                longest[(a + 1) * width + b].max(longest[a * width + b + 1])
            };
        }
    }
    let (mut a, mut b) = (0, 0);
    let mut script = Vec::with_capacity(was.len() + is.len());
    while a < was.len() || b < is.len() {
        if a < was.len() && b < is.len() && was[a] == is[b] {
            script.push(Line::Same(was[a]));
            (a, b) = (a + 1, b + 1);
        } else if b == is.len()
            || (a < was.len() && longest[(a + 1) * width + b] >= longest[a * width + b + 1])
        {
            script.push(Line::Gone(was[a]));
            a += 1;
        } else {
            script.push(Line::New(is[b]));
            b += 1;
        }
    }
    script
}

/// Leaves out what is far from any change.
fn hunks<'a>(script: &[Line<'a>]) -> Vec<Line<'a>> {
    let changed: Vec<usize> = (0..script.len())
        .filter(|at| !matches!(script[*at], Line::Same(_)))
        .collect();
    let mut shown = Vec::new();
    let mut next = 0;
    while let Some(first) = changed.get(next) {
        let start = first.saturating_sub(CONTEXT);
        let mut last = *first;
        while let Some(more) = changed.get(next).filter(|more| **more <= last + 2 * CONTEXT + 1) {
            last = *more;
            next += 1;
        }
        let end = script.len().min(last + CONTEXT + 1);
        shown.push(Line::Hunk {
            was: range(script, start, end, |line| matches!(line, Line::New(_))),
            is: range(script, start, end, |line| matches!(line, Line::Gone(_))),
        });
        shown.extend_from_slice(&script[start..end]);
    }
    shown
}

/// First line, from 1 (0 if there is none), and number of lines on one side, of which `other` are not.
fn range(script: &[Line<'_>], start: usize, end: usize, other: impl Fn(&Line<'_>) -> bool) -> (usize, usize) {
    let count = |lines: &[Line<'_>]| lines.iter().filter(|line| !other(line)).count();
    let (before, inside) = (count(&script[..start]), count(&script[start..end]));
    (if inside == 0 { before } else { before + 1 }, inside)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::{Line, diff};

    fn shown(was: &str, is: &str) -> String {
        let mut text = String::new();
        for line in diff(was, is) {
            match line {
                Line::Hunk { was, is } => {
                    writeln!(text, "@@ -{},{} +{},{} @@", was.0, was.1, is.0, is.1).unwrap();
                }
                Line::Same(line) => writeln!(text, " {line}").unwrap(),
                Line::Gone(line) => writeln!(text, "-{line}").unwrap(),
                Line::New(line) => writeln!(text, "+{line}").unwrap(),
            }
        }
        text
    }

    fn numbers(range: std::ops::Range<u32>) -> String {
        range.map(|n| format!("{n}\n")).collect()
    }

    #[test]
    fn nothing_changed_shows_nothing() {
        assert_eq!(shown("a\nb\n", "a\nb\n"), "");
        assert_eq!(shown("", ""), "");
    }

    #[test]
    fn from_and_to_nothing() {
        assert_eq!(shown("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(shown("a\nb\n", ""), "@@ -1,2 +0,0 @@\n-a\n-b\n");
    }

    #[test]
    fn far_changes_are_apart_and_near_ones_together() {
        let was = numbers(0..30);
        let is = was
            .replace("\n5\n", "\nfive\n")
            .replace("\n9\n", "\n9\nnine\n")
            .replace("\n25\n", "\n");
        assert_eq!(
            shown(&was, &is),
            "@@ -3,11 +3,12 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n 9\n+nine\n 10\n 11\n 12\n\
             @@ -23,7 +24,6 @@\n 22\n 23\n 24\n-25\n 26\n 27\n 28\n"
        );
    }

    #[test]
    fn what_is_common_in_the_middle_stays() {
        assert_eq!(
            shown("x\na\nb\ny\n", "a\nb\nz\n"),
            "@@ -1,4 +1,3 @@\n-x\n a\n b\n-y\n+z\n"
        );
    }
}
