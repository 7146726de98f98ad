//! Threads that the model of another one begins, and who is told of what happens in them.

use serde_json::json;

use super::{FakeCodex, Thread};

impl FakeCodex {
    /// The model of a thread begins another one, in which a turn runs; told by the item of its call, unless that came before us.
    pub fn begins_another(&mut self, parent: &str, told: bool) -> (String, String) {
        let (thread, turn) = (self.fresh("thread"), self.fresh("turn"));
        let known = Thread { subscribed: told, parent: Some(parent.to_owned()), ..Thread::default() };
        self.threads.insert(thread.clone(), known);
        if told {
            let item = json!({"type": "collabAgentToolCall", "id": "call_1", "tool": "spawnAgent", "status": "completed",
                "senderThreadId": parent, "receiverThreadIds": [thread], "prompt": "go"});
            let turn = self.threads.get(parent).and_then(|parent| parent.turn.clone());
            self.tell(
                "item/completed",
                json!({"threadId": parent, "turnId": turn.as_deref().unwrap_or("turn-0"), "item": item}),
            );
        }
        self.begin(&thread, &turn);
        (thread, turn)
    }

    /// We are told what happens in a thread.
    pub fn follow(&mut self, thread: &str) {
        self.threads.entry(thread.to_owned()).or_default().subscribed = true;
    }

    /// Our connection is gone.
    pub fn forgets_us(&mut self) {
        self.threads.values_mut().for_each(|thread| thread.subscribed = false);
    }

    /// A command in the thread wants to be approved, again by whoever follows the thread later.
    pub fn asks_in(&mut self, thread: &str, turn: &str) {
        let params = json!({"threadId": thread, "turnId": turn, "itemId": "i", "command": "touch F", "cwd": "/project",
            "availableDecisions": ["accept", "cancel"]});
        let asks =
            json!({"id": self.asked, "method": "item/commandExecution/requestApproval", "params": params});
        self.asked += 1;
        let Some(known) = self.threads.get_mut(thread) else { return };
        known.asks = Some(asks.clone());
        if known.subscribed {
            self.out(&asks);
        }
    }
}
