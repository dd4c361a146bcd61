//! The command line: one file a command.

mod access;
pub mod args;
mod doctor;
mod explain;
mod generated;
mod link;
mod log;
mod media;
pub mod qr;
mod redeliver;
mod reload;
mod schema;
mod unlink;

use std::io::Write;
use std::process::ExitCode;

use args::Command;

use crate::platform::keep_no_large_blocks;
use crate::serve;
use crate::session::{Endpoint, UNCHECKED};

/// The whole program: reads the command line, runs one command, gives back the exit code.
/// 0 done, 1 failed with the reason on stderr, 2 the command line is wrong.
pub fn main() -> ExitCode {
    keep_no_large_blocks();
    let command = match args::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => return refused(&error),
    };
    log::start();
    if UNCHECKED {
        // Said where it is looked for first: in the log of whoever runs such a build by mistake.
        match Endpoint::from_env() {
            Ok(endpoint) => {
                tracing::warn!(server = endpoint.authority(), "loopback build, for tests")
            }
            Err(error) => tracing::warn!(%error, "loopback build, for tests"),
        }
    }
    match command {
        Command::Serve => serve::run(std::io::stdin(), std::io::stdout()),
        Command::Link(args) => link::run(&args),
        Command::Doctor(args) => done(doctor::run(&args)),
        Command::Redeliver(args) => done(redeliver::run(&args)),
        Command::Access(args) => done(access::run(&args)),
        Command::Explain(args) => done(explain::run(&args)),
        Command::Reload(args) => done(reload::run(&args)),
        Command::MediaGet(args) => done(media::get(&args)),
        Command::Schema(args) => done(schema::run(&args)),
        Command::Unlink(args) => done(unlink::run(&args)),
        Command::Completions(args) => done(generated::completions(&args)),
        Command::Man => done(generated::man()),
    }
}

/// The exit code of a command that answers whether all is well; one line on stderr says why it failed.
fn done(outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => match error.downcast_ref::<clap::Error>() {
            Some(usage) => refused(usage),
            None => {
                let _ = writeln!(std::io::stderr(), "channel-whatsapp: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Help and version come this way too, with code 0 and on stdout.
fn refused(usage: &clap::Error) -> ExitCode {
    let _ = usage.print();
    ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2))
}
