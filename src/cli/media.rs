//! `channel-whatsapp media get`: one file of the media store, fetched from WhatsApp first if it is not there.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::args::MediaGetArgs;
use crate::account::Paths;
use crate::media::depot::{Depot, DepotError};
use crate::media::key::StorageKey;
use crate::serve;
use crate::store::{HeldMedia, Store};

/// Writes the file to stdout, or to the file that was named.
pub fn get(args: &MediaGetArgs) -> anyhow::Result<bool> {
    if args.output.is_none() && io::stdout().is_terminal() {
        bail!("the file is not written to a terminal; name one with -o, or redirect stdout");
    }
    let paths = Paths::resolve(&args.which.account, args.which.sqlite_store_path.as_deref())?;
    if !paths.channel().is_file() {
        bail!("nothing was ever received by this account");
    }
    let store = Store::open(&paths.channel())?;
    let key = StorageKey::parse(&args.key, store.id())?;
    let depot = Depot::open(&paths.media()).context("the media store cannot be opened")?;
    let mut file = match opened(&store, &depot, &key)? {
        Some(file) => file,
        None => {
            let within = Duration::from_secs(args.timeout);
            serve::fetch_media(paths, key.token, within)
                .map_err(|error| anyhow::anyhow!(error.message))?;
            let file = opened(&store, &depot, &key)?;
            file.context(
                "the file was fetched, and has gone again; the media store may be too small",
            )?
        }
    };
    match &args.output {
        None => {
            let mut out = io::stdout().lock();
            io::copy(&mut file, &mut out).context("stdout cannot be written")?;
            out.flush().context("stdout cannot be written")?;
        }
        Some(path) => write(&mut file, path)
            .with_context(|| format!("{} cannot be written", path.display()))?,
    }
    Ok(true)
}

/// The file, if it is there; nothing if it has to be fetched.
fn opened(store: &Store, depot: &Depot, key: &StorageKey) -> anyhow::Result<Option<File>> {
    match store.held(key.token).wait()? {
        Some(HeldMedia::Here(medium)) => {
            match depot.read(&medium.place, &medium.sha256, medium.size) {
                Ok(file) => Ok(Some(file)),
                // Somebody has removed it, or changed it.
                Err(DepotError::Lost) => {
                    store.media_lost(vec![medium.place]).wait()?;
                    Ok(None)
                }
                Err(error) => Err(error).context("the file cannot be read"),
            }
        }
        Some(HeldMedia::NotHere(..)) => Ok(None),
        None => bail!(
            "no message that this account still remembers came with this storage key; it may be too old"
        ),
    }
}

/// Whole or not at all, and for this user alone.
fn write(file: &mut File, path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut part = tempfile::NamedTempFile::new_in(folder)?;
    io::copy(file, part.as_file_mut())?;
    part.as_file().sync_all()?;
    part.persist(path)?;
    Ok(())
}
