//! The thread beside the screen: it keeps the relay's connection, hears what becomes of the session, and shows that in the pane's border.
//!
//! **Invariant:** the screen is ended when its session is stopped, closed or removed, and comes back with the next relay after a crash.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Stage, Why};
use crate::cli::happening;
use crate::client::tmux::OwnPane;
use crate::client::{CallError, Connection, Reached, Target};
use crate::model::fault::Code;
use crate::model::limits;
use crate::model::session::{SessionState, Wanted};
use crate::protocol::answer::{Attached, Shown, Subscribed};
use crate::protocol::request::{One, Watch};

/// What the thread beside the screen knows.
#[derive(Debug)]
pub(super) struct Watching {
    target: Target,
    name: String,
    stage: Arc<Stage>,
    pane: Option<OwnPane>,
    /// How long the screen tries to reach a child that is away.
    patience: Duration,
    /// Whether the relay knows of this pane.
    is_counted: bool,
    border: Border,
    is_removed: bool,
    /// Whether a session that is stopped stays so. Just after a relay's start every session is still stopped, also one that mail had
    /// woken and that goes on as soon as its child is found; one that has a pane does not fall asleep.
    is_stop_final: bool,
}

/// How long to wait before the relay is asked again that could not be reached, or refused.
#[derive(Debug)]
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Pause {
        Pause(Duration::from_millis(limits::RETRY_MS_MIN as u64))
    }
}

impl Pause {
    /// After a connection that lasted, the next pause is the shortest again.
    fn after(&mut self, lasted: Duration) {
        if lasted >= Duration::from_millis(limits::WATCH_STEADY_MS) {
            *self = Pause::default();
        }
    }

    fn take(&mut self) {
        // A bounded pause, because nothing tells a client when a relay has room or time again.
        std::thread::sleep(self.0);
        self.0 = (self.0 * 2).min(Duration::from_millis(limits::RETRY_MS_MAX as u64));
    }
}

/// What a pane's border says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Border {
    state: String,
    pending: u64,
}

impl Watching {
    /// A watch on a session that the relay knows this pane of; how it is has yet to be asked.
    pub(super) fn new(
        target: Target,
        name: &str,
        stage: Arc<Stage>,
        pane: Option<OwnPane>,
        patience: Duration,
    ) -> Watching {
        Watching {
            target,
            name: name.to_owned(),
            stage,
            pane,
            patience,
            is_counted: true,
            border: Border::default(),
            is_removed: false,
            is_stop_final: true,
        }
    }

    /// Keeps one connection, so that the relay knows of the pane; comes back after a crash of the relay, not after a stop. What
    /// hinders it for now is waited for: a screen that nobody watches over would outlive its session.
    pub(super) fn run(mut self, mut connection: Connection) {
        let mut pause = Pause::default();
        loop {
            let begun = Instant::now();
            let is_refused = match self.follow(&mut connection) {
                _ if connection.stopping => return self.stage.end(Why::Stopped),
                Ok(over) => return self.stage.end(over),
                Err(CallError::Refused(why)) if why.code == Code::NotFound => {
                    return self.stage.end(Why::Removed);
                }
                Err(CallError::Refused(why)) => {
                    log::debug!("the relay does not tell: {}", why.message);
                    true
                }
                Err(lost) => {
                    log::debug!("the relay is gone: {lost:?}");
                    self.stage.with(|scene| scene.is_bereft = true);
                    false
                }
            };
            pause.after(begun.elapsed());
            // A relay that dies as soon as it is there is not started again and again without one.
            if is_refused || begun.elapsed() < Duration::from_millis(limits::WATCH_STEADY_MS) {
                drop(connection);
                pause.take();
            }
            connection = loop {
                // One that refuses and is gone then was being stopped by a person, and is not started again.
                let reached = match is_refused {
                    true => self.target.reach_running(),
                    false => self.target.reach_or_start().map(|next| Reached::Relay(Box::new(next))),
                };
                match reached {
                    Ok(Reached::Relay(next)) => break *next,
                    Ok(Reached::Nobody) => return self.stage.end(Why::Stopped),
                    Err(fault) if fault.code == Code::NoRelay => return,
                    Err(fault) => log::debug!("{}", fault.message),
                }
                pause.take();
            };
            (self.is_counted, self.is_stop_final) = (false, false);
        }
    }

    /// Does what the relay's words ask for, until it is gone, or there is nothing to show any more.
    fn follow(&mut self, connection: &mut Connection) -> Result<Why, CallError> {
        let events = ["state", "mail", "paneMoved", "sessionRemoved"].map(str::to_owned).to_vec();
        let watch = Watch { name: Some(self.name.clone()), events, replay: 0, after: None };
        let _: Subscribed = connection.call("events/subscribe", &watch)?;
        if self.is_counted {
            self.is_known_on(connection);
        }
        self.look(connection)?;
        loop {
            self.keep_up(connection)?;
            if let Some(why) = self.is_over() {
                return Ok(why);
            }
            self.show_border();
            let (method, params) = connection.next_notice(None)?;
            self.hear(&method, &params);
            // What comes together is shown once.
            for _ in 0..limits::PANE_EVENTS_AT_ONCE {
                let settled = Instant::now() + Duration::from_millis(limits::PANE_SETTLE_MS);
                match connection.next_notice(Some(settled)) {
                    Ok((method, params)) => self.hear(&method, &params),
                    Err(CallError::TimedOut) => break,
                    Err(lost) => return Err(lost),
                }
            }
        }
    }

    /// Whether there is nothing to show any more. What is said together was heard together: a session that is up again goes on.
    fn is_over(&self) -> Option<Why> {
        if self.is_removed {
            return Some(Why::Removed);
        }
        (self.border.state == "stopped" && self.is_stop_final).then_some(Why::Down)
    }

    /// Asks how the session is.
    fn look(&mut self, connection: &mut Connection) -> Result<(), CallError> {
        match connection.listed(&self.name)? {
            Some(own) => {
                let is_stopped = own.state == SessionState::Stopped;
                self.is_stop_final |= !is_stopped;
                if is_stopped && !self.is_stop_final && own.wanted == Wanted::Down {
                    let shown: Shown = connection.call("session/show", &One { name: self.name.clone() })?;
                    self.is_stop_final = !shown.session.wake_on_mail;
                }
                self.border = Border { state: own.state.as_str().to_owned(), pending: own.pending };
            }
            None => self.is_removed = true,
        }
        Ok(())
    }

    /// With the session up, the relay knows of this pane, and the screen tries to reach its child.
    fn keep_up(&mut self, connection: &mut Connection) -> Result<(), CallError> {
        if ["starting", "backoff", "stopped", "failed"].contains(&self.border.state.as_str()) {
            return Ok(());
        }
        if !self.is_counted {
            match connection.call::<Attached>("session/attach", &One { name: self.name.clone() }) {
                Ok(_) => self.is_known_on(connection),
                // It went down in this moment; the next word of it comes here again.
                Err(CallError::Refused(why)) => log::debug!("{}", why.message),
                Err(lost) => return Err(lost),
            }
            // What was told meanwhile was not heard.
            self.look(connection)?;
        }
        if self.stage.is_stale(self.patience) {
            self.stage.end(Why::Stale);
        }
        Ok(())
    }

    /// The relay knows of this pane by this connection, and is told on it where the screen is.
    fn is_known_on(&mut self, connection: &Connection) {
        self.is_counted = true;
        self.stage.with(|scene| {
            scene.relay = connection.sender();
            if scene.elsewhere.is_some() {
                scene.report();
            }
        });
    }

    fn hear(&mut self, method: &str, params: &Value) {
        let text = |key: &str| params[key].as_str().unwrap_or_default().to_owned();
        if method == "session/childGone" {
            self.stage.with(|scene| scene.is_bereft = true);
        }
        if method != "event" {
            return;
        }
        // A mail's recipient may be somebody else.
        if text("event") == "state" {
            self.border.state = text("state");
            self.is_stop_final |= self.border.state != "stopped";
        }
        self.is_removed |= text("event") == "sessionRemoved" && text("session") == self.name;
        if text("session") == self.name {
            self.border.pending = params["pending"].as_u64().unwrap_or(self.border.pending);
        }
    }

    fn show_border(&mut self) {
        let Some(pane) = &mut self.pane else { return };
        let elsewhere = self.stage.with(|scene| scene.elsewhere.clone());
        let left =
            elsewhere.map(|elsewhere| format!(" · this pane shows {}", happening::shown(&elsewhere.how)));
        let state = match self.border.state.as_str() {
            "waiting" => "waiting for you",
            other => other,
        };
        let label = match self.border.pending {
            0 => state.to_owned(),
            1 => format!("{state}, 1 mail waits"),
            count => format!("{state}, {count} mails wait"),
        };
        pane.show(&self.border.state, &format!("{label}{}", left.unwrap_or_default()));
    }
}
