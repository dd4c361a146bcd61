//! The loopback WhatsApp server as a program of its own.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use whatsapp_loopback::{Options, Server};

/// A WhatsApp server on the loopback interface, for tests of WhatsApp Web clients.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  Play the phone that scans a QR (its text is the body):
    curl --data-binary @qr.txt http://127.0.0.1:8080/admin/mock-phone/scan-qr
  Type a pair code on the phone:
    curl -X POST 'http://127.0.0.1:8080/admin/mock-phone/enter-code?phone=15550100&code=ABCD1234'
  Drop every connection after three more stanzas:
    curl -d '{\"kind\":\"drop_after\",\"stanzas\":3}' http://127.0.0.1:8080/admin/faults
  See accounts, devices and queues:
    curl http://127.0.0.1:8080/admin/state"
)]
struct Arguments {
    /// Address to listen on; it has to be a loopback one, and port 0 takes a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Make new accounts LID-migrated
    #[arg(long)]
    lid_migrated: bool,
    /// Log what happens to stderr; twice for every detail
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let level = match arguments.verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .init();
    let options = Options {
        listen: arguments.listen,
        lid_migrated: arguments.lid_migrated,
        ..Options::default()
    };
    let server = match Server::start(options).await {
        Ok(server) => server,
        Err(error) => {
            eprintln!("cannot serve on {}: {error}", arguments.listen);
            return ExitCode::FAILURE;
        }
    };
    // Whoever reads the address may send a signal right then.
    let mut stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => {
            eprintln!("cannot listen for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let addr = server.addr();
    println!(
        "WebSocket  {} (and wss, with a self-signed certificate)",
        server.ws_url()
    );
    println!("admin API  http://{addr}/admin/state (and https)");
    stop.asked_for().await;
    ExitCode::SUCCESS
}

/// Ctrl-C, and the signal that service managers send.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// From now on neither is lost; one that came between the handler and the first look would be.
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn asked_for(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
