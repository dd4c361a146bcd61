//! Notices that nobody reads stdout any more. A one-shot process has seen the end of its stdin before it starts to
//! work, so this is the only sign that its host is gone.

/// Calls `gone` once when the other end of stdout is closed. A stdout that cannot be watched is never gone.
#[cfg(unix)]
pub(super) fn watch(gone: impl FnOnce() + Send + 'static) {
    use rustix::event::{PollFd, PollFlags, poll};
    let watching = std::thread::Builder::new()
        .name("stdout-watch".to_owned())
        .spawn(move || {
            let stdout = std::io::stdout();
            loop {
                let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
                match poll(&mut fds, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(_) => return,
                    Ok(_) if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) => break,
                    // Nothing else was asked for; whatever this is, it would come again at once.
                    Ok(_) => return,
                }
            }
            gone();
        });
    if let Err(error) = watching {
        tracing::warn!(%error, "stdout cannot be watched");
    }
}

#[cfg(not(unix))]
pub(super) fn watch(_gone: impl FnOnce() + Send + 'static) {}
