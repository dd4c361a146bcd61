//! `schema`: prints a schema from the types that parse what it describes.

use std::io::Write;

use anyhow::Context;
use schemars::schema_for;

use super::args::{SchemaArgs, SchemaOf};
use crate::outbound::Metadata;

pub(super) fn run(args: &SchemaArgs) -> anyhow::Result<bool> {
    let schema = match args.of {
        SchemaOf::Config => crate::config::schema(),
        SchemaOf::Message => schema_for!(Metadata).into(),
    };
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &schema).context("the schema could not be written")?;
    writeln!(out).context("the schema could not be written")?;
    Ok(true)
}
