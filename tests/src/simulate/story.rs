//! What happened in a life, as sentences with their times. Kept only when it will be read.

use super::Ms;

#[derive(Debug, Default)]
pub(crate) struct Story {
    on: bool,
    lines: Vec<String>,
}

impl Story {
    pub(crate) fn new(on: bool) -> Self {
        Self {
            on,
            lines: Vec::new(),
        }
    }

    pub(crate) fn tell(&mut self, at: Ms, what: impl FnOnce() -> String) {
        if self.on {
            let line = format!("{:>4}.{:03} s  {}", at / 1000, at % 1000, what());
            self.lines.push(line);
        }
    }

    pub(crate) fn lines(self) -> Vec<String> {
        self.lines
    }
}
