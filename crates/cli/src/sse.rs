//! Server-sent events: bytes in, wherever they are cut, events out.

/// More than any event of the API; what is longer is not ours.
const LONGEST: usize = 1 << 20;

/// What one blank line ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// `id:`, if it had one.
    pub id: Option<String>,
    /// `data:`, its lines joined.
    pub data: String,
}

/// Takes bytes, gives events.
#[derive(Debug, Default)]
pub struct Reader {
    rest: Vec<u8>,
    open: Sent,
    has_data: bool,
    after_return: bool,
}

/// The stream is not one of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than a mebibyte is no event")]
pub struct TooLong;

impl Reader {
    /// The events that these bytes complete.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Sent>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            // A line ends with CR, LF, or both.
            let second = std::mem::take(&mut self.after_return) && byte == b'\n';
            match byte {
                _ if second => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    let line = std::mem::take(&mut self.rest);
                    events.extend(self.line(&String::from_utf8_lossy(&line)));
                }
                _ => self.rest.push(byte),
            }
            if self.rest.len() + self.open.data.len() > LONGEST {
                return Err(TooLong);
            }
        }
        Ok(events)
    }

    fn line(&mut self, line: &str) -> Option<Sent> {
        if line.is_empty() {
            let sent = std::mem::take(&mut self.open);
            return std::mem::take(&mut self.has_data).then_some(sent);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.open.id = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.open.data.push('\n');
                }
                self.open.data.push_str(value);
            }
            // `event` is in the data too; a line that begins with `:` is a heartbeat.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    #[test]
    fn wherever_the_bytes_are_cut_the_events_are_the_same() {
        let stream = b": hello\n\nid: 7\nevent: plan.made\ndata: {\"id\":7}\n\r\n:\n\nid:8\r\ndata:a\r\ndata: b\r\n\r\ndata: cut";
        let sent = |id: &str, data: &str| Sent {
            id: Some(id.to_owned()),
            data: data.to_owned(),
        };
        let wanted = vec![sent("7", "{\"id\":7}"), sent("8", "a\nb")];
        for size in 1..=stream.len() {
            let mut reader = Reader::default();
            let got: Vec<Sent> = stream
                .chunks(size)
                .flat_map(|chunk| reader.take(chunk).unwrap())
                .collect();
            assert_eq!(got, wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        assert_eq!(Reader::default().take(&vec![b'x'; LONGEST + 1]), Err(TooLong));
    }
}
