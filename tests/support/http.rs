//! A plain HTTP/1.1 client: one connection, kept alive, every wait limited.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest wait for any byte.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of header `name`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Says whether the server did what was asked.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client with a name and a password.
pub struct Client {
    address: SocketAddr,
    authorization: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A client of the server at `address`; connects at the first request.
    pub fn new(address: SocketAddr, user: &str, password: &str) -> Client {
        let authorization = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
        Client { address, authorization, stream: None }
    }

    /// A client that has the token of a device.
    pub fn bearer(address: SocketAddr, token: &str) -> Client {
        Client { address, authorization: format!("Bearer {token}"), stream: None }
    }

    /// The same client of a server at another address.
    pub fn moved(self, address: SocketAddr) -> Client {
        Client { address, stream: None, ..self }
    }

    /// The value of the Authorization header.
    pub fn authorization(&self) -> &str {
        &self.authorization
    }

    /// Sends a request and waits for the whole answer.
    ///
    /// # Errors
    /// Those of the connection; it is made anew for the next request.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        if self.stream.is_none() {
            self.stream = Some(connect(self.address)?);
        }
        let answer = self.request(method, path, headers, body).and_then(|()| {
            let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
            read_answer(stream, method == "HEAD")
        });
        let close = answer.as_ref().map_or(true, |answer| answer.header("connection") == Some("close"));
        if close {
            self.stream = None;
        }
        answer
    }

    /// Sends a request that must succeed.
    #[track_caller]
    pub fn ok(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = self.send(method, path, headers, body);
        let answer = answer.unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        assert!(answer.is_success(), "{method} {path}: {} {}", answer.status, answer.text());
        answer
    }

    fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        head += &format!("Authorization: {}\r\nContent-Length: {}\r\n", self.authorization, body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.get_mut().write_all(&[head.as_bytes(), b"\r\n"].concat())?;
        stream.get_mut().write_all(body)
    }

    /// Sends a GET that must succeed and drops the body as it comes; returns its length. The connection ends with it.
    #[track_caller]
    pub fn drain(&mut self, path: &str) -> u64 {
        let mut drain = || {
            self.stream = Some(connect(self.address)?);
            self.request("GET", path, &[], b"")?;
            let mut stream = self.stream.take().ok_or(ErrorKind::NotConnected)?;
            let head = read_head(&mut stream)?;
            let length = head.header("content-length").and_then(|length| length.parse().ok());
            let length = length.filter(|_| head.is_success()).ok_or_else(|| Error::other(head.text()))?;
            std::io::copy(&mut stream.take(length), &mut std::io::sink())
        };
        drain().unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }
}

/// Connects with all waits limited.
///
/// # Errors
/// Those of connect(2).
pub fn connect(address: SocketAddr) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// Reads one answer; 1xx are passed over.
///
/// # Errors
/// `UnexpectedEof` where the connection ends before the answer does, `InvalidData` where it is none.
pub fn read_answer(stream: &mut impl BufRead, no_body: bool) -> Result<Answer> {
    let mut answer = read_head(stream)?;
    if !no_body && answer.status != 204 && answer.status != 304 {
        answer.body = body(stream, &answer)?;
    }
    Ok(answer)
}

/// Reads an answer up to its body.
fn read_head(stream: &mut impl BufRead) -> Result<Answer> {
    loop {
        let status = line(stream)?;
        let code = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let code: u16 = code.ok_or_else(|| Error::new(ErrorKind::InvalidData, status))?;
        let mut headers = Vec::new();
        loop {
            let text = line(stream)?;
            let Some((name, value)) = text.split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_string()));
        }
        if code >= 200 {
            return Ok(Answer { status: code, headers, body: Vec::new() });
        }
    }
}

fn body(stream: &mut impl BufRead, answer: &Answer) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    if answer.header("transfer-encoding") == Some("chunked") {
        loop {
            let size = line(stream)?;
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16);
            let size = size.map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..])?;
            line(stream)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    match answer.header("content-length").map(|length| length.parse()) {
        Some(Ok(length)) => {
            body.resize(length, 0);
            stream.read_exact(&mut body)?;
        }
        Some(Err(e)) => return Err(Error::new(ErrorKind::InvalidData, e)),
        None => {
            stream.read_to_end(&mut body)?;
        }
    }
    Ok(body)
}

/// A line without its end.
fn line(stream: &mut impl BufRead) -> Result<String> {
    let mut bytes = Vec::new();
    stream.read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_string())
}

/// Source: RFC 4648 § 4.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { letter.into() } else { '=' });
        }
    }
    text
}
