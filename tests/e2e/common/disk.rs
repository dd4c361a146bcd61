//! A small disk that a test may fill.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use super::World;

/// A small disk of its own. Making one needs root.
pub struct Disk {
    at: tempfile::TempDir,
}

impl Disk {
    /// None, and why on stderr, if none can be made.
    pub fn new(mebibytes: u32) -> Option<Self> {
        let at = tempfile::tempdir().expect("directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(at.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { at });
        }
        eprintln!("SKIPPED: no file system can be mounted here, which takes root");
        None
    }

    /// A world whose account is on this disk.
    pub async fn world(&self) -> World {
        let mut world = World::unlinked().await;
        world.home = tempfile::tempdir_in(self.at.path()).expect("directory");
        let summary = world.link(&[]).await;
        world.is(&summary);
        world
    }

    /// Bytes that are free now.
    pub fn available(&self) -> u64 {
        channel_whatsapp::store::available(&self.ballast()).expect("free space")
    }

    fn ballast(&self) -> PathBuf {
        self.at.path().join("ballast")
    }

    /// Leaves this many bytes free, or as many as are.
    pub fn fill(&self, free: u64) {
        let bytes = usize::try_from(self.available().saturating_sub(free)).expect("fits");
        let mut ballast = File::options();
        let ballast = ballast.append(true).create(true).open(self.ballast());
        // To the last byte, if need be.
        let _ = ballast.expect("ballast").write_all(&vec![1; bytes]);
    }

    /// Takes back what [`Disk::fill`] took.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("ballast");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.at.path())
            .status();
    }
}
