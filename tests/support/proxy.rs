//! The way between a device and its server, which tests count on, cut, and spoil.

use parking_lot::{Condvar, Mutex};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes in one step.
const STEP: usize = 64 << 10;
/// Longer steps than this hold bytes of files.
const LONG: usize = 8 << 10;

/// Forwards connections to a server.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Where the server is; without it connections are refused.
    target: Mutex<Option<SocketAddr>>,
    /// The ends of connections.
    open: Mutex<Vec<Arc<TcpStream>>>,
    moved: AtomicU64,
    sent: AtomicU64,
    requests: AtomicU64,
    closed: AtomicU64,
    /// No more than so many bytes go to devices; nothing says that all may.
    limit: Mutex<Option<u64>>,
    changed: Condvar,
    /// Somebody waits for a higher limit.
    held: AtomicBool,
    spoils: AtomicBool,
}

impl Proxy {
    /// Forwards to `target`.
    pub fn start(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared { target: Mutex::new(Some(target)), ..Shared::default() });
        let serving = shared.clone();
        // Lives as long as the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serving.forward(stream);
            }
        });
        Proxy { address, shared }
    }

    /// Where devices find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all connections, and makes those to come lead to `target`, or nowhere.
    pub fn lead_to(&self, target: Option<SocketAddr>) {
        *self.shared.target.lock() = target;
        for stream in self.shared.open.lock().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Bytes that went from the server to devices so far.
    pub fn moved(&self) -> u64 {
        self.shared.moved.load(Ordering::Relaxed)
    }

    /// Bytes that went from devices to the server so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Requests of devices so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Connections that devices have closed so far.
    pub fn closed(&self) -> u64 {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Lets no more than about so many bytes in all go to devices, until told otherwise.
    pub fn hold_at(&self, limit: Option<u64>) {
        *self.shared.limit.lock() = limit;
        self.shared.held.store(false, Ordering::SeqCst);
        self.shared.changed.notify_all();
    }

    /// Says whether bytes wait here for a higher limit.
    pub fn is_holding(&self) -> bool {
        self.shared.held.load(Ordering::SeqCst)
    }

    /// Whether bytes of files arrive as others.
    pub fn spoil(&self, spoils: bool) {
        self.shared.spoils.store(spoils, Ordering::Relaxed);
    }
}

impl Shared {
    fn forward(self: &Arc<Self>, device: TcpStream) {
        let target = *self.target.lock();
        let Some(server) = target.and_then(|target| TcpStream::connect(target).ok()) else { return };
        let ends = [Arc::new(device), Arc::new(server)];
        self.open.lock().extend(ends.clone());
        for down in [false, true] {
            let (shared, [device, server]) = (self.clone(), ends.clone());
            std::thread::spawn(move || match down {
                false => shared.copy(&device, &server, down),
                true => shared.copy(&server, &device, down),
            });
        }
    }

    fn copy(&self, from: &Arc<TcpStream>, to: &Arc<TcpStream>, down: bool) {
        let mut buffer = vec![0; STEP];
        while let Ok(len @ 1..) = (&**from).read(&mut buffer) {
            if !down && buffer[..len].windows(9).any(|bytes| bytes == b" HTTP/1.1") {
                self.requests.fetch_add(1, Ordering::Relaxed);
            }
            if down {
                let mut limit = self.limit.lock();
                while limit.is_some_and(|limit| self.moved.load(Ordering::Relaxed) >= limit) {
                    self.held.store(true, Ordering::SeqCst);
                    self.changed.wait(&mut limit);
                }
                drop(limit);
                self.moved.fetch_add(len as u64, Ordering::Relaxed);
                if len > LONG && self.spoils.load(Ordering::Relaxed) {
                    buffer[len / 2] ^= 1;
                }
            } else {
                self.sent.fetch_add(len as u64, Ordering::Relaxed);
            }
            if (&**to).write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        self.closed.fetch_add(u64::from(!down), Ordering::Relaxed);
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
        // As long as one is open here, the other side may wait for it to take what it sends, which nobody reads.
        self.open.lock().retain(|end| !Arc::ptr_eq(end, from) && !Arc::ptr_eq(end, to));
    }
}
