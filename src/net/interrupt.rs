//! Who asks the proxy to stop: Ctrl-C, a signal, a console that is closed.
//!
//! Says so to the [`Stopper`], on a thread of its own, and decides nothing else. Unix asks with signals and waits.
//! Windows calls a handler on a thread of its making, and ends the process as soon as the handler for a closed
//! console returns (`HandlerRoutine`, Remarks); so that handler must not return, and the one of tokio does not.

use std::io;

use super::Stopper;

/// Lets Ctrl-C, SIGTERM and SIGHUP end the server; each is asked for once more when it comes again.
#[cfg(not(windows))]
pub fn stop_on_interrupt(stopper: Stopper) -> io::Result<()> {
    ctrlc::set_handler(move || stopper.stop()).map_err(io::Error::other)
}

/// Lets Ctrl-C, Ctrl-Break, the end of the console, of the user's session and of Windows end the server.
#[cfg(windows)]
pub fn stop_on_interrupt(stopper: Stopper) -> io::Result<()> {
    let mut events = windows::Events::watch()?;
    std::thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(move || events.pass_on_to(&stopper))
        .map(drop)
}

#[cfg(windows)]
mod windows {
    use std::{
        io,
        sync::Arc,
        task::{Context, Poll, Wake},
        thread::{self, Thread},
        time::Duration,
    };

    use tokio::signal::windows::{
        CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_logoff,
        ctrl_shutdown,
    };

    use crate::net::Stopper;

    /// How long requests under way may go on when Windows will end the process anyway, which it does five seconds
    /// after it said so (`HandlerRoutine`, Timeouts).
    const LAST_DRAIN: Duration = Duration::from_secs(3);

    /// What Windows tells the programs of a console.
    pub(super) struct Events {
        ctrl_c: CtrlC,
        ctrl_break: CtrlBreak,
        close: CtrlClose,
        logoff: Option<CtrlLogoff>,
        shutdown: CtrlShutdown,
    }

    /// Set for programs of somebody who is logged on, and not for services.
    const SESSION: &str = "SESSIONNAME";

    enum Asked {
        ToStop,
        /// The process is ended within seconds, whatever it does.
        ToStopInTime,
    }

    impl Events {
        /// Takes part from now on: what comes before anybody waits is kept.
        pub(super) fn watch() -> io::Result<Self> {
            // A service is told of anybody's log-off and may live on, unless it takes that for its own end
            // (`HandlerRoutine`, Remarks).
            let is_of_a_session = std::env::var_os(SESSION).is_some();
            Ok(Self {
                ctrl_c: ctrl_c()?,
                ctrl_break: ctrl_break()?,
                close: ctrl_close()?,
                logoff: is_of_a_session.then(ctrl_logoff).transpose()?,
                shutdown: ctrl_shutdown()?,
            })
        }

        pub(super) fn pass_on_to(&mut self, stopper: &Stopper) {
            loop {
                let asked = self.wait();
                stopper.stop();
                if matches!(asked, Asked::ToStopInTime) {
                    thread::sleep(LAST_DRAIN);
                    stopper.stop();
                }
            }
        }

        /// There is no runtime: the thread that tells wakes this one.
        fn wait(&mut self) -> Asked {
            let waker = Arc::new(Unpark(thread::current())).into();
            let mut context = Context::from_waker(&waker);
            loop {
                // All are asked, since only who was asked wakes.
                let ends = [
                    self.close.poll_recv(&mut context),
                    self.logoff.as_mut().map_or(Poll::Pending, |logoff| logoff.poll_recv(&mut context)),
                    self.shutdown.poll_recv(&mut context),
                ];
                let stops = [self.ctrl_c.poll_recv(&mut context), self.ctrl_break.poll_recv(&mut context)];
                if ends.iter().any(Poll::is_ready) {
                    return Asked::ToStopInTime;
                }
                if stops.iter().any(Poll::is_ready) {
                    return Asked::ToStop;
                }
                thread::park();
            }
        }
    }

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
}
