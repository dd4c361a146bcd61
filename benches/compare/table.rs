//! The figures as they are printed: medians over the repeats, and the ratio of plugin to bare client.

/// What a figure counts, which decides how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    Microseconds,
    PerSecond,
    Mebibytes,
    MebibytesPerSecond,
    Cores,
}

/// How the two sides are compared, and what is asked of the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// Nothing is asked.
    None,
    /// Plugin minus the other, at most this, in the figure's unit.
    Over(f64),
    /// Plugin by the other, at most this.
    AtMost(f64),
    /// Plugin by the other, at least this.
    AtLeast(f64),
}

/// One line: values of each repeat, in the figure's unit; those of one repeat belong together.
pub struct Row {
    pub label: &'static str,
    pub unit: Unit,
    pub aim: Aim,
    pub plugin: Vec<f64>,
    pub other: Vec<f64>,
}

/// The value below which the share `q` of them lies, between two neighbours in proportion. Sorts `values`.
pub fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n => {
            let at = q * (n - 1) as f64;
            let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
            low + (high - low) * at.fract()
        }
    }
}

fn median(values: &[f64]) -> f64 {
    quantile(&mut values.to_vec(), 0.5)
}

fn number(value: f64, unit: Unit) -> String {
    match unit {
        _ if value.is_nan() => "-".to_owned(),
        Unit::Milliseconds => format!("{value:.2} ms"),
        Unit::Microseconds => format!("{value:.0} µs"),
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::Mebibytes => format!("{value:.1} MiB"),
        Unit::MebibytesPerSecond => format!("{value:.0} MiB/s"),
        Unit::Cores => format!("{value:.2}"),
    }
}

impl Row {
    fn compared(&self) -> Vec<f64> {
        let pairs = self.plugin.iter().zip(&self.other);
        match self.aim {
            Aim::Over(_) => pairs.map(|(plugin, other)| plugin - other).collect(),
            _ => pairs.map(|(plugin, other)| plugin / other).collect(),
        }
    }

    fn cells(&self) -> [String; 7] {
        let mut compared = self.compared();
        let value = median(&compared);
        let written = |value: f64| match self.aim {
            Aim::Over(_) => format!("+{value:.2}"),
            _ => format!("{value:.2}"),
        };
        let (ratio, spread) = match compared.is_empty() {
            true => (String::new(), String::new()),
            false => {
                let (low, high) = (quantile(&mut compared, 0.0), quantile(&mut compared, 1.0));
                (written(value), format!("{low:.2}..{high:.2}"))
            }
        };
        let (aim, kept) = match self.aim {
            Aim::None => (String::new(), None),
            Aim::Over(most) => (format!("<= +{most}"), Some(value <= most)),
            Aim::AtMost(most) => (format!("<= {most}"), Some(value <= most)),
            Aim::AtLeast(least) => (format!(">= {least}"), Some(value >= least)),
        };
        let verdict = match kept {
            None => "",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        [
            self.label.to_owned(),
            number(median(&self.plugin), self.unit),
            number(median(&self.other), self.unit),
            ratio,
            spread,
            aim,
            verdict.to_owned(),
        ]
    }
}

const HEAD: [&str; 7] = [
    "figure", "plugin", "beside", "ratio", "spread", "aim", "kept",
];

fn footer(fsyncs: f64, repeats: usize) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{repeats} repeats, medians; ratio and spread are those within a repeat. Beside: an empty Rust binary \
         at\nthe cold start, the library's encryption and decryption alone for files (‡ with its transfer),\nthe bare client elsewhere. {cores} cores; the disk does {fsyncs:.0} fdatasync/s of 4 KiB."
    )
}

/// Prints the table for a terminal of 100 columns.
pub fn plain(rows: &[Row], fsyncs: f64, repeats: usize) {
    let line = |cells: [String; 7]| {
        let [label, plugin, other, ratio, spread, aim, kept] = cells;
        println!("{label:<35}{plugin:>12}{other:>12}{ratio:>8}{spread:>14}{aim:>8}  {kept}");
    };
    println!();
    line(HEAD.map(str::to_owned));
    println!("{}", "-".repeat(95));
    rows.iter().for_each(|row| line(row.cells()));
    println!("\n{}", footer(fsyncs, repeats));
}

/// Prints the table for a page.
pub fn markdown(rows: &[Row], fsyncs: f64, repeats: usize) {
    println!("| {} |", HEAD.join(" | "));
    println!("|---|--:|--:|--:|--:|--:|---|");
    rows.iter()
        .for_each(|row| println!("| {} |", row.cells().join(" | ")));
    println!("\n{}", footer(fsyncs, repeats));
}
