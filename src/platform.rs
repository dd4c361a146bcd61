//! All that differs by operating system: who else may read a file, where a local socket lies, what a terminal
//! takes, when stdout has no reader any more, what memory is kept. Elsewhere nothing asks what system it runs on.
//!
//! The two halves have the same functions. Where a system cannot do what a function is for, its half says so and does
//! what is safe without it; none claims a success that it did not have.

#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;

#[cfg(unix)]
mod unix {
    use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
    use std::io::{self, IsTerminal};
    use std::os::unix::fs::{
        DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
    };
    use std::path::{Path, PathBuf};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    /// A pipe that is ready for writing takes this many bytes at once: pipe(7), and POSIX for the rest.
    const PIPE_BUF: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

    /// The variable that names the user's own directory.
    pub const HOME: &str = "HOME";

    /// `sun_path` has 104 bytes on macOS and the BSDs, 108 on Linux, the end mark included.
    const LONGEST: usize = 103;

    /// Has what a large picture or a long line took given back to the system as soon as it is done with. Of itself glibc keeps
    /// ever larger blocks once it has seen such ones, for each thread anew (mallopt(3), `M_MMAP_THRESHOLD`); other allocators
    /// keep none. To be called before there are threads.
    pub fn keep_no_large_blocks() {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            use std::ffi::c_int;
            /// As `malloc.h` has it.
            const M_MMAP_THRESHOLD: c_int = -3;
            // It takes two numbers, and whatever they are it does no harm.
            unsafe extern "C" {
                safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
            }
            mallopt(M_MMAP_THRESHOLD, 1 << 20);
        }
    }

    /// Which of these paths other users may read or enter, with their modes; what does not exist is left out. None on
    /// a system whose files have no modes, where nobody has looked.
    pub fn loose(paths: impl IntoIterator<Item = PathBuf>) -> Option<Vec<(PathBuf, u32)>> {
        let loose = paths.into_iter().filter_map(|path| {
            let mode = fs::metadata(&path).ok()?.permissions().mode() & 0o777;
            (mode & 0o077 != 0).then_some((path, mode))
        });
        Some(loose.collect())
    }

    /// Creates a directory, with those above it, for this user alone. One that others may enter is tightened if
    /// `tighten`, else there is a warning.
    pub fn private_directory(path: &Path, tighten: bool) -> io::Result<()> {
        match fs::metadata(path) {
            Ok(found) => {
                let mode = found.permissions().mode() & 0o777;
                if mode & 0o077 == 0 {
                    return Ok(());
                }
                if tighten {
                    return fs::set_permissions(path, Permissions::from_mode(0o700));
                }
                tracing::warn!(
                    "{} can be entered by other users (mode {mode:o}); the files in it are private, `chmod 700` it to be sure",
                    path.display()
                );
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(path)
            }
            Err(e) => Err(e),
        }
    }

    /// Opens a file for this user alone, creating it if need be; a file that others could read is tightened.
    pub fn private_file(path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    }

    /// Makes that a file can be read by this user alone, and written by nobody.
    pub fn read_only(file: &File) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(0o400))
    }

    /// The full name of a local socket: a file in a directory that nobody else can enter.
    ///
    /// # Errors
    /// When there is no such directory with a path short enough for a socket.
    pub fn socket_name(name: &str) -> io::Result<String> {
        let me = rustix::process::geteuid().as_raw();
        let fit = |directory: &Path| {
            let found = fs::symlink_metadata(directory).ok()?;
            let private = found.is_dir() && found.uid() == me && found.mode() & 0o077 == 0;
            let path = directory.join(name).into_os_string().into_string().ok()?;
            (private && directory.is_absolute() && path.len() <= LONGEST).then_some(path)
        };
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        if let Some(path) = runtime.as_deref().and_then(fit) {
            return Ok(path);
        }
        for temporary in [std::env::temp_dir(), PathBuf::from("/tmp")] {
            let directory = temporary.join(format!("channel-whatsapp-{me}"));
            let made = DirBuilder::new().mode(0o700).create(&directory);
            if made.is_ok() {
                // The umask may have taken more away than meant.
                fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
            }
            if let Some(path) = fit(&directory) {
                return Ok(path);
            }
        }
        Err(io::Error::other(
            "no private directory with a short path; set XDG_RUNTIME_DIR to one",
        ))
    }

    /// Takes away what an owner that died has left under this full name. Touches nothing but a socket.
    pub fn remove_socket(name: &str) {
        let socket = fs::symlink_metadata(name).is_ok_and(|found| found.file_type().is_socket());
        if socket && let Err(error) = fs::remove_file(name) {
            tracing::warn!(%error, "the socket of an owner that is gone cannot be removed");
        }
    }

    /// Whether stderr is a terminal that takes escape sequences: colours, and writing over what stands there.
    pub fn stderr_takes_escapes() -> bool {
        io::stderr().is_terminal()
    }

    /// Whether stdout takes this many bytes now without making the writer wait: a pipe that is ready takes
    /// [`PIPE_BUF`] of them.
    pub fn stdout_has_room(bytes: usize) -> bool {
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        bytes <= PIPE_BUF
            && poll(&mut fds, Some(&now)).is_ok()
            && fds[0].revents() == PollFlags::OUT
    }

    /// Calls `gone` once when the other end of stdout is closed. A stdout that cannot be watched is never gone.
    pub fn watch_stdout(gone: impl FnOnce() + Send + 'static) {
        let watching = std::thread::Builder::new()
            .name("stdout-watch".to_owned())
            .spawn(move || {
                let stdout = io::stdout();
                loop {
                    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
                    match poll(&mut fds, None) {
                        Err(rustix::io::Errno::INTR) => continue,
                        Err(_) => return,
                        Ok(_) if fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) => {
                            break;
                        }
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
}

#[cfg(windows)]
mod windows {
    use std::fs::{self, File, OpenOptions};
    use std::io::{self, IsTerminal};
    use std::path::{Path, PathBuf};

    /// The variable that names the user's own directory.
    pub const HOME: &str = "USERPROFILE";

    /// Nothing: the heap of Windows keeps none.
    pub fn keep_no_large_blocks() {}

    /// Windows has access control lists in place of modes, and nothing here reads them: nobody has looked.
    pub fn loose(_paths: impl IntoIterator<Item = PathBuf>) -> Option<Vec<(PathBuf, u32)>> {
        None
    }

    /// Creates a directory, with those above it. It inherits the access control list of the one above: within a user's
    /// profile that is the user, SYSTEM and the administrators; elsewhere it may be anybody, and nothing is tightened.
    pub fn private_directory(path: &Path, _tighten: bool) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    /// Opens a file, creating it if need be. Who may read it is inherited, as with a directory.
    pub fn private_file(path: &Path) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
    }

    /// Nothing: on Windows a file that nobody may write cannot be removed either.
    pub fn read_only(_file: &File) -> io::Result<()> {
        Ok(())
    }

    /// The full name of a local socket: a named pipe. The names are the machine's, not the user's; by default only the
    /// pipe's user, SYSTEM and the administrators may write to it, hence connect, since we connect for both.
    ///
    /// # Errors
    /// None.
    pub fn socket_name(name: &str) -> io::Result<String> {
        Ok(format!(r"\\.\pipe\{name}"))
    }

    /// Nothing to take away: a named pipe goes with the process that made it.
    pub fn remove_socket(_name: &str) {}

    /// Whether stderr is a terminal that takes escape sequences. A console of Windows does when it is told to, which can
    /// be done only while stdout is one as well.
    pub fn stderr_takes_escapes() -> bool {
        io::stderr().is_terminal() && anstyle_query::windows::enable_ansi_colors() == Some(true)
    }

    /// Nobody can tell.
    pub fn stdout_has_room(_bytes: usize) -> bool {
        false
    }

    /// Never calls `gone`: Windows tells the writer of a pipe that its reader is gone only when it writes. A process
    /// whose host is gone finds out with its next line, or leaves by its deadline.
    pub fn watch_stdout(_gone: impl FnOnce() + Send + 'static) {}
}
