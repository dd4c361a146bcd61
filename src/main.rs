//! The binary. Everything is in the library, so that examples and tests can start it in any role.

use std::process::ExitCode;

fn main() -> ExitCode {
    channel_whatsapp::cli::main()
}
