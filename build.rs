//! Puts the version into the binary, with the commit where there is one: `0.1.0 (1a2b3c4d5e6f)`.
//!
//! Reads the files of `.git` instead of calling git, so that a build without git, or outside a checkout (a source
//! archive, a vendored copy), is a build without a commit and nothing more.

use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let version = match commit(Path::new(&root)) {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    };
    println!("cargo::rustc-env=CHANNEL_WHATSAPP_VERSION={version}");
}

/// The first twelve digits of the checked-out commit.
fn commit(root: &Path) -> Option<String> {
    let git = git_dir(root)?;
    let head = read_watched(&git.join("HEAD"))?;
    // Moves with every commit, also where the branch itself was in `packed-refs` until now.
    let _ = read_watched(&git.join("logs/HEAD"));
    let id = match head.strip_prefix("ref: ") {
        None => head,
        Some(branch) => {
            // In a linked worktree HEAD is its own, the branches are the main checkout's.
            let common = fs::read_to_string(git.join("commondir"));
            let common = common.map_or_else(|_| git.clone(), |dir| git.join(dir.trim()));
            read_watched(&common.join(branch)).or_else(|| packed(&common, branch))?
        }
    };
    let short = id.get(..12)?;
    short
        .bytes()
        .all(|b| b.is_ascii_hexdigit())
        .then(|| short.to_owned())
}

/// `.git` is a directory, or in a linked worktree a file that names one.
fn git_dir(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    match fs::read_to_string(&git) {
        Ok(link) => Some(root.join(link.strip_prefix("gitdir: ")?.trim())),
        Err(_) => git.is_dir().then_some(git),
    }
}

fn packed(common: &Path, branch: &str) -> Option<String> {
    let refs = read_watched(&common.join("packed-refs"))?;
    refs.lines().find_map(|line| {
        line.strip_suffix(branch)?
            .strip_suffix(' ')
            .map(str::to_owned)
    })
}

/// Watches only what exists: cargo takes a missing file for a changed one and would rebuild every time.
fn read_watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text.trim().to_owned())
}
