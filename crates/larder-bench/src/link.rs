//! A slow line: forwards connections to a port with a delay and a rate, in each direction. It stands for a network that the kernel
//! here cannot play (no netem). Loss is the kernel's: it drops packets between a device and the line.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::machine::pause;

/// Bytes read at a time.
const PIECE_BYTES: usize = 16 << 10;
/// Bytes under way on one connection: more than a line of a Gbit/s holds in 40 ms.
const WINDOW_BYTES: usize = 8 << 20;

/// Of 1000 packets of the loopback, which carry up to 64 KiB, so many are dropped: as likely as that one of their 45 on an
/// Ethernet is where one in 1000 of those is lost.
const LOST: u32 = 44;

/// A line to a port.
pub struct Link {
    /// Where it begins.
    pub port: u16,
}

/// Packets to and from a port are dropped until it is dropped.
pub struct Loss {
    table: String,
}

impl Loss {
    /// Begins.
    ///
    /// # Errors
    /// nft(8) is not there, or refuses.
    pub fn start(port: u16) -> io::Result<Loss> {
        let table = format!("larder_bench_{port}");
        let chain = "type filter hook input priority filter";
        let rules = ["sport", "dport"]
            .map(|end| format!("iif lo tcp {end} {port} numgen random mod 1000 < {LOST} drop"))
            .join("\n")
            + "\n";
        nft(&format!("table inet {table} {{ chain loss {{ {chain}\n{rules}}}\n}}\n"))?;
        Ok(Loss { table })
    }
}

impl Drop for Loss {
    fn drop(&mut self) {
        // It was made; who cannot remove it has lost the right to.
        let _ = nft(&format!("delete table inet {}", self.table));
    }
}

fn nft(script: &str) -> io::Result<()> {
    let mut command = Command::new("nft");
    let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(script.as_bytes()))?;
    match child.wait()?.success() {
        true => Ok(()),
        false => Err(io::Error::other("nft refused")),
    }
}

/// One direction of all connections.
struct Lane {
    half: Duration,
    bytes_per_s: Option<f64>,
    /// When the last byte that was let through is through.
    free: Mutex<Instant>,
}

impl Lane {
    /// When `bytes` that came at `at` arrive.
    fn arrival(&self, at: Instant, bytes: usize) -> Instant {
        let Some(rate) = self.bytes_per_s else { return at + self.half };
        let mut free = self.free.lock().unwrap_or_else(|e| e.into_inner());
        *free = (*free).max(at) + Duration::from_secs_f64(bytes as f64 / rate);
        *free + self.half
    }
}

impl Link {
    /// Starts one to `port` with a round trip of `rtt` and `bytes_per_s` each way; it lasts as long as the program.
    pub fn start(port: u16, rtt: Duration, bytes_per_s: Option<f64>) -> io::Result<Link> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let begin = listener.local_addr()?.port();
        let lane = || Arc::new(Lane { half: rtt / 2, bytes_per_s, free: Mutex::new(Instant::now()) });
        let (up, down) = (lane(), lane());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (up, down) = (up.clone(), down.clone());
                std::thread::spawn(move || {
                    // A connection costs a round trip before its first byte.
                    pause(rtt);
                    // A peer that is gone ends its connection.
                    let _ = forward(&stream, port, &up, &down);
                });
            }
        });
        Ok(Link { port: begin })
    }
}

fn forward(from: &TcpStream, port: u16, up: &Arc<Lane>, down: &Arc<Lane>) -> io::Result<()> {
    let to = TcpStream::connect(("127.0.0.1", port))?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    carry(from.try_clone()?, to.try_clone()?, up.clone());
    carry(to, from.try_clone()?, down.clone());
    Ok(())
}

/// Pieces under way, with when they arrive; an empty one is the end.
#[derive(Default)]
struct Wire {
    pieces: Mutex<Pieces>,
    changed: Condvar,
}

#[derive(Default)]
struct Pieces {
    queue: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

fn carry(mut from: TcpStream, mut to: TcpStream, lane: Arc<Lane>) {
    let wire = Arc::new(Wire::default());
    let arriving = wire.clone();
    std::thread::spawn(move || {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = from.read(&mut piece).unwrap_or(0);
            piece.truncate(read);
            let arrival = lane.arrival(Instant::now(), read);
            let mut pieces = wire.pieces.lock().unwrap_or_else(|e| e.into_inner());
            while pieces.bytes > WINDOW_BYTES {
                pieces = wire.changed.wait(pieces).unwrap_or_else(|e| e.into_inner());
            }
            pieces.queue.push_back((arrival, piece));
            pieces.bytes += read;
            drop(pieces);
            wire.changed.notify_all();
            if read == 0 {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        loop {
            let mut pieces = arriving.pieces.lock().unwrap_or_else(|e| e.into_inner());
            let (arrival, piece) = loop {
                match pieces.queue.pop_front() {
                    Some(piece) => break piece,
                    None => pieces = arriving.changed.wait(pieces).unwrap_or_else(|e| e.into_inner()),
                }
            };
            pieces.bytes -= piece.len();
            drop(pieces);
            arriving.changed.notify_all();
            pause(arrival.saturating_duration_since(Instant::now()));
            if piece.is_empty() || to.write_all(&piece).is_err() {
                let _ = to.shutdown(Shutdown::Both);
                // What still comes has nowhere to go; the reader ends with its peer.
                return;
            }
        }
    });
}
