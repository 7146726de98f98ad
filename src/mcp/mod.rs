//! The MCP server of an agent (`agentmux host mcp`): six tools over stdio, on the official SDK.
//!
//! The protocol runs on one thread; each call is plain blocking code on a thread of its own, over connections that are kept
//! (`desk`). **Invariant:** a failure of ours is a result that the model can read (`isError`, with code, message and hint), never the
//! end of the server. **Invariant:** nothing but the protocol is written to stdout.
//!
//! Deliberately absent: whatever needs the operator. There is no tool that approves, settles or speaks as another.

mod call;
mod desk;
mod doubt;
mod tools;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde_json::{Map, Value, json};

use crate::client::Target;
use crate::model::fault::Fault;
use crate::model::limits;
use crate::protocol::VERSION;
use crate::protocol::check::Groups;
use desk::Desk;

/// What the server needs to know of its place.
#[derive(Debug)]
pub struct Place {
    /// The relay that it means, and who it speaks as.
    pub target: Target,
    /// Names that stand for several recipients.
    pub groups: Groups,
}

/// Serves until stdin ends.
///
/// # Errors
/// `io` when the runtime cannot be made.
pub fn serve(place: Place) -> Result<(), Fault> {
    // A working directory is not held, so that its removal is seen.
    if place.target.state_root.is_absolute()
        && let Err(error) = std::env::set_current_dir("/")
    {
        log::debug!("leaving the directory failed: {error}");
    }
    let failed = |error: std::io::Error| Fault::io(format!("the tools failed to start: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time() // rmcp bounds its own farewell
        .max_blocking_threads(limits::TOOL_CALLS_MAX + 4)
        .build()
        .map_err(failed)?;
    let desk = Arc::new(Desk::new(place.target, place.groups));
    let early = desk.clone();
    // Whoever has a name is known by it before the first call, if a relay runs.
    std::thread::spawn(move || early.say_hello());
    let server = Server { desk, running: Arc::default() };
    runtime.block_on(async {
        match server.serve((tokio::io::stdin(), tokio::io::stdout())).await {
            Ok(service) => {
                let _ = service.waiting().await;
            }
            Err(error) => log::debug!("the client never got as far as initialize: {error}"),
        }
    });
    // A call that waits is nobody's any more.
    runtime.shutdown_background();
    Ok(())
}

#[derive(Debug, Clone)]
struct Server {
    desk: Arc<Desk>,
    /// Calls under way.
    running: Arc<AtomicUsize>,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("agentmux", VERSION))
            .with_instructions(tools::INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(listed()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.to_string();
        if !tools::TOOLS.iter().any(|tool| tool.name == name) {
            let known = tools::TOOLS.map(|tool| tool.name).join(", ");
            return Err(ErrorData::invalid_params(format!("no tool `{name}`; there are: {known}"), None));
        }
        let arguments = request.arguments.unwrap_or_default();
        let outcome = match Running::begin(&self.running) {
            None => Err(Fault::busy(format!(
                "call refused: {} calls of this agent are under way, the limit",
                limits::TOOL_CALLS_MAX
            ))),
            Some(running) => {
                let desk = self.desk.clone();
                let called = tokio::task::spawn_blocking(move || {
                    let _running = running;
                    call::call(&desk.visit(), &name, Value::Object(arguments))
                });
                called.await.unwrap_or_else(|error| Err(Fault::bug(format!("a call ended early: {error}"))))
            }
        };
        Ok(match outcome {
            Ok(answer) => CallToolResult::structured(versioned(answer)),
            Err(fault) => CallToolResult::structured_error(versioned(error(&fault))),
        }
        .into())
    }
}

/// One call under way.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(running: &Arc<AtomicUsize>) -> Option<Running> {
        let before = running.fetch_add(1, Ordering::Relaxed);
        let this = Running(running.clone());
        (before < limits::TOOL_CALLS_MAX).then_some(this)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn listed() -> Vec<Tool> {
    let tool = |tool: tools::Described| Tool::new(tool.name, tool.description, Arc::new((tool.schema)()));
    tools::TOOLS.into_iter().map(tool).collect()
}

fn error(fault: &Fault) -> Value {
    let Fault { code, message, hint, .. } = fault;
    json!({ "error": { "code": code, "message": message, "hint": hint, "exit": code.exit() } })
}

/// Every answer begins with the version of its shape, as the command line's do.
fn versioned(answer: Value) -> Value {
    let mut object = Map::from_iter([("schemaVersion".to_owned(), json!(1))]);
    match answer {
        Value::Object(fields) => object.extend(fields),
        other => drop(object.insert("value".to_owned(), other)),
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// users 27: six tools, and at most 1,500 tokens of them. Counted as four bytes of JSON to a token, which is more than models
    /// make of such text, with the server's own description.
    #[test]
    fn the_six_tools_and_their_description_cost_at_most_1500_tokens() {
        let tools = listed();
        let names: Vec<&str> = tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, ["send", "inbox", "wait", "list", "ask", "whoami"]);
        let text = serde_json::to_string(&tools).expect("tools are JSON");
        let tokens = (text.len() + tools::INSTRUCTIONS.len()).div_ceil(4);
        println!("{tokens} tokens");
        assert!(tokens <= 1_500, "{tokens} tokens");
    }
}
