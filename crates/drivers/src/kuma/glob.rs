//! Paths with `*` and `?`, one path component at a time. Just enough to find admin sockets.

use std::fs;
use std::path::{Path, PathBuf};

/// Every existing path that fits, sorted. A directory that cannot be read holds nothing.
pub(crate) fn find(pattern: &str) -> Vec<PathBuf> {
    let root = if pattern.starts_with('/') { "/" } else { "." };
    let mut found = vec![PathBuf::from(root)];
    for part in pattern.split('/').filter(|p| !p.is_empty()) {
        let wild = part.contains(['*', '?']);
        found = found
            .iter()
            .flat_map(|dir| {
                if wild {
                    entries(dir, part)
                } else {
                    vec![dir.join(part)]
                }
            })
            .collect();
    }
    found.retain(|path| path.exists());
    found.sort();
    found
}

fn entries(dir: &Path, part: &str) -> Vec<PathBuf> {
    let Ok(list) = fs::read_dir(dir) else {
        return Vec::new();
    };
    list.flatten()
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| {
                // As in a shell: hidden files only if asked for.
                (part.starts_with('.') || !name.starts_with('.')) && fits(part.as_bytes(), name.as_bytes())
            })
        })
        .map(|entry| entry.path())
        .collect()
}

/// Whether a name fits a pattern of one component.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go back to: the star, and the name's byte that it takes next.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, want) in [
            ("kuma-*", "kuma-", true),
            ("kuma-*", "kuma-a-b", true),
            ("*.sock", "admin.sock", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbX", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("abc", "abcd", false),
            ("**", "", true),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), name.as_bytes()),
                want,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn finds_through_directories() {
        let dir = tempfile::tempdir().unwrap();
        for (zone, file) in [
            ("kuma-b", "admin.sock"),
            ("kuma-a", "admin.sock"),
            ("kuma-c", "other"),
        ] {
            fs::create_dir(dir.path().join(zone)).unwrap();
            fs::write(dir.path().join(zone).join(file), "").unwrap();
        }
        let pattern = format!("{}/kuma-*/admin.sock", dir.path().display());
        let want = ["kuma-a", "kuma-b"].map(|z| dir.path().join(z).join("admin.sock"));
        assert_eq!(find(&pattern), want);
        assert_eq!(find(&want[0].display().to_string()), want[..1]);
        assert!(find("/nowhere/*/x").is_empty());
    }
}
