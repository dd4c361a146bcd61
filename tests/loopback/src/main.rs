//! The loopback WhatsApp server as a program of its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
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
    let addr = server.addr();
    println!(
        "WebSocket  {} (and wss, with a self-signed certificate)",
        server.ws_url()
    );
    println!("admin API  http://{addr}/admin/state (and https)");
    until_told_to_stop().await;
    ExitCode::SUCCESS
}

/// Ctrl-C, or the signal that service managers send.
async fn until_told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}
