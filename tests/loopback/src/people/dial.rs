//! The way to the server, with TCP_NODELAY: without it a handshake waits on delayed acknowledgements.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio_websockets::ClientBuilder;
use whatsapp_rust::async_channel::Receiver;
use whatsapp_rust::transport::{Transport, TransportEvent, TransportFactory, from_websocket};

pub(super) struct Dial {
    addr: SocketAddr,
}

impl Dial {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }
}

#[async_trait]
impl TransportFactory for Dial {
    async fn create_transport(
        &self,
    ) -> anyhow::Result<(Arc<dyn Transport>, Receiver<TransportEvent>)> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let uri = format!("ws://{}/ws/chat", self.addr).parse()?;
        let (ws, _) = ClientBuilder::from_uri(uri)
            .connect_on(stream)
            .await
            .context("the WebSocket was refused")?;
        Ok(from_websocket(ws))
    }
}
