//! A TCP proxy in front of the server, for the network's side of things: gone, back, deaf in one direction.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards to a server for as long as it is up.
pub struct Proxy {
    address: SocketAddr,
    up: watch::Sender<bool>,
    deaf: Arc<AtomicBool>,
    running: JoinHandle<()>,
}

impl Proxy {
    /// A proxy that is up.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let up = watch::Sender::new(true);
        let deaf = Arc::new(AtomicBool::new(false));
        let running = tokio::spawn(run(listener, target, up.subscribe(), deaf.clone()));
        Self {
            address,
            up,
            deaf,
            running,
        }
    }

    /// A proxy that is down.
    pub async fn down_from_the_start(target: SocketAddr) -> Self {
        let proxy = Self::start(target).await;
        proxy.down();
        proxy
    }

    pub fn ws_url(&self) -> String {
        format!("ws://{}/ws/chat", self.address)
    }

    /// Closes everything, and new connections as soon as they are made. The port stays ours: somebody else might get
    /// it before we are up again.
    pub fn down(&self) {
        self.up.send_replace(false);
    }

    /// Serves connections again.
    pub fn up(&self) {
        self.up.send_replace(true);
    }

    /// Closes everything that is open; new connections are served. Returns once it is closed.
    pub async fn cut(&self) {
        self.down();
        let closed = async {
            while self.is_used() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), closed)
            .await
            .expect("connections that close");
        self.up();
    }

    /// Whether a connection is open.
    pub fn is_used(&self) -> bool {
        // Every connection listens to `up`, and so does who accepts them.
        self.up.receiver_count() > 1
    }

    /// From now on nothing that the client says reaches the server; the other direction goes on.
    pub fn deafen(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// New connections are heard again.
    pub fn hear(&self) {
        self.deaf.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.down();
        self.running.abort();
    }
}

async fn run(
    listener: TcpListener,
    target: SocketAddr,
    up: watch::Receiver<bool>,
    deaf: Arc<AtomicBool>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let (mut up, deaf) = (up.clone(), deaf.clone());
        tokio::spawn(async move {
            if *up.borrow() {
                tokio::select! {
                    () = forward(client, target, deaf) => {}
                    _ = up.wait_for(|up| !up) => {}
                }
            }
        });
    }
}

async fn forward(client: TcpStream, target: SocketAddr, deaf: Arc<AtomicBool>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            if !deaf.load(Ordering::SeqCst) && to_server.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    };
    let down = async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    };
    tokio::select! { () = up => {}, () = down => {} }
}
