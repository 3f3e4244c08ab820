//! What happens to the machine: kills, stops and starts, a full disk, clocks that jump, turns that come late.

use std::time::Duration;

use fireworks_proxy::{event::ConnId, proxy::Stopped, time::Wall};

use super::{
    engine::{Event, Simulation},
    swarm::Odd,
};

const DAY_MILLIS: i64 = 86_400_000;

/// Who has been between requests for less may have sent the next one.
const IDLE_MIN: Duration = Duration::from_secs(1);

impl Simulation {
    pub fn whim(&mut self) {
        if !self.is_lively {
            return;
        }
        let gap = self.millis_below(10_000);
        self.plan(gap, Event::Whim);
        self.fireworks.share = *self.dice.pick(&[None, Some(30), Some(100), Some(1_000)]).expect("one");
        if self.is_odd(Odd::DiskFull) {
            self.disk.full_until = self.now + self.millis_below(20_000);
            self.rules.days.full_until = self.disk.full_until;
        }
        if self.is_odd(Odd::Hiccup) {
            self.late_until = self.now + self.millis_below(3_000);
            self.rules.late_at(self.late_until);
        }
        if self.is_odd(Odd::Sleep) {
            self.late_until = self.now + self.millis_below(400_000);
            self.rules.late_at(self.late_until);
            self.clients.values_mut().for_each(|client| client.has_hung = true);
        }
        if self.is_odd(Odd::WallJumps) {
            self.jump();
        }
        if self.is_odd(Odd::LinkStalls) {
            self.stall_a_link();
        }
        let takes_clients = self.process.as_ref().is_some_and(|process| process.drain_until.is_none());
        if takes_clients && self.is_odd(Odd::Crowd) {
            self.make_room();
        }
        if self.process.is_some() && self.is_odd(Odd::Kill) {
            self.kill();
        } else if self.process.is_some() && self.is_odd(Odd::Stop) {
            self.stop();
        }
    }

    /// There is no place for one more: whoever has been between requests for the longest has to go, and
    /// nobody else.
    fn make_room(&mut self) {
        let idle = self.clients.iter().filter(|(_, client)| client.is_between_requests());
        let longest = idle.map(|(id, client)| (client.idle_since, *id)).min();
        let goes = longest.filter(|(since, _)| self.now.since(*since) >= IDLE_MIN).map(|(_, id)| id);
        let stay: Vec<ConnId> = self.clients.keys().copied().filter(|id| Some(*id) != goes).collect();
        let clock = self.clock();
        let is_made = self.proxy().make_room(clock);
        self.after_mutation();
        let here: Vec<ConnId> = self.clients.keys().copied().collect();
        assert_eq!((is_made, here), (goes.is_some(), stay), "{goes:?} has been idle for the longest");
        if is_made {
            self.history.saw("made room");
        }
    }

    /// The wall clock is set by seconds, or to another day and later perhaps back.
    fn jump(&mut self) {
        let seconds = i64::try_from(self.dice.below(100)).expect("small") * 1_000;
        let by = *self.dice.pick(&[seconds, -seconds, DAY_MILLIS, -DAY_MILLIS]).expect("one");
        let wall = Wall::from_unix_millis(self.wall_at_zero.as_unix_millis() + by);
        let shows = wall + self.now.since(fireworks_proxy::time::Mono::ZERO);
        if self.rules.days.may_visit(shows) {
            self.history.note(self.now, ConnId::from_u64(0), "wall clock jumps", 0);
            self.wall_at_zero = wall;
        }
    }

    fn stall_a_link(&mut self) {
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        let Some(id) = self.dice.pick(&ids).copied() else { return };
        let until = self.now + self.millis_below(100_000);
        let conn = self.conns.get_mut(&id).expect("it is there");
        let pipe = if self.dice.chance(50) { &mut conn.inbound } else { &mut conn.outbound };
        pipe.stall(until);
        self.clients.get_mut(&id).into_iter().for_each(|client| client.has_hung = true);
    }

    /// The state file is to be written.
    pub fn save(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        if self.now < self.disk.full_until {
            self.history.saw("disk full");
            return Err("no space left on device".to_owned());
        }
        if self.is_lively && self.is_odd(Odd::LosesSave) {
            self.is_dying = true;
        } else {
            self.disk.file = Some(bytes);
        }
        Ok(())
    }

    pub fn kill(&mut self) {
        self.is_dying = false;
        self.history.note(self.now, ConnId::from_u64(0), "killed", 0);
        self.rules.days.check_killed(self.disk.file.as_deref(), self.now);
        self.drop_process();
    }

    fn stop(&mut self) {
        let now = self.now;
        let process = self.process.as_mut().expect("it runs");
        if process.drain_until.is_some() {
            return;
        }
        process.drain_until = Some(now + self.swarm.drain);
        self.history.note(now, ConnId::from_u64(0), "stop", 0);
        if self.is_odd(Odd::StopsAgain) {
            let span = self.millis_below(10_000);
            self.plan(span, Event::StopNow);
        }
        let clock = self.clock();
        self.proxy().handle_shutdown(clock);
        self.after_mutation();
    }

    pub fn stop_now(&mut self) {
        if self.process.as_ref().is_some_and(|process| process.drain_until.is_some()) {
            self.history.note(self.now, ConnId::from_u64(0), "stop now", 0);
            let clock = self.clock();
            self.proxy().handle_shutdown(clock);
            assert!(self.proxy().stopped().is_some(), "a second word stops at once");
            self.after_mutation();
        }
    }

    /// The core says that it has stopped.
    pub fn process_stopped(&mut self) {
        self.history.saw("stopped");
        assert!(self.conns.is_empty(), "{} connections are left behind", self.conns.len());
        self.check_balance();
        self.check_causes();
        let stopped = self.proxy().stopped();
        assert_eq!(self.rules.is_cut_told, matches!(stopped, Some(Stopped::Cut(_))), "{stopped:?}");
        assert_eq!(self.rules.open, 0, "something is at the upstream");
        assert_eq!(self.proxy().context_mut().admission.waiting(), 0, "somebody waits");
        self.rules.days.check_stopped(self.disk.file.as_deref(), self.now);
        self.drop_process();
    }

    fn drop_process(&mut self) {
        self.process = None;
        self.clear_connections();
        let span = self.millis_below(5_000) + Duration::from_micros(1);
        self.plan(span, Event::Restart);
    }
}
