//! The process under test: its start, what it is told, and what it asks for.

use fireworks_proxy::{
    config::{Config, Raw},
    event::{ConnId, Input, Output, ProcessFigures},
    proxy::Proxy,
    time::{Mono, Now},
};

use super::engine::{Process, Simulation};

impl Simulation {
    /// The clocks as the process reads them: its own begins when it does.
    pub fn clock(&self) -> Now {
        let started_at = self.process.as_ref().map_or(self.now, |process| process.started_at);
        Now { mono: Mono::ZERO + self.now.since(started_at), wall: self.wall() }
    }

    pub fn start(&mut self) {
        let settings = self.swarm.settings.iter();
        let variables =
            settings.map(|(name, value)| (format!("FIREWORKS_PROXY_{name}").into(), value.clone().into()));
        let raw = Raw::from_variables(variables).expect("Unicode");
        let config = Config::from_raw(&raw).expect("settings that are accepted");
        let proxy = Proxy::new(config, self.seed, self.clock());
        self.process = Some(Process { proxy, started_at: self.now, drain_until: None });
        self.rules.begin_process(&self.swarm, self.disk.file.as_deref(), self.now);
        let (file, clock) = (self.disk.file.clone(), self.clock());
        self.proxy().handle_start(file.as_deref(), clock);
        self.take_outputs();
        if self.process.is_some() {
            self.check_day();
        }
    }

    /// Tells the core of something, does what it asks for, and sees to the rules.
    pub fn tell(&mut self, id: ConnId, input: Input<'_>) {
        let clock = self.clock();
        let (what, amount) = match &input {
            Input::Accepted => ("accepted", 0),
            Input::Tunneled => ("tunneled", 0),
            Input::Connected => ("connected", 0),
            Input::Received(bytes) => ("received", bytes.len()),
            Input::Wrote(count) => ("wrote", *count),
            Input::Eof => {
                self.exchanges.get_mut(&id).into_iter().for_each(|exchange| exchange.has_ended = true);
                ("ended", 0)
            }
            Input::Failed(_) => ("failed", 0),
        };
        self.history.note(self.now, id, what, amount);
        self.timers_in_a_row = 0;
        self.proxy().handle_input(id, input, clock);
        self.after_mutation();
    }

    pub fn after_mutation(&mut self) {
        self.take_outputs();
        if self.process.is_some() {
            self.check_step();
        }
        if self.process.as_ref().is_some_and(|process| process.proxy.stopped().is_some()) {
            self.process_stopped();
        }
    }

    fn take_outputs(&mut self) {
        let (mut saved, mut measured) = (None, Vec::new());
        while let Some(output) = self.process.as_mut().and_then(|process| process.proxy.poll_output()) {
            match output {
                Output::Dial(id) => self.dialed(id),
                Output::Run(id) => self.wake(id),
                Output::ShutdownWrite(id) => self.proxy_ended_its_side(id),
                Output::Close(id) => self.closed(id),
                Output::Save(bytes) => saved = Some(self.save(bytes)),
                Output::Log(_, line) => self.rules.note_line(line.text(), &mut self.history),
                Output::Measure(id) => measured.push(id),
            }
            if self.is_dying {
                return self.kill();
            }
        }
        for id in measured {
            let clock = self.clock();
            self.proxy().handle_measured(id, &ProcessFigures::default(), clock);
            self.take_outputs();
        }
        if let Some(result) = saved {
            let clock = self.clock();
            self.proxy().handle_saved(result, clock);
            self.take_outputs();
        }
    }

    fn closed(&mut self, id: ConnId) {
        self.history.note(self.now, id, "is closed", 0);
        if self.exchanges.contains_key(&id) {
            self.exchange_ended(id);
        } else {
            self.client_closed(id);
        }
        self.conns.remove(&id).expect("a connection is closed once");
    }

    /// Without a process there are no connections, and nobody is left at them.
    pub fn clear_connections(&mut self) {
        self.conns.clear();
        self.runnable.clear();
        self.clients.clear();
        self.exchanges.clear();
    }
}
