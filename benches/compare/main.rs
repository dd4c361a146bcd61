//! Measures the plugin beside a bare client of the same library, against the loopback server in this process.
//!
//! Every figure is taken from both in turn, in every repeat, with accounts that were linked alike; the order changes
//! from one repeat to the next. What is compared are the ratios within a repeat, since the machine's speed drifts.

mod accounts;
mod bare;
mod bench;
mod disk;
mod figures;
mod media;
mod process;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::bench::{Bench, Sizes};
use crate::figures::FIGURES;

/// What was asked for on the command line.
struct Options {
    quick: bool,
    markdown: bool,
    only: Vec<String>,
}

impl Options {
    /// None when cargo runs this as a test: then there is nothing to do.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            quick: false,
            markdown: false,
            only: Vec::new(),
        };
        let mut asked = false;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => asked = true,
                "--quick" => options.quick = true,
                "--markdown" => options.markdown = true,
                "--only" => options
                    .only
                    .push(arguments.next().context("--only needs a name")?),
                other => bail!("{other}: there are --quick, --markdown and --only NAME"),
            }
        }
        let known = |name: &String| FIGURES.iter().any(|figure| figure.name == name);
        if let Some(unknown) = options.only.iter().find(|name| !known(name)) {
            let names: Vec<_> = FIGURES.iter().map(|figure| figure.name).collect();
            bail!("{unknown}: there are {}", names.join(", "));
        }
        Ok(asked.then_some(options))
    }
}

fn main() -> ExitCode {
    let done = match bare::asked() {
        Some(setup) => bare::run(setup),
        None => measure(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let Some(options) = Options::parse(std::env::args().skip(1))? else {
        return Ok(());
    };
    let sizes = if options.quick {
        Sizes::quick()
    } else {
        Sizes::full()
    };
    let mut bench = Bench::new(sizes)?;
    let fsyncs = disk::fsyncs_per_second(bench.directory())?;
    let chosen =
        |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    for repeat in 0..bench.sizes.repeats {
        bench.begin(repeat)?;
        for figure in FIGURES.iter().filter(|figure| chosen(figure.name)) {
            eprintln!(
                "repeat {} of {}: {}",
                repeat + 1,
                bench.sizes.repeats,
                figure.name
            );
            (figure.take)(&mut bench).context(figure.name)?;
        }
    }
    let fsyncs = (fsyncs + disk::fsyncs_per_second(bench.directory())?) / 2.0;
    let repeats = bench.sizes.repeats;
    let rows = bench.rows();
    match options.markdown {
        true => table::markdown(&rows, fsyncs, repeats),
        false => table::plain(&rows, fsyncs, repeats),
    }
    Ok(())
}
