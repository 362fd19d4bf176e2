//! Serves an empty drive in memory over WebDAV, to whoever asks: `cargo run --example serve_webdav [ADDRESS:PORT]`.

use hyper_util::rt::TokioIo;
use larder_dav::{DavService, Role, Settings, User};
use larder_drive::{Clock, Drive, Parts};
use larder_store::{KvCatalog, memory::MemoryChunks, memory::MemoryKv};
use std::{error::Error, io::Read, sync::Arc};

fn random(bytes: &mut [u8]) {
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(bytes))
        .expect("the kernel has some");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = Clock::system();
    let catalog = Arc::new(KvCatalog::open(MemoryKv::default(), clock.now(), (0, 0))?);
    let drive = Drive::open(
        Parts { chunks: Arc::new(MemoryChunks::default()), catalog, clock, random },
        Default::default(),
    )?;
    let service = DavService::new(drive, Settings::home(0, 0, random));
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}/dav/home/", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        let answer = hyper::service::service_fn(move |request| {
            let (service, user) = (service.clone(), User { name: "guest".to_owned(), role: Role::Editor });
            async move { Ok::<_, std::convert::Infallible>(service.handle(request, user).await) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
        );
    }
}
