//! Text for people: never wider than 80 columns, and never with control characters of somebody else.
//!
//! What the coordinator tells holds words of many people (subjects of commits, names of objects, reasons): a terminal
//! must not obey them, so they pass through [`clean`] on their way.

/// The width of text for people.
pub const COLUMNS: usize = 80;

/// A colour as the terminal's escape sequence; whoever prints strips it where nobody wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// As it comes.
    Plain,
    /// A heading.
    Bold,
    /// Of less weight.
    Dim,
    /// As it should be.
    Green,
    /// On its way, or not known.
    Yellow,
    /// Not as it should be.
    Red,
}

impl Paint {
    fn sequence(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Red => "\x1b[31m",
        }
    }
}

/// Text without control characters, and without the marks that turn the direction of writing around.
pub fn clean(text: &str) -> String {
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| match c {
            '\n' | '\t' | '\r' => ' ',
            c if bad(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// How many columns a text takes; one for each character.
pub fn width(text: &str) -> usize {
    text.chars().count()
}

/// Text as it grows, line by line.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is on it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An empty line, unless it would be the first.
    pub fn gap(&mut self) {
        if !self.is_empty() {
            self.0.push('\n');
        }
    }

    /// Words, broken between words where the line would be too long; a word longer than a line is cut. What goes on below
    /// is indented by `hang` more.
    pub fn words(&mut self, indent: usize, hang: usize, paint: Paint, text: &str) {
        let text = clean(text);
        let mut row = " ".repeat(indent);
        let mut fresh = true;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let mut word: &str = word;
            if !fresh {
                if width(&row) + 1 + width(word) <= COLUMNS {
                    row.push(' ');
                } else {
                    self.row(paint, &row);
                    row = " ".repeat(indent + hang);
                }
            }
            while width(&row) + width(word) > COLUMNS {
                let room = COLUMNS.saturating_sub(width(&row)).max(1);
                let cut = word.char_indices().nth(room).map_or(word.len(), |(at, _)| at);
                row.push_str(&word[..cut]);
                word = &word[cut..];
                self.row(paint, &row);
                row = " ".repeat(indent + hang);
            }
            row.push_str(word);
            fresh = false;
        }
        if !fresh {
            self.row(paint, &row);
        }
    }

    /// One line that is known to fit.
    pub fn row(&mut self, paint: Paint, row: &str) {
        let row = row.trim_end();
        match paint {
            Paint::Plain => self.0.push_str(row),
            _ => {
                self.0.push_str(paint.sequence());
                self.0.push_str(row);
                self.0.push_str("\x1b[0m");
            }
        }
        self.0.push('\n');
    }

    /// All of it.
    pub fn text(self) -> String {
        self.0
    }
}

/// One paragraph from the first column.
pub fn wrapped(text: &str) -> String {
    let mut page = Page::new();
    page.words(0, 2, Paint::Plain, text);
    page.text()
}

/// `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The first twelve characters of a commit: enough to tell it, and what Weir shows everywhere.
pub fn short(commit: &str) -> String {
    commit.chars().take(12).collect()
}

/// The name that was probably meant.
pub fn nearest<'a>(asked: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = asked.chars().count().div_ceil(3).max(1);
    names
        .into_iter()
        .map(|name| (distance(asked, name), name))
        .filter(|(far, _)| *far <= close)
        .min()
        .map(|(_, name)| name)
}

/// How many characters must be put in, left out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_than_the_page_and_nothing_is_lost() {
        let long = "x".repeat(200);
        let text = format!(
            "a reason {long} with a name too long, and {}",
            "ordinary words ".repeat(20)
        );
        for indent in [0, 4, 30] {
            let mut page = Page::new();
            page.words(indent, 2, Paint::Plain, &text);
            let page = page.text();
            assert!(page.lines().all(|line| width(line) <= COLUMNS), "{page}");
            let all = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(all(&page), all(&text));
        }
    }

    #[test]
    fn a_terminal_does_not_obey_strangers() {
        assert_eq!(
            clean("a\u{1b}[2Jb\r\nc\u{202e}d\u{9b}e"),
            "a\u{fffd}[2Jb  c\u{fffd}d\u{fffd}e"
        );
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn the_name_that_was_meant() {
        let names = ["cart", "checkout", "search"];
        assert_eq!(nearest("chekout", names), Some("checkout"));
        assert_eq!(nearest("card", names), Some("cart"));
        assert_eq!(nearest("payments", names), None);
    }
}
