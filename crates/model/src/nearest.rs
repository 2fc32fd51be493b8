//! The nearest of some known words to one that was meant to be among them: for "did you mean".

/// How many candidates are looked at: enough for people, and a bound on what a hostile declaration can cost.
const CANDIDATES: usize = 200;

/// The candidate with the fewest edits, when so few that a slip of the pen is likely.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .take(CANDIDATES)
        .map(|candidate| {
            (
                distance(&word.to_lowercase(), &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(edits, _)| *edits <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) from one word to the other.
/// Words longer than any name are not worth the time: they are far from everything.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    if left.len().max(right.len()) > 128 {
        return usize::MAX;
    }
    let width = right.len() + 1;
    let mut table: Vec<usize> = vec![0; (left.len() + 1) * width];
    let cell = |row: usize, column: usize| row * width + column;
    for row in 0..=left.len() {
        for column in 0..=right.len() {
            let edits = if row == 0 {
                column
            } else if column == 0 {
                row
            } else {
                let replaced = usize::from(left[row - 1] != right[column - 1]);
                let mut best = (table[cell(row - 1, column - 1)] + replaced)
                    .min(table[cell(row - 1, column)] + 1)
                    .min(table[cell(row, column - 1)] + 1);
                if row > 1
                    && column > 1
                    && left[row - 1] == right[column - 2]
                    && left[row - 2] == right[column - 1]
                {
                    best = best.min(table[cell(row - 2, column - 2)] + 1);
                }
                best
            };
            table[cell(row, column)] = edits;
        }
    }
    table[cell(left.len(), right.len())]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let fields = ["service", "port", "protocol", "backends", "routes"];
        assert_eq!(nearest("sevrice", fields), Some("service"));
        assert_eq!(nearest("backend", fields), Some("backends"));
        assert_eq!(nearest("Port", fields), Some("port"));
        assert_eq!(nearest("timeout", fields), None);
    }
}
