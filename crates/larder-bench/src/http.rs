//! The load generator: one blocking HTTP/1.1 connection with as little between the socket and the clock as can be.
//!
//! It shares the cores with the server under test, so it parses only the status, the length and the chunk sizes,
//! and reads every body into one buffer that it uses again. Called by every work that speaks WebDAV.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::contender::Server;

/// The read buffer: what one `read` may bring.
const BUFFER_BYTES: usize = 1 << 20;
/// Bodies up to this size leave in the same write as their head.
const JOIN_BYTES: usize = 64 << 10;
/// A server that says nothing for so long has failed.
const SILENCE: Duration = Duration::from_secs(120);

/// What a request carries.
pub enum Body<'a> {
    /// Nothing.
    Empty,
    /// These bytes.
    Bytes(&'a [u8]),
    /// `length` bytes, made block by block while they are sent.
    Made {
        /// All bytes of the body.
        length: u64,
        /// Fills the next block.
        make: &'a mut dyn FnMut(&mut [u8]),
    },
}

/// What a server answered.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Bytes of the body.
    pub length: u64,
}

impl Answer {
    /// Turns any status but 2xx into an error.
    pub fn success(self, what: &str) -> io::Result<Answer> {
        match self.status {
            200..=299 => Ok(self),
            status => Err(io::Error::other(format!("{what}: answered {status}"))),
        }
    }
}

/// One kept-alive connection.
pub struct Http {
    stream: TcpStream,
    prefix: String,
    fixed: String,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Http {
    /// Connects to `server`.
    pub fn connect(server: &Server) -> io::Result<Http> {
        let stream = TcpStream::connect(("127.0.0.1", server.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let mut fixed = format!("Host: 127.0.0.1:{}\r\n", server.port);
        if let Some(credentials) = &server.authorization {
            fixed += &format!("Authorization: {credentials}\r\n");
        }
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(Http { stream, prefix: server.url_prefix.clone(), fixed, buffer, start: 0, end: 0 })
    }

    /// Sends a request and reads its answer, throwing the body away.
    pub fn ask(&mut self, method: &str, path: &str, headers: &str, body: Body) -> io::Result<Answer> {
        self.send(method, path, headers, body)?;
        self.receive(&mut |_| Ok(()))
    }

    /// Downloads `path`, handing each piece to `sink`.
    pub fn get(&mut self, path: &str, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
        self.send("GET", path, "", Body::Empty)?;
        Ok(self.receive(sink)?.success(path)?.length)
    }

    /// Lists the folder `path` at depth 1 into `answer`.
    pub fn propfind(&mut self, path: &str, query: &[u8], answer: &mut Vec<u8>) -> io::Result<()> {
        let headers = "Depth: 1\r\nContent-Type: application/xml\r\n";
        self.send("PROPFIND", path, headers, Body::Bytes(query))?;
        let received = self.receive(&mut |piece| {
            answer.extend_from_slice(piece);
            Ok(())
        })?;
        received.success(path).map(drop)
    }

    /// Uploads `bytes` to `path`.
    pub fn put(&mut self, path: &str, bytes: &[u8]) -> io::Result<Answer> {
        self.ask("PUT", path, "", Body::Bytes(bytes))
    }

    /// Copies or moves `from` to `to`, both folders.
    pub fn transplant(&mut self, method: &str, from: &str, to: &str) -> io::Result<()> {
        let target = format!(
            "Destination: http://127.0.0.1:{}{}{to}\r\n",
            self.stream.peer_addr()?.port(),
            self.prefix
        );
        self.ask(method, from, &target, Body::Empty)?.success(method).map(drop)
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: Body) -> io::Result<()> {
        let length = match &body {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Made { length, .. } => *length,
        };
        let mut head =
            format!("{method} {}{path} HTTP/1.1\r\n{}{headers}", self.prefix, self.fixed).into_bytes();
        if length > 0 || method == "PUT" {
            write!(head, "Content-Length: {length}\r\n")?;
        }
        head.extend_from_slice(b"\r\n");
        match body {
            Body::Empty => self.stream.write_all(&head),
            Body::Bytes(bytes) if bytes.len() <= JOIN_BYTES => {
                head.extend_from_slice(bytes);
                self.stream.write_all(&head)
            }
            Body::Bytes(bytes) => {
                self.stream.write_all(&head)?;
                bytes.chunks(BUFFER_BYTES).try_for_each(|piece| self.stream.write_all(piece))
            }
            Body::Made { length, make } => {
                self.stream.write_all(&head)?;
                let mut left = length;
                while left > 0 {
                    let piece = &mut self.buffer[..left.min(BUFFER_BYTES as u64) as usize];
                    make(piece);
                    self.stream.write_all(piece)?;
                    left -= piece.len() as u64;
                }
                Ok(())
            }
        }
    }

    fn receive(&mut self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<Answer> {
        let head = self.head()?;
        let malformed = || io::Error::other("malformed answer");
        let status: u16 = head.get(9..12).and_then(|s| s.parse().ok()).ok_or_else(malformed)?;
        let field = |name: &str| {
            let line =
                head.lines().find(|l| l.len() > name.len() && l[..name.len()].eq_ignore_ascii_case(name))?;
            Some(line[name.len()..].trim())
        };
        if status == 204 || status == 304 {
            return Ok(Answer { status, length: 0 });
        }
        if let Some(length) = field("content-length:") {
            let length = length.parse().map_err(|_| malformed())?;
            self.counted(length, sink)?;
            return Ok(Answer { status, length });
        }
        if field("transfer-encoding:").is_none() {
            return Err(malformed());
        }
        let mut length = 0;
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| malformed())?;
            self.counted(size, sink)?;
            self.line()?;
            if size == 0 {
                return Ok(Answer { status, length });
            }
            length += size;
        }
    }

    /// Reads up to the empty line behind the header fields.
    fn head(&mut self) -> io::Result<String> {
        let mut head = String::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(head);
            }
            head += &line;
            head.push('\n');
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            let held = &self.buffer[self.start..self.end];
            if let Some(at) = held.iter().position(|b| *b == b'\n') {
                line.extend_from_slice(&held[..at]);
                self.start += at + 1;
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return String::from_utf8(line).map_err(io::Error::other);
            }
            line.extend_from_slice(held);
            self.refill(BUFFER_BYTES)?;
        }
    }

    /// Hands on exactly `length` bytes.
    fn counted(&mut self, length: u64, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.start == self.end {
                self.refill(left.min(BUFFER_BYTES as u64) as usize)?;
            }
            let take = left.min((self.end - self.start) as u64) as usize;
            sink(&self.buffer[self.start..self.start + take])?;
            self.start += take;
            left -= take as u64;
        }
        Ok(())
    }

    fn refill(&mut self, most: usize) -> io::Result<()> {
        self.start = 0;
        self.end = 0;
        self.end = self.stream.read(&mut self.buffer[..most])?;
        if self.end == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        Ok(())
    }
}

impl Server {
    /// Says whether it answers an authenticated request about its root.
    pub fn answers(&self) -> bool {
        let ask = |mut http: Http| http.ask("OPTIONS", "/", "", Body::Empty);
        Http::connect(self).and_then(ask).is_ok_and(|answer| answer.status < 300)
    }
}

/// Runs `work` on `clients` connections at once and returns the seconds from the first start to the last end.
///
/// Connections are made before the clock starts.
pub fn together<F>(server: &Server, clients: usize, work: F) -> io::Result<f64>
where
    F: Fn(usize, &mut Http) -> io::Result<()> + Sync,
{
    let connections: Vec<Http> = (0..clients).map(|_| Http::connect(server)).collect::<io::Result<_>>()?;
    let (ready, work) = (Barrier::new(clients + 1), &work);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, mut connection) in connections.into_iter().enumerate() {
            let ready = &ready;
            threads.push(scope.spawn(move || {
                ready.wait();
                work(index, &mut connection)
            }));
        }
        ready.wait();
        let start = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a client thread panicked"))??;
        }
        Ok(start.elapsed().as_secs_f64())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers each request on one connection with the next of `answers`, a few bytes at a time.
    fn against(answers: &'static [&'static str], ask: impl FnOnce(&mut Http)) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let stream = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        let mut http = Http { stream, prefix: String::new(), fixed: String::new(), buffer, start: 0, end: 0 };
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.set_nodelay(true).expect("nodelay");
            for answer in answers {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).expect("read") > 0);
                answer.as_bytes().chunks(3).for_each(|piece| stream.write_all(piece).expect("write"));
            }
        });
        ask(&mut http);
        drop(http);
        server.join().expect("server");
    }

    #[test]
    fn bodies_end_where_they_say() {
        let answers = &[
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody",
            "HTTP/1.1 207 Multi\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
        ];
        against(answers, |http| {
            let mut seen = Vec::new();
            let mut keep = |piece: &[u8]| {
                seen.extend_from_slice(piece);
                Ok(())
            };
            assert_eq!(http.get("/a", &mut keep).expect("counted"), 4);
            assert_eq!(http.get("/b", &mut keep).expect("chunked"), 13);
            assert_eq!(http.put("/c", b"x").expect("empty").status, 204);
            assert!(http.get("/d", &mut |_| Ok(())).is_err());
            assert_eq!(seen, b"bodyabc0123456789");
        });
    }
}
