//! The end of the run, of which all agents hear wherever they are: thinking, or blocked in a socket.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The run is over: whatever is under way is left.
pub(crate) struct Over;

/// The end, and what has to be interrupted when it comes.
#[derive(Default)]
pub(crate) struct Ending {
    state: Mutex<State>,
    called: Condvar,
}

#[derive(Default)]
struct State {
    is_called: bool,
    /// The connection of each agent.
    connections: BTreeMap<usize, TcpStream>,
}

impl Ending {
    /// Ends the run, and every connection with it.
    pub(crate) fn call(&self) {
        let mut state = self.state();
        state.is_called = true;
        for connection in state.connections.values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        self.called.notify_all();
    }

    pub(crate) fn is_called(&self) -> bool {
        self.state().is_called
    }

    /// Waits, unless the run ends first.
    pub(crate) fn pause(&self, duration: Duration) -> Result<(), Over> {
        let waited = self.called.wait_timeout_while(self.state(), duration, |state| !state.is_called);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.is_called { Err(Over) } else { Ok(()) }
    }

    /// Takes note of an agent's connection, so that the end can interrupt it.
    pub(crate) fn watch(&self, agent: usize, connection: TcpStream) -> Result<(), Over> {
        let mut state = self.state();
        if state.is_called {
            return Err(Over);
        }
        state.connections.insert(agent, connection);
        Ok(())
    }

    /// Forgets an agent's connection, whose last handle is then the agent's own.
    pub(crate) fn forget(&self, agent: usize) {
        self.state().connections.remove(&agent);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
