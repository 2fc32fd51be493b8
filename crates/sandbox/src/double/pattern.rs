//! The few regular expressions that routes and admin filters need: literals, `.`, classes, groups, `|`, `* + ?`, `^ $`.
//!
//! Backtracking over characters: for the double's small inputs only.

/// A parsed expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Vec<Piece>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    atom: Atom,
    least: usize,
    most: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Atom {
    Char(char),
    Any,
    Class(bool, Vec<(char, char)>),
    Group(Vec<Vec<Piece>>),
    Start,
    End,
}

impl Pattern {
    /// Parses an expression; none if it is wrong or uses what is not known here.
    pub fn new(text: &str) -> Option<Self> {
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        let parsed = alternatives(&chars, &mut at)?;
        (at == chars.len()).then_some(Self(parsed))
    }

    /// Whether the whole text matches.
    pub fn is_whole(&self, text: &str) -> bool {
        let chars: Vec<char> = text.chars().collect();
        any(&self.0, &chars, 0, &mut |end| end == chars.len())
    }

    /// Whether some part of the text matches.
    pub fn is_in(&self, text: &str) -> bool {
        let chars: Vec<char> = text.chars().collect();
        (0..=chars.len()).any(|start| any(&self.0, &chars, start, &mut |_| true))
    }
}

fn alternatives(chars: &[char], at: &mut usize) -> Option<Vec<Vec<Piece>>> {
    let mut all = vec![Vec::new()];
    while let Some(&c) = chars.get(*at) {
        *at += 1;
        let atom = match c {
            ')' => {
                *at -= 1;
                return Some(all);
            }
            '|' => {
                all.push(Vec::new());
                continue;
            }
            '(' => {
                if chars[*at..].starts_with(&['?', ':']) {
                    *at += 2;
                }
                let inner = alternatives(chars, at)?;
                if chars.get(*at) != Some(&')') {
                    return None;
                }
                *at += 1;
                Atom::Group(inner)
            }
            '[' => class(chars, at)?,
            '.' => Atom::Any,
            '^' => Atom::Start,
            '$' => Atom::End,
            '\\' => escape(*chars.get(*at)?, at),
            '*' | '+' | '?' | '{' => return None,
            c => Atom::Char(c),
        };
        let (least, most) = match chars.get(*at) {
            Some('*') => (0, usize::MAX),
            Some('+') => (1, usize::MAX),
            Some('?') => (0, 1),
            _ => (1, 1),
        };
        if (least, most) != (1, 1) {
            *at += 1;
        }
        all.last_mut()?.push(Piece { atom, least, most });
    }
    Some(all)
}

fn escape(c: char, at: &mut usize) -> Atom {
    *at += 1;
    let word = || vec![('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')];
    match c {
        'd' => Atom::Class(true, vec![('0', '9')]),
        'w' => Atom::Class(true, word()),
        's' => Atom::Class(true, vec![(' ', ' '), ('\t', '\r')]),
        c => Atom::Char(c),
    }
}

fn class(chars: &[char], at: &mut usize) -> Option<Atom> {
    let mut wanted = true;
    if chars.get(*at) == Some(&'^') {
        wanted = false;
        *at += 1;
    }
    let mut ranges = Vec::new();
    loop {
        let mut from = *chars.get(*at)?;
        *at += 1;
        match from {
            ']' if !ranges.is_empty() => return Some(Atom::Class(wanted, ranges)),
            '\\' => {
                from = *chars.get(*at)?;
                *at += 1;
            }
            _ => {}
        }
        let to = match (chars.get(*at), chars.get(*at + 1)) {
            (Some('-'), Some(&to)) if to != ']' => {
                *at += 2;
                to
            }
            _ => from,
        };
        ranges.push((from, to));
    }
}

fn any(all: &[Vec<Piece>], text: &[char], at: usize, then: &mut dyn FnMut(usize) -> bool) -> bool {
    all.iter().any(|pieces| sequence(pieces, text, at, then))
}

fn sequence(pieces: &[Piece], text: &[char], at: usize, then: &mut dyn FnMut(usize) -> bool) -> bool {
    match pieces.split_first() {
        None => then(at),
        Some((piece, rest)) => repeat(piece, 0, rest, text, at, then),
    }
}

fn repeat(
    piece: &Piece,
    done: usize,
    rest: &[Piece],
    text: &[char],
    at: usize,
    then: &mut dyn FnMut(usize) -> bool,
) -> bool {
    let more = done < piece.most
        && atom(&piece.atom, text, at, &mut |next| {
            // An empty repetition would never end.
            (next > at || done < piece.least) && repeat(piece, done + 1, rest, text, next, then)
        });
    more || (done >= piece.least && sequence(rest, text, at, then))
}

fn atom(atom: &Atom, text: &[char], at: usize, then: &mut dyn FnMut(usize) -> bool) -> bool {
    let one = |fits: &dyn Fn(char) -> bool| text.get(at).is_some_and(|&c| fits(c));
    match atom {
        Atom::Char(wanted) => one(&|c| c == *wanted) && then(at + 1),
        Atom::Any => one(&|_| true) && then(at + 1),
        Atom::Class(wanted, ranges) => {
            one(&|c| ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) == *wanted) && then(at + 1)
        }
        Atom::Group(inner) => any(inner, text, at, then),
        Atom::Start => at == 0 && then(at),
        Atom::End => at == text.len() && then(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_part() {
        let cases = [
            ("^[0-4]?[0-9]$", "49", true, true),
            ("^[0-4]?[0-9]$", "50", false, false),
            ("a.*", "abc", true, true),
            ("a|bc", "bc", true, true),
            ("(ab)+c?", "ababc", true, true),
            ("[^x]+", "aax", false, true),
            ("upstream_rq", "cluster.a.upstream_rq_total", false, true),
            (
                r"^cluster\..*\.upstream_rq_(total|5xx)$",
                "cluster.a.upstream_rq_5xx",
                true,
                true,
            ),
            (
                r"^cluster\..*\.upstream_rq_(total|5xx)$",
                "cluster.a.upstream_rq_2xx",
                false,
                false,
            ),
            ("(a*)*b", "aaaa", false, false),
        ];
        for (pattern, text, whole, part) in cases {
            let parsed = Pattern::new(pattern).expect(pattern);
            assert_eq!(
                (parsed.is_whole(text), parsed.is_in(text)),
                (whole, part),
                "{pattern} {text}"
            );
        }
        assert_eq!(Pattern::new("[["), None);
    }
}
