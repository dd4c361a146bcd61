//! `completions` and `man`: what is generated from the definition of the command line.

use std::io::Write;

use anyhow::Context;

use super::args::{CompletionsArgs, definition};

const NAME: &str = "channel-whatsapp";

/// Prints a script that completes the command line.
pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<bool> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), NAME, &mut script);
    print(&script)
}

/// Prints the manual: one page for the program, with a section for each command.
pub(super) fn man() -> anyhow::Result<bool> {
    let mut program = definition();
    // Names the commands in full, as they are typed.
    program.build();
    let manual = clap_mangen::Man::new(program.clone());
    let mut page = Vec::new();
    manual.render_title(&mut page)?;
    manual.render_name_section(&mut page)?;
    manual.render_synopsis_section(&mut page)?;
    manual.render_description_section(&mut page)?;
    manual.render_options_section(&mut page)?;
    sections(&program, &mut page)?;
    manual.render_extra_section(&mut page)?;
    manual.render_version_section(&mut page)?;
    print(&page)
}

/// The commands below this one, each followed by those below it.
fn sections(above: &clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    for command in above.get_subcommands() {
        page.extend(section(command)?);
        sections(command, page)?;
    }
    Ok(())
}

/// A command as a section of the page: what would be sections of a page of its own are below it.
fn section(command: &clap::Command) -> std::io::Result<Vec<u8>> {
    let title = command.get_bin_name().unwrap_or(NAME);
    let manual = clap_mangen::Man::new(command.clone());
    let mut own = Vec::new();
    manual.render_description_section(&mut own)?;
    manual.render_synopsis_section(&mut own)?;
    manual.render_options_section(&mut own)?;
    manual.render_extra_section(&mut own)?;
    let mut section = format!(".SH \"{}\"\n", title.to_uppercase()).into_bytes();
    for line in own.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_prefix(b".SH ") {
            Some(heading) => {
                section.extend_from_slice(b".SS ");
                section.extend_from_slice(heading);
            }
            None => section.extend_from_slice(line),
        }
    }
    Ok(section)
}

/// Whole or not at all: a reader that has gone is a failure like any other.
fn print(text: &[u8]) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    out.write_all(text)
        .and_then(|()| out.flush())
        .context("it could not be written")?;
    Ok(true)
}
