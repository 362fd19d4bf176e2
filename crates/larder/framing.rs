//! Where HTTP/1 messages end, watched from outside of hyper.
//!
//! hyper takes a message with both Content-Length and Transfer-Encoding as chunked and drops the length before a
//! service could see it. RFC 9112 § 6.3 allows that; a proxy in front may have read it the other way. This refuses
//! such messages, and every other doubt about a length, before anything acts on them; also targets with a fragment.

/// The longest head kept; hyper refuses longer ones before they end.
pub const HEAD_MAX_BYTES: usize = 64 << 10;

/// Follows the messages of one connection.
#[derive(Default)]
pub struct Framing {
    state: State,
    head: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// In the request line or the fields.
    #[default]
    Head,
    /// So many bytes of body are to come.
    Body(u64),
    /// In the line that starts a chunk: the size so far, and whether its digits are over.
    ChunkSize(u64, bool),
    /// So many bytes of a chunk, with its line end, are to come.
    Chunk(u64),
    /// In the trailer: whether the line has anything on it.
    Trailer(bool),
}

impl Framing {
    /// Says whether the peer is in the middle of a body.
    pub fn inside_body(&self) -> bool {
        self.state != State::Head
    }

    /// Says whether nothing of a message has come that is not over.
    pub fn between_messages(&self) -> bool {
        self.state == State::Head && self.head.is_empty()
    }

    /// Follows `bytes`.
    ///
    /// # Errors
    /// How many of the bytes came before the doubt; nothing may be fed any more.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Body(left) => at += skip(left, bytes.len() - at, |left| self.state = body(left)),
                State::Chunk(left) => at += skip(left, bytes.len() - at, |left| self.state = chunk(left)),
                _ => {
                    self.state = self.step(bytes[at]).ok_or(at)?;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// The state after `byte`; nothing where it leaves a doubt.
    fn step(&mut self, byte: u8) -> Option<State> {
        match (self.state, byte) {
            (State::Head, _) => self.head_byte(byte),
            (State::ChunkSize(0, true), b'\n') => Some(State::Trailer(false)),
            // The chunk's own line end is two bytes.
            (State::ChunkSize(size, true), b'\n') => Some(State::Chunk(size.checked_add(2)?)),
            (State::ChunkSize(size, true), _) => Some(State::ChunkSize(size, true)),
            (State::ChunkSize(size, false), b'\r' | b';' | b' ' | b'\t') => {
                Some(State::ChunkSize(size, true))
            }
            (State::ChunkSize(size, false), digit) => {
                let digit = char::from(digit).to_digit(16)?;
                Some(State::ChunkSize(size.checked_mul(16)?.checked_add(u64::from(digit))?, false))
            }
            (State::Trailer(false), b'\n') => Some(State::Head),
            (State::Trailer(_), b'\n') => Some(State::Trailer(false)),
            (State::Trailer(content), b'\r') => Some(State::Trailer(content)),
            (State::Trailer(_), _) => Some(State::Trailer(true)),
            (State::Body(_) | State::Chunk(_), _) => unreachable!("feed skips these"),
        }
    }

    fn head_byte(&mut self, byte: u8) -> Option<State> {
        if self.head.is_empty() && matches!(byte, b'\r' | b'\n') {
            return Some(State::Head);
        }
        if self.head.len() >= HEAD_MAX_BYTES {
            return None;
        }
        self.head.push(byte);
        if byte != b'\n' || !(self.head.ends_with(b"\n\r\n") || self.head.ends_with(b"\n\n")) {
            return Some(State::Head);
        }
        let next = length(&self.head);
        self.head.clear();
        next
    }
}

fn skip(left: u64, available: usize, mut set: impl FnMut(u64)) -> usize {
    let taken = left.min(available as u64);
    set(left - taken);
    taken as usize
}

fn body(left: u64) -> State {
    if left == 0 { State::Head } else { State::Body(left) }
}

fn chunk(left: u64) -> State {
    if left == 0 { State::ChunkSize(0, false) } else { State::Chunk(left) }
}

/// What follows this head; nothing where its fields leave a doubt.
fn length(head: &[u8]) -> Option<State> {
    // hyper cuts a fragment off the target before a service sees it, and DELETE /d/#x would delete /d/. A target has
    // none. Source: RFC 9112 § 3.2.
    if head.split(|byte| *byte == b'\n').next().is_some_and(|line| line.contains(&b'#')) {
        return None;
    }
    let (mut lengths, mut codings, mut hosts) = (Vec::new(), Vec::new(), 0);
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths.push(value);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            codings.push(value);
        } else if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        }
    }
    // Source: RFC 9112 § 3.2.
    let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    if hosts > 1 || (hosts == 0 && first.ends_with(b" HTTP/1.1")) {
        return None;
    }
    match (&lengths[..], &codings[..]) {
        ([], []) => Some(State::Head),
        ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            Some(body(std::str::from_utf8(length).ok()?.parse().ok()?))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Some(State::ChunkSize(0, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<bool, usize> {
        let mut framing = Framing::default();
        framing.feed(text.as_bytes()).map(|()| framing.inside_body())
    }

    #[test]
    fn plain_messages_pass_however_they_are_cut() {
        let text = "\r\nPUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloPUT /b HTTP/1.1\r\nHost: h\r\ntransfer-encoding: Chunked\r\n\r\n\
                    5;x=\"y\"\r\nhello\r\n0\r\nETag: \"1\"\r\n\r\nGET /c HTTP/1.0\n\n";
        assert_eq!(whole(text), Ok(false));
        let mut framing = Framing::default();
        for byte in text.as_bytes() {
            framing.feed(&[*byte]).expect("plain");
        }
        assert!(!framing.inside_body());
        assert_eq!(whole("PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhell"), Ok(true));
        assert_eq!(
            whole("PUT /a HTTP/1.1\r\nHost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
            Ok(true)
        );
    }

    #[test]
    fn doubtful_lengths_are_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: 0x5",
            "Content-Length:",
            "Content-Length : 5\r\nContent-Length: 6",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: xchunked",
        ] {
            let text = format!("PUT /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
            assert_eq!(whole(&text), Err(text.len() - 1), "{fields}");
        }
    }

    #[test]
    fn a_fragment_in_the_target_is_refused() {
        assert!(whole("DELETE /d/#x HTTP/1.1\r\nHost: h\r\n\r\n").is_err());
        assert_eq!(whole("DELETE /d/%23x HTTP/1.1\r\nHost: h\r\nReferer: /d#x\r\n\r\n"), Ok(false));
    }

    #[test]
    fn one_host_is_named() {
        assert!(whole("GET /a HTTP/1.1\r\n\r\n").is_err());
        assert!(whole("GET /a HTTP/1.1\r\nHost: h\r\nhost: i\r\n\r\n").is_err());
        assert_eq!(whole("GET /a HTTP/1.0\r\n\r\n"), Ok(false));
    }

    #[test]
    fn bad_chunk_sizes_are_refused() {
        for size in ["-1", "g", "11111111111111111"] {
            let text = format!("PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n");
            assert!(whole(&text).is_err(), "{size}");
        }
    }

    #[test]
    fn what_is_doubtful_inside_a_body_is_only_bytes() {
        let text = "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 48\r\n\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(whole(text).map(|_| ()), Ok(()));
    }
}
