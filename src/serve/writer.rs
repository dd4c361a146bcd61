//! The way to stdout, and the thread that writes what has to wait for it.
//!
//! Invariant: stdout carries whole lines and nothing else, in the order in which they were sent here. A line is
//! written and flushed at once; those that already wait go along in the same write. When a write fails the host is
//! gone: the thread ends, and every sender learns it.
//!
//! Who sends never waits for the host to read. So a line is the thread's, but for a short one that finds nothing
//! before it and room in the pipe: its sender writes that itself, which saves waking the thread.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as sync};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;

/// Lines that wait for the thread. Beyond it, senders wait.
const QUEUE: usize = 256;
/// Waiting lines are joined to one write up to this many bytes.
const JOIN: usize = 64 << 10;

enum Message {
    /// A line without its end, and who wants to know when it has left.
    Line(Vec<u8>, Option<oneshot::Sender<()>>),
    /// There is something beside the queue.
    Look,
    Finish,
}

/// The running thread.
pub struct Writer {
    lines: Lines,
    ended: sync::Receiver<()>,
}

/// Where lines are sent. Every method that waits answers whether the line was taken: `false` means the host is gone.
#[derive(Clone)]
pub struct Lines {
    queue: mpsc::Sender<Message>,
    out: Arc<Out>,
}

/// What the thread and those who write at once share.
struct Out {
    output: Mutex<Box<dyn Write + Send>>,
    /// Lines that found no room in the queue, and whose senders cannot wait.
    beside: Mutex<Vec<Vec<u8>>>,
    /// Lines in the queue or beside it, or taken from it and not written yet.
    waiting: AtomicUsize,
    has_room: fn(usize) -> bool,
}

/// Starts the thread. `has_room` says whether the output takes so many bytes now without making anybody wait.
///
/// # Errors
/// When no thread can be started.
pub fn start(
    output: impl Write + Send + 'static,
    has_room: fn(usize) -> bool,
) -> io::Result<Writer> {
    let (lines, queue) = mpsc::channel(QUEUE);
    let (alive, ended) = sync::channel();
    let out = Arc::new(Out {
        output: Mutex::new(Box::new(output)),
        beside: Mutex::default(),
        waiting: AtomicUsize::new(0),
        has_room,
    });
    let written = out.clone();
    Builder::new().name("stdout".to_owned()).spawn(move || {
        if let Err(error) = write(&written, queue) {
            tracing::warn!(%error, "stdout cannot be written; the host is gone");
        }
        drop(alive);
    })?;
    Ok(Writer {
        lines: Lines { queue: lines, out },
        ended,
    })
}

impl Writer {
    /// A handle to send lines with.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// Writes what was sent until now and ends the thread. Waits no longer than `patience`: a host that does not read
    /// must not keep the process. Answers whether the thread has ended, so that nothing is left to write.
    pub fn finish(self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while let Err(TrySendError::Full(_)) = self.lines.queue.try_send(Message::Finish) {
            if Instant::now() >= until {
                return false;
            }
            sleep(Duration::from_millis(1));
        }
        let left = until.saturating_duration_since(Instant::now());
        self.ended.recv_timeout(left) == Err(sync::RecvTimeoutError::Disconnected)
    }
}

impl Lines {
    /// Sends a line, waiting for room.
    pub async fn send(&self, line: Vec<u8>) -> bool {
        self.queue_line(line, None).await
    }

    /// Sends a line, at once if nothing waits before it and there is room for it; else as [`Lines::send`].
    pub async fn send_now(&self, mut line: Vec<u8>) -> bool {
        self.write_now(&mut line) || self.send(line).await
    }

    /// Sends a line and waits until it has left for the host.
    pub async fn send_flushed(&self, line: Vec<u8>) -> bool {
        let (flushed, done) = oneshot::channel();
        self.queue_line(line, Some(flushed)).await && done.await.is_ok()
    }

    /// The same as [`Lines::send`] from a thread without a runtime.
    pub fn send_blocking(&self, line: Vec<u8>) -> bool {
        self.out.waiting.fetch_add(1, Ordering::AcqRel);
        self.queue.blocking_send(Message::Line(line, None)).is_ok()
    }

    /// Sends a line without waiting, also if there is no room: for what nobody stays to wait for.
    pub fn leave(&self, line: Vec<u8>) {
        self.out.waiting.fetch_add(1, Ordering::AcqRel);
        lock(&self.out.beside).push(line);
        // Where there is no room, the thread is on its way through the queue and looks here after it.
        let _ = self.queue.try_send(Message::Look);
    }

    /// Whether nothing can be written any more.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Returns once nothing can be written any more.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }

    async fn queue_line(&self, line: Vec<u8>, flushed: Option<oneshot::Sender<()>>) -> bool {
        // Counted once it has its place: who stops waiting for one leaves nothing behind.
        let Ok(place) = self.queue.reserve().await else {
            return false;
        };
        self.out.waiting.fetch_add(1, Ordering::AcqRel);
        place.send(Message::Line(line, flushed));
        true
    }

    /// Whether the line was written. One that could not be is the thread's, which then meets the same error.
    fn write_now(&self, line: &mut Vec<u8>) -> bool {
        let Ok(mut output) = self.out.output.try_lock() else {
            return false;
        };
        if self.is_closed()
            || self.out.waiting.load(Ordering::Acquire) > 0
            || !(self.out.has_room)(line.len() + 1)
        {
            return false;
        }
        line.push(b'\n');
        let written = output.write_all(line).and_then(|()| output.flush());
        line.pop();
        written.is_ok()
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write(out: &Out, mut queue: mpsc::Receiver<Message>) -> io::Result<()> {
    let mut finish = false;
    while !finish {
        let (mut bytes, mut lines, mut told) = (Vec::new(), 0, Vec::new());
        let mut take = |line: Vec<u8>| {
            bytes.extend_from_slice(&line);
            bytes.push(b'\n');
            lines += 1;
            bytes.len()
        };
        let mut next = queue.blocking_recv();
        loop {
            let length = match next {
                Some(Message::Line(line, flushed)) => {
                    told.extend(flushed);
                    take(line)
                }
                Some(Message::Look) => 0,
                Some(Message::Finish) | None => {
                    finish = true;
                    break;
                }
            };
            if length >= JOIN {
                break;
            }
            match queue.try_recv() {
                Ok(message) => next = Some(message),
                Err(_) => break,
            }
        }
        for line in std::mem::take(&mut *lock(&out.beside)) {
            take(line);
        }
        if lines > 0 {
            let mut output = lock(&out.output);
            output.write_all(&bytes)?;
            output.flush()?;
            out.waiting.fetch_sub(lines, Ordering::AcqRel);
        }
        for flushed in told {
            // Who asked may have stopped waiting.
            let _ = flushed.send(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Condvar, Mutex};

    use super::*;

    /// Keeps what is written; while shut, a write waits.
    #[derive(Clone, Default)]
    struct Pipe(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        bytes: Vec<u8>,
        writes: Vec<usize>,
        flushed: usize,
        shut: bool,
        waiting: bool,
        broken: bool,
    }

    impl Pipe {
        fn set(&self, change: impl FnOnce(&mut State)) {
            change(&mut self.0.0.lock().unwrap());
            self.0.1.notify_all();
        }

        fn wait(&self, until: impl Fn(&State) -> bool) {
            let state = self.0.0.lock().unwrap();
            let waited = self
                .0
                .1
                .wait_timeout_while(state, Duration::from_secs(10), |state| !until(state));
            assert!(!waited.unwrap().1.timed_out());
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().unwrap().bytes.clone()).unwrap()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.set(|state| state.waiting = true);
            let mut state = self
                .0
                .1
                .wait_while(self.0.0.lock().unwrap(), |state| state.shut)
                .unwrap();
            state.waiting = false;
            if state.broken {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            state.bytes.extend_from_slice(bytes);
            state.writes.push(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.set(|state| state.flushed = state.bytes.len());
            Ok(())
        }
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn every_line_is_flushed_at_once() {
        let pipe = Pipe::default();
        let writer = start(pipe.clone(), |_| false).unwrap();
        assert!(writer.lines().send_flushed(b"{}".to_vec()).await);
        assert_eq!(pipe.text(), "{}\n");
        assert!(writer.lines().send(b"a".to_vec()).await);
        pipe.wait(|state| state.flushed == 5);
        writer.lines().leave(b"b".to_vec());
        assert!(writer.finish(PATIENCE));
        assert_eq!(pipe.text(), "{}\na\nb\n");
    }

    #[test]
    fn lines_that_wait_go_along_in_one_write() {
        let pipe = Pipe::default();
        let writer = start(pipe.clone(), |_| false).unwrap();
        pipe.set(|state| state.shut = true);
        let lines = writer.lines();
        assert!(lines.send_blocking(b"first".to_vec()));
        pipe.wait(|state| state.waiting);
        for _ in 0..100 {
            assert!(lines.send_blocking(b"more".to_vec()));
        }
        assert!(lines.send_blocking(vec![b'x'; JOIN]));
        assert!(lines.send_blocking(b"last".to_vec()));
        pipe.set(|state| state.shut = false);
        assert!(writer.finish(PATIENCE));
        assert_eq!(pipe.0.0.lock().unwrap().writes, [6, 500 + JOIN + 1, 5]);
        assert!(!lines.send_blocking(b"after the end".to_vec()));
    }

    #[test]
    fn many_senders_never_mix_their_lines() {
        let pipe = Pipe::default();
        let writer = start(pipe.clone(), |_| false).unwrap();
        std::thread::scope(|scope| {
            for sender in 0..8 {
                let lines = writer.lines();
                scope.spawn(move || {
                    for number in 0..200 {
                        assert!(lines.send_blocking(
                            format!("{sender} {number} {}", "y".repeat(number)).into_bytes()
                        ));
                    }
                });
            }
        });
        assert!(writer.finish(PATIENCE));
        let text = pipe.text();
        for sender in 0..8 {
            let own: Vec<&str> = text
                .lines()
                .filter(|line| line.starts_with(&format!("{sender} ")))
                .collect();
            let expected: Vec<String> = (0..200)
                .map(|n| format!("{sender} {n} {}", "y".repeat(n)))
                .collect();
            assert_eq!(own, expected);
        }
        assert_eq!(text.lines().count(), 1600);
    }

    #[tokio::test]
    async fn a_broken_pipe_is_told_to_all() {
        let pipe = Pipe::default();
        pipe.set(|state| state.broken = true);
        let writer = start(pipe.clone(), |_| false).unwrap();
        let lines = writer.lines();
        assert!(!lines.send_flushed(b"x".to_vec()).await);
        tokio::time::timeout(PATIENCE, lines.closed())
            .await
            .unwrap();
        assert!(lines.is_closed());
        assert!(!lines.send(b"y".to_vec()).await);
        lines.leave(b"z".to_vec());
        assert!(writer.finish(PATIENCE));
        assert_eq!(pipe.text(), "");
    }

    #[test]
    fn a_host_that_does_not_read_keeps_nobody() {
        let pipe = Pipe::default();
        pipe.set(|state| state.shut = true);
        let writer = start(pipe.clone(), |_| false).unwrap();
        let lines = writer.lines();
        assert!(lines.send_blocking(b"x".to_vec()));
        pipe.wait(|state| state.waiting);
        for _ in 0..QUEUE {
            assert!(lines.send_blocking(b"fill".to_vec()));
        }
        assert!(!writer.finish(Duration::from_millis(20)));
        pipe.set(|state| state.shut = false);
    }

    #[test]
    fn what_is_left_behind_is_written_however_much_waits() {
        let pipe = Pipe::default();
        let writer = start(pipe.clone(), |_| false).unwrap();
        pipe.set(|state| state.shut = true);
        let lines = writer.lines();
        assert!(lines.send_blocking(b"first".to_vec()));
        pipe.wait(|state| state.waiting);
        for _ in 0..QUEUE {
            assert!(lines.send_blocking(b"fill".to_vec()));
        }
        lines.leave(b"left".to_vec());
        lines.leave(b"left too".to_vec());
        pipe.set(|state| state.shut = false);
        pipe.wait(|state| state.bytes.ends_with(b"left\nleft too\n"));
        // And where nothing else wakes the thread.
        lines.leave(b"alone".to_vec());
        pipe.wait(|state| state.bytes.ends_with(b"alone\n"));
        assert!(writer.finish(PATIENCE));
    }

    #[tokio::test]
    async fn a_line_is_written_by_its_sender_if_nothing_is_before_it() {
        let pipe = Pipe::default();
        let writer = start(pipe.clone(), |bytes| bytes <= 4).unwrap();
        let lines = writer.lines();
        assert!(lines.send_now(b"now".to_vec()).await);
        assert_eq!(pipe.text(), "now\n");
        pipe.set(|state| state.shut = true);
        assert!(lines.send_now(b"no room".to_vec()).await);
        pipe.wait(|state| state.waiting);
        assert!(lines.send_now(b"2nd".to_vec()).await);
        pipe.set(|state| state.shut = false);
        assert!(writer.finish(PATIENCE));
        assert_eq!(pipe.text(), "now\nno room\n2nd\n");
        assert!(!lines.send_now(b"end".to_vec()).await);
    }

    #[tokio::test]
    async fn a_line_that_cannot_be_written_at_once_tells_all() {
        let pipe = Pipe::default();
        pipe.set(|state| state.broken = true);
        let writer = start(pipe.clone(), |_| true).unwrap();
        let lines = writer.lines();
        lines.send_now(b"x".to_vec()).await;
        tokio::time::timeout(PATIENCE, lines.closed())
            .await
            .unwrap();
        assert!(!lines.send_now(b"y".to_vec()).await);
    }
}
