//! How fast the disk syncs: what every figure with a durable commit in it is bounded by.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Appends of 4 KiB, each followed by `fdatasync`, a second.
pub fn fsyncs_per_second(directory: &Path) -> Result<f64> {
    let path = directory.join("fsync");
    let mut file = File::create(&path)?;
    let block = [0x5a; 4096];
    let began = Instant::now();
    let mut synced = 0;
    while began.elapsed() < Duration::from_secs(1) {
        file.write_all(&block)?;
        file.sync_data()?;
        synced += 1;
    }
    let rate = f64::from(synced) / began.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}
