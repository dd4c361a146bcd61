//! A TCP proxy in front of the server, for the network's side of things: gone, back, deaf in one direction.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Forwards to a server for as long as it is up.
pub struct Proxy {
    address: SocketAddr,
    target: SocketAddr,
    deaf: Arc<AtomicBool>,
    running: Mutex<Option<JoinSet<()>>>,
}

impl Proxy {
    /// A proxy that is up.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let proxy = Self {
            address: listener.local_addr().expect("address"),
            target,
            deaf: Arc::default(),
            running: Mutex::new(None),
        };
        proxy.run(listener).await;
        proxy
    }

    /// A proxy that is down; its address refuses connections.
    pub async fn down_from_the_start(target: SocketAddr) -> Self {
        let proxy = Self::start(target).await;
        proxy.down().await;
        proxy
    }

    pub fn ws_url(&self) -> String {
        format!("ws://{}/ws/chat", self.address)
    }

    /// Closes everything and refuses new connections.
    pub async fn down(&self) {
        if let Some(mut running) = self.running.lock().await.take() {
            running.shutdown().await;
        }
    }

    /// Accepts connections again, on the same address.
    pub async fn up(&self) {
        let listener = TcpListener::bind(self.address).await.expect("bind again");
        self.run(listener).await;
    }

    /// From now on nothing that the client says reaches the server; the other direction goes on.
    pub fn deafen(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// New connections are heard again.
    pub fn hear(&self) {
        self.deaf.store(false, Ordering::SeqCst);
    }

    async fn run(&self, listener: TcpListener) {
        let (target, deaf) = (self.target, self.deaf.clone());
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                connections.spawn(forward(client, target, deaf.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        *self.running.lock().await = Some(running);
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
