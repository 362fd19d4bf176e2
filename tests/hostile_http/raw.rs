//! Bytes to a server and what comes back until it closes.

use crate::support::http::{self, Answer};
use crate::support::server::PASSWORD;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What a server did with a connection.
#[derive(Debug)]
pub struct Reply {
    /// Its answers, in order.
    pub answers: Vec<Answer>,
    /// Whether it closed the connection in time.
    pub closed: bool,
    /// How long that took.
    pub took: Duration,
}

impl Reply {
    /// The status of the only answer; 0 where there is none.
    ///
    /// # Panics
    /// Where there are two.
    #[track_caller]
    pub fn status(&self) -> u16 {
        assert!(self.answers.len() < 2, "two answers: {:?}", self.answers);
        self.answers.first().map_or(0, |answer| answer.status)
    }
}

/// The fields that every well-behaved request has, with line ends.
pub fn fields(address: SocketAddr) -> String {
    let authorization = http::base64(format!("admin:{PASSWORD}").as_bytes());
    format!("Host: {}\r\nAuthorization: Basic {authorization}\r\n", address)
}

/// Sends `bytes` and reads answers until the server closes, or for `limit_s` seconds.
///
/// `more_to_come` keeps the sending side open: then only the server can end the connection.
pub fn talk(address: SocketAddr, bytes: &[u8], more_to_come: bool, limit_s: u64) -> Reply {
    let limit = Duration::from_secs(limit_s);
    let started = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, limit).expect("the server accepts");
    stream.set_read_timeout(Some(limit)).expect("a limit");
    stream.set_write_timeout(Some(limit)).expect("a limit");
    // A server that has seen enough closes before it has read everything.
    if stream.write_all(bytes).is_ok() && !more_to_come {
        let _ = stream.shutdown(Shutdown::Write);
    }
    drain(stream, started)
}

/// Reads answers until the server closes or the stream's limit is over.
pub fn drain(stream: TcpStream, started: Instant) -> Reply {
    let mut stream = BufReader::new(stream);
    let mut answers = Vec::new();
    let closed = loop {
        match http::read_answer(&mut stream, false) {
            Ok(answer) => answers.push(answer),
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => break false,
            // Closed, reset, or something that is no answer and is read to its end.
            Err(_) => break stream.read_to_end(&mut Vec::new()).is_ok_and(|_| true) || reset(&mut stream),
        }
    };
    Reply { answers, closed, took: started.elapsed() }
}

fn reset(stream: &mut BufReader<TcpStream>) -> bool {
    let error = stream.read(&mut [0]).err().map(|e| e.kind());
    error.is_none_or(|kind| ![ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&kind))
}
