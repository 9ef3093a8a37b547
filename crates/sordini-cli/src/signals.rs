//! Ctrl-C and SIGTERM.

use std::io;
use std::time::{Duration, Instant};

#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::terminal;

/// For so long the same signal is the same request: less than a person takes who means it.
const ONCE_MORE: Duration = Duration::from_millis(150);

/// What was asked of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// The exit code that a shell gives a process that a signal ended: 128 plus its number.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// The first signal, for who waits for it. The second ends the process at once.
#[derive(Clone, Debug)]
pub(crate) struct Signals(watch::Receiver<Option<Signal>>);

impl Signals {
    /// Begins to listen. `at_once` runs before the second signal ends the process.
    ///
    /// # Errors
    /// If the system refuses the handlers.
    pub(crate) fn listen(at_once: fn()) -> io::Result<Self> {
        let (sender, receiver) = watch::channel(None);
        let mut incoming = Incoming::new()?;
        tokio::spawn(async move {
            let first = incoming.next().await;
            let _ = sender.send(Some(first));
            let at = Instant::now();
            let mut second = incoming.next().await;
            while is_once_more(first, second, at.elapsed()) {
                second = incoming.next().await;
            }
            at_once();
            std::process::exit(second.exit_code().into());
        });
        Ok(Self(receiver))
    }

    /// Has `text` said as soon as the first signal comes: what is still waited for, and that a
    /// second signal ends that.
    pub(crate) fn announce(&self, text: String) {
        let mut signals = self.clone();
        tokio::spawn(async move {
            signals.wait().await;
            terminal::note(text);
        });
    }

    /// The first signal, once it came.
    pub(crate) fn seen(&self) -> Option<Signal> {
        *self.0.borrow()
    }

    /// Waits for the first signal.
    ///
    /// # Cancellation
    /// Safe.
    pub(crate) async fn wait(&mut self) -> Signal {
        loop {
            if let Some(signal) = self.seen() {
                return signal;
            }
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Whether `signal` is the `first` once more, `after` it: who signals a process and then its group,
/// as timeout(1) does, asks for one thing.
fn is_once_more(first: Signal, signal: Signal, after: Duration) -> bool {
    signal == first && after < ONCE_MORE
}

#[cfg(unix)]
struct Incoming {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Incoming {
    fn new() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

#[cfg(not(unix))]
struct Incoming;

#[cfg(not(unix))]
impl Incoming {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_signal_twice_at_once_is_one() {
        let (int, term) = (Signal::Interrupt, Signal::Terminate);
        assert!(is_once_more(term, term, Duration::ZERO));
        assert!(!is_once_more(term, int, Duration::ZERO), "another request");
        assert!(!is_once_more(int, int, ONCE_MORE), "a person who means it");
    }
}
